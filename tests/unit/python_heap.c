/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every CPython that is found here runs tests/fixtures/python/objects.py, which
 * tells its objects: of which types, how large, how many the collector tracks.
 * What is read from outside has to be the same.
 */
#include <inttypes.h>
#include "python_target.h"
#include "heaptap/base/alloc.h"
#include "heaptap/base/strings.h"
#include "heaptap/python/heap.h"
#include "heaptap/python/pools.h"
#include "python/heap_internal.h"

#define SLACK 5
#define LIE_ROUNDS 2
#define LIE_EVERY 4000 /* bytes: so many hold one word that lies, on average */
#define LIE_REGION ((size_t)64 << 20)

struct told_object {
	uint64_t addr, size;
	int64_t length;
	const char *type;
	bool is_tracked;
};

struct told_text {
	uint64_t addr;
	const char *text;
};

struct heap_target {
	struct python_target process;
	struct tap_python_heap *heap;
	struct tap_strings *strings;
	TAP_VECTOR(struct told_object) objects;
	TAP_VECTOR(struct told_text) texts;
	uint64_t blocks;
	bool is_old;          /* a version that is not read */
	uint32_t debug_bytes; /* in front of every block */
};

static void read_object(struct heap_target *target, char *fields, bool is_tracked)
{
	struct told_object *object = tap_vector_add(&target->objects);

	object->is_tracked = is_tracked;
	object->addr = strtoull(strsep(&fields, "\t"), NULL, 16);
	object->size = strtoull(strsep(&fields, "\t"), NULL, 10);
	object->length = is_tracked ? -1 : strtoll(strsep(&fields, "\t"), NULL, 10);
	object->type = tap_strings_add(target->strings, fields);
}

static void read_text(struct heap_target *target, char *fields)
{
	struct told_text *text = tap_vector_add(&target->texts);

	text->addr = strtoull(strsep(&fields, "\t"), NULL, 16);
	text->text = tap_strings_add(target->strings, fields);
}

static void read_told(struct heap_target *target)
{
	_cleanup_free_ char *line = NULL;
	size_t capacity = 0;

	while (getline(&line, &capacity, target->process.told) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (*line == 'E')
			target->is_old = true;
		else if (*line == 'S')
			read_text(target, line + 2);
		else if (*line == 'B')
			target->blocks = strtoull(line + 2, NULL, 10);
		else
			read_object(target, line + 2, *line == 'T');
		if (*line == 'E' || *line == 'B')
			return;
	}
	fail_msg("the target ended early");
}

static void start(struct heap_target *target, const struct interpreter *interpreter)
{
	target->strings = tap_strings_create();
	python_target_start(&target->process, interpreter, "objects.py");
	read_told(target);
	python_target_wait_parked(&target->process);
	python_target_look(&target->process);
	tap_memory_cache(target->process.memory, TAP_MEMORY_CACHE_PIECES);
}

static void stop(struct heap_target *target)
{
	tap_python_heap_close(target->heap);
	tap_vector_free(&target->objects);
	tap_vector_free(&target->texts);
	tap_strings_destroy(target->strings);
	python_target_stop(&target->process);
}

