/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include "python_image.h"

/* _Py_DebugOffsets of a free-threaded 3.14, as its headers make it. */
static const struct {
	int32_t entry;
	uint64_t value;
} free_threaded[] = {
	{8, 0x030e0af0}, /* version */
	{16, 1},         /* free_threaded */
	{40, 808},       /* runtime_state.interpreters_head */
	{56, 7280},      /* interpreter_state.id */
	{64, 7272},      /* interpreter_state.next */
	{72, 7344},      /* interpreter_state.threads_head */
	{120, 16},       /* interpreter_state.ceval_gil */
	{192, 8},        /* thread_state.next */
	{200, 16},       /* thread_state.interp */
	{208, 72},       /* thread_state.current_frame */
	{216, 152},      /* thread_state.thread_id */
	{224, 160},      /* thread_state.native_thread_id */
	{256, 8},        /* interpreter_frame.previous */
	{272, 56},       /* interpreter_frame.instr_ptr */
	{288, 78},       /* interpreter_frame.owner */
	{320, 128},      /* code_object.filename */
	{328, 136},      /* code_object.name */
	{336, 144},      /* code_object.qualname */
	{344, 152},      /* code_object.linetable */
	{352, 84},       /* code_object.firstlineno */
	{384, 232},      /* code_object.co_code_adaptive */
	{408, 24},       /* pyobject.ob_type */
	{424, 40},       /* type_object.tp_name */
	{600, 32},       /* bytes_object.ob_size */
	{608, 48},       /* bytes_object.ob_sval */
	{632, 32},       /* unicode_object.length */
	{624, 48},       /* unicode_object.state */
	{640, 56},       /* unicode_object.asciiobject_size */
};

static void free_threaded_builds_are_named_and_left_alone(void **state)
{
	struct image *image = image_create(14);
	struct tap_python *python = &image->python;

	(void)state;
	memcpy(image->bytes + 64, "xdebugpy", 8);
	for (size_t i = 0; i < TAP_PYTHON_COUNT(free_threaded); i++)
		image_set(image, IMAGE_RUNTIME, free_threaded[i].entry, free_threaded[i].value);
	image_seal(image);
	python->info.hex = 0;
	assert_true(tap_python_version_read(python));
	assert_string_equal(python->info.version, "3.14.10");
	assert_true(python->info.free_threaded);
	python->info.supported = tap_python_believe(python);
	assert_false(python->info.supported);
	assert_non_null(strstr(python->info.reason, "free-threaded"));
	assert_int_equal(tap_python_threads(python, NULL, 0), 0);
	image_destroy(image);
}

/* What _Py_DebugOffsets says where nothing has moved. */
static void put_debug_offsets(struct image *image)
{
	const struct tap_python_layout *layout = &image->python.layout;

	for (size_t i = 0; i < layout->override_count; i++) {
		int32_t value;

		memcpy(&value, (const char *)layout + layout->overrides[i].member, sizeof(value));
		image_set(image, IMAGE_RUNTIME, layout->overrides[i].entry, (uint64_t)value);
	}
}

static int32_t entry_of(const struct tap_python_layout *layout, size_t member)
{
	for (size_t i = 0; i < layout->override_count; i++) {
		if (layout->overrides[i].member == member)
			return layout->overrides[i].entry;
	}
	return TAP_PYTHON_ABSENT;
}

static void a_layout_is_believed_once_it_fits(void **state)
{
	(void)state;
	for (int minor = 8; minor <= 15; minor++) {
		struct image *image = image_create(minor);
		struct tap_python *python = &image->python;
		uint64_t interp = image_interpreter(image, 0, 0), thread;

		put_debug_offsets(image);
		image_seal(image);
		assert_false(tap_python_believe(python)); /* no interpreter yet */
		assert_non_null(strstr(python->info.reason, "interpreter"));
		image_runtime(image, image_interpreter(image, 1, interp));
		image_seal(image);
		assert_false(tap_python_believe(python)); /* no thread state yet */
		assert_non_null(strstr(python->info.reason, "thread state"));
		thread = image_thread(image, interp, 1, 1, 0);
		image_seal(image);
		assert_true(tap_python_believe(python));
		image_set(image, thread, python->layout.thread.interp, thread);
		image_seal(image);
		assert_false(tap_python_believe(python)); /* does not point back */
		image_destroy(image);
	}
}

