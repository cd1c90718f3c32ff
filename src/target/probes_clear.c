/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is a thread in the way? Code is changed, and memory unmapped, only where
 * nobody executes it or will return there.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/proc/tasks.h"
#include "target/probes_internal.h"
#include "target/ptrace.h"

#define TRY_NS UINT64_C(2000000000)
#define STOP_NS UINT64_C(500000000)
#define FIRST_PAUSE_NS 1000000
#define LONGEST_PAUSE_NS 100000000
#define SLICE_NS 200000
/* How much of a stack is searched, from its top. */
#define STACK_SCAN_BYTES (256u << 10)
/* Stacks of one thread: handlers on alternate stacks, one above the other. */
#define STACKS_MAX 8

/* In a signal frame (struct sigcontext, asm/sigcontext.h): the word with the
 * code and stack segments' selectors, and where sp is from there. */
#define SEGMENTS UINT64_C(0x002b000000000033)
#define SEGMENTS_AFTER_SP 3

/* Blocked in a system call: in no code of the program, and it comes back to
 * the instruction behind that call. A thread in a ptrace stop that was not
 * taken notice of yet looks the same but for its state. */
static bool is_blocked(
	struct tap_target *target, const struct tracee *tracee, struct tap_task_syscall *call)
{
	struct tap_task task;
	_cleanup_error_ struct tap_error *err = NULL;

	if (tracee->state != TRACEE_RUNNING ||
		!tap_task_try_syscall(target->pid, tracee->public.tid, call) || !call->blocked ||
		call->number < 0)
		return false;
	err = tap_task_read(target->pid, tracee->public.tid, &task);
	return !err && (task.state == 'D' || (task.state == 'S' && !tracee->interrupted));
}

/* A new thread's first stop, before its first instruction, is one too. */
static bool stop(struct tap_target *target, struct tracee *tracee, uint64_t deadline_ns)
{
	int result = tracee_stop(target, tracee, deadline_ns);

	if (result == 0 && tracee->state == TRACEE_STOPPED)
		result = pt_get_regs(tracee->public.tid, &tracee->public.regs) ?: 1;
	return result != 0;
}

/* All at once: each has to be run by a processor before it stops, and those
 * that have stopped are in nobody's way. */
static void interrupt_all(struct tap_target *target)
{
	struct tap_map_slot *slot;

	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;
		struct tap_task_syscall call = {0};

		if (tracee->state == TRACEE_RUNNING && !tracee->interrupted &&
			!is_blocked(target, tracee, &call))
			tracee->interrupted = pt_interrupt(tracee->public.tid) == 0;
	}
}

bool probes_stop(struct tap_target *target)
{
	uint64_t deadline = tap_clock_ns() + STOP_NS;
	struct tap_map seen = {0};
	struct tap_map_slot *slot;
	bool all = true;

	interrupt_all(target);
	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;
		struct tap_task_syscall call = {0};

		if (tap_map_find(&seen, slot->key))
			continue;
		tap_map_put(&seen, slot->key, NULL);
		if (!is_blocked(target, tracee, &call) && !stop(target, tracee, deadline) &&
			!is_blocked(target, tracee, &call))
			all = false;
		i = 0; /* stopping one may have brought or taken others */
	}
	tap_map_deinit(&seen);
	return all;
}

void probes_continue(struct tap_target *target)
{
	struct tap_map_slot *slot;

	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;

		if (tracee->state != TRACEE_STOPPED || tracee->in_event)
			continue;
		tracee_restart_call(target, tracee);
		tracee_continue(target, tracee, 0);
	}
}

struct search {
	struct tap_memory *memory;
	const struct range *ranges;
	size_t count;
	uint64_t *words; /* STACK_SCAN_BYTES */
};

static bool is_in(const struct search *search, uint64_t addr)
{
	for (size_t i = 0; i < search->count; i++)
		if (addr >= search->ranges[i].start && addr < search->ranges[i].end)
			return true;
	return false;
}