/* A __sizeof__ of its own that is not known, of the target's or in C. */
static bool is_unknown(const char *type)
{
	static const char *const prefixes[] = {"__main__.Sized", "array.array", "_io."};

	for (size_t i = 0; i < TAP_PYTHON_COUNT(prefixes); i++) {
		if (strncmp(type, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	}
	return false;
}

/* False, and it is said, where something is not as it was told. */
static bool compare_object(struct heap_target *target, const struct told_object *told)
{
	struct tap_python_object object;
	const struct tap_python_type *type;
	uint64_t size;
	int64_t length;

	if (!tap_python_heap_object_at(target->heap, told->addr, &object)) {
		print_message("%" PRIx64 " (%s) is no object\n", told->addr, told->type);
		return false;
	}
	type = tap_python_heap_type(target->heap, object.type);
	size = tap_python_heap_sizeof(target->heap, &object);
	length = tap_python_heap_length(target->heap, &object);
	if (strcmp(type->name, told->type) == 0 && (told->is_tracked || length == told->length) &&
		(size == told->size || (!size && (told->is_tracked || is_unknown(told->type)))))
		return true;
	print_message("%" PRIx64 ": %s of %" PRIu64 " bytes, %" PRId64 " items, not %s of %" PRIu64
		      ", %" PRId64 "\n",
		told->addr, type->name, size, length, told->type, told->size, told->length);
	return false;
}

static void compare_objects(struct heap_target *target)
{
	size_t wrong = 0, wrong_tracked = 0, tracked = 0;

	for (size_t i = 0; i < target->objects.count; i++) {
		const struct told_object *told = &target->objects.items[i];
		bool right = compare_object(target, told);

		tracked += told->is_tracked;
		wrong += !right && !told->is_tracked;
		wrong_tracked += !right && told->is_tracked;
		assert_true(wrong + wrong_tracked < 50);
	}
	print_message("%zu chosen, %zu tracked\n", target->objects.count - tracked, tracked);
	assert_true(tracked > 5000 && target->objects.count - tracked > 150);
	assert_int_equal(wrong, 0);
	/* Its own frame and what it works on. */
	assert_true(wrong_tracked <= SLACK);
}

static void compare_texts(struct heap_target *target)
{
	for (size_t i = 0; i < target->texts.count; i++) {
		char text[4096], cut[4];
		uint64_t addr = target->texts.items[i].addr;

		assert_true(tap_python_heap_text(target->heap, addr, text, sizeof(text)));
		assert_string_equal(text, target->texts.items[i].text);
		assert_true(tap_python_heap_text(target->heap, addr, cut, sizeof(cut)));
		assert_true(strncmp(cut, text, strlen(cut)) == 0);
		assert_false(tap_python_heap_text(target->heap, addr + 8, text, sizeof(text)));
	}
	assert_true(target->texts.count >= 10);
}

struct count {
	const char *type;
	int64_t told, found;
};

struct counts {
	struct heap_target *target;
	struct tap_map tracked; /* addresses */
	struct tap_map by_name; /* interned name -> item */
	TAP_VECTOR(struct count) items;
};

static void counts_deinit(struct counts *counts)
{
	tap_map_deinit(&counts->tracked);
	tap_map_deinit(&counts->by_name);
	tap_vector_free(&counts->items);
}

static struct count *count_of(struct counts *counts, const char *type)
{
	bool added;
	uint64_t *index;

	type = tap_strings_add(counts->target->strings, type);
	index = tap_map_put(&counts->by_name, (uint64_t)(uintptr_t)type, &added);
	if (added) {
		*index = counts->items.count;
		tap_vector_push(&counts->items, (struct count){.type = type});
	}
	return &counts->items.items[*index];
}

static bool see_tracked(void *context, uint64_t addr)
{
	struct counts *counts = context;
	struct tap_python_object object;
	bool added;

	assert_true(tap_python_heap_object_at(counts->target->heap, addr, &object));
	count_of(counts, tap_python_heap_type(counts->target->heap, object.type)->name)->found++;
	tap_map_put(&counts->tracked, addr, &added);
	assert_true(added);
	return true;
}

static bool see_few(void *context, uint64_t addr)
{
	(void)addr;
	return ++*(int *)context < 10;
}

/* Of each type as many as it told, but for what it has made to tell it. */
static void compare_tracked(struct counts *counts)
{
	struct heap_target *target = counts->target;
	uint32_t broken;
	int seen = 0;

	tap_python_heap_tracked(target->heap, see_tracked, counts, &broken);
	assert_int_equal(broken, 0);
	for (size_t i = 0; i < target->objects.count; i++) {
		if (target->objects.items[i].is_tracked)
			count_of(counts, target->objects.items[i].type)->told++;
	}
	for (size_t i = 0; i < counts->items.count; i++) {
		const struct count *count = &counts->items.items[i];
		int64_t apart = count->found - count->told;

		if (apart < -SLACK || apart > SLACK)
			fail_msg("%s: %" PRId64 " found, %" PRId64 " told", count->type,
				count->found, count->told);
	}
	assert_int_equal(tap_python_heap_tracked(target->heap, see_few, &seen, &broken), 10);
}

struct walk {
	struct heap_target *target;
	struct tap_map found; /* object -> lead */
	uint64_t blocks, objects;
};

static bool see_block(void *context, uint64_t addr, uint32_t block_bytes)
{
	struct walk *walk = context;
	struct tap_python_object object, again;
	uint8_t bytes[512];

	walk->blocks++;
	assert_true(tap_memory_try_read(walk->target->process.memory, addr, bytes, block_bytes));
	if (!tap_python_heap_object(walk->target->heap, addr, bytes, block_bytes, &object))
		return true;
	walk->objects++;
	assert_true(object.addr == addr + object.lead_bytes);
	assert_true(tap_python_heap_object_at(walk->target->heap, object.addr, &again));
	again.lead_bytes += walk->target->debug_bytes;
	assert_memory_equal(&object, &again, sizeof(object));
	*tap_map_put(&walk->found, object.addr, NULL) = object.lead_bytes;
	return true;
}

static bool is_in_block(struct heap_target *target, const struct tap_python_object *object)
{
	return tap_python_pool_block_size(
		target->process.python, object->addr - object->lead_bytes - target->debug_bytes);
}

/* Of a block that lies in no pool: over 512 bytes. */
static bool is_met_by_block(struct heap_target *target, const struct tap_python_object *object)
{
	uint64_t lead = object->lead_bytes + target->debug_bytes;
	struct tap_python_object again;

	assert_true(tap_python_heap_object(target->heap, object->addr - lead, NULL, 0, &again));
	assert_true(again.addr == object->addr && again.type == object->type);
	assert_int_equal(again.lead_bytes, lead);
	return true;
}

/* What is known to be an object and lies in a pool was met there; what has a
 * head of the collector and was met there but is not tracked is seldom. */
static void compare_pools(struct counts *counts)
{
	struct heap_target *target = counts->target;
	struct walk walk = {.target = target};
	struct tap_pool_walk stats;
	size_t pooled = 0, large = 0;

	assert_ok(tap_python_pools_walk(target->process.python, target->process.pid,
		&target->process.maps, see_block, &walk, &stats));
	for (size_t i = 0; i < target->objects.count; i++) {
		struct tap_python_object object;
		uint64_t addr = target->objects.items[i].addr;

		if (target->objects.items[i].is_tracked && !tap_map_find(&counts->tracked, addr))
			continue; /* freed since */
		assert_true(tap_python_heap_object_at(target->heap, addr, &object));
		if (!is_in_block(target, &object)) {
			large += target->objects.items[i].is_tracked &&
				 is_met_by_block(target, &object);
			continue;
		}
		pooled++;
		if (!tap_map_find(&walk.found, addr))
			fail_msg("%" PRIx64 " (%s) was not met in its pool", addr,
				target->objects.items[i].type);
	}
	print_message("%" PRIu64 " blocks, %" PRIu64 " objects, %zu of those told, %u types\n",
		walk.blocks, walk.objects, pooled, tap_python_heap_types(target->heap));
	assert_true(pooled > 5000 && large > 100);
	assert_true(walk.objects * 2 > walk.blocks);
	tap_map_deinit(&walk.found);
}

/* What is no object is none; nothing that lies about itself is believed. */
static void refuses_what_is_none(struct heap_target *target)
{
	struct tap_python_object object;
	uint64_t words[8] = {0};

	assert_false(tap_python_heap_object_at(target->heap, 0, &object));
	assert_false(tap_python_heap_object_at(target->heap, 8, &object));
	assert_false(tap_python_heap_object_at(target->heap, UINT64_MAX - 7, &object));
	assert_false(tap_python_heap_object(
		target->heap, 16, (const uint8_t *)words, sizeof(words), &object));
	words[1] = target->heap->type_type;
	assert_false(tap_python_heap_object(
		target->heap, 16, (const uint8_t *)words, sizeof(words), &object));
	words[1] = 0;
	words[2] = 1;
	words[3] = target->heap->type_type;
	assert_true(tap_python_heap_object(
		target->heap, 16, (const uint8_t *)words, sizeof(words), &object));
	assert_true(object.addr == 32 && object.lead_bytes == 16);
	words[0] = 3; /* flags of an object that is not tracked */
	assert_true(tap_python_heap_object(
		target->heap, 16, (const uint8_t *)words, sizeof(words), &object));
	words[0] = 0x1000; /* one link */
	assert_false(tap_python_heap_object(
		target->heap, 16, (const uint8_t *)words, sizeof(words), &object));
	words[0] = 0;
	words[2] = 0x7f0012345678; /* a pointer is no count */
	assert_false(tap_python_heap_object(
		target->heap, 16, (const uint8_t *)words, sizeof(words), &object));
}

/* A word of another place, a number, or one that is a little off. */
static uint64_t lie(unsigned *seed, const uint64_t *words, size_t count, uint64_t word)
{
	switch (rand_r(seed) % 5) {
	case 0:
		return words[(size_t)rand_r(seed) % count];
	case 1:
		return (uint64_t)rand_r(seed) % 64;
	case 2:
		return UINT64_MAX - (uint64_t)rand_r(seed) % 64;
	case 3:
		return word + (uint64_t)rand_r(seed) % 4 * 8;
	default:
		return word ^ UINT64_C(1) << rand_r(seed) % 64;
	}
}

static struct tap_memory *lying_copy(struct heap_target *target, unsigned seed)
{
	struct tap_memory *image = tap_memory_create_image();
	_cleanup_free_ uint64_t *words = tap_realloc(NULL, LIE_REGION);

	for (size_t i = 0; i < target->process.maps.count; i++) {
		const struct tap_mapping *mapping = &target->process.maps.items[i];
		size_t size = mapping->end - mapping->start, count;

		if (!mapping->readable || size > LIE_REGION)
			continue;
		size = tap_memory_glance(target->process.memory, mapping->start, words, size);
		count = size / sizeof(*words);
		for (size_t j = 0; mapping->writable && j < size / LIE_EVERY; j++) {
			size_t at = (size_t)rand_r(&seed) % count;

			words[at] = lie(&seed, words, count, words[at]);
		}
		if (size)
			tap_memory_add_region(image, mapping->start, words, size);
	}
	tap_memory_cache(image, TAP_MEMORY_CACHE_PIECES);
	return image;
}

struct questions {
	struct tap_python_heap *heap;
	uint64_t objects, asked;
};

static bool ask(void *context, uint64_t addr)
{
	struct questions *questions = context;
	struct tap_python_object object;
	char text[64];

	questions->asked++;
	if (!tap_python_heap_object_at(questions->heap, addr, &object))
		return questions->asked < 1000000;
	questions->objects++;
	tap_python_heap_sizeof(questions->heap, &object);
	tap_python_heap_length(questions->heap, &object);
	tap_python_heap_text(questions->heap, addr, text, sizeof(text));
	return questions->asked < 1000000;
}

static bool ask_block(void *context, uint64_t addr, uint32_t block_bytes)
{
	struct questions *questions = context;
	struct tap_python_object object;

	(void)block_bytes;
	if (tap_python_heap_object(questions->heap, addr, NULL, 0, &object))
		ask(questions, object.addr);
	return true;
}

/* Nothing of what it says is believed so far that anything breaks. */
static void survives_lies(struct heap_target *target, unsigned seed)
{
	struct tap_python *python = target->process.python;
	struct tap_memory *truth = python->memory;
	struct questions questions = {0};
	struct tap_pool_walk stats;
	uint32_t broken;

	python->memory = lying_copy(target, seed);
	tap_error_free(tap_python_heap_open(python, &target->process.maps, &questions.heap));
	if (questions.heap) {
		tap_python_heap_tracked(questions.heap, ask, &questions, &broken);
		for (size_t i = 0; i < target->objects.count; i++)
			ask(&questions, target->objects.items[i].addr);
		assert_ok(tap_python_pools_walk(python, target->process.pid, &target->process.maps,
			ask_block, &questions, &stats));
		print_message("%" PRIu64 " objects of %" PRIu64 " in memory that lies\n",
			questions.objects, questions.asked);
	}
	tap_python_heap_close(questions.heap);
	tap_memory_close(python->memory);
	python->memory = truth;
}

static void test_supported(struct heap_target *target)
{
	struct counts counts = {.target = target};

	assert_ok(
		tap_python_heap_open(target->process.python, &target->process.maps, &target->heap));
	compare_objects(target);
	compare_texts(target);
	compare_tracked(&counts);
	compare_pools(&counts);
	refuses_what_is_none(target);
	for (unsigned seed = 1; seed <= LIE_ROUNDS; seed++)
		survives_lies(target, seed);
	counts_deinit(&counts);
}

static void reads_what_the_interpreter_says(void **state)
{
	struct heap_target target = {0};

	start(&target, *state);
	if (target.is_old)
		assert_code(tap_python_heap_open(
				    target.process.python, &target.process.maps, &target.heap),
			TAP_ERR_UNSUPPORTED);
	else
		test_supported(&target);
	stop(&target);
}

/* PYTHONMALLOC=debug puts something in front of every block. */
static void reads_through_what_is_for_debugging(void **state)
{
	struct interpreter interpreter = *(const struct interpreter *)*state;
	struct heap_target target = {.debug_bytes = 16};
	struct counts counts = {.target = &target};

	interpreter.setting = "PYTHONMALLOC=debug";
	start(&target, &interpreter);
	if (!target.is_old) {
		assert_ok(tap_python_heap_open(
			target.process.python, &target.process.maps, &target.heap));
		compare_tracked(&counts);
		compare_pools(&counts);
	}
	counts_deinit(&counts);
	stop(&target);
}

int main(void)
{
	TAP_VECTOR(struct CMUnitTest) tests = {0};
	struct interpreters list = {0};
	int failed;

	find_interpreters(&list);
	for (size_t i = 0; i < list.count; i++) {
		struct interpreter *interpreter = &list.items[i];

		tap_vector_push(&tests, ((struct CMUnitTest){.name = interpreter->path,
						.test_func = reads_what_the_interpreter_says,
						.initial_state = interpreter}));
		tap_vector_push(&tests, ((struct CMUnitTest){.name = interpreter->name,
						.test_func = reads_through_what_is_for_debugging,
						.initial_state = interpreter}));
	}
	failed = tests.count ? _cmocka_run_group_tests(
				       "python_heap", tests.items, tests.count, NULL, NULL)
			     : 77;
	tap_vector_free(&tests);
	tap_vector_free(&list);
	return failed;
}
