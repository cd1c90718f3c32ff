/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every CPython that is found here runs tests/fixtures/python/edges.py, which
 * tells what objects of each kind refer to, and what that is called. What is
 * found from outside has to be all of that and, but for blocks of their own and
 * classes, no more.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "python_target.h"
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/map.h"
#include "heaptap/base/vector.h"
#include "heaptap/python/heap.h"

#define MAX_FIELDS 8

struct target {
	struct python_target process;
	struct tap_python_heap *heap;
	unsigned wrong;
};

/* All that is wrong is said, not the first alone. */
#define WRONG(target, ...)                                                                         \
	do {                                                                                       \
		print_error(__VA_ARGS__);                                                          \
		(target)->wrong++;                                                                 \
	} while (0)

static bool same_text(const char *text, const char *told)
{
	size_t length = strlen(told);

	if (length && told[length - 1] == '*')
		return strncmp(text, told, length - 1) == 0;
	return strcmp(text, told) == 0;
}

static bool find_object(
	struct target *target, const char *label, const char *id, struct tap_python_object *ret)
{
	if (tap_python_heap_object_at(target->heap, strtoull(id, NULL, 10), ret))
		return true;
	WRONG(target, "%s: no object\n", label);
	return false;
}

static bool collect(void *context, uint64_t addr)
{
	tap_map_put(context, addr, NULL);
	return true;
}

static bool enough(void *context, uint64_t addr)
{
	(void)addr;
	(*(unsigned *)context)++;
	return false;
}

/* Takes what was told out of the set. */
static size_t take_told(struct target *target, const char *label, char *ids, struct tap_map *given)
{
	struct tap_map told = {0};
	struct tap_map_slot *slot;
	size_t count = 0;

	for (char *id; (id = strsep(&ids, ",")) != NULL;) {
		if (*id)
			tap_map_put(&told, strtoull(id, NULL, 10), NULL);
	}
	for (size_t i = 0; tap_map_next(&told, &i, &slot); count++) {
		struct tap_python_object object;

		if (tap_map_remove(given, slot->key, NULL))
			continue;
		WRONG(target, "%s: does not refer to %#" PRIx64 " (%s)\n", label, slot->key,
			tap_python_heap_object_at(target->heap, slot->key, &object)
				? tap_python_heap_type(target->heap, object.type)->name
				: "no object");
	}
	tap_map_deinit(&told);
	return count;
}

/* Objects that other versions' collectors do not visit: names, and the links of a
 * cache. */
static bool is_extra(const struct tap_python_type *type)
{
	return type->kind == TAP_PYTHON_TYPE || type->kind == TAP_PYTHON_ATOM ||
	       strcmp(type->name, "functools._lru_list_elem") == 0;
}

/* O label id strict referents */
static void compare_references(struct target *target, char **fields)
{
	struct tap_map given = {0};
	struct tap_python_object object, other;
	struct tap_map_slot *slot;
	unsigned calls = 0;

	if (!find_object(target, fields[1], fields[2], &object))
		return;
	if (!tap_python_heap_references(target->heap, &object, collect, &given))
		WRONG(target, "%s: not known\n", fields[1]);
	if (take_told(target, fields[1], fields[4], &given) > 1) {
		tap_python_heap_references(target->heap, &object, enough, &calls);
		assert_int_equal(calls, 1);
	}
	for (size_t i = 0; *fields[3] == '1' && tap_map_next(&given, &i, &slot);) {
		const struct tap_python_type *type;

		if (!tap_python_heap_object_at(target->heap, slot->key, &other))
			continue;
		type = tap_python_heap_type(target->heap, other.type);
		if (!is_extra(type))
			WRONG(target, "%s: refers to a %s at %#" PRIx64 "\n", fields[1],
				type->name, slot->key);
	}
	tap_map_deinit(&given);
}

/* B label id block is_own */
static void compare_block(struct target *target, char **fields)
{
	uint64_t block = strtoull(fields[3], NULL, 10);
	struct tap_map given = {0};
	struct tap_python_object object;

	if (!find_object(target, fields[1], fields[2], &object))
		return;
	tap_python_heap_references(target->heap, &object, collect, &given);
	if ((tap_map_find(&given, block) != NULL) != (*fields[4] == '1'))
		WRONG(target, "%s: its block is not taken for what it is\n", fields[1]);
	tap_map_deinit(&given);
}

/* N label from to is_part text */
static void compare_name(struct target *target, char **fields)
{
	uint64_t to = strtoull(fields[3], NULL, 10);
	struct tap_python_object object;
	char text[256], cut[8];
	bool is_part;

	if (!find_object(target, fields[1], fields[2], &object))
		return;
	if (!tap_python_heap_reference_name(
		    target->heap, &object, to, text, sizeof(text), &is_part))
		WRONG(target, "%s: '%s' is not found\n", fields[1], fields[5]);
	else if (!same_text(text, fields[5]) || is_part != (*fields[4] == '1'))
		WRONG(target, "%s: '%s', not '%s'%s\n", fields[1], text, fields[5],
			is_part ? ": a part" : "");
	tap_python_heap_reference_name(target->heap, &object, to, cut, sizeof(cut), NULL);
	assert_memory_equal(cut, text, strlen(text) < 7 ? strlen(text) : 7);
	assert_false(tap_python_heap_reference_name(
		target->heap, &object, 0, text, sizeof(text), &is_part));
	assert_false(tap_python_heap_reference_name(
		target->heap, &object, 0x12345678, text, sizeof(text), &is_part));
}

