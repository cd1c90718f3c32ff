/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include <string.h>
#include <unistd.h>
#include "heaptap/base/alloc.h"
#include "heaptap/proc/maps.h"

static const char text[] =
	"00400000-00401000 r-xp 00001000 fe:00 1234       /usr/bin/python3.11\n"
	"00401000-00402000 ---p 00000000 00:00 0 \n"
	"01000000-01200000 rw-p 00000000 00:00 0          [heap]\n"
	"7f0000000000-7f0000001000 rw-s 00000000 00:01 77 /memfd:odd name (deleted)\n"
	"7f0000002000-7f0000003000 r--p 00000000 103:10 5 /tmp/two\\012lines \\x\n"
	"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n";

static void lines_parse(void **state)
{
	struct tap_maps maps;

	(void)state;
	tap_maps_parse(tap_strdup(text), &maps);
	assert_int_equal(maps.count, 6);
	assert_string_equal(maps.items[0].path, "/usr/bin/python3.11");
	assert_true(maps.items[0].readable && maps.items[0].executable);
	assert_false(maps.items[0].writable || maps.items[0].shared);
	assert_int_equal(maps.items[0].offset, 0x1000);
	assert_int_equal(maps.items[0].inode, 1234);
	assert_int_equal(maps.items[0].dev_major, 0xfe);
	assert_string_equal(maps.items[1].path, "");
	assert_string_equal(maps.items[2].path, "[heap]");
	assert_true(maps.items[3].shared && maps.items[3].deleted);
	assert_string_equal(maps.items[3].path, "/memfd:odd name");
	assert_string_equal(maps.items[4].path, "/tmp/two\nlines \\x");
	assert_int_equal(maps.items[4].dev_major, 0x103);
	tap_maps_deinit(&maps);
}

static void find_takes_the_start_and_not_the_end(void **state)
{
	struct tap_maps maps;

	(void)state;
	tap_maps_parse(tap_strdup(text), &maps);
	assert_null(tap_maps_find(&maps, 0x3fffff));
	assert_ptr_equal(tap_maps_find(&maps, 0x400000), &maps.items[0]);
	assert_ptr_equal(tap_maps_find(&maps, 0x401000), &maps.items[1]);
	assert_null(tap_maps_find(&maps, 0x402000));
	assert_ptr_equal(tap_maps_find(&maps, 0xffffffffff600fff), &maps.items[5]);
	assert_null(tap_maps_find(&maps, UINT64_MAX));
	tap_maps_deinit(&maps);
}

static void what_does_not_parse_is_left_out(void **state)
{
	static const char *const bad[] = {
		"", "\n\n\n", "00400000", "00400000-", "00400000-00401000", "00400000-00401000 r-xp",
		"00401000-00400000 r-xp 0 0:0 0 end before start",
		"00400000-00400000 r-xp 0 0:0 0 empty",
		"11112222333344445-11112222333344446 r-xp 0 0:0 0 too wide",
		"00400000-00401000 r-", "00400000-00401000 rw\np 0 0:0 0",
		"00400000-00401000 rwxp 0 fe 0 x", "00400000-00401000 rwxp 0 1ffffffff:0 0 x",
		"-1-2 rwxp 0 0:0 0 x", " 00400000-00401000 rwxp 0 0:0 0 x",
	};
	struct tap_maps maps;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		tap_maps_parse(tap_strdup(bad[i]), &maps);
		assert_int_equal(maps.count, 0);
		assert_null(tap_maps_find(&maps, 0x400000));
		tap_maps_deinit(&maps);
	}
}

/* A text that names memory twice or out of order would break the search. */
static void order_is_kept(void **state)
{
	struct tap_maps maps;

	(void)state;
	tap_maps_parse(tap_strdup("2000-4000 rw-p 0 0:0 0 a\n1000-2000 rw-p 0 0:0 0 b\n"
				  "3000-5000 rw-p 0 0:0 0 c\n4000-5000 rw-p 0 0:0 0 d\n"),
		&maps);
	assert_int_equal(maps.count, 2);
	assert_string_equal(maps.items[1].path, "d");
	tap_maps_deinit(&maps);
}

static void cut_anywhere_it_is_survived(void **state)
{
	(void)state;
	for (size_t size = 0; size <= sizeof(text); size++) {
		struct tap_maps maps;

		tap_maps_parse(tap_strndup(text, size), &maps);
		assert_true(maps.count <= 6);
		tap_maps_deinit(&maps);
	}
}

static void our_own_are_there(void **state)
{
	struct tap_maps maps;
	const struct tap_mapping *code, *stack;

	(void)state;
	assert_ok(tap_maps_read(getpid(), &maps));
	code = tap_maps_find(&maps, (uint64_t)our_own_are_there);
	assert_non_null(code);
	assert_true(code->executable);
	assert_non_null(strstr(code->path, "proc_maps"));
	stack = tap_maps_find(&maps, (uint64_t)&maps);
	assert_non_null(stack);
	assert_true(stack->writable);
	tap_maps_deinit(&maps);
	assert_code(tap_maps_read(0x3fffffff, &maps), TAP_ERR_GONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_parse),
		cmocka_unit_test(find_takes_the_start_and_not_the_end),
		cmocka_unit_test(what_does_not_parse_is_left_out),
		cmocka_unit_test(order_is_kept),
		cmocka_unit_test(cut_anywhere_it_is_survived),
		cmocka_unit_test(our_own_are_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