/* Any word will do that could be a return address or a saved PC: what is
 * taken for one in error costs a retry. Where a handler runs on a stack of its
 * own, the interrupted one is *below_ret; else that is 0. */
static bool stack_holds(const struct search *search, uint64_t sp, uint64_t *below_ret)
{
	uint64_t start = sp & ~7ull;
	size_t count = tap_memory_read_some(search->memory, start, search->words, STACK_SCAN_BYTES) / 8;

	*below_ret = 0;
	for (size_t i = 0; i < count; i++) {
		if (is_in(search, search->words[i]))
			return true;
		if (search->words[i] == SEGMENTS && i >= SEGMENTS_AFTER_SP &&
			search->words[i - SEGMENTS_AFTER_SP] - start >= count * 8)
			*below_ret = search->words[i - SEGMENTS_AFTER_SP];
	}
	return false;
}

static bool stacks_hold(const struct search *search, uint64_t sp)
{
	for (int i = 0; i < STACKS_MAX && sp; i++)
		if (stack_holds(search, sp, &sp))
			return true;
	return false;
}

/* A pointer to a function that was loaded is called next. */
static bool registers_hold(const struct search *search, const struct tap_regs *regs)
{
	const uint64_t values[] = {regs->rip, regs->rax, regs->rbx, regs->rcx, regs->rdx, regs->rsi,
		regs->rdi, regs->rbp, regs->r8, regs->r9, regs->r10, regs->r11, regs->r12,
		regs->r13, regs->r14, regs->r15};

	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++)
		if (is_in(search, values[i]))
			return true;
	return false;
}

static bool is_there(struct tap_target *target, const struct tracee *tracee)
{
	pid_t process = tracee->foreign ? tracee->public.tid : target->pid;
	struct tap_task task;
	_cleanup_error_ struct tap_error *err = tap_task_read(process, tracee->public.tid, &task);

	return !err && task.state != 'Z' && task.state != 'X';
}

static bool in_the_way(struct tap_target *target, const struct search *search)
{
	struct tap_map_slot *slot;
	int unseen_children = 0;

	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;
		struct tap_task_syscall call = {0};

		/* A child of before the attach is not traced. */
		unseen_children -= tracee->foreign;
		if (tracee->state == TRACEE_STOPPED) {
			if (registers_hold(search, &tracee->public.regs) ||
				stacks_hold(search, tracee->public.regs.rsp))
				return true;
		} else if (is_blocked(target, tracee, &call)) {
			unseen_children += tracee_is_vfork(&call);
			if (is_in(search, call.pc) || stacks_hold(search, call.sp))
				return true;
		} else if (is_there(target, tracee)) {
			/* It was blocked, and woke. */
			return true;
		}
	}
	return unseen_children > 0;
}

/* Lets it run for a while. Who makes a thread meanwhile is held until that is
 * seen, and so is one that took an interrupt twice. */
static void let_run(struct tap_target *target, uint64_t pause_ns)
{
	uint64_t end = tap_clock_ns() + pause_ns;
	struct timespec slice = {0, SLICE_NS};

	do {
		events_serve(target);
		nanosleep(&slice, NULL);
	} while (tap_clock_ns() < end);
	events_serve(target);
}

bool probes_stop_clear(struct tap_target *target, struct tap_memory *memory,
	const struct range *ranges, size_t count)
{
	_cleanup_free_ uint64_t *words = tap_alloc(STACK_SCAN_BYTES);
	struct search search = {memory, ranges, count, words};
	uint64_t deadline = tap_clock_ns() + TRY_NS;
	uint64_t pause_ns = FIRST_PAUSE_NS;

	for (;;) {
		bool stopped = probes_stop(target);

		if (stopped && !in_the_way(target, &search))
			return true;
		probes_continue(target);
		if (tap_clock_ns() >= deadline)
			return false;
		let_run(target, pause_ns);
		/* On a busy machine it takes a while until a thread has run at all,
		 * more so with a timer's signals in front. */
		if (pause_ns < LONGEST_PAUSE_NS)
			pause_ns *= 2;
	}
}
