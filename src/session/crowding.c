/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads find their countdown by a hash. Two that run at once and share one
 * lose bytes: while one of them is in the slow path the other one's calls go by,
 * perhaps all of them; and counting is no atomic operation, so that one may
 * undo what the other one set. With 16,384 slots and threads that lie anywhere,
 * some of 256 do so under seven multipliers in eight. Every thread tells its fs
 * base with its samples, though, so a multiplier can be looked for that keeps
 * those apart that are there. To make it rare by slots alone would take
 * megabytes of the target.
 *
 * Two ways tell that threads share: a sample from the slot of another thread
 * that was heard of lately; and, as the other one may never have its turn, a
 * thread that finds what it left in the slot counted down when it comes back.
 *
 * Nothing is reset with a new multiplier. What is left of an exponential gap is
 * distributed as a fresh one, and the interval that it was drawn with lies
 * beside it in the slot: whoever comes upon a countdown goes on with it, and a
 * slot that nobody has used makes the next call a sample that stands for itself.
 * A thread that is in the slow path sets the slot that it came from, so those
 * are nobody's new ones. A call that saw the new multiplier half written would
 * count in one more slot, once.
 */
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/clock.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/log.h"
#include "session/sampler.h"

/* Of whom nothing was heard for so long is gone, or allocates so little that
 * nobody loses by it. */
#define SEEN_NS UINT64_C(10000000000)
#define SEEN_MAX (2 * TAP_PROBE_SLOTS)
/* From what was found to the choice, so that all are heard of that run; and from
 * one choice to the next. That is twice as long each time, as where threads come
 * and go without end some two of them meet again and again. */
#define HEAR_NS UINT64_C(30000000)
#define FIRST_WAIT_NS UINT64_C(50000000)
#define LONGEST_WAIT_NS UINT64_C(10000000000)
/* Threads wait for their answers while we look: some milliseconds. */
#define STEPS_MAX 4000000u

/* How many have none to themselves under this multiplier; no more than `most` is
 * counted. taken: by slot, the last round that came there. */
static size_t count_shared(const uint64_t *fs_bases, size_t count, uint64_t multiplier,
	const bool *out, uint32_t *taken, uint32_t round, size_t most, size_t *steps)
{
	size_t shared = 0;

	for (size_t i = 0; i < count && shared < most; i++) {
		uint32_t slot = tap_probe_slot_index(fs_bases[i], multiplier);

		shared += out[slot] || taken[slot] == round;
		taken[slot] = round;
		++*steps;
	}
	return shared;
}

uint64_t crowding_choose(const uint64_t *fs_bases, size_t count, const bool *out,
	uint64_t *random, size_t *shared_ret)
{
	_cleanup_free_ uint32_t *taken = tap_alloc(TAP_PROBE_SLOTS * sizeof(*taken));
	size_t steps = 0, fewest = count + 1;
	uint64_t best = 1;

	for (uint32_t round = 1; fewest && steps < STEPS_MAX; round++) {
		uint64_t multiplier = control_random(random) | 1;
		size_t shared =
			count_shared(fs_bases, count, multiplier, out, taken, round, fewest, &steps);

		if (shared < fewest) {
			fewest = shared;
			best = multiplier;
		}
	}
	*shared_ret = fewest;
	return best;
}

/* Whose threads are in the slow path, or were. */
static void find_out(struct sampler *s, bool *out)
{
	_cleanup_free_ struct tap_probe_slot *slots =
		tap_alloc(TAP_PROBE_ALL_SLOTS * sizeof(*slots));

	if (!tap_probes_read_slots(s->probes, slots))
		return;
	for (unsigned i = 0; i < TAP_PROBE_SLOTS; i++)
		out[i] = slots[i].left > TAP_PROBE_LARGEST_GAP;
}

