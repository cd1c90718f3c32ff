/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every CPython that is found here runs tests/fixtures/python/parked.py, which
 * tells the stacks of its threads as it sees them itself; what is read from
 * outside has to be the same. HEAPTAP_TEST_SID names a tree of another
 * distribution whose interpreters are run in it (as root).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "python_target.h"
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/vector.h"
#include "heaptap/python/mix.h"
#include "heaptap/symbol/unwind.h"
#include "python/runtime.h"

#define MAX_FRAMES 256

struct target {
	struct python_target process;
	struct tap_unwinder *unwinder;
	struct tap_strings *strings;
};

static void look(struct target *target)
{
	python_target_look(&target->process);
	target->unwinder = tap_unwinder_create(target->process.symbols);
	target->strings = tap_strings_create();
}

static void stop(struct target *target)
{
	tap_strings_destroy(target->strings);
	tap_unwinder_destroy(target->unwinder);
	python_target_stop(&target->process);
}

/* What the target told: lines of fields with tabs between. */
struct told_frame {
	char *function, *file;
	int line;
};

struct told_thread {
	pid_t tid;
	uint64_t pthread;
	TAP_VECTOR(struct told_frame) frames;
};

struct told {
	char version[32];
	uint32_t hex;
	TAP_VECTOR(struct told_thread) threads;
};

static void read_frame(struct told_thread *thread, char *fields)
{
	struct told_frame *frame = tap_vector_add(&thread->frames);

	frame->function = tap_strdup(strsep(&fields, "\t"));
	frame->file = tap_strdup(strsep(&fields, "\t"));
	frame->line = atoi(fields);
}

static void read_told(struct target *target, struct told *told)
{
	_cleanup_free_ char *line = NULL;
	size_t capacity = 0;

	while (getline(&line, &capacity, target->process.told) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (line[0] == 'E')
			return;
		if (line[0] == 'V') {
			sscanf(line, "V\t%31s\t%x", told->version, &told->hex);
		} else if (line[0] == 'T') {
			struct told_thread *thread = tap_vector_add(&told->threads);

			sscanf(line, "T\t%d\t%lu", &thread->tid, &thread->pthread);
		} else if (line[0] == 'F') {
			assert_true(told->threads.count > 0);
			read_frame(&told->threads.items[told->threads.count - 1], line + 2);
		}
	}
	fail_msg("the target ended early");
}

static void told_deinit(struct told *told)
{
	for (size_t i = 0; i < told->threads.count; i++) {
		struct told_thread *thread = &told->threads.items[i];

		for (size_t j = 0; j < thread->frames.count; j++) {
			free(thread->frames.items[j].function);
			free(thread->frames.items[j].file);
		}
		tap_vector_free(&thread->frames);
	}
	tap_vector_free(&told->threads);
}

static void compare_frames(struct target *target, const struct told_thread *thread, uint64_t state)
{
	struct tap_python_frame frames[MAX_FRAMES];
	size_t count = tap_python_frames(target->process.python, state, frames, MAX_FRAMES);

	for (size_t i = 0; i < count && i < thread->frames.count; i++) {
		const struct told_frame *told = &thread->frames.items[i];
		struct tap_frame frame;

		assert_true(frames[i].key & TAP_PYTHON_KEY);
		tap_python_resolve(target->process.python, frames[i].key, target->strings, &frame);
		assert_non_null(frame.function);
		assert_string_equal(frame.function, told->function);
		assert_string_equal(frame.file, told->file);
		assert_int_equal(frame.line, told->line);
	}
	assert_int_equal(count, thread->frames.count);
	assert_true(frames[count - 1].entry);
}

/* Stack pointer and PC of a thread that waits in a system call. */
static void read_registers(const struct target *target, pid_t tid, struct tap_regs *regs)
{
	_cleanup_fclose_ FILE *f = NULL;
	char path[64], text[256] = "", *at;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", target->process.pid, tid);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof(text), f));
	memset(regs, 0, sizeof(*regs));
	at = strrchr(text, ' ');
	assert_non_null(at);
	regs->rip = strtoull(at, NULL, 16);
	*at = '\0';
	at = strrchr(text, ' ');
	assert_non_null(at);
	regs->rsp = strtoull(at, NULL, 16);
}

