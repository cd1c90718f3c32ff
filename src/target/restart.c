/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
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
static_assert(RED_ZONE_BYTES + sizeof(struct timespec) + 15 + TAP_RESTART_ARGUMENT_BYTES + 15 <=
		TAP_RESTART_ROOM_BYTES,
	"room");
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S 1000000000L

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

void tap_restart_note_origin(const struct tap_regs *regs, struct tap_restart_origin *origin)
{
	if (-(int64_t)regs->rax == KERNEL_RESTART_RESTARTBLOCK &&
		regs->orig_rax != SYS_restart_syscall)
		*origin = (struct tap_restart_origin){regs->rip, regs->orig_rax};
}

bool tap_restart_afresh(struct tap_regs *regs, const struct tap_restart_origin *origin)
{
	uint64_t number = regs->orig_rax;

	if (regs->rip == origin->pc - SYSCALL_INSN_BYTES && regs->rax == SYS_restart_syscall) {
		/* About to be made again, and stopped before that. */
		regs->rax = origin->number;
		return true;
	}
	if ((int64_t)number < 0 || -(int64_t)regs->rax != KERNEL_RESTART_RESTARTBLOCK)
		return tap_restart_kernel_by_hand(regs);
	if (number == SYS_restart_syscall && origin->pc == regs->rip)
		number = origin->number;
	call_again(regs, number);
	return true;
}

/* Arguments of a system call: as a function's, but r10 for rcx. */
static uint64_t *argument(struct tap_regs *regs, unsigned index)
{
	uint64_t *const arguments[] = {
		&regs->rdi, &regs->rsi, &regs->rdx, &regs->r10, &regs->r8, &regs->r9};

	return arguments[index];
}

/* When the call is to end. One that was made again by hand before is known by
 * the timeout that it was given then, which is never the program's own. */
static void recall(struct tap_restart_memo *memo, uint64_t pc, uint64_t value, uint64_t since_ns,
	uint64_t timeout_ns)
{
	if (memo->pc == pc && memo->value == value)
		return;
	*memo = (struct tap_restart_memo){.pc = pc, .original = value};
	if (__builtin_add_overflow(since_ns, timeout_ns, &memo->end_ns))
		memo->end_ns = UINT64_MAX;
}

/* Never early: a call may return late, but not before its time. */
static void shorten_ms(struct tap_regs *regs, uint64_t *value, uint64_t now_ns, uint64_t since_ns,
	struct tap_restart_memo *memo)
{
	int32_t ms = (int32_t)*value;
	uint64_t left;

	if (ms <= 0 || ms == INT32_MAX)
		return;
	recall(memo, regs->rip, *value, since_ns, (uint64_t)ms * NS_PER_MS);
	left = memo->end_ns > now_ns ? (memo->end_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS : 0;
	if (left == memo->original)
		left++;
	memo->value = left;
	*value = left;
}

/* The kernel copies the timespec when the call begins, so that a copy on the
 * far side of the red zone will do; the program's own is not touched. */
static void shorten_timespec(struct tap_regs *regs, uint64_t *pointer, struct tap_memory *memory,
	uint64_t now_ns, uint64_t since_ns, struct tap_restart_memo *memo)
{
	uint64_t at = (regs->rsp - RED_ZONE_BYTES - sizeof(struct timespec)) & ~15ull;
	_cleanup_error_ struct tap_error *err = NULL;
	struct timespec left;
	uint64_t left_ns;

	if (!*pointer || !tap_memory_try_read(memory, *pointer, &left, sizeof(left)))
		return;
	if (left.tv_sec < 0 || left.tv_sec > INT32_MAX || left.tv_nsec < 0 ||
		left.tv_nsec >= NS_PER_S)
		return;
	recall(memo, regs->rip, *pointer, since_ns,
		(uint64_t)left.tv_sec * NS_PER_S + (uint64_t)left.tv_nsec);
	left_ns = memo->end_ns > now_ns ? memo->end_ns - now_ns : 0;
	left.tv_sec = (time_t)(left_ns / NS_PER_S);
	left.tv_nsec = (long)(left_ns % NS_PER_S);
	err = tap_memory_write(memory, at, &left, sizeof(left));
	if (err)
		return;
	memo->value = at;
	*pointer = at;
}

bool tap_restart_is_cut_short(const struct tap_regs *regs)
{
	if ((int64_t)regs->orig_rax < 0)
		return false;
	/* fs/aio.c: unlike io_getevents() it is to be restarted. */
	return (int64_t)regs->rax == -EINTR ||
	       (regs->orig_rax == SYS_io_pgetevents && -(int64_t)regs->rax == KERNEL_RESTARTNOHAND);
}

bool tap_restart_interrupted(struct tap_regs *regs, struct tap_memory *memory, uint64_t now_ns,
	uint64_t since_ns, struct tap_restart_memo *memo)
{
	const struct by_hand *row = find_by_hand((int64_t)regs->orig_rax);

	if (!tap_restart_is_cut_short(regs))
		return false;
	if (!row && !is_socket_call((int64_t)regs->orig_rax) &&
		regs->orig_rax != SYS_io_uring_enter)
		return false;
	if (!since_ns || since_ns > now_ns)
		since_ns = now_ns;
	if (row && row->form == TIMEOUT_MS)
		shorten_ms(regs, argument(regs, row->argument), now_ns, since_ns, memo);
	else if (row && row->form == TIMEOUT_TIMESPEC)
		shorten_timespec(regs, argument(regs, row->argument), memory, now_ns, since_ns,
			memo);
	call_again(regs, regs->orig_rax);
	return true;
}
