/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include "heaptap/python/mix.h"
#include "python_image.h"

#define MAX 64
#define SHIM 3

static size_t list(struct image *image, uint64_t thread, struct tap_python_frame *frames)
{
	image_seal(image);
	return tap_python_frames(&image->python, thread, frames, MAX);
}

static void check_resolved(
	struct image *image, uint64_t key, const char *function, const char *file, int line)
{
	struct tap_strings *strings = tap_strings_create();
	struct tap_frame frame;

	tap_python_resolve(&image->python, key, strings, &frame);
	assert_string_equal(frame.function, function);
	assert_string_equal(frame.file, file);
	assert_int_equal(frame.line, line);
	assert_int_equal(frame.language, TAP_LANGUAGE_PYTHON);
	tap_strings_destroy(strings);
}

static void lists_and_resolves(void **state)
{
	(void)state;
	for (int minor = 12; minor <= 15; minor++) {
		struct image *image = image_create(minor);
		uint64_t interp = image_interpreter(image, 0, 0);
		uint64_t outer = image_code(image, "outer", "a.py", 10);
		uint64_t inner = image_code(image, "inner", "b.py", 20);
		uint64_t shim = image_frame(image, outer, SHIM, 0, 0);
		uint64_t frame =
			image_frame(image, inner, 0, 4, image_frame(image, outer, 1, 2, shim));
		uint64_t thread = image_thread(image, interp, 1, 1, frame);
		struct tap_python_frame frames[MAX];

		assert_int_equal(list(image, thread, frames), 2);
		assert_true(frames[0].addr == frame);
		assert_false(frames[0].entry);
		assert_true(frames[1].entry);
		check_resolved(image, frames[0].key, "inner", "b.py", 21);
		check_resolved(image, frames[1].key, "outer", "a.py", 11);
		/* Keys outlive what they were made of. */
		memset(image->bytes, 0, IMAGE_SIZE);
		image_seal(image);
		check_resolved(image, frames[0].key, "inner", "b.py", 21);
		image_destroy(image);
	}
}

static uint64_t key_of(struct image *image, uint64_t thread)
{
	struct tap_python_frame frames[MAX];

	assert_int_equal(list(image, thread, frames), 1);
	return frames[0].key;
}

/* Another function at the address of one that went away; the same function at
 * another address. */
static void tells_functions_not_addresses(void **state)
{
	struct image *image = image_create(12);
	const struct tap_python_layout *layout = &image->python.layout;
	uint64_t interp = image_interpreter(image, 0, 0);
	uint64_t code = image_code(image, "one", "a.py", 10);
	uint64_t twin = image_code(image, "one", "a.py", 10);
	uint64_t thread = image_thread(image, interp, 1, 1, image_frame(image, code, 0, 2, 0));
	uint64_t other = image_thread(image, interp, 2, 2, image_frame(image, twin, 0, 2, 0));
	uint64_t key, later, table;

	(void)state;
	key = key_of(image, thread);
	assert_true(key == key_of(image, other));
	assert_true(key == key_of(image, thread));
	image_set(image, code, layout->code.qualname, image_ascii(image, "two"));
	later = key_of(image, thread);
	assert_true(key != later);
	check_resolved(image, key, "one", "a.py", 11);
	check_resolved(image, later, "two", "a.py", 11);
	/* The same names, another line table where the old one was. */
	memcpy(&table, image->bytes + (code - IMAGE_BASE) + layout->code.linetable, 8);
	image->bytes[table - IMAGE_BASE + (uint64_t)layout->bytes.data + 1] = 8;
	key = key_of(image, thread);
	assert_true(key != later);
	check_resolved(image, key, "two", "a.py", 14);
	image_destroy(image);
}

struct watcher {
	uint64_t watch; /* the answer of begin() */
	bool held;
	unsigned begun;
};

static uint64_t begin(void *context, uint64_t addr)
{
	struct watcher *watcher = context;

	(void)addr;
	watcher->begun++;
	return watcher->watch;
}

static bool holds(void *context, uint64_t watch)
{
	const struct watcher *watcher = context;

	assert_int_equal(watch, watcher->watch);
	return watcher->held;
}