/* Every Python frame has its place: as many evaluations on the native stack
 * as the frames ask for, the thread's start function below them. */
static void compare_mixed(struct target *target, const struct told_thread *thread, uint64_t state)
{
	struct tap_python_frame frames[MAX_FRAMES];
	struct tap_native_frame native[MAX_FRAMES];
	struct tap_mixed_frame mixed[MAX_FRAMES * 2];
	size_t count, native_count, mixed_count, evals = 0, wanted = 0, python_count = 0;
	struct tap_regs regs;

	count = tap_python_frames(target->process.python, state, frames, MAX_FRAMES);
	read_registers(target, thread->tid, &regs);
	native_count = tap_unwind(
		target->unwinder, target->process.memory, &regs, TAP_UNWIND_SP_PC, native, MAX_FRAMES);
	for (size_t i = 0; i < native_count; i++)
		evals += tap_python_is_eval(target->process.python, native[i].pc - native[i].is_call);
	for (size_t i = 0; i < count; i++)
		wanted += frames[i].entry + (size_t)frames[i].empty_evals;
	if (evals != wanted)
		fail_msg("%s: %zu evaluations among %zu native frames, not %zu",
			thread->frames.items[1].function, evals, native_count, wanted);
	mixed_count = tap_python_mix(
		target->process.python, native, native_count, frames, count, mixed, MAX_FRAMES * 2);
	for (size_t i = 0; i < mixed_count; i++)
		python_count += (mixed[i].key & TAP_PYTHON_KEY) != 0;
	assert_int_equal(python_count, count);
	assert_false(mixed[mixed_count - 1].key & TAP_PYTHON_KEY);
}

static void compare_thread(struct target *target, const struct told_thread *thread)
{
	int holds_gil;
	uint64_t state;

	state = tap_python_thread(target->process.python, thread->tid, thread->pthread, &holds_gil);
	assert_true(state != 0);
	assert_int_equal(holds_gil, 0); /* all of them wait */
	compare_frames(target, thread, state);
	/* Again, from what is remembered now. */
	compare_frames(target, thread, state);
	compare_mixed(target, thread, state);
	if (tap_python_info(target->process.python)->hex >= 0x030b0000)
		assert_true(tap_python_thread(target->process.python, thread->tid, 0, NULL) == state);
}

static void compare_list(struct target *target, const struct told *told)
{
	struct tap_python_thread_state states[64];
	size_t count = tap_python_threads(target->process.python, states, 64);

	assert_int_equal(count, told->threads.count);
	for (size_t i = 0; i < count; i++) {
		bool found = false;

		for (size_t j = 0; j < told->threads.count; j++)
			found |= told->threads.items[j].pthread == states[i].pthread;
		assert_true(found);
		assert_int_equal(states[i].interpreter, 0);
	}
	assert_true(tap_python_thread(target->process.python, 1, 0x1234, NULL) == 0);
}

/* Tables are where they are whichever way they were found. */
static void compare_tables(struct target *target)
{
	struct tap_python_table tables[TAP_PYTHON_DOMAINS];
	uint64_t scanned[TAP_PYTHON_DOMAINS];

	assert_ok(tap_python_tables(target->process.python, tables));
	for (int i = 0; i < TAP_PYTHON_DOMAINS; i++) {
		assert_int_equal(tables[i].domain, i);
		for (int j = 0; j < 4; j++) {
			const struct tap_mapping *mapping =
				tap_maps_find(&target->process.maps, tables[i].functions[j]);

			assert_non_null(mapping);
			assert_true(mapping->executable);
			assert_string_equal(mapping->path, tap_python_info(target->process.python)->module);
		}
	}
	assert_memory_equal(tables[TAP_PYTHON_MEM].functions, tables[TAP_PYTHON_OBJ].functions,
		sizeof(tables[0].functions));
	if (target->process.python->layout.minor < 12) {
		assert_true(tap_python_tables_scan(target->process.python, scanned));
		for (int i = 0; i < TAP_PYTHON_DOMAINS; i++)
			assert_true(scanned[i] == tables[i].addr);
	}
}

