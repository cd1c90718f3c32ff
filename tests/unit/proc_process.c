/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "heaptap/base/clock.h"
#include "heaptap/proc/process.h"
#include "proc_fixture.h"

/* The call fails with this code; message and advice hold these words. */
#define assert_refused(call, wanted, words, advised)                                               \
	do {                                                                                       \
		struct tap_error *err_ = (call);                                                   \
		assert_non_null(err_);                                                             \
		if (err_->code != (wanted) || !strstr(err_->message, words) || !err_->advice ||    \
			!strstr(err_->advice, advised))                                            \
			fail_msg("line %d: %s (%s)", __LINE__, err_->message,                      \
				err_->advice ? err_->advice : "no advice");                        \
		tap_error_free(err_);                                                              \
	} while (0)

static void identity_is_read(void **state)
{
	struct tap_process process, copy;

	(void)state;
	use_system("proc-v1");
	assert_ok(tap_process_read(42, &process));
	assert_string_equal(process.comm, "python3");
	assert_string_equal(process.exe, "/usr/bin/python3.11");
	assert_true(process.exe_deleted);
	assert_int_equal(process.parent, 1);
	assert_int_equal(process.state, 'S');
	assert_int_equal(process.uid, 1000);
	assert_int_equal(process.threads, 2);
	assert_int_equal(process.seccomp, 2);
	assert_true(process.shadow_stack);
	assert_false(process.kernel_thread || process.elf32);
	assert_int_equal(process.start_ticks, 12345);
	assert_true(process.start_wall_ns == 1700000123450000000);
	assert_string_equal(process.cgroup, "/job/inner");
	assert_int_equal(process.cmdline_count, 4);
	assert_string_equal(process.cmdline[2], "");
	assert_string_equal(process.cmdline[3], "last");
	tap_process_copy(&process, &copy);
	tap_process_deinit(&process);
	assert_true(tap_process_is_same(&copy));
	copy.start_ticks++;
	assert_false(tap_process_is_same(&copy));
	assert_string_equal(copy.cmdline[3], "last");
	tap_process_deinit(&copy);
	use_system("proc-v2");
	assert_code(tap_process_read(42, &process), TAP_ERR_NOT_FOUND); /* no status */
}

static void hostile_texts_are_survived(void **state)
{
	struct tap_process process;
	char name[32];

	(void)state;
	use_system("proc-denied");
	assert_ok(tap_process_read(44, &process));
	assert_string_equal(process.comm, "ev) S 9 (il\nx");
	assert_int_equal(process.parent, 41);
	assert_string_equal(tap_process_name(&process, name, sizeof(name)), "ev) S 9 (il?x");
	tap_process_deinit(&process);
	assert_code(tap_process_read(53, &process), TAP_ERR_BAD_DATA);
	assert_code(tap_process_read(54, &process), TAP_ERR_BAD_DATA);
	assert_refused(tap_process_read(52, &process), TAP_ERR_GONE, "52 is a thread of process 42",
		"42");
	assert_refused(tap_process_read(9999, &process), TAP_ERR_GONE, "no such process: 9999", "");
	tap_proc_root_set("/nonexistent");
	assert_refused(tap_process_read(42, &process), TAP_ERR_GONE, "cannot read /proc",
		"mount -t proc");
}

static struct tap_error *check(pid_t pid)
{
	struct tap_process process;
	struct tap_error *err = tap_process_read(pid, &process);

	if (err)
		return err;
	err = tap_process_check_traceable(&process);
	tap_process_deinit(&process);
	return err;
}

static void what_cannot_be_traced_is_refused(void **state)
{
	(void)state;
	use_system("proc-denied");
	assert_ok(check(42));
	assert_refused(check(45), TAP_ERR_GONE, "45 (gone) has ended", "parent, 41");
	assert_refused(check(46), TAP_ERR_UNSUPPORTED, "without its main thread", "");
	assert_refused(check(47), TAP_ERR_UNSUPPORTED, "kernel thread", "");
	assert_refused(check(48), TAP_ERR_BUSY, "traced by process 50 (gdb)", "50");
	assert_refused(check(49), TAP_ERR_UNSUPPORTED, "32-bit", "64-bit");
	use_system(NULL);
	assert_refused(check(getpid()), TAP_ERR_UNSUPPORTED, "heaptap itself", "");
}

static struct tap_error *explain(pid_t pid)
{
	struct tap_process process;
	struct tap_error *err = tap_process_read(pid, &process);

	if (err)
		return err;
	err = tap_process_explain_denied(&process, EPERM);
	tap_process_deinit(&process);
	return err;
}

static void a_refusal_is_explained(void **state)
{
	struct tap_process process = {.pid = 42, .uid = 1000, .euid = 1000};

	(void)state;
	use_system("proc-denied");
	assert_refused(explain(42), TAP_ERR_PERMISSION, "kernel.yama.ptrace_scope is 1",
		"sudo heaptap");
	assert_refused(explain(43), TAP_ERR_PERMISSION,
		"belongs to user 0, and heaptap runs as user 1000", "sudo heaptap");
	assert_refused(explain(48), TAP_ERR_BUSY, "traced by process 50 (gdb)", "");
	/* Root in a container without the capability. */
	use_system("proc-container");
	assert_refused(tap_process_explain_denied(&process, EPERM), TAP_ERR_PERMISSION,
		"root without CAP_SYS_PTRACE", "--cap-add=SYS_PTRACE");
	/* Root with all of them: something above denies it. */
	use_system("proc-v1");
	assert_refused(tap_process_explain_denied(&process, EACCES), TAP_ERR_PERMISSION,
		"security module", "audit");
	assert_code(tap_process_explain_denied(&process, ESRCH), TAP_ERR_GONE);
}

static void we_read_ourselves(void **state)
{
	struct tap_process process;
	uint64_t now = tap_clock_wall_ns();

	(void)state;
	use_system(NULL);
	assert_ok(tap_process_read(getpid(), &process));
	assert_int_equal(process.parent, getppid());
	assert_int_equal(process.uid, getuid());
	assert_int_equal(process.state, 'R');
	assert_non_null(strstr(process.exe, "proc_process"));
	assert_true(process.cmdline_count >= 1);
	assert_false(process.kernel_thread || process.elf32 || process.exe_deleted);
	/* The boot time is in whole seconds. */
	assert_true(process.start_wall_ns < now + 2000000000);
	assert_true(tap_process_is_same(&process));
	tap_process_deinit(&process);
}

static void a_zombie_is_read_as_far_as_it_goes(void **state)
{
	struct tap_process process;
	siginfo_t info;
	pid_t child = fork();

	(void)state;
	use_system(NULL);
	if (!child)
		_exit(0);
	assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	assert_ok(tap_process_read(child, &process));
	assert_int_equal(process.state, 'Z');
	assert_false(process.kernel_thread);
	assert_int_equal(process.cmdline_count, 0);
	assert_refused(tap_process_check_traceable(&process), TAP_ERR_GONE, "has ended", "zombie");
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_false(tap_process_is_same(&process));
	tap_process_deinit(&process);
	assert_code(tap_process_read(child, &process), TAP_ERR_GONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(identity_is_read),
		cmocka_unit_test(hostile_texts_are_survived),
		cmocka_unit_test(what_cannot_be_traced_is_refused),
		cmocka_unit_test(a_refusal_is_explained),
		cmocka_unit_test(we_read_ourselves),
		cmocka_unit_test(a_zombie_is_read_as_far_as_it_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
