/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/proc/tasks.h"
#include "target/probes_internal.h"
#include "target/ptrace.h"

#define TRY_NS UINT64_C(2000000000)
#define STOP_NS UINT64_C(500000000)
#define PAUSE_NS 1000000
/* How much of a stack is searched for addresses of ours. */
#define STACK_SCAN_BYTES (256u << 10)

/* Blocked in a system call: in no code of the program, and it comes back to
 * the instruction behind that call. */
static bool is_blocked(
	struct tap_target *target, const struct tracee *tracee, struct tap_task_syscall *call)
{
	return tracee->state == TRACEE_RUNNING &&
		tap_task_try_syscall(target->pid, tracee->public.tid, call) && call->blocked &&
		call->number >= 0;
}

/* Brings every thread that runs to a stop; those that are blocked are left. */
static bool stop_running(struct tap_target *target)
{
	uint64_t deadline = tap_clock_ns() + STOP_NS;
	struct tap_map seen = {0};
	struct tap_map_slot *slot;
	bool all = true;

	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;
		struct tap_task_syscall call = {0};

		if (tap_map_find(&seen, slot->key))
			continue;
		tap_map_put(&seen, slot->key, NULL);
		if (!is_blocked(target, tracee, &call) &&
			tracee_stop(target, tracee, deadline) == 0)
			all = false;
		i = 0;
	}
	tap_map_deinit(&seen);
	return all;
}

static void continue_stopped(struct tap_target *target)
{
	struct tap_map_slot *slot;

	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;

		if (tracee->state != TRACEE_STOPPED)
			continue;
		tracee_restart_call(target, tracee);
		tracee_continue(target, tracee, 0);
	}
}

/* A range of addresses that no thread may have in its PC or on its stack. */
struct range {
	uint64_t start, end;
};

static bool is_in(const struct range *ranges, size_t count, uint64_t addr)
{
	for (size_t i = 0; i < count; i++)
		if (addr >= ranges[i].start && addr < ranges[i].end)
			return true;
	return false;
}

/* Any word will do that could be a return address or a saved PC: what is
 * taken for one in error costs a retry. */
static bool stack_holds(struct tap_probes *probes, uint64_t sp, const struct range *ranges, size_t count)
{
	_cleanup_free_ uint64_t *words = tap_alloc(STACK_SCAN_BYTES);
	size_t got = tap_memory_read_some(probes->memory, sp & ~7ull, words, STACK_SCAN_BYTES);

	for (size_t i = 0; i < got / 8; i++)
		if (is_in(ranges, count, words[i]))
			return true;
	return false;
}

static bool in_the_way(struct tap_probes *probes, struct tap_target *target,
	const struct range *ranges, size_t count, bool stacks)
{
	struct tap_map_slot *slot;

	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;
		struct tap_task_syscall call = {0};
		uint64_t pc = tracee->public.regs.rip, sp = tracee->public.regs.rsp;

		if (tracee->state != TRACEE_STOPPED) {
			if (!is_blocked(target, tracee, &call))
				continue; /* it has just come, or ended */
			pc = call.pc;
			sp = call.sp;
		}
		if (is_in(ranges, count, pc) || (stacks && stack_holds(probes, sp, ranges, count)))
			return true;
	}
	return false;
}

/* Stops the target, with nobody in the ranges; else lets it go and tries
 * again. The caller continues it. */
static bool stop_clear(struct tap_probes *probes, struct tap_target *target,
	const struct range *ranges, size_t count, bool stacks)
{
	uint64_t deadline = tap_clock_ns() + TRY_NS;
	struct timespec pause = {0, PAUSE_NS};

	for (;;) {
		bool stopped = stop_running(target);

		if (stopped && !in_the_way(probes, target, ranges, count, stacks))
			return true;
		continue_stopped(target);
		if (tap_clock_ns() >= deadline)
			return false;
		nanosleep(&pause, NULL);
	}
}

static bool write_bytes(
	struct tap_probes *probes, uint64_t addr, const uint8_t *bytes, size_t size_bytes)
{
	_cleanup_error_ struct tap_error *err =
		tap_memory_write(probes->memory, addr, bytes, size_bytes);

	return !err;
}

/* Five bytes cannot be written at once, and a thread that is blocked may wake
 * any moment. The first byte is a breakpoint until the others are there: who
 * comes by stops at it, and goes on with the function as it is then. */
static bool swap_code(struct tap_probes *probes, struct tap_target *target, uint64_t addr,
	const uint8_t *code, size_t size_bytes)
{
	tap_map_put(&target->passing, addr, NULL);
	return write_bytes(probes, addr, &tap_insn_breakpoint, 1) &&
		write_bytes(probes, addr + 1, code + 1, size_bytes - 1) &&
		write_bytes(probes, addr, code, 1);
}

