/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include "heaptap/base/map.h"

static void keeps_what_was_put(void **state)
{
	struct tap_map map = {0};
	bool added;

	(void)state;
	for (uint64_t key = 0; key < 10000; key++) {
		*tap_map_put(&map, key * 16, &added) = key;
		assert_true(added);
	}
	assert_int_equal(map.count, 10000);
	for (uint64_t key = 0; key < 10000; key++) {
		uint64_t *value = tap_map_find(&map, key * 16);

		assert_non_null(value);
		assert_int_equal(*value, key);
	}
	assert_null(tap_map_find(&map, 1));
	tap_map_deinit(&map);
}

/* Deletion shifts back: whatever is removed, the rest is found. */
static void removal_loses_no_other_key(void **state)
{
	struct tap_map map = {0};
	uint8_t there[512] = {0};
	uint32_t random = 1;

	(void)state;
	for (int step = 0; step < 100000; step++) {
		unsigned key;

		random = random * 1664525 + 1013904223;
		key = random >> 23;
		if (random & (1 << 10)) {
			*tap_map_put(&map, key, NULL) = key + 1;
			there[key] = 1;
		} else {
			assert_int_equal(tap_map_remove(&map, key, NULL), there[key]);
			there[key] = 0;
		}
	}
	for (unsigned key = 0; key < 512; key++)
		assert_int_equal(tap_map_find(&map, key) != NULL, there[key]);
	tap_map_deinit(&map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_what_was_put),
		cmocka_unit_test(removal_loses_no_other_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
