/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "unit.h"
#include <math.h>
#include "heaptap/analysis/growth.h"

#define CELLS_MAX 200

struct scene {
	struct tap_growth_cell cells[CELLS_MAX];
	size_t count;
	struct tap_ledger_class classes[CELLS_MAX];
	struct tap_ledger_class_list list;
	double replaced[CELLS_MAX];
	double variance[CELLS_MAX];
};

static void site(struct scene *scene, size_t number, uint32_t size_class, int64_t blocks,
	int64_t bytes, uint64_t freed)
{
	scene->cells[scene->count++] = (struct tap_growth_cell){
		.site = number,
		.size_class = size_class,
		.live_blocks = blocks,
		.live_bytes = bytes,
		.freed_blocks = freed,
	};
}

static void unseen(struct scene *scene, uint32_t size_class, uint64_t blocks)
{
	scene->list.items = scene->classes;
	scene->classes[scene->list.count++] =
		(struct tap_ledger_class){.size_class = size_class, .unseen_blocks = blocks};
}

static void net(struct scene *scene)
{
	memset(scene->replaced, 0, sizeof(scene->replaced));
	memset(scene->variance, 0, sizeof(scene->variance));
	tap_growth_net(
		scene->cells, scene->count, &scene->list, scene->replaced, scene->variance);
}

static void a_full_deque_grows_by_nothing(void **state)
{
	struct scene scene = {0};

	(void)state;
	site(&scene, 0, 5, 1000, 33000, 0);
	unseen(&scene, 5, 1000);
	net(&scene);
	assert_int_equal(scene.replaced[0], 33000);
	/* more old ones went than new ones came: never below nothing */
	scene.classes[0].unseen_blocks = 1000000;
	net(&scene);
	assert_int_equal(scene.replaced[0], 33000);
}

static void a_leak_without_old_frees_keeps_everything(void **state)
{
	struct scene scene = {0};

	(void)state;
	site(&scene, 0, 5, 1000, 33000, 0);
	unseen(&scene, 6, 5000);
	unseen(&scene, 4, 5000);
	net(&scene);
	assert_int_equal(scene.replaced[0], 0);
}

/* The deque has gone round: it frees what it holds, the leak frees nothing. */
static void a_leak_beside_a_full_deque_keeps_its_figure(void **state)
{
	struct scene scene = {0};

	(void)state;
	site(&scene, 0, 5, 2000, 66000, 0);    /* leak */
	site(&scene, 1, 5, 1000, 33000, 1500); /* deque of a thousand, 2,500 appended */
	unseen(&scene, 5, 1000);
	net(&scene);
	assert_int_equal(scene.replaced[0], 0);
	assert_int_equal(scene.replaced[1], 33000);
}

/* What is more than they can have replaced is set against all. */
static void what_is_left_goes_to_the_others(void **state)
{
	struct scene scene = {0};

	(void)state;
	site(&scene, 0, 5, 2000, 66000, 0);
	site(&scene, 1, 5, 1000, 33000, 1500);
	unseen(&scene, 5, 1600);
	net(&scene);
	assert_int_equal(scene.replaced[0], 600 * 33);
	assert_int_equal(scene.replaced[1], 33000);
}

static void classes_do_not_mix(void **state)
{
	struct scene scene = {0};

	(void)state;
	/* one site in several classes, in no order */
	site(&scene, 0, 9, 10, 1000, 0);
	site(&scene, 1, 2, 10, 500, 0);
	site(&scene, 0, 2, 10, 500, 0);
	site(&scene, 0, 0, 10, 777, 0);
	site(&scene, 2, 1, 10, 100, 0);
	unseen(&scene, 2, 10);
	unseen(&scene, 9, 4);
	unseen(&scene, 7, 4);
	net(&scene);
	assert_int_equal(scene.replaced[0], 250 + 400);
	assert_int_equal(scene.replaced[1], 250);
	assert_int_equal(scene.replaced[2], 0);
	for (size_t i = 1; i < scene.count; i++)
		assert_true(scene.cells[i - 1].size_class <= scene.cells[i].size_class);
}

static void nothing_to_net(void **state)
{
	struct scene scene = {0};

	(void)state;
	net(&scene);
	site(&scene, 0, 5, 1000, 33000, 0);
	net(&scene);
	assert_int_equal(scene.replaced[0], 0);
	/* sites that shrank, or have nothing, take no part */
	site(&scene, 1, 5, -5, -100, 3);
	site(&scene, 2, 5, 0, 400, 9);
	unseen(&scene, 5, 10);
	net(&scene);
	assert_int_equal(scene.replaced[0], 330);
	assert_int_equal(scene.replaced[1], 0);
	assert_int_equal(scene.replaced[2], 0);
}

