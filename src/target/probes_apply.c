/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "target/probes_internal.h"

#define UNMAP_BOUND_NS UINT64_C(500000000)
#define UNMAP_PAUSE_NS 1000000

/* One write that stays within a page: all of it is there, or nothing, also
 * where we are killed. A breakpoint first, for the sake of threads that are
 * blocked and may wake that very moment, would be left behind by that, and
 * kill the program. */
static bool write_bytes(
	struct tap_probes *probes, uint64_t addr, const void *bytes, size_t size_bytes)
{
	_cleanup_error_ struct tap_error *err =
		tap_memory_write(probes->memory, addr, bytes, size_bytes);

	return !err;
}

/* What is about to be placed is told first. */
static struct tap_error *write_places(struct tap_probes *probes)
{
	size_t count = probes->pointers.count + probes->patches.count, n = 0;
	_cleanup_free_ struct probe_place *places = tap_alloc((count + 1) * sizeof(*places));
	uint64_t head = probes->region + TAP_PROBE_NAME_AT;
	uint32_t told;
	struct tap_error *err;

	if (count > PROBE_PLACES_MAX)
		return tap_error_new(TAP_ERR_UNSUPPORTED, "more than %zu places for probes",
			(size_t)PROBE_PLACES_MAX);
	for (size_t i = 0; i < probes->pointers.count; i++) {
		const struct redirected *pointer = &probes->pointers.items[i];

		places[n].addr = pointer->addr;
		places[n].size_bytes = sizeof(pointer->instance);
		memcpy(places[n].original, &pointer->original, sizeof(pointer->original));
		memcpy(places[n++].ours, &pointer->instance, sizeof(pointer->instance));
	}
	for (size_t i = 0; i < probes->patches.count; i++) {
		const struct patch *patch = &probes->patches.items[i];

		places[n].addr = patch->addr;
		places[n].size_bytes = sizeof(patch->jump);
		memcpy(places[n].original, patch->original, sizeof(patch->jump));
		memcpy(places[n++].ours, patch->jump, sizeof(patch->jump));
	}
	told = (uint32_t)n;
	err = tap_memory_write(
		probes->memory, head + sizeof(struct probe_head), places, n * sizeof(*places));
	return err ? err :
		     tap_memory_write(probes->memory,
			     head + offsetof(struct probe_head, place_count), &told, sizeof(told));
}

static void place_pointers(struct tap_probes *probes)
{
	for (size_t i = 0; i < probes->pointers.count; i++) {
		struct redirected *pointer = &probes->pointers.items[i];
		uint64_t now;

		if (!pointer->placed && tap_memory_try_u64(probes->memory, pointer->addr, &now) &&
			now == pointer->original)
			pointer->placed = write_bytes(probes, pointer->addr, &pointer->instance,
				sizeof(pointer->instance));
	}
}

static void place_patches(struct tap_probes *probes)
{
	for (size_t i = 0; i < probes->patches.count; i++) {
		struct patch *patch = &probes->patches.items[i];

		if (!patch->placed)
			patch->placed = write_bytes(
				probes, patch->addr, patch->jump, sizeof(patch->jump));
	}
}

struct tap_error *tap_probes_apply(struct tap_probes *probes, struct tap_target *target)
{
	_cleanup_free_ struct range *ranges =
		tap_alloc((probes->patches.count + 1) * sizeof(*ranges));
	struct tap_error *err = write_places(probes);
	size_t count = 0;

	if (err)
		return err;
	for (size_t i = 0; i < probes->patches.count; i++)
		if (!probes->patches.items[i].placed)
			/* A PC at the first byte is no harm: it has not begun. */
			ranges[count++] = (struct range){probes->patches.items[i].addr + 1,
				probes->patches.items[i].addr + probes->patches.items[i].size_bytes};
	if (probes_stop_clear(target, probes->memory, ranges, count)) {
		place_patches(probes);
	} else {
		err = tap_error_new(TAP_ERR_TIMEOUT,
			"a thread of process %d did not stop, or stood where the code is to be patched",
			probes->pid);
		/* Whoever does not stop does not read a pointer meanwhile. */
		probes_stop(target);
	}
	place_pointers(probes);
	probes_continue(target);
	return err;
}