/* Those that were heard of; the others are forgotten. */
static uint64_t *list_seen(struct sampler *s, uint64_t now, size_t *count_ret)
{
	uint64_t *fs_bases = tap_alloc((s->crowding.seen.count + 1) * sizeof(*fs_bases));
	struct tap_map_slot *slot;
	struct tap_map recent = {0};

	*count_ret = 0;
	for (size_t i = 0; tap_map_next(&s->crowding.seen, &i, &slot);) {
		if (now - slot->value > SEEN_NS)
			continue;
		fs_bases[(*count_ret)++] = slot->key;
		*tap_map_put(&recent, slot->key, NULL) = slot->value;
	}
	tap_map_deinit(&s->crowding.seen);
	s->crowding.seen = recent;
	return fs_bases;
}

static uint64_t choose(struct sampler *s, uint64_t now)
{
	size_t count, shared;
	_cleanup_free_ uint64_t *fs_bases = list_seen(s, now, &count);
	_cleanup_free_ bool *out = tap_alloc(TAP_PROBE_SLOTS * sizeof(*out));
	uint64_t multiplier;

	find_out(s, out);
	multiplier = crowding_choose(fs_bases, count, out, &s->random, &shared);
	tap_log_detail("threads met in one countdown: of %zu that were heard of, %zu share one from "
		       "now on",
		count, shared);
	return multiplier;
}

static void part(struct sampler *s, uint64_t now)
{
	uint64_t multiplier = choose(s, now);
	struct tap_error *err;

	s->crowding.wait_ns = s->crowding.wait_ns ? 2 * s->crowding.wait_ns : FIRST_WAIT_NS;
	if (s->crowding.wait_ns > LONGEST_WAIT_NS)
		s->crowding.wait_ns = LONGEST_WAIT_NS;
	s->crowding.next_ns = 0;
	s->crowding.last_ns = now;
	s->crowding.told = atomic_load(&s->shared->crowded);
	err = tap_probes_set_multiplier(s->probes, multiplier);
	if (!err) {
		s->multiplier = multiplier;
		s->crowding.found = false;
		memset(s->crowding.owners, 0, sizeof(s->crowding.owners));
	}
	tap_error_free(err);
}

void crowding_note(struct sampler *s, uint64_t fs_base)
{
	uint64_t *owner = &s->crowding.owners[tap_probe_slot_index(fs_base, s->multiplier)];
	uint64_t before = *owner, now = tap_clock_ns();
	uint64_t *seen;

	/* Any number of them may be told. */
	if (s->crowding.seen.count >= SEEN_MAX)
		tap_map_clear(&s->crowding.seen);
	*tap_map_put(&s->crowding.seen, fs_base, NULL) = now;
	*owner = fs_base;
	if (!before || before == fs_base)
		return;
	seen = tap_map_find(&s->crowding.seen, before);
	s->crowding.found |= seen && now - *seen <= SEEN_NS;
}

void crowding_part(struct sampler *s)
{
	uint64_t now = tap_clock_ns();

	if (!s->crowding.next_ns) {
		if (!s->crowding.found && atomic_load(&s->shared->crowded) == s->crowding.told)
			return;
		s->crowding.next_ns = s->crowding.last_ns + s->crowding.wait_ns;
		if (s->crowding.next_ns < now + HEAR_NS)
			s->crowding.next_ns = now + HEAR_NS;
	}
	if (now >= s->crowding.next_ns)
		part(s, now);
}

void crowding_tell(struct sampler *s)
{
	size_t count, steps = 0;
	_cleanup_free_ uint64_t *fs_bases = list_seen(s, tap_clock_ns(), &count);
	_cleanup_free_ bool *out = tap_alloc(TAP_PROBE_SLOTS * sizeof(*out));
	_cleanup_free_ uint32_t *taken = tap_alloc(TAP_PROBE_SLOTS * sizeof(*taken));

	tap_log_detail("countdowns of threads in the end: %zu, shared: %zu", count,
		count_shared(fs_bases, count, s->multiplier, out, taken, 1, count + 1, &steps));
}

void crowding_deinit(struct sampler *s)
{
	tap_map_deinit(&s->crowding.seen);
}