static void the_process_says_where_fields_moved(void **state)
{
	struct image *image = image_create(14);
	struct tap_python *python = &image->python;
	struct tap_python_layout *layout = &python->layout;
	int32_t holds_gil = layout->thread.holds_gil;
	uint64_t interp, thread;
	int held;

	(void)state;
	assert_true(holds_gil >= 0);
	layout->thread.thread_id += 8;
	layout->thread.native_thread_id += 8;
	layout->code.qualname += 16;
	put_debug_offsets(image);
	interp = image_interpreter(image, 0, 0);
	image_runtime(image, interp);
	thread = image_thread(image, interp, 0x77, 5, 0);
	image_seal(image);
	assert_true(tap_python_believe(python));
	assert_int_equal(layout->code.qualname, tap_python_layout_find(14)->code.qualname + 16);
	/* Nothing says where holds_gil is now: the GIL names its holder. */
	assert_int_equal(layout->thread.holds_gil, TAP_PYTHON_ABSENT);
	python->info.supported = true;
	assert_true(tap_python_thread(python, 5, 0x77, &held) == thread);
	assert_int_equal(held, -1);

	image_set(image, IMAGE_RUNTIME,
		entry_of(layout, offsetof(struct tap_python_layout, frame.owner)), UINT64_MAX);
	image_seal(image);
	assert_false(tap_python_believe(python));
	assert_non_null(strstr(python->info.reason, "_Py_DebugOffsets"));
	image_destroy(image);
}

static void versions_without_a_layout_are_named(void **state)
{
	struct image *image = image_create(8);
	struct tap_python *python = &image->python;

	(void)state;
	image_seal(image);
	python->info.hex = 0x03070000;
	assert_false(tap_python_believe(python));
	assert_string_equal(python->info.reason, "no layout for CPython 3.7");
	python->info.hex = 0x02071200;
	assert_false(tap_python_believe(python));
	assert_string_equal(python->info.reason, "no layout for CPython 2.7");
	python->info.hex = 0x037f0000;
	assert_false(tap_python_believe(python));
	image_destroy(image);
}

static void finds_threads_of_all_interpreters(void **state)
{
	struct image *image = image_create(12);
	struct tap_python *python = &image->python;
	uint64_t second = image_interpreter(image, 1, 0);
	uint64_t first = image_interpreter(image, 0, second);
	uint64_t a = image_thread(image, first, 0xA0, 10, 0);
	uint64_t b = image_thread(image, second, 0xB0, 11, 0);
	struct tap_python_thread_state states[4];

	(void)state;
	image_runtime(image, first);
	image_thread(image, first, 0xC0, 12, 0);
	image_seal(image);
	assert_int_equal(tap_python_threads(python, states, 1), 3);
	assert_int_equal(tap_python_threads(python, states, 4), 3);
	assert_true(states[1].addr == a);
	assert_true(states[2].addr == b && states[2].pthread == 0xB0 && states[2].tid == 11);
	assert_int_equal(states[2].interpreter, 1);
	assert_true(tap_python_thread(python, 10, 0xA0, NULL) == a);
	assert_true(tap_python_thread(python, 11, 0, NULL) == b);
	/* In another PID namespace only the pthread says who it is. */
	assert_true(tap_python_thread(python, 10, 0xB0, NULL) == b);
	assert_true(tap_python_thread(python, 10, 0xD0, NULL) == 0);
	image_destroy(image);
}

/* Two threads, 0xA0 being the newer one; its state. */
static uint64_t two_threads(struct image *image, uint64_t interp, uint64_t *last_ret)
{
	image_runtime(image, interp);
	*last_ret = image_thread(image, interp, 0xB0, 11, 0);
	return image_thread(image, interp, 0xA0, 10, 0);
}

/* That one's state is freed, but holds what it held. */
static void end_first(struct image *image, uint64_t interp, uint64_t last)
{
	const struct tap_python_layout *layout = &image->python.layout;

	image_set(image, interp, layout->interpreter.threads_head, last);
	image_set(image, last, layout->thread.prev, 0);
}