/* Blocks are whole, shares are not: the sum is off by less than one block. */
static void rounding_adds_up(void **state)
{
	struct scene scene = {0};
	int64_t sum = 0;

	(void)state;
	for (size_t i = 0; i < 7; i++)
		site(&scene, i, 5, 3, 30, 0);
	unseen(&scene, 5, 10);
	net(&scene);
	for (size_t i = 0; i < 7; i++) {
		assert_in_range(scene.replaced[i], 14, 15);
		sum += scene.replaced[i];
	}
	assert_in_range(sum, 97, 103);
}

static void counts_without_bound(void **state)
{
	struct scene scene = {0};
	int64_t large = INT64_C(1) << 61;

	(void)state;
	site(&scene, 0, 5, large, large, UINT64_MAX);
	site(&scene, 1, 5, 1, large, 0);
	unseen(&scene, 5, UINT64_MAX);
	net(&scene);
	assert_int_equal(scene.replaced[0], large);
	assert_int_equal(scene.replaced[1], large);
}

/* Any scene: nobody replaces more than it has, and all sites of a class
 * together grow by no more blocks than it did. */
static void no_more_than_its_class(void **state)
{
	(void)state;
	srand(11);
	for (int round = 0; round < 2000; round++) {
		struct scene scene = {0};
		uint32_t classes = 1 + (uint32_t)rand() % 5;
		double live[6] = {0}, growth[6] = {0};

		for (size_t i = 1 + (size_t)rand() % 150; i > 0; i--) {
			int64_t blocks = rand() % 1000 - 50;

			/* one class has one size, so that bytes tell blocks */
			site(&scene, scene.count, 1 + (uint32_t)rand() % classes, blocks,
				blocks * 1000, rand() % 3 ? 0 : (uint64_t)rand() % 2000);
		}
		for (uint32_t class = 1; class <= classes; class++)
			unseen(&scene, class, (uint64_t)rand() % 60000);
		net(&scene);
		for (size_t i = 0; i < scene.count; i++) {
			const struct tap_growth_cell *cell = &scene.cells[i];
			int64_t bytes = cell->live_bytes > 0 ? cell->live_bytes : 0;

			assert_true(scene.replaced[cell->site] >= 0);
			assert_true(scene.replaced[cell->site] <= bytes);
			live[cell->size_class] += (double)bytes / 1000;
			growth[cell->size_class] +=
				(double)(bytes - scene.replaced[cell->site]) / 1000;
		}
		for (uint32_t class = 1; class <= classes; class++) {
			double gone = (double)scene.classes[class - 1].unseen_blocks;
			double left = live[class] > gone ? live[class] - gone : 0;

			assert_true(growth[class] > left - 1 && growth[class] < left + 1);
		}
	}
}

/* Where old blocks were sampled, what was replaced errs as their number does,
 * by its part of it; also where a site has several stacks. */
static void an_estimate_has_its_variance(void **state)
{
	struct scene scene = {0};

	(void)state;
	site(&scene, 0, 5, 200, 20000, 0);
	site(&scene, 1, 5, 300, 30000, 0);
	site(&scene, 0, 5, 100, 10000, 0);
	site(&scene, 1, 6, 100, 10000, 0);
	unseen(&scene, 5, 300);
	scene.classes[0].unseen_variance = 900;
	unseen(&scene, 6, 100);
	net(&scene);
	/* half of 300, which are known to 30, at 100 bytes */
	for (int i = 0; i < 2; i++)
		assert_true(fabs(sqrt(scene.variance[i]) - 15 * 100) < 0.001);
	assert_true(fabs(scene.replaced[0] - 15000) < 0.001);
	assert_true(fabs(scene.replaced[1] - 25000) < 0.001);
}

/* The order of the cells does not matter. */
static void the_same_from_any_order(void **state)
{
	struct scene scene = {0}, other;

	(void)state;
	srand(5);
	for (size_t i = 0; i < 100; i++)
		site(&scene, i, (uint32_t)i % 3, rand() % 500, rand() % 90000,
			i % 2 ? 0 : (uint64_t)rand() % 300);
	for (uint32_t class = 0; class < 3; class++)
		unseen(&scene, class, 4000);
	other = scene;
	other.list.items = other.classes;
	for (size_t i = 0; i < 100; i++)
		other.cells[i] = scene.cells[99 - i];
	net(&scene);
	net(&other);
	for (size_t i = 0; i < 100; i++)
		assert_true(fabs(scene.replaced[i] - other.replaced[i]) <= 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_deque_grows_by_nothing),
		cmocka_unit_test(a_leak_without_old_frees_keeps_everything),
		cmocka_unit_test(a_leak_beside_a_full_deque_keeps_its_figure),
		cmocka_unit_test(what_is_left_goes_to_the_others),
		cmocka_unit_test(classes_do_not_mix),
		cmocka_unit_test(nothing_to_net),
		cmocka_unit_test(rounding_adds_up),
		cmocka_unit_test(counts_without_bound),
		cmocka_unit_test(no_more_than_its_class),
		cmocka_unit_test(an_estimate_has_its_variance),
		cmocka_unit_test(the_same_from_any_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
