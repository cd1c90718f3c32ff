/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include "heaptap/base/cleanup.h"
#include "heaptap/proc/root.h"
#include "target/restart.h"

/* The kernel's own, include/linux/errno.h: seen in a stop, never by programs. */
#define KERNEL_RESTARTSYS 512
#define KERNEL_RESTARTNOINTR 513
#define KERNEL_RESTARTNOHAND 514
#define KERNEL_RESTART_RESTARTBLOCK 516

#define SYSCALL_INSN_BYTES 2
#define RED_ZONE_BYTES 128

enum timeout_form {
	TIMEOUT_NONE,
	TIMEOUT_MS,       /* an int of milliseconds, negative for none */
	TIMEOUT_TIMESPEC, /* a pointer to a relative struct timespec, NULL for none */
};

/* Calls that return EINTR after a stop without a signal (measured on Linux
 * 6.18; the list of signal(7) and more). */
static const struct by_hand {
	long number;
	enum timeout_form form;
	unsigned argument;
} by_hand[] = {
	{SYS_epoll_wait, TIMEOUT_MS, 3},
	{SYS_epoll_pwait, TIMEOUT_MS, 3},
	{SYS_epoll_pwait2, TIMEOUT_TIMESPEC, 3},
	{SYS_semop, TIMEOUT_NONE, 0},
	{SYS_semtimedop, TIMEOUT_TIMESPEC, 3},
	{SYS_rt_sigtimedwait, TIMEOUT_TIMESPEC, 2},
	{SYS_io_getevents, TIMEOUT_TIMESPEC, 4},
	{SYS_io_pgetevents, TIMEOUT_TIMESPEC, 4},
	{SYS_msgrcv, TIMEOUT_NONE, 0},
	{SYS_msgsnd, TIMEOUT_NONE, 0},
};

static const struct by_hand *find_by_hand(int64_t number)
{
	for (size_t i = 0; i < sizeof(by_hand) / sizeof(*by_hand); i++)
		if (by_hand[i].number == number)
			return &by_hand[i];
	return NULL;
}

/* Calls on a descriptor that are EINTR with SO_RCVTIMEO or SO_SNDTIMEO set
 * (net/core/sock.h, sock_intr_errno) and restarted without. */
static bool is_socket_call(int64_t number)
{
	switch (number) {
	case SYS_read:
	case SYS_readv:
	case SYS_write:
	case SYS_writev:
	case SYS_recvfrom:
	case SYS_recvmsg:
	case SYS_recvmmsg:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_sendmmsg:
	case SYS_accept:
	case SYS_accept4:
	case SYS_connect:
	case SYS_sendfile:
	case SYS_splice:
		return true;
	default:
		return false;
	}
}

static bool is_socket(pid_t pid, uint64_t fd)
{
	_cleanup_free_ char *link = NULL;
	char name[32];

	snprintf(name, sizeof(name), "fd/%d", (int)fd);
	tap_error_free(tap_proc_readlink(pid, name, &link));
	return link && !strncmp(link, "socket:", 7);
}

/* Asks the socket itself through a duplicate of the descriptor (Linux 5.6);
 * where that cannot be had, the answer is yes. */
static bool has_timeout(pid_t pid, uint64_t fd)
{
	_cleanup_close_ int process = (int)syscall(SYS_pidfd_open, pid, 0);
	_cleanup_close_ int socket =
		process < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, process, (int)fd, 0);
	static const int options[] = {SO_RCVTIMEO, SO_SNDTIMEO};

	if (socket < 0)
		return true;
	for (int i = 0; i < 2; i++) {
		struct timeval timeout = {0};
		socklen_t size = sizeof(timeout);

		if (getsockopt(socket, SOL_SOCKET, options[i], &timeout, &size))
			return true;
		if (timeout.tv_sec || timeout.tv_usec)
			return true;
	}
	return false;
}