/* A thread ended, and a new thread got the same stack. */
static void a_freed_thread_state_is_not_believed(void **state)
{
	struct image *image = image_create(12);
	struct tap_python *python = &image->python;
	uint64_t interp = image_interpreter(image, 0, 0), last, young;
	uint64_t old = two_threads(image, interp, &last);

	(void)state;
	image_seal(image);
	assert_true(tap_python_thread(python, 10, 0xA0, NULL) == old);
	assert_true(tap_python_thread(python, 10, 0xA0, NULL) == old);
	end_first(image, interp, last);
	image_seal(image);
	assert_true(tap_python_thread(python, 10, 0xA0, NULL) == 0);
	young = image_thread(image, interp, 0xA0, 12, 0);
	image_seal(image);
	assert_true(tap_python_thread(python, 12, 0xA0, NULL) == young);
	assert_true(tap_python_thread(python, 11, 0xB0, NULL) == last);
	image_destroy(image);
}

static void one_thread_in_two_interpreters(void **state)
{
	struct image *image = image_create(12);
	struct tap_python *python = &image->python;
	const struct tap_python_layout *layout = &python->layout;
	uint64_t second = image_interpreter(image, 1, 0);
	uint64_t first = image_interpreter(image, 0, second);
	uint64_t gil = image_alloc(image, 256);
	uint64_t frame = image_frame(image, image_code(image, "f", "a.py", 1), 0, 0, 0);
	uint64_t inner = image_thread(image, second, 0xA0, 10, frame); /* its record: lower */
	uint64_t outer = image_thread(image, first, 0xA0, 10, frame);
	int held;

	(void)state;
	image_runtime(image, first);
	image_set(image, first, layout->interpreter.gil, gil);
	image_set(image, second, layout->interpreter.gil, gil);
	image_seal(image);
	assert_true(tap_python_thread(python, 10, 0xA0, &held) == inner);
	assert_int_equal(held, 0);
	image_set(image, gil, layout->gil.last_holder, outer);
	image_set32(image, gil, layout->gil.locked, 1);
	image_seal(image);
	for (int round = 0; round < 2; round++) {
		assert_true(tap_python_thread(python, 10, 0xA0, &held) == outer);
		assert_int_equal(held, 1);
	}
	/* And back: who was found last time runs no longer. */
	image_set(image, gil, layout->gil.last_holder, inner);
	image_seal(image);
	assert_true(tap_python_thread(python, 10, 0xA0, &held) == inner);
	image_set32(image, gil, layout->gil.locked, 0);
	image_set(image, gil, layout->gil.last_holder, outer);
	image_seal(image);
	assert_true(tap_python_thread(python, 10, 0xA0, &held) == inner);
	assert_int_equal(held, 0);
	image_destroy(image);
}

/* It says of itself that it runs, as it did when it was freed. */
static void a_freed_state_that_held_the_gil_is_not_believed(void **state)
{
	struct image *image = image_create(14);
	struct tap_python *python = &image->python;
	uint64_t interp = image_interpreter(image, 0, 0), last, young;
	uint64_t old = two_threads(image, interp, &last);

	(void)state;
	image_set32(image, old, python->layout.thread.holds_gil, 1);
	image_seal(image);
	for (int round = 0; round < 2; round++)
		assert_true(tap_python_thread(python, 10, 0xA0, NULL) == old);
	end_first(image, interp, last);
	young = image_thread(image, interp, 0xA0, 10, 0);
	image_seal(image);
	assert_true(tap_python_thread(python, 10, 0xA0, NULL) == young);
	image_destroy(image);
}

static void circles_of_threads_end(void **state)
{
	struct image *image = image_create(11);
	struct tap_python *python = &image->python;
	const struct tap_python_layout *layout = &python->layout;
	uint64_t interp = image_interpreter(image, 0, 0);
	uint64_t last = image_thread(image, interp, 1, 1, 0), head;
	struct tap_python_thread_state states[64];

	(void)state;
	image_thread(image, interp, 2, 2, 0);
	head = image_thread(image, interp, 3, 3, 0);
	image_runtime(image, interp);
	image_set(image, last, layout->thread.next, head);
	image_set(image, interp, layout->interpreter.next, interp);
	image_seal(image);
	assert_true(tap_python_threads(python, states, 64) <= 16);
	assert_true(tap_python_thread(python, 9, 9, NULL) == 0);
	/* Nowhere. */
	image_set(image, last, layout->thread.next, UINT64_MAX - 15);
	image_set(image, interp, layout->interpreter.next, 16);
	image_seal(image);
	assert_int_equal(tap_python_threads(python, states, 64), 3);
	image_destroy(image);
}

