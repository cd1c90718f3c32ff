/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "session/sampler.h"

/* The arithmetic of sampling, with fixed seeds: gaps, weights and the ledger's
 * variance, in front of a program whose blocks are known. */

#define SITES 6
#define RUNS 30
#define THREADS 8

static const uint64_t sizes[SITES] = {16, 48, 100, 300, 1000, 9000};

struct program {
	struct tap_ledger *ledger;
	uint64_t random;
	double interval;
	int64_t left[THREADS];
	int slot_of[THREADS]; /* where each of its threads counts */
	uint64_t next_addr;
	double live[SITES]; /* the truth */
};

static uint64_t call(struct program *p, int thread, uint32_t site)
{
	struct tap_ledger_block block = {.size_bytes = sizes[site], .stack = site, .size_class = 1};
	int64_t *left = &p->left[p->slot_of[thread]];
	uint64_t addr = p->next_addr += 16;

	p->live[site] += (double)sizes[site];
	*left -= (int64_t)sizes[site] + 1;
	if (*left >= 0)
		return addr;
	block.weight = samples_weight(p->interval, sizes[site]);
	tap_ledger_add(p->ledger, addr, &block);
	*left = control_draw(&p->random, p->interval);
	return addr;
}

static void give_back(struct program *p, uint64_t addr, uint32_t site)
{
	struct tap_ledger_block block;

	p->live[site] -= (double)sizes[site];
	if (tap_ledger_take(p->ledger, addr, &block))
		tap_ledger_freed(p->ledger, &block);
}

static void begin(struct program *p, uint64_t seed, double interval)
{
	*p = (struct program){.random = seed, .interval = interval, .next_addr = 0x1000};
	p->ledger = tap_ledger_create();
	for (int i = 0; i < THREADS; i++) {
		p->slot_of[i] = i;
		p->left[i] = control_draw(&p->random, interval);
	}
}

/* Each site keeps one block in four. Threads take turns in blocks of calls;
 * with `moving` their countdowns change hands all the time. */
static void run(struct program *p, bool moving, int rounds)
{
	uint64_t chance = p->random ^ 99;

	for (int round = 0; round < rounds; round++) {
		int thread = round % THREADS;

		if (moving) {
			int a = (int)(control_random(&chance) >> 32) & (THREADS - 1);
			int b = (int)(control_random(&chance) >> 32) & (THREADS - 1);
			int slot = p->slot_of[a];

			p->slot_of[a] = p->slot_of[b];
			p->slot_of[b] = slot;
		}
		for (uint32_t site = 0; site < SITES; site++)
			/* as many bytes from each */
			for (uint64_t bytes = 0; bytes < 9000; bytes += sizes[site]) {
				uint64_t addr = call(p, thread, site);

				if (control_random(&chance) >> 62)
					give_back(p, addr, site);
			}
	}
}

/* By how many standard errors each site's live bytes are off. */
static void judge(struct program *p, double off[SITES])
{
	const struct tap_ledger_cell_list *cells = tap_ledger_cells(p->ledger);

	for (size_t i = 0; i < cells->count; i++) {
		const struct tap_ledger_cell *cell = &cells->items[i];

		off[cell->stack] = (cell->live_bytes - p->live[cell->stack]) / sqrt(cell->variance);
	}
	tap_ledger_destroy(p->ledger);
}

static void two_standard_errors(bool moving)
{
	int inside[SITES] = {0};
	double sum = 0, squares = 0;

	for (uint64_t seed = 1; seed <= RUNS; seed++) {
		double off[SITES] = {0};
		struct program p;

		begin(&p, seed * UINT64_C(0x9e3779b97f4a7c15), 8192);
		run(&p, moving, 400);
		judge(&p, off);
		for (int site = 0; site < SITES; site++) {
			inside[site] += fabs(off[site]) <= 2;
			sum += off[site];
			squares += off[site] * off[site];
		}
	}
	for (int site = 0; site < SITES; site++)
		assert_in_range(inside[site], 26, RUNS);
	/* Neither too wide, nor to one side. */
	assert_true(squares / (RUNS * SITES) > 0.7 && squares / (RUNS * SITES) < 1.4);
	assert_true(fabs(sum / (RUNS * SITES)) < 0.25);
}

static void the_truth_is_within_two_standard_errors(void **state)
{
	(void)state;
	two_standard_errors(false);
}

/* What is left of a gap is as good as a fresh one, whoever goes on with it. */
static void a_countdown_may_change_hands(void **state)
{
	(void)state;
	two_standard_errors(true);
}

static void a_large_block_stands_for_itself(void **state)
{
	(void)state;
	assert_true(samples_weight(0, 10) == 1);
	assert_true(samples_weight(1000, 1 << 20) == 1);
	assert_true(fabs(samples_weight(1e6, 99) - 10000.5) < 0.1);
	/* malloc(0) counts as well */
	assert_true(fabs(samples_weight(1e6, 0) - 1e6) < 1);
}

static size_t really_shared(const uint64_t *fs_bases, size_t count, const bool *out,
	uint64_t multiplier)
{
	static bool taken[TAP_PROBE_SLOTS];
	size_t shared = 0;

	memcpy(taken, out, sizeof(taken));
	for (size_t i = 0; i < count; i++) {
		uint32_t slot = tap_probe_slot_index(fs_bases[i], multiplier);

		shared += taken[slot];
		taken[slot] = true;
	}
	return shared;
}

static void threads_that_lie_anywhere_get_slots_of_their_own(void **state)
{
	static bool out[TAP_PROBE_SLOTS];
	uint64_t fs_bases[1024], random = 5, at = 0x7f0000000740;

	(void)state;
	for (int round = 0; round < 20; round++) {
		size_t shared;
		uint64_t multiplier;

		memset(out, 0, sizeof(out));
		for (int i = 0; i < 256; i++)
			out[control_random(&random) % TAP_PROBE_SLOTS] = true;
		for (int i = 0; i < 256; i++)
			fs_bases[i] = control_random(&random) >> 17 & ~UINT64_C(63);
		multiplier = crowding_choose(fs_bases, 256, out, &random, &shared);
		assert_int_equal(shared, 0);
		assert_int_equal(multiplier & 1, 1);
		assert_int_equal(really_shared(fs_bases, 256, out, multiplier), 0);
	}
	/* one stack behind the other */
	memset(out, 0, sizeof(out));
	for (int i = 0; i < 1024; i++, at -= (8 << 20) + 4096)
		fs_bases[i] = at;
	for (size_t count = 1; count <= 1024; count *= 2) {
		size_t shared;
		uint64_t multiplier = crowding_choose(fs_bases, count, out, &random, &shared);

		assert_int_equal(really_shared(fs_bases, count, out, multiplier), shared);
		assert_true(count > 512 || !shared);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_truth_is_within_two_standard_errors),
		cmocka_unit_test(a_countdown_may_change_hands),
		cmocka_unit_test(a_large_block_stands_for_itself),
		cmocka_unit_test(threads_that_lie_anywhere_get_slots_of_their_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
