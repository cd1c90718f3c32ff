/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What threads leave behind that do not come back out of the probe: killed
 * there, or gone by a longjmp out of a signal handler. Their record would stay
 * taken, and their slot would count no more. Taken back from one that does
 * come back, after all, neither does harm: its record's word is another one,
 * and its slot is set once more.
 */
#include "heaptap/base/clock.h"
#include "session/sampler.h"

#define LOOK_NS UINT64_C(250000000)

static void reclaim_records(struct sampler *s)
{
	for (unsigned i = 0; i < TAP_PROBE_RECORDS; i++) {
		_Atomic uint64_t *word = &s->shared->records[i].word;
		uint64_t now = atomic_load(word);

		/* One that is posted is answered, or given up by its thread. */
		if (now == s->reclaim.words[i] &&
			(tap_probe_word_is(now, s->generation, TAP_PROBE_FILLING) ||
				tap_probe_word_is(now, s->generation, TAP_PROBE_ANSWERED)))
			atomic_compare_exchange_strong(word, &now, tap_probe_word_freed(now));
		s->reclaim.words[i] = now;
	}
}

/* Above the largest gap is a thread that is in the slow path, one that left
 * it, one that found the probes disarmed, and who asked for 2^63 bytes. */
static void reclaim_slots(struct sampler *s)
{
	static struct tap_probe_slot slots[TAP_PROBE_ALL_SLOTS];

	if (!tap_probes_read_slots(s->probes, slots))
		return;
	for (unsigned i = 0; i < TAP_PROBE_ALL_SLOTS; i++) {
		/* Whoever was answered meanwhile is there, and in it often. */
		bool out = slots[i].left > TAP_PROBE_LARGEST_GAP && !s->reclaim.answered[i];

		s->reclaim.answered[i] = false;
		if (out && s->reclaim.out[i] && tap_probes_restart_slot(s->probes, i))
			out = false;
		s->reclaim.out[i] = out;
	}
}

void reclaim_lost(struct sampler *s)
{
	uint64_t now = tap_clock_ns();

	if (now - s->reclaim.since_ns < LOOK_NS)
		return;
	s->reclaim.since_ns = now;
	reclaim_records(s);
	if (!tap_probes_is_disarmed(s->probes))
		reclaim_slots(s);
}