static void put_pool(struct image *image, uint64_t pool, uint32_t count, uint32_t class_index,
	uint32_t next_offset)
{
	const struct tap_python_layout *layout = &image->python.layout;

	image_set32(image, pool, layout->pool.count, count);
	image_set32(image, pool, layout->pool.class_index, class_index);
	image_set32(image, pool, layout->pool.next_offset, next_offset);
	image_set32(image, pool, layout->pool.max_next_offset,
		(uint32_t)layout->pool.size - 16 * (class_index + 1));
	image_seal(image);
}

static void knows_pools_by_their_headers(void **state)
{
	(void)state;
	for (int minor = 9; minor <= 10; minor++) {
		struct image *image = image_create(minor);
		struct tap_python *python = &image->python;
		uint64_t pool = IMAGE_BASE + 0x8000;

		put_pool(image, pool, 3, 3, 48 + 64 * 3);
		assert_int_equal(tap_python_pool_block_size(python, pool + 48), 64);
		assert_int_equal(tap_python_pool_block_size(python, pool + 48 + 128), 64);
		assert_int_equal(tap_python_pool_block_size(python, pool + 48 + 192), 0);
		assert_int_equal(tap_python_pool_block_size(python, pool + 56), 0);
		assert_int_equal(tap_python_pool_block_size(python, pool + 8), 0);
		put_pool(image, pool, 0, 3, 240);
		assert_int_equal(tap_python_pool_block_size(python, pool + 48), 0);
		put_pool(image, pool, 5000, 3, 240);
		assert_int_equal(tap_python_pool_block_size(python, pool + 48), 0);
		put_pool(image, pool, 3, 32, 240);
		assert_int_equal(tap_python_pool_block_size(python, pool + 48), 0);
		put_pool(image, pool, 3, UINT32_MAX, UINT32_MAX);
		assert_int_equal(tap_python_pool_block_size(python, pool + 48), 0);
		assert_int_equal(tap_python_pool_block_size(python, UINT64_MAX), 0);
		image_destroy(image);
	}
}

static void check_version(const char *text, size_t taken, uint32_t wanted, const char *shown)
{
	char buf[32];
	uint32_t hex = 0;

	assert_int_equal(tap_python_version_parse(text, strlen(text), &hex), taken);
	if (!taken)
		return;
	assert_int_equal(hex, wanted);
	tap_python_version_text(hex, buf, sizeof(buf));
	assert_string_equal(buf, shown);
}

static void reads_versions(void **state)
{
	static const char data[] = "x3.9.9 (\0"
				   "3.7.1 none\0"
				   "3.8.18 (default, Aug) \n[GCC 12]";
	static const char later[] = "\0"
				    "3.10.13 (main, Aug) [GCC 12]";
	uint32_t hex;

	(void)state;
	check_version("3.8.18 (default", 6, 0x030812f0, "3.8.18");
	check_version("3.15.0a5", 8, 0x030f00a5, "3.15.0a5");
	check_version("3.12.0rc2+", 10, 0x030c00c2, "3.12.0rc2");
	check_version("3.12", 0, 0, "");
	check_version("3.1234.1", 0, 0, "");
	check_version("", 0, 0, "");
	assert_true(tap_python_version_scan((const uint8_t *)data, sizeof(data), &hex));
	assert_int_equal(hex, 0x030812f0);
	assert_true(tap_python_version_scan((const uint8_t *)later, sizeof(later), &hex));
	assert_int_equal(hex, 0x030a0df0);
	assert_false(tap_python_version_scan((const uint8_t *)data, 12, &hex));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(free_threaded_builds_are_named_and_left_alone),
		cmocka_unit_test(a_layout_is_believed_once_it_fits),
		cmocka_unit_test(the_process_says_where_fields_moved),
		cmocka_unit_test(versions_without_a_layout_are_named),
		cmocka_unit_test(finds_threads_of_all_interpreters),
		cmocka_unit_test(a_freed_thread_state_is_not_believed),
		cmocka_unit_test(one_thread_in_two_interpreters),
		cmocka_unit_test(a_freed_state_that_held_the_gil_is_not_believed),
		cmocka_unit_test(circles_of_threads_end),
		cmocka_unit_test(knows_pools_by_their_headers),
		cmocka_unit_test(reads_versions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
