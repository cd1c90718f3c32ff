/* SPDX-License-Identifier: Apache-2.0 */
/* How an interrupted system call is made again: registers in, registers out. */
#include "unit.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include "heaptap/memory/memory.h"
#include "target/restart.h"

#define MS UINT64_C(1000000)
#define S UINT64_C(1000000000)
#define NOW (100 * S)
#define PC UINT64_C(0x401002)
#define SP UINT64_C(0x7ffd00001000)
#define STACK (SP - 4096)

static struct tap_regs stopped(long number, int64_t result)
{
	return (struct tap_regs){
		.rip = PC,
		.rsp = SP,
		.rax = (uint64_t)result,
		.orig_rax = (uint64_t)number,
		.rdi = 1,
		.rsi = 2,
		.rdx = 3,
		.r10 = 4,
		.r8 = 5,
		.r9 = 6,
	};
}

static void assert_again(const struct tap_regs *regs, long number)
{
	assert_int_equal(regs->rip, PC - 2);
	assert_int_equal(regs->rax, number);
	assert_int_equal(regs->orig_rax, UINT64_MAX);
}

static void test_what_the_kernel_would_restart(void **state)
{
	static const struct {
		long number;
		int64_t result;
		long again, afresh; /* -1: not */
	} cases[] = {
		{SYS_read, -512, SYS_read, SYS_read},
		{SYS_futex, -513, SYS_futex, SYS_futex},
		{SYS_pause, -514, SYS_pause, SYS_pause},
		{SYS_poll, -516, SYS_restart_syscall, SYS_poll},
		{SYS_read, -EINTR, -1, -1},
		{SYS_read, 7, -1, -1},
		{SYS_read, -515, -1, -1},
		{-1, -512, -1, -1}, /* not in a system call: a register's value */
	};

	static const struct tap_restart_origin unknown;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct tap_regs regs = stopped(cases[i].number, cases[i].result), before = regs;
		struct tap_regs afresh = regs;

		assert_int_equal(tap_restart_kernel_by_hand(&regs), cases[i].again >= 0);
		assert_int_equal(tap_restart_afresh(&afresh, &unknown), cases[i].afresh >= 0);
		if (cases[i].again < 0) {
			assert_memory_equal(&regs, &before, sizeof(regs));
			assert_memory_equal(&afresh, &before, sizeof(regs));
			continue;
		}
		assert_again(&regs, cases[i].again);
		assert_again(&afresh, cases[i].afresh);
	}
}

static void test_what_restart_syscall_stands_for(void **state)
{
	struct tap_restart_origin origin = {0};
	struct tap_regs first = stopped(SYS_poll, -516);
	struct tap_regs second = stopped(SYS_restart_syscall, -516);
	struct tap_regs elsewhere = stopped(SYS_restart_syscall, -516);

	(void)state;
	tap_restart_note_origin(&first, &origin);
	tap_restart_note_origin(&second, &origin);
	assert_true(tap_restart_afresh(&second, &origin));
	assert_again(&second, SYS_poll);
	/* Stopped once more before it was made. */
	assert_true(tap_restart_kernel_by_hand(&first));
	assert_again(&first, SYS_restart_syscall);
	assert_true(tap_restart_afresh(&first, &origin));
	assert_again(&first, SYS_poll);
	elsewhere.rip += 100;
	assert_true(tap_restart_afresh(&elsewhere, &origin));
	assert_int_equal(elsewhere.rax, SYS_restart_syscall);
}

static void test_which_are_made_again(void **state)
{
	static const struct {
		long number;
		int64_t result;
		bool again;
	} cases[] = {
		{SYS_epoll_wait, -EINTR, true},
		{SYS_semop, -EINTR, true},
		{SYS_msgrcv, -EINTR, true},
		{SYS_recvfrom, -EINTR, true},
		{SYS_io_uring_enter, -EINTR, true},
		{SYS_io_pgetevents, -514, true}, /* with its whole time, if the kernel did it */
		{SYS_io_getevents, -514, false},
		{SYS_epoll_wait, 0, false},
		{SYS_epoll_wait, -512, false},
		{SYS_nanosleep, -EINTR, false}, /* EINTR is never the stop's */
		{SYS_wait4, -EINTR, false},
		{-1, -EINTR, false},
	};
	struct tap_memory *memory = tap_memory_create_image();

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct tap_regs regs = stopped(cases[i].number, cases[i].result), before = regs;
		struct tap_restart_memo memo = {0};

		assert_int_equal(
			tap_restart_interrupted(&regs, memory, NOW, 0, &memo), cases[i].again);
		if (cases[i].again)
			assert_again(&regs, cases[i].number);
		else
			assert_memory_equal(&regs, &before, sizeof(regs));
	}
	tap_memory_close(memory);
}

/* What is left of a timeout in milliseconds. */
static uint64_t left_ms(uint64_t ms, uint64_t since_ns, uint64_t now_ns,
	struct tap_restart_memo *memo)
{
	struct tap_regs regs = stopped(SYS_epoll_wait, -EINTR);

	regs.r10 = ms;
	assert_true(tap_restart_interrupted(&regs, NULL, now_ns, since_ns, memo));
	return regs.r10;
}

