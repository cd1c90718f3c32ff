/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "heaptap/base/cleanup.h"
#include "heaptap/proc/tasks.h"
#include "session/memory_table.h"
#include "session/page_set.h"

#define PAGE UINT64_C(4096)
#define BASE UINT64_C(0x10000000)

struct system {
	const struct tap_page_run *runs;
	size_t count;
};

static bool next_run(void *context, uint64_t addr, uint64_t end, struct tap_page_run *ret)
{
	const struct system *system = context;

	for (size_t i = 0; i < system->count; i++) {
		*ret = system->runs[i];
		if (ret->end <= addr || ret->start >= end)
			continue;
		ret->start = ret->start > addr ? ret->start : addr;
		ret->end = ret->end < end ? ret->end : end;
		return true;
	}
	return false;
}

/* One mapping of 1,024 pages from BASE on. */
static struct memory_table count(struct memory_shares *shares, const char *path, uint64_t inode,
	bool shared, const struct tap_page_run *runs, size_t run_count)
{
	struct tap_mapping mapping = {.start = BASE,
		.end = BASE + 1024 * PAGE,
		.inode = inode,
		.readable = true,
		.writable = true,
		.shared = shared,
		.path = path};
	struct tap_maps maps = {.items = &mapping, .count = 1};
	struct system system = {runs, run_count};
	struct memory_table table;

	memory_shares_count(shares, &maps, next_run, &system, &table);
	memory_shares_destroy(shares);
	return table;
}

static const struct tap_page_run ten_pages[] = {{BASE, BASE + 10 * PAGE, TAP_PAGE_PRIVATE}};

static void a_page_is_parted_by_what_lies_on_it(void **state)
{
	struct memory_shares *shares = memory_shares_create();
	struct memory_table table;

	(void)state;
	memory_shares_add_region(shares, MEMORY_C, BASE, BASE + 2 * PAGE);
	memory_shares_add_live(shares, MEMORY_C, BASE + 100, BASE + 1124);
	memory_shares_add_live(shares, MEMORY_C, BASE + 2000, BASE + PAGE + 24);
	table = count(shares, "", 0, false, ten_pages, 1);
	assert_int_equal(table.rows[MEMORY_C_LIVE], 1024 + (PAGE - 2000) + 24);
	assert_int_equal(table.rows[MEMORY_C_FREE], 2 * PAGE - table.rows[MEMORY_C_LIVE]);
	assert_int_equal(table.rows[MEMORY_OTHER], 8 * PAGE);
	assert_int_equal(table.rss, 10 * PAGE);
	assert_int_equal(table.reserved_not_resident, 0);
}

/* 3,000 live and 1,000 free bytes, and 96 that nobody knows. */
static void shares_fill_the_page(void **state)
{
	struct memory_shares *shares = memory_shares_create();
	struct memory_table table;

	(void)state;
	memory_shares_add_region(shares, MEMORY_C, BASE + 96, BASE + PAGE);
	memory_shares_add_live(shares, MEMORY_C, BASE + 96, BASE + 3096);
	table = count(shares, "", 0, false, ten_pages, 1);
	assert_int_equal(table.rows[MEMORY_C_LIVE], 3000 * PAGE / 4000);
	assert_int_equal(table.rows[MEMORY_C_FREE], PAGE - 3000 * PAGE / 4000);
	assert_int_equal(table.rss, 10 * PAGE);
}

static void owners_share_a_page(void **state)
{
	struct memory_shares *shares = memory_shares_create();
	struct memory_table table;

	(void)state;
	/* In any order; the end of one page is told by both. */
	memory_shares_add_region(shares, MEMORY_C, BASE + 3 * PAGE + 1000, BASE + 5 * PAGE);
	memory_shares_add_region(shares, MEMORY_PYTHON, BASE + 3 * PAGE, BASE + 3 * PAGE + 1000);
	memory_shares_add_region(shares, MEMORY_C, BASE, BASE + PAGE);
	memory_shares_add_live(shares, MEMORY_PYTHON, BASE + 3 * PAGE + 48, BASE + 3 * PAGE + 148);
	memory_shares_add_live(shares, MEMORY_C, BASE + 3 * PAGE + 1000, BASE + 5 * PAGE);
	memory_shares_add_live(shares, MEMORY_C, BASE, BASE + 16);
	memory_shares_add_live(shares, MEMORY_C, BASE + 3 * PAGE, BASE + 3 * PAGE);
	memory_shares_add_live(shares, MEMORY_PYTHON, BASE + 3 * PAGE + 500, BASE + 3 * PAGE + 600);
	memory_shares_add_live(shares, MEMORY_PYTHON, BASE, BASE + 8);
	memory_shares_add_live(shares, MEMORY_PYTHON, BASE + 3 * PAGE + 700, BASE + 3 * PAGE + 800);
	memory_shares_add_live(shares, MEMORY_C, BASE + 16, BASE + 32);
	table = count(shares, "", 0, false, ten_pages, 1);
	assert_int_equal(table.rows[MEMORY_PYTHON_LIVE], 300);
	assert_int_equal(table.rows[MEMORY_PYTHON_FREE], 700);
	assert_int_equal(table.rows[MEMORY_C_LIVE], 2 * PAGE - 1000 + 32);
	assert_int_equal(table.rows[MEMORY_C_FREE], PAGE - 32);
	assert_int_equal(table.rss, 10 * PAGE);
}

