/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include <string.h>
#include <unistd.h>
#include "heaptap/proc/cgroup.h"
#include "proc_fixture.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static void the_tightest_ancestor_of_v1(void **state)
{
	struct tap_cgroup cgroup;

	(void)state;
	use_system("proc-v1");
	assert_ok(tap_cgroup_read(42, &cgroup));
	assert_string_equal(cgroup.path, "/job/inner");
	assert_int_equal(cgroup.version, 1);
	/* Its own limit of 2 GiB is not the one: the parent's is tighter. memsw
	 * leaves no swap on top. */
	assert_int_equal(cgroup.limit_bytes, GIB);
	assert_int_equal(cgroup.limit_used_bytes, 800 * MIB);
	assert_int_equal(cgroup.kind, TAP_LIMIT_CGROUP);
	assert_int_equal(cgroup.tightest_bytes, GIB);
	assert_int_equal(cgroup.free_bytes, 224 * MIB);
	assert_int_equal(cgroup.free_memory_bytes, 224 * MIB);
	/* The parent is frozen, and so is it. */
	assert_true(cgroup.frozen);
	assert_true(tap_cgroup_is_frozen(42));
	tap_cgroup_deinit(&cgroup);
}

static void the_tightest_ancestor_of_v2(void **state)
{
	struct tap_cgroup cgroup;

	(void)state;
	use_system("proc-v2");
	assert_ok(tap_cgroup_read(42, &cgroup));
	assert_int_equal(cgroup.version, 2);
	assert_int_equal(cgroup.limit_bytes, 512 * MIB);
	assert_int_equal(cgroup.limit_used_bytes, 380 * MIB);
	assert_int_equal(cgroup.free_bytes, (132 + 8) * MIB);
	assert_int_equal(cgroup.free_memory_bytes, 132 * MIB);
	assert_true(cgroup.frozen);
	tap_cgroup_deinit(&cgroup);
	/* A limit above what the machine has does not come first. */
	assert_ok(tap_cgroup_read(43, &cgroup));
	assert_int_equal(cgroup.limit_bytes, 1024 * GIB);
	assert_int_equal(cgroup.kind, TAP_LIMIT_MACHINE);
	assert_int_equal(cgroup.tightest_bytes, 18 * GIB);
	assert_int_equal(cgroup.free_bytes, 9 * GIB);
	assert_int_equal(cgroup.free_memory_bytes, 8 * GIB);
	assert_false(cgroup.frozen || tap_cgroup_is_frozen(43));
	tap_cgroup_deinit(&cgroup);
}

/* A group outside of what is mounted here is not looked for outside of it. */
static void what_is_not_seen_here_is_left_alone(void **state)
{
	struct tap_cgroup cgroup;

	(void)state;
	use_system("proc-v2");
	assert_ok(tap_cgroup_read(44, &cgroup));
	assert_string_equal(cgroup.path, "/../outside");
	assert_true(cgroup.limit_bytes == UINT64_MAX);
	assert_int_equal(cgroup.kind, TAP_LIMIT_MACHINE);
	tap_cgroup_deinit(&cgroup);
	assert_code(tap_cgroup_read(99, &cgroup), TAP_ERR_GONE);
	assert_false(tap_cgroup_is_frozen(99));
}

static void inside_of_a_container(void **state)
{
	struct tap_cgroup cgroup;

	(void)state;
	use_system("proc-container");
	/* Its own group is what is mounted; the inner directory is not there. */
	assert_ok(tap_cgroup_read(42, &cgroup));
	assert_string_equal(cgroup.path, "/docker/abc/deep");
	assert_int_equal(cgroup.limit_bytes, 200 * MIB);
	assert_int_equal(cgroup.limit_used_bytes, 100 * MIB);
	tap_cgroup_deinit(&cgroup);
	/* A group from above the namespace's root is mounted, at an odd place. */
	assert_ok(tap_cgroup_read(43, &cgroup));
	assert_int_equal(cgroup.limit_bytes, MIB);
	tap_cgroup_deinit(&cgroup);
}

static void our_own_is_read(void **state)
{
	struct tap_cgroup cgroup;

	(void)state;
	use_system(NULL);
	assert_ok(tap_cgroup_read(getpid(), &cgroup));
	assert_true(cgroup.kind != TAP_LIMIT_NONE);
	assert_true(cgroup.tightest_bytes > 0 && cgroup.free_bytes > 0);
	assert_false(cgroup.frozen);
	tap_cgroup_deinit(&cgroup);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_tightest_ancestor_of_v1),
		cmocka_unit_test(the_tightest_ancestor_of_v2),
		cmocka_unit_test(what_is_not_seen_here_is_left_alone),
		cmocka_unit_test(inside_of_a_container),
		cmocka_unit_test(our_own_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