enum tap_restart_kind tap_restart_kind(pid_t pid, const struct tap_task_syscall *call)
{
	if (find_by_hand(call->number))
		return TAP_RESTART_BY_HAND;
	if (call->number == SYS_io_uring_enter)
		return TAP_RESTART_NEVER;
	if (is_socket_call(call->number) && is_socket(pid, call->args[0]) &&
		has_timeout(pid, call->args[0]))
		return TAP_RESTART_NEVER;
	return TAP_RESTART_KERNEL;
}

/* Back to the system call instruction, with `number` to be called. */
static void call_again(struct tap_regs *regs, uint64_t number)
{
	regs->rip -= SYSCALL_INSN_BYTES;
	regs->rax = number;
	/* Outside of a system call now: the kernel must not restart it too. */
	regs->orig_rax = UINT64_MAX;
}

bool tap_restart_kernel_by_hand(struct tap_regs *regs)
{
	if ((int64_t)regs->orig_rax < 0)
		return false;
	switch (-(int64_t)regs->rax) {
	case KERNEL_RESTARTSYS:
	case KERNEL_RESTARTNOINTR:
	case KERNEL_RESTARTNOHAND:
		call_again(regs, regs->orig_rax);
		return true;
	case KERNEL_RESTART_RESTARTBLOCK:
		call_again(regs, SYS_restart_syscall);
		return true;
	default:
		return false;
	}
}

/* Arguments of a system call: as a function's, but r10 for rcx. */
static uint64_t *argument(struct tap_regs *regs, unsigned index)
{
	uint64_t *const arguments[] = {
		&regs->rdi, &regs->rsi, &regs->rdx, &regs->r10, &regs->r8, &regs->r9};

	return arguments[index];
}

static void shorten_ms(uint64_t *ms, uint64_t elapsed_ns)
{
	int64_t left = (int32_t)*ms;

	if (left < 0)
		return;
	left -= (int64_t)(elapsed_ns / 1000000);
	*ms = left > 0 ? (uint64_t)left : 0;
}

/* The kernel copies the timespec when the call begins, so that a copy on the
 * far side of the red zone will do; the program's own is not touched. */
static void shorten_timespec(
	struct tap_regs *regs, uint64_t *pointer, struct tap_memory *memory, uint64_t elapsed_ns)
{
	uint64_t at = (regs->rsp - RED_ZONE_BYTES - sizeof(struct timespec)) & ~15ull;
	_cleanup_error_ struct tap_error *err = NULL;
	struct timespec left;
	int64_t ns;

	if (!*pointer || !tap_memory_try_read(memory, *pointer, &left, sizeof(left)))
		return;
	if (left.tv_sec < 0 || left.tv_sec > INT32_MAX)
		return;
	ns = left.tv_sec * INT64_C(1000000000) + left.tv_nsec - (int64_t)elapsed_ns;
	if (ns < 0)
		ns = 0;
	left.tv_sec = ns / 1000000000;
	left.tv_nsec = ns % 1000000000;
	err = tap_memory_write(memory, at, &left, sizeof(left));
	if (!err)
		*pointer = at;
}

bool tap_restart_interrupted(
	struct tap_regs *regs, struct tap_memory *memory, uint64_t elapsed_ns)
{
	const struct by_hand *row = find_by_hand((int64_t)regs->orig_rax);

	if ((int64_t)regs->orig_rax < 0 || (int64_t)regs->rax != -EINTR)
		return false;
	if (!row && !is_socket_call((int64_t)regs->orig_rax) &&
		regs->orig_rax != SYS_io_uring_enter)
		return false;
	if (row && row->form == TIMEOUT_MS)
		shorten_ms(argument(regs, row->argument), elapsed_ns);
	else if (row && row->form == TIMEOUT_TIMESPEC)
		shorten_timespec(regs, argument(regs, row->argument), memory, elapsed_ns);
	call_again(regs, regs->orig_rax);
	return true;
}