static void what_was_never_touched_is_reserved(void **state)
{
	static const struct tap_page_run runs[] = {
		{BASE, BASE + 2 * PAGE, TAP_PAGE_PRIVATE},
		{BASE + 2 * PAGE, BASE + 3 * PAGE, TAP_PAGE_ZERO},
		{BASE + 100 * PAGE, BASE + 105 * PAGE, TAP_PAGE_SWAPPED},
		{BASE + 1000 * PAGE, BASE + 1001 * PAGE, TAP_PAGE_PRIVATE},
	};
	struct memory_shares *shares = memory_shares_create();
	struct memory_table table;

	(void)state;
	memory_shares_add_region(shares, MEMORY_C, BASE, BASE + 500 * PAGE);
	memory_shares_add_live(shares, MEMORY_C, BASE, BASE + 500 * PAGE);
	memory_shares_add_trimmable(shares, BASE + PAGE, BASE + 90 * PAGE);
	table = count(shares, "", 0, false, runs, 4);
	assert_int_equal(table.rows[MEMORY_C_LIVE], 2 * PAGE);
	assert_int_equal(table.rows[MEMORY_OTHER], PAGE);
	assert_int_equal(table.swapped, 5 * PAGE);
	assert_int_equal(table.reserved_not_resident, (500 - 2 - 5) * PAGE);
	assert_int_equal(table.trimmable, PAGE);
	assert_int_equal(table.rss, 3 * PAGE);
}

static void mappings_have_rows(void **state)
{
	static const struct tap_page_run runs[] = {
		{BASE, BASE + 10 * PAGE, TAP_PAGE_FILE},
		{BASE + 10 * PAGE, BASE + 12 * PAGE, TAP_PAGE_PRIVATE},
	};
	static const struct {
		const char *path;
		uint64_t inode;
		bool shared;
		enum memory_row row;
		uint64_t pages;
	} rows[] = {
		{"/usr/lib/libc.so.6", 7, false, MEMORY_CODE, 12},
		{"/data/file", 7, true, MEMORY_CODE, 10}, /* the others are a device's */
		{"/dev/shm/x", 7, true, MEMORY_OTHER, 10},
		{"/memfd:x", 7, false, MEMORY_OTHER, 12},
		{"[stack]", 0, false, MEMORY_STACK, 12},
		{"[heap]", 0, false, MEMORY_OTHER, 12},
		{"[vdso]", 0, false, MEMORY_CODE, 12},
		{"[vvar]", 0, false, MEMORY_CODE, 0},
		{"[vvar_vclock]", 0, false, MEMORY_CODE, 0},
		{"[anon:name]", 0, false, MEMORY_OTHER, 12},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct memory_table table = count(memory_shares_create(), rows[i].path,
			rows[i].inode, rows[i].shared, runs, 2);

		assert_int_equal(table.rows[rows[i].row], rows[i].pages * PAGE);
		assert_int_equal(table.rss, rows[i].pages * PAGE);
	}
}

static void stacks_are_told(void **state)
{
	struct memory_shares *shares = memory_shares_create();
	struct memory_table table;

	(void)state;
	memory_shares_add_stack(shares, BASE + 4 * PAGE, BASE + 7 * PAGE);
	memory_shares_add_region(shares, MEMORY_C, BASE + 8 * PAGE, BASE + 9 * PAGE);
	table = count(shares, "", 0, false, ten_pages, 1);
	assert_int_equal(table.rows[MEMORY_STACK], 3 * PAGE);
	assert_int_equal(table.rows[MEMORY_C_FREE], PAGE);
	assert_int_equal(table.rows[MEMORY_OTHER], 6 * PAGE);
}

