/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "heaptap/proc/usage.h"
#include "proc_fixture.h"

#define MIB (UINT64_C(1) << 20)

static void figures_are_in_bytes(void **state)
{
	struct tap_usage_reader *reader;
	struct tap_usage usage;
	uint64_t cost_ns;

	(void)state;
	use_system("proc-v1");
	assert_ok(tap_usage_open(42, &reader));
	assert_ok(tap_usage_read(reader, false, &usage));
	assert_int_equal(usage.rss_bytes, 250 * (uint64_t)sysconf(_SC_PAGESIZE));
	assert_int_equal(usage.swap_bytes, 512 << 10);
	assert_true(usage.fds == TAP_USAGE_UNKNOWN && usage.pss_bytes == TAP_USAGE_UNKNOWN);
	assert_ok(tap_usage_read(reader, true, &usage));
	assert_int_equal(usage.fds, 4);
	assert_ok(tap_usage_read_shared(reader, &usage, &cost_ns));
	assert_int_equal(usage.pss_bytes, 300 << 10);
	assert_int_equal(usage.uss_bytes, (40 + 200 + 2048) << 10);
	tap_usage_close(reader);
	assert_code(tap_usage_open(99, &reader), TAP_ERR_GONE);
}

static void touched_memory_shows(void **state)
{
	struct tap_usage_reader *reader;
	struct tap_usage before, after;
	uint64_t cost_ns;
	char *memory;
	int fd;

	(void)state;
	use_system(NULL);
	assert_ok(tap_usage_open(getpid(), &reader));
	assert_ok(tap_usage_read(reader, true, &before));
	memory = mmap(NULL, 32 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(memory != MAP_FAILED);
	memset(memory, 1, 32 * MIB);
	fd = dup(0);
	assert_ok(tap_usage_read(reader, true, &after));
	assert_true(after.rss_bytes + after.swap_bytes >=
		    before.rss_bytes + before.swap_bytes + 24 * MIB);
	assert_int_equal(after.fds, before.fds + (fd >= 0));
	assert_ok(tap_usage_read_shared(reader, &after, &cost_ns));
	assert_true(after.uss_bytes >= 24 * MIB || after.swap_bytes);
	assert_true(after.pss_bytes >= after.uss_bytes);
	assert_true(cost_ns > 0);
	munmap(memory, 32 * MIB);
	if (fd >= 0)
		close(fd);
	tap_usage_close(reader);
	tap_usage_close(NULL);
}

static void an_ended_process_is_gone(void **state)
{
	struct tap_usage_reader *reader;
	struct tap_usage usage;
	siginfo_t info;
	int hold[2];
	pid_t child;

	(void)state;
	use_system(NULL);
	assert_int_equal(pipe(hold), 0);
	child = fork();
	if (!child) {
		char byte;

		close(hold[1]);
		_exit((int)read(hold[0], &byte, 1));
	}
	assert_ok(tap_usage_open(child, &reader));
	assert_ok(tap_usage_read(reader, false, &usage));
	assert_true(usage.rss_bytes > 0);
	close(hold[0]);
	close(hold[1]);
	assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	assert_code(tap_usage_read(reader, false, &usage), TAP_ERR_GONE); /* a zombie */
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_code(tap_usage_read(reader, true, &usage), TAP_ERR_GONE);
	tap_usage_close(reader);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(figures_are_in_bytes),
		cmocka_unit_test(touched_memory_shows),
		cmocka_unit_test(an_ended_process_is_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