/* Code is read again where it may be other code, and only there. */
static void watched_code_is_read_once(void **state)
{
	struct image *image = image_create(13);
	const struct tap_python_layout *layout = &image->python.layout;
	struct watcher watcher = {.watch = 7, .held = true};
	const struct tap_python_watch watch = {begin, holds, &watcher};
	uint64_t interp = image_interpreter(image, 0, 0);
	uint64_t init = image_code(image, "__init__", "__init__", 1);
	uint64_t code = image_code(image, "one", "a.py", 10);
	uint64_t frame = image_frame(image, init, 0, 2, image_frame(image, code, 0, 2, 0));
	uint64_t thread = image_thread(image, interp, 1, 1, frame), one, two;

	(void)state;
	image_set32(image, init, layout->code.firsttraceable, 8);
	tap_python_watch(&image->python, &watch);
	one = key_of(image, thread);
	assert_true(one == key_of(image, thread));
	assert_int_equal(watcher.begun, 2);
	/* Nobody frees it, so that nobody looks. */
	image_set(image, code, layout->code.qualname, image_ascii(image, "two"));
	assert_true(one == key_of(image, thread));
	watcher.held = false;
	two = key_of(image, thread);
	assert_true(one != two);
	check_resolved(image, two, "two", "a.py", 11);
	watcher.held = true;
	image_set(image, code, layout->code.qualname, image_ascii(image, "three"));
	assert_true(two == key_of(image, thread));
	/* Watches from before count no longer. */
	tap_python_watch(&image->python, &watch);
	check_resolved(image, key_of(image, thread), "three", "a.py", 11);
	/* Nobody watches, or nothing can be watched. */
	tap_python_watch(&image->python, NULL);
	image_set(image, code, layout->code.qualname, image_ascii(image, "four"));
	check_resolved(image, key_of(image, thread), "four", "a.py", 11);
	watcher.watch = 0;
	tap_python_watch(&image->python, &watch);
	key_of(image, thread);
	image_set(image, code, layout->code.qualname, image_ascii(image, "five"));
	check_resolved(image, key_of(image, thread), "five", "a.py", 11);
	image_destroy(image);
}

/* Frames that are read at once with others are read anew each time. */
static void frames_of_one_chunk_are_as_they_are(void **state)
{
	(void)state;
	for (int minor = 12; minor <= 15; minor++) {
		struct image *image = image_create(minor);
		const struct tap_python_layout *layout = &image->python.layout;
		uint64_t interp = image_interpreter(image, 0, 0);
		uint64_t a = image_code(image, "a", "a.py", 10), b = image_code(image, "b", "b.py", 20);
		uint64_t first = image_frame(image, a, 0, 0, 0);
		uint64_t second = image_frame(image, a, 0, 0, first);
		uint64_t third = image_frame(image, b, 0, 0, second);
		uint64_t thread = image_thread(image, interp, 0xA0, 10, third);
		struct tap_python_frame frames[MAX];

		image_runtime(image, interp);
		for (int round = 0; round < 2; round++) {
			image_seal(image);
			assert_int_equal(tap_python_thread_frames(
						 &image->python, 10, 0xA0, frames, MAX),
				3);
			assert_true(frames[1].addr == second && !frames[1].entry);
			check_resolved(image, frames[1].key, "a", "a.py", 11);
		}
		image_set(image, second, layout->frame.code, b | (minor >= 14));
		image_set(image, second, layout->frame.instruction,
			b + (uint64_t)layout->code.adaptive);
		image->bytes[first - IMAGE_BASE + (uint64_t)layout->frame.owner] = SHIM;
		assert_int_equal(list(image, thread, frames), 2);
		check_resolved(image, frames[1].key, "b", "b.py", 21);
		assert_true(frames[1].entry);
		/* Other frames, elsewhere. */
		image_set(image, third, layout->frame.previous, image_frame(image, a, 0, 0, 0));
		assert_int_equal(list(image, thread, frames), 2);
		check_resolved(image, frames[1].key, "a", "a.py", 11);
		image_destroy(image);
	}
}

static void code_that_calls_init_is_no_frame(void **state)
{
	struct image *image = image_create(13);
	const struct tap_python_layout *layout = &image->python.layout;
	uint64_t interp = image_interpreter(image, 0, 0);
	uint64_t init = image_code(image, "__init__", "__init__", 1);
	uint64_t code = image_code(image, "makes", "a.py", 10);
	uint64_t frame = image_frame(image, init, 0, 2, image_frame(image, code, 0, 2, 0));
	uint64_t thread = image_thread(image, interp, 1, 1, frame);

	(void)state;
	image_set32(image, init, layout->code.firsttraceable, 8);
	check_resolved(image, key_of(image, thread), "makes", "a.py", 11);
	image_destroy(image);
}

