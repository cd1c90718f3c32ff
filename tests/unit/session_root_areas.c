/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A child that has pointers in many places is looked at from outside: the areas
 * have to have those that may hold something, and not those that are dead.
 */
#include "unit.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "heaptap/proc/tasks.h"
#include "session/root_areas.h"

#define PAGE UINT64_C(4096)

/* What the child tells, in memory that is shared with it. */
struct told {
	atomic_int ready;
	uint64_t heap, hidden, shared;
	uint64_t main_sp, main_live;
	pid_t tid;
	uint64_t fs_base, live, below, thread_local, dead;
};

static struct told *told;
static uint64_t in_data = 1, in_bss;
static __thread uint64_t in_thread;

__attribute__((noinline)) static void leave_below(uint64_t *addr_ret)
{
	volatile uint64_t words[512];

	memset((void *)words, 0x55, sizeof(words));
	*addr_ret = (uintptr_t)&words[0];
}

static void *run_thread(void *argument)
{
	volatile uint64_t live = 1;

	(void)argument;
	in_thread = 1;
	told->tid = (pid_t)syscall(SYS_gettid);
	told->fs_base = (uint64_t)pthread_self();
	told->live = (uintptr_t)&live;
	told->thread_local = (uintptr_t)&in_thread;
	leave_below(&told->below);
	atomic_fetch_add(&told->ready, 1);
	for (;;)
		pause();
	return NULL;
}

static void *run_dead(void *argument)
{
	volatile uint64_t live = 1;

	*(uint64_t *)argument = (uintptr_t)&live;
	return NULL;
}