static void test_milliseconds(void **state)
{
	struct tap_restart_memo memo = {0};

	(void)state;
	assert_int_equal(left_ms(5000, NOW - 2 * S, NOW, &memo), 3000);
	/* The same call, interrupted once more: it still ends 5 s after its
	 * beginning, however often; never early. */
	assert_int_equal(left_ms(3000, 0, NOW + S, &memo), 2000);
	assert_int_equal(left_ms(2000, 0, NOW + S + 1, &memo), 2000);
	assert_int_equal(left_ms(2000, 0, NOW + 3 * S - 1, &memo), 1);
	assert_int_equal(left_ms(1, 0, NOW + 4 * S, &memo), 0);
	/* Another call from the same place, with its own timeout. */
	assert_int_equal(left_ms(5000, NOW + 10 * S, NOW + 11 * S, &memo), 4000);
	/* Its whole time where it is not known when it began: by a value that is
	 * known again. */
	assert_int_equal(left_ms(5000, 0, NOW + 20 * S, &memo), 5001);
	assert_int_equal(left_ms(5001, 0, NOW + 21 * S, &memo), 4000);
	assert_int_equal(left_ms(5000, 0, NOW + 90 * S, &memo), 5001);
	/* Nothing to shorten. */
	assert_int_equal((int32_t)left_ms((uint32_t)-1, NOW, NOW + S, &memo), -1);
	assert_int_equal(left_ms(0, NOW, NOW + S, &memo), 0);
	assert_int_equal(left_ms(INT32_MAX, NOW, NOW + S, &memo), INT32_MAX);
}

static void test_many_short_interruptions_end(void **state)
{
	struct tap_restart_memo memo = {0};
	uint64_t ms = 50, now = NOW, count = 0;

	(void)state;
	for (; ms && count < 1000; count++)
		ms = left_ms(ms, count ? 0 : NOW, now += MS / 2, &memo);
	assert_int_equal(ms, 0);
	assert_in_range(count, 100, 102);
}

static void timespec_case(int64_t seconds, int64_t nanoseconds, uint64_t elapsed_ns,
	int64_t want_seconds, int64_t want_nanoseconds)
{
	struct timespec asked = {seconds, nanoseconds}, left = {-1, -1};
	struct tap_regs regs = stopped(SYS_semtimedop, -EINTR);
	struct tap_restart_memo memo = {0};
	struct tap_memory *memory = tap_memory_create_image();
	uint8_t stack[4096] = {0};

	memcpy(stack + 2048, &asked, sizeof(asked));
	tap_memory_add_region(memory, STACK, stack, sizeof(stack));
	regs.r10 = STACK + 2048;
	assert_true(tap_restart_interrupted(&regs, memory, NOW, NOW - elapsed_ns, &memo));
	assert_again(&regs, SYS_semtimedop);
	if (regs.r10 != STACK + 2048) {
		assert_true(regs.r10 + sizeof(left) <= SP - 128 && regs.r10 >= STACK);
		assert_true(tap_memory_try_read(memory, regs.r10, &left, sizeof(left)));
		assert_int_equal(left.tv_sec, want_seconds);
		assert_int_equal(left.tv_nsec, want_nanoseconds);
	} else {
		assert_int_equal(want_seconds, -1);
	}
	tap_memory_close(memory);
}

static void test_timespecs(void **state)
{
	(void)state;
	timespec_case(5, 500, 2 * S, 3, 500);
	timespec_case(5, 0, 2 * S + 1, 2, 999999999);
	timespec_case(5, 0, 9 * S, 0, 0);
	/* The kernel will refuse them itself. */
	timespec_case(-1, 0, S, -1, 0);
	timespec_case(5, 1000000000, S, -1, 0);
	timespec_case(INT64_MAX, 0, S, -1, 0);
}

static void test_unreadable_timespec(void **state)
{
	struct tap_memory *memory = tap_memory_create_image();
	struct tap_regs regs = stopped(SYS_rt_sigtimedwait, -EINTR);
	struct tap_restart_memo memo = {0};

	(void)state;
	regs.rdx = 8;
	assert_true(tap_restart_interrupted(&regs, memory, NOW, NOW - S, &memo));
	assert_int_equal(regs.rdx, 8);
	tap_memory_close(memory);
}

static void test_kinds(void **state)
{
	static const struct {
		long number;
		enum tap_restart_kind kind;
	} cases[] = {
		{SYS_epoll_wait, TAP_RESTART_BY_HAND},
		{SYS_epoll_pwait, TAP_RESTART_BY_HAND},
		{SYS_rt_sigtimedwait, TAP_RESTART_BY_HAND},
		{SYS_io_uring_enter, TAP_RESTART_NEVER},
		{SYS_poll, TAP_RESTART_KERNEL},
		{SYS_nanosleep, TAP_RESTART_KERNEL},
		{SYS_read, TAP_RESTART_KERNEL}, /* of no socket */
		{-1, TAP_RESTART_KERNEL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct tap_task_syscall call = {true, cases[i].number, {UINT32_MAX}, SP, PC};

		assert_int_equal(tap_restart_kind(1, &call), cases[i].kind);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_the_kernel_would_restart),
		cmocka_unit_test(test_what_restart_syscall_stands_for),
		cmocka_unit_test(test_which_are_made_again),
		cmocka_unit_test(test_milliseconds),
		cmocka_unit_test(test_many_short_interruptions_end),
		cmocka_unit_test(test_timespecs),
		cmocka_unit_test(test_unreadable_timespec),
		cmocka_unit_test(test_kinds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