/* A code object lies in a pool, in a block of its size or in none if it is
 * too big; the module's data lies in none. */
static void compare_pools(struct target *target, const struct told *told)
{
	struct tap_python *python = target->process.python;
	struct tap_python_thread_state states[64];
	size_t count = tap_python_threads(python, states, 64), pooled = 0;

	assert_true(count == told->threads.count);
	for (size_t i = 0; i < target->process.maps.count; i++) {
		const struct tap_mapping *mapping = &target->process.maps.items[i];

		if (*mapping->path || !mapping->writable)
			continue;
		for (uint64_t pool = mapping->start & ~UINT64_C(16383); pool < mapping->end;
			pool += 16384)
			pooled += tap_python_pool_block_size(python, pool + 48) != 0;
	}
	assert_true(pooled > 20);
	assert_int_equal(tap_python_pool_block_size(python, python->info.runtime_addr), 0);
	assert_int_equal(tap_python_pool_block_size(python, 1), 0);
}

static void test_supported(struct target *target, const struct told *told)
{
	const struct tap_python_info *info = tap_python_info(target->process.python);

	assert_string_equal(info->reason, "");
	assert_true(info->supported);
	assert_string_equal(info->version, told->version);
	assert_int_equal(info->hex, told->hex);
	assert_false(info->free_threaded);
	for (size_t i = 0; i < told->threads.count; i++)
		compare_thread(target, &told->threads.items[i]);
	compare_list(target, told);
	compare_tables(target);
	compare_pools(target, told);
	assert_true(target->process.python->eval_count > 0);
	assert_true(tap_python_is_eval(target->process.python, target->process.python->eval[0].start));
}

/* With an allocator of another kind in the tables they are found all the same. */
static void finds_tables_under_hooks(void **state)
{
	struct interpreter interpreter = *(const struct interpreter *)*state;
	static const char *const settings[] = {
		"PYTHONTRACEMALLOC=1", "PYTHONMALLOC=debug", "PYTHONMALLOC=malloc"};

	for (size_t i = 0; i < TAP_PYTHON_COUNT(settings); i++) {
		struct target target = {0};
		struct told told = {0};

		interpreter.setting = settings[i];
		python_target_start(&target.process, &interpreter, "parked.py");
		read_told(&target, &told);
		python_target_wait_parked(&target.process);
		look(&target);
		if (told.hex)
			compare_tables(&target);
		told_deinit(&told);
		stop(&target);
	}
}

static void test_unsupported(struct target *target, const char *path)
{
	const struct tap_python_info *info = tap_python_info(target->process.python);
	struct tap_python_table tables[TAP_PYTHON_DOMAINS];

	assert_false(info->supported);
	assert_non_null(strstr(path, info->version));
	assert_non_null(strstr(info->reason, "no layout for CPython "));
	assert_int_equal(tap_python_threads(target->process.python, NULL, 0), 0);
	assert_true(tap_python_thread(target->process.python, target->process.pid, 0, NULL) == 0);
	assert_code(tap_python_tables(target->process.python, tables), TAP_ERR_NOT_FOUND);
	assert_int_equal(tap_python_pool_block_size(target->process.python, 4096), 0);
}

static void reads_what_the_interpreter_says(void **state)
{
	const struct interpreter *interpreter = *state;
	struct target target = {0};
	struct told told = {0};

	python_target_start(&target.process, interpreter, "parked.py");
	read_told(&target, &told);
	python_target_wait_parked(&target.process);
	look(&target);
	if (told.hex)
		test_supported(&target, &told);
	else
		test_unsupported(&target, interpreter->path);
	told_deinit(&told);
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
						.test_func = finds_tables_under_hooks,
						.initial_state = interpreter}));
	}
	failed = tests.count ? _cmocka_run_group_tests(
				       "python_live", tests.items, tests.count, NULL, NULL)
			     : 77;
	tap_vector_free(&tests);
	tap_vector_free(&list);
	return failed;
}