static void run_child(void)
{
	volatile uint64_t live = 1;
	pthread_t thread;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	told->main_live = (uintptr_t)&live;
	told->hidden = (uintptr_t)mmap(
		NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	told->shared = (uintptr_t)mmap(
		NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memset((void *)told->hidden, 1, 16 * PAGE);
	memset((void *)told->shared, 1, 16 * PAGE);
	in_bss = in_data;
	if (pthread_create(&thread, NULL, run_thread, NULL))
		_exit(1);
	while (atomic_load(&told->ready) < 1)
		usleep(1000);
	if (pthread_create(&thread, NULL, run_dead, &told->dead) || pthread_join(thread, NULL))
		_exit(1);
	atomic_fetch_add(&told->ready, 1);
	for (;;)
		pause();
}

struct child {
	pid_t pid;
	struct tap_maps maps;
	struct root_place place;
	struct root_thread threads[2];
	struct page_set understood;
	struct root_areas areas;
};

static void read_thread(struct child *child, int index, pid_t tid, uint64_t fs_base)
{
	struct tap_task_syscall call;

	do
		assert_true(tap_task_try_syscall(child->pid, tid, &call));
	while (!call.blocked);
	child->threads[index].tid = tid;
	child->threads[index].regs.rsp = call.sp;
	child->threads[index].regs.fs_base = fs_base;
}

static int start(void **state)
{
	static struct child child;

	memset(&child, 0, sizeof(child));
	told = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	child.pid = fork();
	if (!child.pid)
		run_child();
	while (atomic_load(&told->ready) < 2)
		usleep(1000);
	*state = &child;
	return 0;
}

static void find(struct child *child, bool with_fs_base)
{
	assert_ok(tap_maps_read(child->pid, &child->maps));
	assert_ok(tap_memory_open(child->pid, false, &child->place.memory));
	child->place.maps = &child->maps;
	child->place.pagemap = tap_pagemap_open(child->pid);
	read_thread(child, 0, child->pid, 0);
	read_thread(child, 1, told->tid, with_fs_base ? told->fs_base : 0);
	page_set_add(&child->understood, told->hidden + 40, told->hidden + 8 * PAGE + 100);
	page_set_settle(&child->understood);
	root_areas_find(&child->place, child->threads, 2, &child->understood, &child->areas);
}

static int stop(void **state)
{
	struct child *child = *state;

	tap_maps_deinit(&child->maps);
	tap_memory_close(child->place.memory);
	tap_pagemap_close(child->place.pagemap);
	page_set_deinit(&child->understood);
	tap_vector_free(&child->areas);
	kill(child->pid, SIGKILL);
	waitpid(child->pid, NULL, 0);
	munmap(told, PAGE);
	return 0;
}

static const struct root_area *area_of(const struct child *child, uint64_t addr)
{
	const struct root_area *found = NULL;

	for (size_t i = 0; i < child->areas.count; i++) {
		const struct root_area *area = &child->areas.items[i];

		assert_true(area->start < area->end);
		assert_true(!i || area[-1].end <= area->start);
		if (addr >= area->start && addr < area->end)
			found = area;
	}
	return found;
}

static void assert_kind(const struct child *child, uint64_t addr, enum root_area_kind kind)
{
	const struct root_area *area = area_of(child, addr);

	assert_non_null(area);
	assert_int_equal(area->kind, kind);
}

static void check_common(const struct child *child)
{
	assert_kind(child, (uintptr_t)&in_data, ROOT_MODULE);
	assert_non_null(area_of(child, (uintptr_t)&in_bss));
	assert_kind(child, told->shared, ROOT_OTHER);
	assert_kind(child, told->hidden + 39, ROOT_OTHER);
	assert_null(area_of(child, told->hidden + 40));
	assert_null(area_of(child, told->hidden + 8 * PAGE + 99));
	assert_kind(child, told->hidden + 8 * PAGE + 100, ROOT_OTHER);
	assert_kind(child, told->main_live, ROOT_STACK);
	assert_int_equal(area_of(child, told->main_live)->tid, child->pid);
	assert_null(area_of(child, child->threads[0].regs.rsp - 200));
	assert_kind(child, told->live, ROOT_STACK);
	assert_int_equal(area_of(child, told->live)->tid, told->tid);
	assert_kind(child, told->thread_local, ROOT_STACK);
	assert_non_null(area_of(child, told->fs_base));
	assert_non_null(area_of(child, child->threads[1].regs.rsp - 64));
}

static void finds_what_may_hold_something(void **state)
{
	struct child *child = *state;

	find(child, true);
	check_common(child);
	assert_true(told->below < child->threads[1].regs.rsp - 128);
	assert_null(area_of(child, told->below));
	/* Of the thread that has ended the control block alone is left. */
	assert_null(area_of(child, told->dead));
}

static void knows_a_stack_by_its_guard(void **state)
{
	struct child *child = *state;

	find(child, false);
	check_common(child);
}

struct seen {
	uint64_t addr, bytes, swapped;
	bool found;
};

static bool see(void *context, const struct root_area *area, uint64_t addr, const uint64_t *words,
	size_t count)
{
	struct seen *seen = context;

	assert_true(addr >= area->start && addr + 8 * count <= area->end && !(addr & 7));
	seen->bytes += 8 * count;
	if (seen->addr >= addr && seen->addr < addr + 8 * count)
		seen->found = words[(seen->addr - addr) / 8] == 1;
	return true;
}

static void scans_what_is_in_memory(void **state)
{
	struct child *child = *state;
	struct seen seen = {.addr = (uintptr_t)&in_bss};
	uint64_t size = 0;

	find(child, true);
	for (size_t i = 0; i < child->areas.count; i++) {
		const struct root_area *area = &child->areas.items[i];

		root_area_scan(&child->place, area, false, see, &seen);
		size += area->end - area->start;
	}
	assert_true(seen.found);
	assert_true(seen.bytes > 16 * PAGE && seen.bytes < size);
	seen = (struct seen){.addr = told->live};
	root_area_scan(&child->place, area_of(child, told->live), false, see, &seen);
	assert_true(seen.found);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(finds_what_may_hold_something, start, stop),
		cmocka_unit_test_setup_teardown(knows_a_stack_by_its_guard, start, stop),
		cmocka_unit_test_setup_teardown(scans_what_is_in_memory, start, stop),
	};

	return cmocka_run_group_tests_name("root_areas", tests, NULL, NULL);
}