/* Threads that ran into such a breakpoint meanwhile. */
static void step_back(struct tap_target *target)
{
	struct tap_map_slot *slot;

	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;
		struct tap_task_syscall call = {0};

		if (!is_blocked(target, tracee, &call))
			tracee_stop(target, tracee, tap_clock_ns() + STOP_NS);
	}
}

static void place_pointers(struct tap_probes *probes)
{
	for (size_t i = 0; i < probes->pointers.count; i++) {
		struct redirected *pointer = &probes->pointers.items[i];
		uint64_t now;

		if (pointer->placed ||
			!tap_memory_try_u64(probes->memory, pointer->addr, &now) ||
			now != pointer->original)
			continue;
		pointer->placed = write_bytes(probes, pointer->addr, (uint8_t *)&pointer->instance,
			sizeof(pointer->instance));
	}
}

struct tap_error *tap_probes_apply(struct tap_probes *probes, struct tap_target *target)
{
	struct range *ranges = tap_alloc((probes->patches.count + 1) * sizeof(*ranges));
	struct tap_error *err = NULL;
	size_t count = 0;

	place_pointers(probes);
	for (size_t i = 0; i < probes->patches.count; i++)
		if (!probes->patches.items[i].placed)
			/* A PC at the first byte is no harm: it has not begun. */
			ranges[count++] = (struct range){probes->patches.items[i].addr + 1,
				probes->patches.items[i].addr + probes->patches.items[i].size_bytes};
	if (count && !stop_clear(probes, target, ranges, count, true))
		err = tap_error_new(TAP_ERR_TIMEOUT,
			"a thread of process %d did not stop, or stood where the code is to be patched",
			probes->pid);
	for (size_t i = 0; !err && i < probes->patches.count; i++) {
		struct patch *patch = &probes->patches.items[i];

		if (patch->placed)
			continue;
		patch->placed = swap_code(
			probes, target, patch->addr, patch->jump, sizeof(patch->jump));
	}
	if (count && !err) {
		step_back(target);
		continue_stopped(target);
	}
	free(ranges);
	return err;
}

/* Only what is still exactly ours is taken back. */
static size_t restore(struct tap_probes *probes, struct tap_target *target)
{
	size_t foreign = 0;

	for (size_t i = 0; i < probes->pointers.count; i++) {
		struct redirected *pointer = &probes->pointers.items[i];
		uint64_t now;

		if (!pointer->placed || !tap_memory_try_u64(probes->memory, pointer->addr, &now))
			continue;
		pointer->placed = false;
		if (now == pointer->instance)
			write_bytes(probes, pointer->addr, (uint8_t *)&pointer->original,
				sizeof(pointer->original));
		else
			foreign += now != pointer->original;
	}
	for (size_t i = 0; i < probes->patches.count; i++) {
		struct patch *patch = &probes->patches.items[i];
		uint8_t now[TAP_PROBE_JUMP_BYTES];

		if (!patch->placed || !tap_memory_try_read(probes->memory, patch->addr, now, sizeof(now)))
			continue;
		patch->placed = false;
		if (!memcmp(now, patch->jump, sizeof(now)))
			swap_code(probes, target, patch->addr, patch->original, sizeof(now));
		else
			foreign++;
	}
	return foreign;
}

static struct tap_error *unmap(struct tap_probes *probes, struct tap_target *target)
{
	struct range region = {probes->region, probes->region + TAP_PROBE_REGION_BYTES};
	int64_t result = 0;
	struct tap_error *err;

	if (!stop_clear(probes, target, &region, 1, true))
		return tap_error_new(TAP_ERR_TIMEOUT,
			"a thread of process %d is inside a probe still; heaptap's code stays mapped "
			"there, unused",
			probes->pid);
	err = remote_call_anywhere(target, SYS_munmap,
		(uint64_t[]){probes->region, TAP_PROBE_REGION_BYTES, 0, 0, 0, 0}, &result);
	if (!err && result)
		err = tap_error_errno((int)-result, "munmap in process %d", probes->pid);
	if (!err)
		probes->region = 0;
	continue_stopped(target);
	return err;
}

struct tap_error *tap_probes_remove(struct tap_probes *probes, struct tap_target *target)
{
	size_t foreign;

	if (!probes->region)
		return NULL;
	tap_error_free(tap_probes_disarm(probes));
	if (!stop_running(target)) {
		continue_stopped(target);
		return tap_error_new(TAP_ERR_TIMEOUT,
			"a thread of process %d did not stop: its probes stay, disarmed", probes->pid);
	}
	foreign = restore(probes, target);
	step_back(target);
	continue_stopped(target);
	if (foreign)
		return tap_error_advise(
			tap_error_new(TAP_ERR_BUSY,
				"%zu places in process %d were changed by somebody else meanwhile; the "
				"probes behind them stay mapped and pass calls through",
				foreign, probes->pid),
			"another debugger may be attached: heaptap clean %d when it is gone",
			probes->pid);
	return unmap(probes, target);
}
