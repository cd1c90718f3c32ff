/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "heaptap/proc/pagemap.h"
#include "proc_fixture.h"

#define PAGE UINT64_C(4096)
#define PAGES 20000

static volatile char *memory;
static uint64_t start;

/* As many pages as two reads of the file tell; a few are touched. */
static int setup(void **state)
{
	(void)state;
	memory = mmap(
		NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return -1;
	madvise((void *)memory, PAGES * PAGE, MADV_NOHUGEPAGE);
	start = (uintptr_t)memory;
	for (int i = 10; i < 20; i++)
		memory[i * PAGE] = 1;
	(void)memory[20 * PAGE];
	(void)memory[21 * PAGE];
	for (int i = 4000; i < 4200; i++)
		memory[i * PAGE] = 1;
	for (int i = 10000; i < 14000; i += 2)
		memory[i * PAGE] = 1;
	return 0;
}

static uint64_t count(struct tap_pagemap *pagemap, enum tap_page_kind kind)
{
	struct tap_page_run run;
	uint64_t pages = 0, end = start + PAGES * PAGE, behind = start;

	for (uint64_t at = start; tap_pagemap_run(pagemap, at, end, &run); at = run.end) {
		assert_true(run.start >= behind && run.start < run.end && run.end <= end);
		behind = run.end;
		pages += run.kind == kind ? (run.end - run.start) / PAGE : 0;
	}
	return pages;
}

static void tells_kinds(void **state)
{
	struct tap_pagemap *pagemap = tap_pagemap_open(getpid());
	struct tap_page_run run;

	(void)state;
	assert_true(tap_pagemap_is_readable(pagemap));
	assert_true(tap_pagemap_run(pagemap, start + 12 * PAGE, start + 15 * PAGE, &run));
	assert_int_equal(run.start, start + 12 * PAGE);
	assert_int_equal(run.end, start + 15 * PAGE);
	assert_int_equal(run.kind, TAP_PAGE_PRIVATE);
	assert_false(tap_pagemap_run(pagemap, start + 22 * PAGE, start + 100 * PAGE, &run));
	assert_false(tap_pagemap_run(pagemap, start, start, &run));
	assert_int_equal(count(pagemap, TAP_PAGE_PRIVATE), 10 + 200 + 2000);
	assert_int_equal(count(pagemap, TAP_PAGE_ZERO), 2);
	assert_int_equal(count(pagemap, TAP_PAGE_SWAPPED), 0);
	/* Back to the start, and with another end. */
	assert_true(tap_pagemap_run(pagemap, start, start + PAGES * PAGE, &run));
	assert_int_equal(run.start, start + 10 * PAGE);
	tap_pagemap_close(pagemap);
}

static void tells_files(void **state)
{
	struct tap_pagemap *pagemap = tap_pagemap_open(getpid());
	int file = memfd_create("file", MFD_CLOEXEC);
	volatile char *mapped;
	struct tap_page_run run;
	uint64_t addr;

	(void)state;
	assert_int_equal(ftruncate(file, 4 * PAGE), 0);
	mapped = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
	assert_true(mapped != MAP_FAILED);
	addr = (uintptr_t)mapped;
	mapped[PAGE] = 1;
	(void)mapped[2 * PAGE];
	assert_true(tap_pagemap_run(pagemap, addr + PAGE, addr + 2 * PAGE, &run));
	assert_int_equal(run.kind, TAP_PAGE_PRIVATE);
	assert_true(tap_pagemap_run(pagemap, addr + 2 * PAGE, addr + 3 * PAGE, &run));
	assert_int_equal(run.kind, TAP_PAGE_FILE);
	munmap((void *)mapped, 4 * PAGE);
	close(file);
	tap_pagemap_close(pagemap);
}

/* As before Linux 6.7. */
static void refuse_requests(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOTTY),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		_exit(99);
}

static void older_kernels_tell_the_same(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (!pid) {
		struct tap_pagemap *pagemap;
		uint64_t all, zeros;

		refuse_requests();
		pagemap = tap_pagemap_open(getppid());
		zeros = count(pagemap, TAP_PAGE_ZERO);
		all = count(pagemap, TAP_PAGE_PRIVATE) + zeros;
		/* Frames are told to root alone. */
		_exit(all == 2212 && (zeros == 2 || geteuid() != 0) ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void unreadable_pages_are_taken_to_exist(void **state)
{
	struct tap_pagemap *pagemap;
	struct tap_page_run run;

	(void)state;
	use_system("proc-v1");
	pagemap = tap_pagemap_open(42);
	use_system(NULL);
	assert_false(tap_pagemap_is_readable(pagemap));
	assert_true(tap_pagemap_run(pagemap, PAGE, 9 * PAGE, &run));
	assert_int_equal(run.start, PAGE);
	assert_int_equal(run.end, 9 * PAGE);
	tap_pagemap_close(pagemap);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_kinds),
		cmocka_unit_test(tells_files),
		cmocka_unit_test(older_kernels_tell_the_same),
		cmocka_unit_test(unreadable_pages_are_taken_to_exist),
	};

	return cmocka_run_group_tests_name("pagemap", tests, setup, NULL);
}
