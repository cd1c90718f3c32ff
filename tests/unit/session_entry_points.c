/* SPDX-License-Identifier: Apache-2.0 */
/* Looked at in this very process, where dlsym() says what is bound. */
#include <dlfcn.h>
#include <string.h>
#include <unistd.h>
#include "unit.h"
#include "heaptap/proc/maps.h"
#include "session/entry_points.h"

struct fixture {
	struct tap_maps maps;
	struct tap_memory *memory;
	struct tap_symbols *symbols;
};

static int setup(void **state)
{
	static struct fixture fixture;

	assert_ok(tap_maps_read(getpid(), &fixture.maps));
	assert_ok(tap_memory_open(getpid(), false, &fixture.memory));
	assert_ok(
		tap_symbols_open(getpid(), fixture.memory, &fixture.maps, NULL, &fixture.symbols));
	*state = &fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	tap_symbols_close(fixture->symbols);
	tap_memory_close(fixture->memory);
	tap_maps_deinit(&fixture->maps);
	return 0;
}

static const struct tap_entry *at(const struct tap_entry_list *list, const void *function)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->items[i].addr == (uint64_t)(uintptr_t)function)
			return &list->items[i];
	return NULL;
}

static void test_what_is_bound(void **state)
{
	static const struct {
		const char *name;
		enum tap_entry_kind kind;
	} rows[] = {
		{"malloc", TAP_ENTRY_MALLOC},
		{"calloc", TAP_ENTRY_CALLOC},
		{"realloc", TAP_ENTRY_REALLOC},
		{"posix_memalign", TAP_ENTRY_POSIX_MEMALIGN},
		{"free", TAP_ENTRY_FREE},
		{"mmap", TAP_ENTRY_MMAP},
		{"munmap", TAP_ENTRY_MUNMAP},
	};
	struct fixture *fixture = *state;
	struct tap_entry_list list = {0};

	assert_ok(tap_entry_points_find(fixture->symbols, fixture->memory, &list));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct tap_entry *entry = at(&list, dlsym(RTLD_DEFAULT, rows[i].name));

		if (!entry)
			fail_msg("%s was not found where it is bound", rows[i].name);
		assert_int_equal(entry->kind, rows[i].kind);
		assert_null(entry->problem);
	}
	tap_vector_free(&list);
}

static void test_each_address_once(void **state)
{
	struct fixture *fixture = *state;
	struct tap_entry_list list = {0};
	size_t count;

	assert_ok(tap_entry_points_find(fixture->symbols, fixture->memory, &list));
	count = list.count;
	assert_ok(tap_entry_points_find(fixture->symbols, fixture->memory, &list));
	assert_int_equal(list.count, count);
	for (size_t i = 0; i < count; i++)
		for (size_t j = i + 1; j < count; j++)
			assert_true(
				!list.items[i].addr || list.items[i].addr != list.items[j].addr);
	tap_vector_free(&list);
}

static void test_scope(void **state)
{
	struct fixture *fixture = *state;
	struct tap_module *modules[64];
	size_t count = tap_entry_points_scope(fixture->symbols, fixture->memory, modules, 64);

	assert_true(count > 2);
	assert_true(modules[0]->executable);
	assert_int_equal(tap_entry_points_scope(fixture->symbols, fixture->memory, modules, 1), 1);
}

/* A function that somebody calls an allocator by hand. */
__attribute__((noinline)) void *session_test_malloc(size_t size);
void *session_test_malloc(size_t size)
{
	return size ? &teardown : NULL;
}

static void test_by_hand(void **state)
{
	struct fixture *fixture = *state;
	struct tap_entry_list list = {0};
	const struct tap_entry *entry;

	assert_ok(tap_entry_points_add(fixture->symbols, "malloc", "session_test_malloc", &list));
	entry = at(&list, session_test_malloc);
	assert_non_null(entry);
	assert_int_equal(entry->kind, TAP_ENTRY_MALLOC);
	assert_code(
		tap_entry_points_add(fixture->symbols, "mallocate", "main", &list), TAP_ERR_USAGE);
	assert_code(tap_entry_points_add(fixture->symbols, "malloc", "no such name", &list),
		TAP_ERR_NOT_FOUND);
	tap_vector_free(&list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_bound),
		cmocka_unit_test(test_each_address_once),
		cmocka_unit_test(test_scope),
		cmocka_unit_test(test_by_hand),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