static void hostile_frames_end_the_list(void **state)
{
	struct image *image = image_create(12);
	const struct tap_python_layout *layout = &image->python.layout;
	uint64_t interp = image_interpreter(image, 0, 0);
	uint64_t code = image_code(image, "f", "a.py", 10);
	uint64_t bottom = image_frame(image, code, 0, 2, 0);
	uint64_t frame = image_frame(image, code, 0, 2, bottom);
	uint64_t thread = image_thread(image, interp, 1, 1, frame), table;
	struct tap_python_frame frames[MAX];

	(void)state;
	/* A circle. */
	image_set(image, bottom, layout->frame.previous, frame);
	assert_true(list(image, thread, frames) <= 4);
	image_set(image, bottom, layout->frame.previous, bottom);
	assert_true(list(image, thread, frames) <= 4);
	/* Nowhere. */
	image_set(image, bottom, layout->frame.previous, UINT64_C(0xdead00000000));
	assert_int_equal(list(image, thread, frames), 2);
	image_set(image, bottom, layout->frame.previous, UINT64_MAX - 7);
	assert_int_equal(list(image, thread, frames), 2);
	image_set(image, bottom, layout->frame.code, UINT64_MAX - 7);
	assert_int_equal(list(image, thread, frames), 1);
	image_set(image, bottom, layout->frame.code, IMAGE_RUNTIME);
	assert_int_equal(list(image, thread, frames), 1);
	/* A line table larger than memory. */
	memcpy(&table, image->bytes + (code - IMAGE_BASE) + layout->code.linetable, 8);
	image_set(image, table, layout->bytes.length, UINT64_C(1) << 60);
	assert_int_equal(list(image, thread, frames), 0);
	image_destroy(image);
}

/* Any word of it may be anything: nothing crashes, everything ends. */
static void mutated_images_end(void **state)
{
	uint32_t random = 1;

	(void)state;
	for (int round = 0; round < 400; round++) {
		struct image *image = image_create(8 + round % 8);
		uint64_t interp = image_interpreter(image, 0, 0), frame = 0, thread;
		uint64_t code = image_code(image, "f", "a.py", 10);
		struct tap_python_frame frames[MAX];
		struct tap_python_thread_state states[MAX];
		struct tap_strings *strings = tap_strings_create();
		struct tap_frame resolved;

		for (int i = 0; i < 4 && image->python.layout.minor >= 11; i++)
			frame = image_frame(image, code, (uint8_t)i, 2, frame);
		thread = image_thread(image, interp, 1, 1, frame ? frame : code);
		image_runtime(image, interp);
		for (int i = 0; i < 64; i++) {
			uint64_t value;

			random = random * 1664525 + 1013904223;
			value = random & 0x8000 ? IMAGE_BASE + (random >> 16) * 4
						: (uint64_t)random << (random >> 8 & 31);
			image_set(image, IMAGE_BASE, (int32_t)(random % image->used) & ~7, value);
		}
		image_seal(image);
		tap_python_threads(&image->python, states, MAX);
		tap_python_thread(&image->python, 1, 1, NULL);
		for (size_t i = tap_python_frames(&image->python, thread, frames, MAX); i-- > 0;)
			tap_python_resolve(&image->python, frames[i].key, strings, &resolved);
		for (uint64_t key = 0; key < 8; key++)
			tap_python_resolve(&image->python,
				TAP_PYTHON_KEY | (key << TAP_PYTHON_UNIT_BITS) | random % 64,
				strings, &resolved);
		tap_strings_destroy(strings);
		image_destroy(image);
	}
}

static void frame_objects_end_too(void **state)
{
	struct image *image = image_create(9);
	const struct tap_python_layout *layout = &image->python.layout;
	uint64_t interp = image_interpreter(image, 0, 0);
	uint64_t code = image_code(image, "f", "a.py", 10);
	uint64_t frame = image_alloc(image, 512);
	uint64_t thread = image_thread(image, interp, 1, 0, frame);
	struct tap_python_frame frames[MAX];

	(void)state;
	image_set(image, frame, layout->frame_object.code, code);
	image_set32(image, frame, layout->frame_object.lasti, UINT32_MAX);
	assert_int_equal(list(image, thread, frames), 1);
	assert_true(frames[0].entry);
	check_resolved(image, frames[0].key, "f", "a.py", 10);
	image_set(image, frame, layout->frame_object.back, frame);
	assert_true(list(image, thread, frames) <= 2);
	image_destroy(image);
}

/* Evaluation functions lie at 0x1000 to 0x2000. */
static size_t mix(struct image *image, const uint64_t *pcs, size_t count, uint64_t thread,
	struct tap_mixed_frame *mixed)
{
	struct tap_native_frame native[MAX] = {0};
	struct tap_python_frame frames[MAX];
	size_t frame_count = list(image, thread, frames);

	image->python.eval[0] = (struct tap_python_range){0x1000, 0x2000};
	image->python.eval_count = 1;
	for (size_t i = 0; i < count; i++) {
		native[i].pc = pcs[i];
		native[i].is_call = i > 0;
	}
	return tap_python_mix(&image->python, native, count, frames, frame_count, mixed, MAX);
}