/* Only what is still exactly ours is taken back. */
static bool restore_place(struct tap_probes *probes, uint64_t addr, const void *ours,
	const void *original, size_t size_bytes)
{
	uint8_t now[PATCH_MAX_BYTES];

	if (!tap_memory_try_read(probes->memory, addr, now, size_bytes))
		return true; /* unmapped meanwhile */
	if (!memcmp(now, ours, size_bytes))
		return write_bytes(probes, addr, original, size_bytes);
	return !memcmp(now, original, size_bytes);
}

static size_t restore(struct tap_probes *probes)
{
	size_t foreign = 0;

	for (size_t i = 0; i < probes->pointers.count; i++) {
		struct redirected *pointer = &probes->pointers.items[i];

		foreign += pointer->placed &&
			!restore_place(probes, pointer->addr, &pointer->instance,
				&pointer->original, sizeof(pointer->original));
		pointer->placed = false;
	}
	for (size_t i = 0; i < probes->patches.count; i++) {
		struct patch *patch = &probes->patches.items[i];

		foreign += patch->placed &&
			!restore_place(probes, patch->addr, patch->jump, patch->original,
				sizeof(patch->jump));
		patch->placed = false;
	}
	return foreign;
}

static struct tap_error *unmap_now(struct tap_probes *probes, struct tap_target *target)
{
	struct range code = {probes->region, probes->region + TAP_PROBE_CODE_BYTES};
	int64_t result = 0;
	struct tap_error *err;

	if (!probes_stop_clear(target, probes->memory, &code, 1))
		return tap_error_advise(
			tap_error_new(TAP_ERR_TIMEOUT,
				"a thread of process %d is inside a probe still; heaptap's code stays "
				"mapped there, unused",
				probes->pid),
			"heaptap clean %d takes it out later", probes->pid);
	err = remote_call_anywhere(target, SYS_munmap,
		(uint64_t[]){probes->region, TAP_PROBE_REGION_BYTES, 0, 0, 0, 0}, &result);
	if (!err && result)
		err = tap_error_errno((int)-result, "munmap in process %d", probes->pid);
	if (!err)
		probes->region = 0;
	probes_continue(target);
	return err;
}

/* A thread may be in a call that is not to be stopped for a moment only: the
 * parent of a vfork, for one. */
static struct tap_error *unmap(struct tap_probes *probes, struct tap_target *target)
{
	uint64_t deadline = tap_clock_ns() + UNMAP_BOUND_NS;
	struct tap_error *err = unmap_now(probes, target);

	while (err && err->code == TAP_ERR_TIMEOUT && tap_clock_ns() < deadline) {
		struct timespec pause = {0, UNMAP_PAUSE_NS};

		tap_error_free(err);
		nanosleep(&pause, NULL);
		events_serve(target);
		err = unmap_now(probes, target);
	}
	return err;
}

/* Not after an exec, nor in another process of the same number. */
static bool is_there(const struct tap_probes *probes, struct tap_target *target)
{
	struct probe_head head;

	return tap_memory_try_read(
		       target->memory, probes->region + TAP_PROBE_NAME_AT, &head, sizeof(head)) &&
		!memcmp(&head.area, &probes->head.area, sizeof(head.area)) &&
		head.target_start_ticks == probes->head.target_start_ticks &&
		head.target_pid == probes->head.target_pid;
}

struct tap_error *tap_probes_remove(struct tap_probes *probes, struct tap_target *target)
{
	size_t foreign;

	if (!probes->region || !is_there(probes, target)) {
		probes->region = 0;
		return NULL;
	}
	tap_error_free(tap_probes_disarm(probes));
	if (!probes_stop_clear(target, probes->memory, NULL, 0))
		return tap_error_advise(tap_error_new(TAP_ERR_TIMEOUT,
						"a thread of process %d did not stop: its probes "
						"stay, disarmed",
						probes->pid),
			"heaptap clean %d takes them out later", probes->pid);
	foreign = restore(probes);
	probes_continue(target);
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
