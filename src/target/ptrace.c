/* SPDX-License-Identifier: Apache-2.0 */
#include <elf.h>
#include <errno.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include "heaptap/base/clock.h"
#include "target/ptrace.h"

/* The kernel's sigset_t, not the C library's. */
#define KERNEL_SIGSET_BYTES 8

static int request(enum __ptrace_request what, pid_t tid, void *addr, void *data)
{
	return ptrace(what, tid, addr, data) < 0 ? -errno : 0;
}

int pt_seize(pid_t tid, unsigned long options)
{
	return request(PTRACE_SEIZE, tid, NULL, (void *)options);
}

int pt_interrupt(pid_t tid)
{
	return request(PTRACE_INTERRUPT, tid, NULL, NULL);
}

int pt_continue(pid_t tid, int signal)
{
	return request(PTRACE_CONT, tid, NULL, (void *)(long)signal);
}

int pt_syscall(pid_t tid, int signal)
{
	return request(PTRACE_SYSCALL, tid, NULL, (void *)(long)signal);
}

int pt_listen(pid_t tid)
{
	return request(PTRACE_LISTEN, tid, NULL, NULL);
}

int pt_detach(pid_t tid, int signal)
{
	return request(PTRACE_DETACH, tid, NULL, (void *)(long)signal);
}

int pt_get_regs(pid_t tid, struct tap_regs *regs)
{
	struct iovec io = {regs, sizeof(*regs)};

	return request(PTRACE_GETREGSET, tid, (void *)NT_PRSTATUS, &io);
}

int pt_set_regs(pid_t tid, const struct tap_regs *regs)
{
	struct iovec io = {(void *)regs, sizeof(*regs)};

	return request(PTRACE_SETREGSET, tid, (void *)NT_PRSTATUS, &io);
}

int pt_get_xstate(pid_t tid, uint8_t *buf, size_t capacity, size_t *size_ret)
{
	struct iovec io = {buf, capacity};
	int err = request(PTRACE_GETREGSET, tid, (void *)NT_X86_XSTATE, &io);

	*size_ret = io.iov_len;
	return err;
}

int pt_get_sigmask(pid_t tid, uint64_t *mask_ret)
{
	return request(PTRACE_GETSIGMASK, tid, (void *)KERNEL_SIGSET_BYTES, mask_ret);
}

int pt_set_sigmask(pid_t tid, uint64_t mask)
{
	return request(PTRACE_SETSIGMASK, tid, (void *)KERNEL_SIGSET_BYTES, &mask);
}

int pt_get_siginfo(pid_t tid, siginfo_t *info)
{
	return request(PTRACE_GETSIGINFO, tid, NULL, info);
}

int pt_get_event(pid_t tid, unsigned long *message_ret)
{
	return request(PTRACE_GETEVENTMSG, tid, NULL, message_ret);
}

int pt_get_rseq(pid_t tid, uint64_t *addr_ret)
{
	struct __ptrace_rseq_configuration config = {0};
	int err = request(
		PTRACE_GET_RSEQ_CONFIGURATION, tid, (void *)sizeof(config), &config);

	*addr_ret = err < 0 ? 0 : config.rseq_abi_pointer;
	return err < 0 ? err : 0;
}

int pt_get_seccomp_filter(pid_t tid, unsigned long index, struct sock_filter *insns)
{
	long count = ptrace(PTRACE_SECCOMP_GET_FILTER, tid, (void *)index, insns);

	return count < 0 ? -errno : (int)count;
}

int pt_set_options(pid_t tid, unsigned long options)
{
	return request(PTRACE_SETOPTIONS, tid, NULL, (void *)options);
}

int pt_wait(pid_t tid, uint64_t deadline_ns, int *status_ret)
{
	/* Polled with growing pauses: a stop comes in microseconds or, where
	 * the thread sleeps deep in the kernel, not at all. */
	struct timespec pause = {0, 20000};

	for (;;) {
		pid_t got = waitpid(tid, status_ret, __WALL | WNOHANG);

		if (got == tid)
			return 1;
		if (got < 0 && errno != EINTR)
			return -errno;
		if (tap_clock_ns() >= deadline_ns)
			return 0;
		nanosleep(&pause, NULL);
		if (pause.tv_nsec < 1000000)
			pause.tv_nsec *= 2;
	}
}