/* What came out: N for native outside of the evaluation function, e for the
 * evaluation function, else the first letter of the Python function. */
static const char *spell(struct image *image, const struct tap_mixed_frame *mixed, size_t count)
{
	static char text[MAX + 1];
	struct tap_strings *strings = tap_strings_create();

	for (size_t i = 0; i < count; i++) {
		struct tap_frame frame;

		if (!(mixed[i].key & TAP_PYTHON_KEY)) {
			text[i] = tap_python_is_eval(&image->python, mixed[i].key - 1) ? 'e' : 'N';
			continue;
		}
		tap_python_resolve(&image->python, mixed[i].key, strings, &frame);
		text[i] = frame.function[0];
	}
	text[count] = '\0';
	tap_strings_destroy(strings);
	return text;
}

static void mixes_python_into_native(void **state)
{
	struct image *image = image_create(12);
	uint64_t interp = image_interpreter(image, 0, 0);
	uint64_t a = image_code(image, "a", "a.py", 1), b = image_code(image, "b", "a.py", 2);
	uint64_t c = image_code(image, "c", "a.py", 3);
	/* c in an evaluation of its own, one that ended its frame, then b and a. */
	uint64_t frame = image_frame(image, a, 0, 0, image_frame(image, a, SHIM, 0, 0));
	uint64_t thread, leaving;
	struct tap_mixed_frame mixed[MAX];
	size_t count;

	(void)state;
	frame = image_frame(image, b, 0, 0, frame);
	frame = image_frame(image, a, SHIM, 0, frame);
	leaving = image_frame(image, a, SHIM, 0, frame);
	frame = image_frame(image, c, 0, 0, leaving);
	thread = image_thread(image, interp, 1, 1, frame);

	count = mix(image, (uint64_t[]){5, 0x1100, 6, 0x1100, 7, 0x1100, 8}, 7, thread, mixed);
	assert_string_equal(spell(image, mixed, count), "NcNeNbaN");
	/* The same while the frame is being released. */
	image_set(image, thread, image->python.layout.thread.cframe,
		image_put(image, &leaving, sizeof(leaving)));
	count = mix(image, (uint64_t[]){5, 0x1100, 6, 0x1100, 7, 0x1100, 8}, 7, thread, mixed);
	assert_string_equal(spell(image, mixed, count), "NeNeNbaN");
	image_destroy(image);
}

static void mixes_what_does_not_fit(void **state)
{
	struct image *image = image_create(12);
	uint64_t interp = image_interpreter(image, 0, 0);
	uint64_t a = image_code(image, "a", "a.py", 1), b = image_code(image, "b", "a.py", 2);
	uint64_t frame = image_frame(image, a, 0, 0, image_frame(image, a, SHIM, 0, 0));
	uint64_t thread;
	struct tap_mixed_frame mixed[MAX];
	size_t count;

	(void)state;
	frame = image_frame(image, b, 0, 0, image_frame(image, a, SHIM, 0, frame));
	thread = image_thread(image, interp, 1, 1, frame);
	/* The native stack ends early. */
	count = mix(image, (uint64_t[]){5, 0x1100}, 2, thread, mixed);
	assert_string_equal(spell(image, mixed, count), "Nba");
	/* Two evaluations more than there are frames. */
	count = mix(image, (uint64_t[]){5, 0x1100, 0x1100, 0x1100, 0x1100}, 5, thread, mixed);
	assert_string_equal(spell(image, mixed, count), "Nbaee");
	/* The first instructions of the evaluation function: no frame yet. */
	count = mix(image, (uint64_t[]){0x1100, 5, 0x1100, 6, 0x1100}, 5, thread, mixed);
	assert_string_equal(spell(image, mixed, count), "eNbNa");
	/* No Python at all. */
	count = mix(image, (uint64_t[]){5, 0x1100}, 2, 0, mixed);
	assert_string_equal(spell(image, mixed, count), "Ne");
	image_destroy(image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_and_resolves),
		cmocka_unit_test(tells_functions_not_addresses),
		cmocka_unit_test(watched_code_is_read_once),
		cmocka_unit_test(frames_of_one_chunk_are_as_they_are),
		cmocka_unit_test(code_that_calls_init_is_no_frame),
		cmocka_unit_test(hostile_frames_end_the_list),
		cmocka_unit_test(frame_objects_end_too),
		cmocka_unit_test(mutated_images_end),
		cmocka_unit_test(mixes_python_into_native),
		cmocka_unit_test(mixes_what_does_not_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