/* Whatever is told, every page counts once. */
static void lies_do_not_count_twice(void **state)
{
	unsigned seed = 1;

	(void)state;
	for (int round = 0; round < 200; round++) {
		struct memory_shares *shares = memory_shares_create();
		struct memory_table table;

		for (int i = 0; i < 60; i++) {
			uint64_t start, end;
			enum memory_owner owner;

			seed = seed * 1664525u + 1013904223u;
			start = BASE + (seed >> 8) % (12 * PAGE);
			seed = seed * 1664525u + 1013904223u;
			end = start + (seed >> 8) % (i % 5 ? 600 : 5 * PAGE);
			owner = seed >> 30 & 1;
			if (i % 2)
				memory_shares_add_live(shares, owner, start, end);
			else
				memory_shares_add_region(shares, owner, start, end);
		}
		memory_shares_add_stack(shares, BASE + PAGE, BASE + 3 * PAGE);
		table = count(shares, "", 0, false, ten_pages, 1);
		assert_int_equal(table.rss, 10 * PAGE);
	}
}

/* --- a real process ------------------------------------------------------- */

static void fill_memory(int file)
{
	volatile char *memory =
		mmap(NULL, 512 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	volatile char *shared =
		mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	volatile char *mapped = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
	volatile char *huge =
		mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char sum = 0;

	madvise((void *)huge, 8 << 20, MADV_HUGEPAGE);
	for (int i = 0; i < 512; i += 3)
		memory[i * PAGE] = 1;
	/* Zeros, small and huge. */
	for (int i = 1; i < 512; i += 3)
		sum = (char)(sum + memory[i * PAGE]);
	for (int i = 0; i < 8 << 20; i += PAGE)
		sum = (char)(sum + huge[i]);
	for (int i = 0; i < 64; i += 2) {
		sum = (char)(sum + mapped[i * PAGE]);
		mapped[i / 4 * PAGE] = sum;
		shared[i * PAGE] = sum;
	}
}

static uint64_t sum_smaps(pid_t pid)
{
	char path[64], line[512];
	_cleanup_fclose_ FILE *file = NULL;
	uint64_t sum = 0, kib;

	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	file = fopen(path, "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "Rss: %lu kB", &kib) == 1)
			sum += kib << 10;
	return sum;
}

/* On its way into the last call it may still touch pages. */
static void wait_until_it_reads(pid_t pid)
{
	struct tap_task_syscall call;

	do {
		usleep(1000);
		assert_true(tap_task_try_syscall(pid, pid, &call));
	} while (!call.blocked || call.number != SYS_read);
}

static pid_t start_child(int *input_ret)
{
	int in[2], out[2], file = memfd_create("file", 0);
	char byte;
	pid_t pid;

	assert_int_equal(ftruncate(file, 64 * PAGE), 0);
	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fill_memory(file);
		_exit(write(out[1], "r", 1) == 1 && read(in[0], &byte, 1) == 1);
	}
	assert_int_equal(read(out[0], &byte, 1), 1);
	wait_until_it_reads(pid);
	close(in[0]);
	close(out[0]);
	close(out[1]);
	close(file);
	*input_ret = in[1];
	return pid;
}

static void rows_add_up_to_rss(void **state)
{
	struct memory_shares *shares = memory_shares_create();
	struct memory_table table;
	struct tap_maps maps = {0};
	int input;
	pid_t pid = start_child(&input);

	(void)state;
	assert_ok(tap_maps_read(pid, &maps));
	assert_ok(memory_shares_count_process(shares, pid, &maps, &table));
	assert_int_equal(table.rss, sum_smaps(pid));
	assert_true(table.rows[MEMORY_CODE] > 0 && table.rows[MEMORY_STACK] > 0);
	assert_true(table.rows[MEMORY_OTHER] >= (171 + 32) * PAGE);
	memory_shares_destroy(shares);
	tap_maps_deinit(&maps);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(input);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_page_is_parted_by_what_lies_on_it),
		cmocka_unit_test(shares_fill_the_page),
		cmocka_unit_test(owners_share_a_page),
		cmocka_unit_test(what_was_never_touched_is_reserved),
		cmocka_unit_test(mappings_have_rows),
		cmocka_unit_test(stacks_are_told),
		cmocka_unit_test(lies_do_not_count_twice),
		cmocka_unit_test(rows_add_up_to_rss),
	};

	return cmocka_run_group_tests_name("memory_table", tests, NULL, NULL);
}
