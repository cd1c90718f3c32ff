/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include <string.h>
#include "unit.h"
#include "heaptap/ledger/stacks.h"

static uint32_t random_state;

static uint32_t next_random(void)
{
	random_state = random_state * 1664525 + 1013904223;
	return random_state >> 8;
}

static void assert_frames(
	struct tap_stacks *stacks, uint32_t stack, const struct tap_stack_frame *frames, size_t count)
{
	size_t found;
	const struct tap_stack_frame *own = tap_stacks_frames(stacks, stack, &found);

	assert_int_equal(found, count);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(own[i].key, frames[i].key);
}

static void equal_stacks_are_one(void **state)
{
	struct tap_stacks *stacks = tap_stacks_create();
	struct tap_stack_frame frames[3] = {{1}, {2}, {3}};
	struct tap_stack_frame other[3] = {{3}, {2}, {1}};
	uint32_t first = tap_stacks_add(stacks, frames, 3);

	(void)state;
	assert_int_equal(tap_stacks_add(stacks, frames, 3), first);
	assert_int_not_equal(tap_stacks_add(stacks, other, 3), first);
	assert_int_not_equal(tap_stacks_add(stacks, frames, 2), first);
	assert_int_equal(tap_stacks_count(stacks), 3);
	/* Flags are kept, and do not make two stacks different. */
	frames[1].is_call = 1;
	frames[1].trust = 2;
	assert_int_equal(tap_stacks_add(stacks, frames, 3), first);
	tap_stacks_destroy(stacks);
	tap_stacks_destroy(NULL);
}

static void the_empty_stack_is_one_too(void **state)
{
	struct tap_stacks *stacks = tap_stacks_create();
	struct tap_stack_frame zero = {0};
	uint32_t empty = tap_stacks_add(stacks, NULL, 0);
	size_t count;

	(void)state;
	assert_int_equal(tap_stacks_add(stacks, &zero, 0), empty);
	assert_int_not_equal(tap_stacks_add(stacks, &zero, 1), empty);
	tap_stacks_frames(stacks, empty, &count);
	assert_int_equal(count, 0);
	tap_stacks_destroy(stacks);
}

static void of_too_many_frames_the_innermost_stay(void **state)
{
	struct tap_stacks *stacks = tap_stacks_create();
	static struct tap_stack_frame frames[TAP_STACK_FRAMES_MAX + 50];
	uint32_t stack;

	(void)state;
	for (size_t i = 0; i < TAP_STACK_FRAMES_MAX + 50; i++)
		frames[i].key = i;
	stack = tap_stacks_add(stacks, frames, TAP_STACK_FRAMES_MAX + 50);
	assert_frames(stacks, stack, frames, TAP_STACK_FRAMES_MAX);
	assert_int_equal(tap_stacks_add(stacks, frames, TAP_STACK_FRAMES_MAX), stack);
	tap_stacks_destroy(stacks);
}

/* Few keys and short stacks, so that most adds meet one that is there. */
static void numbers_hold_for_good(void **state)
{
	enum { STACKS = 4000, DEPTH = 6 };
	static struct tap_stack_frame frames[STACKS][DEPTH];
	static size_t counts[STACKS];
	static uint32_t numbers[STACKS];
	struct tap_stacks *stacks = tap_stacks_create();

	(void)state;
	random_state = 7;
	for (size_t i = 0; i < STACKS; i++) {
		counts[i] = next_random() % (DEPTH + 1);
		for (size_t j = 0; j < counts[i]; j++)
			frames[i][j].key = next_random() % 4;
		numbers[i] = tap_stacks_add(stacks, frames[i], counts[i]);
	}
	for (size_t i = 0; i < STACKS; i++) {
		assert_frames(stacks, numbers[i], frames[i], counts[i]);
		for (size_t j = 0; j < i; j += 37) {
			bool equal = counts[i] == counts[j] &&
				!memcmp(frames[i], frames[j], counts[i] * sizeof(frames[i][0]));

			assert_int_equal(numbers[i] == numbers[j], equal);
		}
	}
	tap_stacks_destroy(stacks);
}

/* The hash is h = mix(h ^ key) + position: with the inverse of the mix, two
 * different stacks of the same hash can be made. */
static uint64_t unmix(uint64_t value)
{
	value ^= value >> 33;
	value *= UINT64_C(0x9cb4b2f8129337db);
	value ^= value >> 33;
	value *= UINT64_C(0x4f74430c22a54005);
	value ^= value >> 33;
	return value;
}

uint64_t tap_hash_u64(uint64_t value);

static void stacks_of_one_hash_stay_apart(void **state)
{
	struct tap_stacks *stacks = tap_stacks_create();
	uint32_t numbers[100];

	(void)state;
	assert_int_equal(unmix(tap_hash_u64(0x123456789abcdef)), 0x123456789abcdef);
	for (uint64_t i = 0; i < 100; i++) {
		/* whatever the first key, the second brings the hash to 4242 */
		struct tap_stack_frame frames[2] = {{i}, {0}};

		frames[1].key = unmix(4242 - 1) ^ tap_hash_u64(i);
		numbers[i] = tap_stacks_add(stacks, frames, 2);
		assert_int_equal(numbers[i], i);
		assert_int_equal(tap_stacks_add(stacks, frames, 2), i);
	}
	for (uint64_t i = 0; i < 100; i++) {
		size_t count;

		assert_int_equal(tap_stacks_frames(stacks, numbers[i], &count)[0].key, i);
	}
	tap_stacks_destroy(stacks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_stacks_are_one),
		cmocka_unit_test(the_empty_stack_is_one_too),
		cmocka_unit_test(of_too_many_frames_the_innermost_stay),
		cmocka_unit_test(numbers_hold_for_good),
		cmocka_unit_test(stacks_of_one_hash_stay_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