/* W label id text */
static void compare_own_name(struct target *target, char **fields)
{
	struct tap_python_object object;
	char text[256] = "";

	if (!find_object(target, fields[1], fields[2], &object))
		return;
	if (!tap_python_heap_own_name(target->heap, &object, text, sizeof(text)) ||
		!same_text(text, fields[3]))
		WRONG(target, "%s: called '%s', not '%s'\n", fields[1], text, fields[3]);
}

/* L id name hits misses maxsize size */
static void compare_lru(struct target *target, char **fields)
{
	struct tap_python_object object;
	struct tap_python_lru lru;

	if (!find_object(target, "lru_cache", fields[1], &object))
		return;
	assert_true(tap_python_heap_lru(target->heap, &object, &lru));
	assert_string_equal(lru.name, fields[2]);
	assert_int_equal(lru.hits, atoi(fields[3]));
	assert_int_equal(lru.misses, atoi(fields[4]));
	assert_int_equal(lru.maxsize, atoi(fields[5]));
	assert_int_equal(lru.size, atoi(fields[6]));
}

struct root_search {
	enum tap_python_root_kind kind;
	uint64_t addr;
	const char *name;
	bool found;
	uint64_t count;
};

static bool is_root(void *context, const struct tap_python_root *root)
{
	struct root_search *search = context;

	assert_true(root->addr != 0);
	assert_true((root->frame != 0) == (root->kind == TAP_PYTHON_ROOT_FRAME));
	assert_true((root->thread_state != 0) == (root->kind == TAP_PYTHON_ROOT_FRAME ||
							 root->kind == TAP_PYTHON_ROOT_THREAD));
	search->count++;
	search->found = root->kind == search->kind && root->addr == search->addr &&
			(!*search->name || same_text(root->name, search->name));
	return !search->found;
}

/* R kind id name */
static void compare_root(struct target *target, char **fields)
{
	struct root_search search = {.kind = (enum tap_python_root_kind)atoi(fields[1]),
		.addr = strtoull(fields[2], NULL, 10),
		.name = fields[3]};

	tap_python_heap_roots(target->heap, is_root, &search);
	if (!search.found)
		WRONG(target, "'%s' of kind %s is not among %" PRIu64 " roots\n", fields[3],
			fields[1], search.count);
}

static bool count_some(void *context, uint64_t addr)
{
	(void)addr;
	return ++*(unsigned *)context < 10000;
}

/* An object that is taken for one of any other type is what a target that lies
 * would show: all that is asked is that it comes to an end. */
static void ask_for_lies(struct target *target, const char *id)
{
	struct tap_python_object object;
	char text[256];

	if (!find_object(target, "lie", id, &object))
		return;
	for (uint32_t type = 0; type < tap_python_heap_types(target->heap); type++) {
		unsigned count = 0;
		bool is_part;

		object.type = type;
		tap_python_heap_references(target->heap, &object, count_some, &count);
		if (type % 8)
			continue;
		tap_python_heap_reference_name(
			target->heap, &object, object.addr, text, sizeof(text), &is_part);
		tap_python_heap_own_name(target->heap, &object, text, sizeof(text));
	}
}

static void compare_line(struct target *target, char *line)
{
	static void (*const compare[])(struct target *, char **) = {
		['O'] = compare_references,
		['B'] = compare_block,
		['N'] = compare_name,
		['W'] = compare_own_name,
		['L'] = compare_lru,
		['R'] = compare_root,
	};
	char *fields[MAX_FIELDS] = {0}, *rest = line;

	for (size_t i = 0; i < MAX_FIELDS; i++)
		fields[i] = strsep(&rest, "\t");
	assert_true((size_t)*line < sizeof(compare) / sizeof(*compare));
	assert_non_null(compare[(size_t)*line]);
	compare[(size_t)*line](target, fields);
	if (*line == 'O')
		ask_for_lies(target, fields[2]);
}

TAP_VECTOR_TYPE(lines, char *);

/* Of what is not read it has only the E. */
static void read_lines(struct target *target, struct lines *lines)
{
	_cleanup_free_ char *line = NULL;
	size_t capacity = 0;

	while (getline(&line, &capacity, target->process.told) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (strcmp(line, "E") == 0)
			return;
		tap_vector_push(lines, tap_strdup(line));
	}
	fail_msg("the target ended early");
}

static void refers_to_what_the_interpreter_says(void **state)
{
	struct target target = {0};
	struct lines lines = {0};

	python_target_start(&target.process, *state, "edges.py");
	read_lines(&target, &lines);
	python_target_wait_parked(&target.process);
	python_target_look(&target.process);
	if (lines.count) {
		assert_ok(tap_python_heap_open(
			target.process.python, &target.process.maps, &target.heap));
		tap_memory_cache(target.process.memory, TAP_MEMORY_CACHE_PIECES);
	}
	for (size_t i = 0; i < lines.count; i++) {
		compare_line(&target, lines.items[i]);
		free(lines.items[i]);
	}
	tap_vector_free(&lines);
	tap_python_heap_close(target.heap);
	python_target_stop(&target.process);
	assert_int_equal(target.wrong, 0);
}

int main(void)
{
	TAP_VECTOR(struct CMUnitTest) tests = {0};
	struct interpreters list = {0};
	int failed;

	find_interpreters(&list);
	for (size_t i = 0; i < list.count; i++)
		tap_vector_push(&tests, ((struct CMUnitTest){.name = list.items[i].path,
						.test_func = refers_to_what_the_interpreter_says,
						.initial_state = &list.items[i]}));
	failed = tests.count ? _cmocka_run_group_tests(
				       "python_edges", tests.items, tests.count, NULL, NULL)
			     : 77;
	tap_vector_free(&tests);
	tap_vector_free(&list);
	return failed;
}
