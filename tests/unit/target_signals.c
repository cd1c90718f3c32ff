/* SPDX-License-Identifier: Apache-2.0 */
/* Signals of the program's own come through as they would have, wherever the
 * thread stands; a stop stays a stop. */
#include "target_trace.h"
#include "target_code.h"

#include <sys/time.h>

#define CALLS 1500

struct shared {
	atomic_int ready, go, done, end, wrong;
	atomic_long calls, handled, raised;
};

static struct shared *shared;

static int setup(void **state)
{
	(void)state;
	shared = shared_memory(sizeof(*shared));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	munmap(shared, sizeof(*shared));
	return 0;
}

PLAIN static void call_once(void)
{
	shared->wrong += code_checked_call(code_vector) != 0;
	shared->wrong += code_checked_call(code_push) != 0;
	shared->wrong += code_constant() != 42;
	shared->calls++;
}

/* --- handlers ------------------------------------------------------------ */

PLAIN static void on_timer(int signal)
{
	(void)signal;
	shared->handled++;
	call_once();
}

static void install(int signal, void (*handler)(int), int flags)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = flags};

	sigaction(signal, &action, NULL);
}

PLAIN static void call_under_signals(void *unused)
{
	static uint8_t stack[64 << 10];
	stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};

	(void)unused;
	sigaltstack(&alternate, NULL);
	install(SIGALRM, on_timer, SA_ONSTACK | SA_RESTART);
	shared->ready = 1;
	while (!shared->go)
		usleep(100);
	setitimer(ITIMER_REAL, &often, NULL);
	for (int i = 0; i < CALLS; i++)
		call_once();
	setitimer(ITIMER_REAL, &never, NULL);
	shared->done = 1;
	while (!shared->end)
		usleep(100);
}

/* A signal comes at most hits, before the instruction that runs elsewhere has
 * run: none of them is counted twice, or lost. */
static void test_handlers_among_hits(void **state)
{
	pid_t pid = child_start(call_under_signals, NULL);
	struct tracing t = tracing_of_code(pid);

	(void)state;
	wait_until(shared->ready);
	tracing_begin(&t);
	assert_no_error(t.armed);
	shared->go = 1;
	wait_until(shared->done);
	tracing_end(&t);
	assert_traced(&t);
	assert_int_equal(shared->wrong, 0);
	assert_true(shared->handled > 10);
	assert_int_equal(shared->calls, CALLS + shared->handled);
	for (int i = 0; i < 3; i++)
		assert_int_equal(t.hits[i], shared->calls);
	assert_int_equal(count_areas(pid), 0);
	shared->end = 1;
	assert_int_equal(child_end(pid), 0);
	tracing_free(&t);
}

/* We come and go while handlers run. */
PLAIN static void call_under_signals_for_ever(void *unused)
{
	struct itimerval often = {{0, 1000}, {0, 1000}};

	(void)unused;
	install(SIGALRM, on_timer, SA_RESTART);
	setitimer(ITIMER_REAL, &often, NULL);
	while (!shared->end)
		call_once();
}

static void test_come_and_go_among_handlers(void **state)
{
	pid_t pid = child_start(call_under_signals_for_ever, NULL);

	(void)state;
	for (int i = 0; i < 20; i++) {
		struct tracing t = tracing_of_code(pid);
		long before;

		tracing_begin(&t);
		before = shared->handled;
		wait_until(shared->handled > before + 2);
		tracing_end(&t);
		assert_traced(&t);
		assert_int_equal(count_areas(pid), 0);
		tracing_free(&t);
		before = shared->calls;
		wait_until(shared->calls > before + 100);
		assert_int_equal(shared->wrong, 0);
	}
	shared->end = 1;
	assert_int_equal(child_end(pid), 0);
}

/* --- SIGTRAP of the program's own ---------------------------------------- */

PLAIN static void on_trap(int signal)
{
	(void)signal;
	shared->handled++;
}

PLAIN static void trap_for_ever(void *unused)
{
	(void)unused;
	install(SIGTRAP, on_trap, 0);
	while (!shared->end) {
		raise(SIGTRAP);
		shared->raised++;
		__asm__ volatile("int3");
		shared->raised++;
		call_once();
	}
}

static void test_own_traps(void **state)
{
	pid_t pid = child_start(trap_for_ever, NULL);
	struct tracing t = tracing_of_code(pid);
	long before;

	(void)state;
	tracing_begin(&t);
	assert_no_error(t.armed);
	before = shared->raised;
	wait_until(shared->raised > before + 50);
	tracing_end(&t);
	assert_traced(&t);
	before = shared->raised;
	wait_until(shared->raised > before + 50);
	shared->end = 1;
	assert_int_equal(child_end(pid), 0);
	assert_int_equal(shared->raised, shared->handled);
	assert_int_equal(shared->wrong, 0);
	tracing_free(&t);
}

/* --- stops --------------------------------------------------------------- */

static void call_for_ever(void *unused)
{
	(void)unused;
	while (!shared->end)
		call_once();
}

static char state_of(pid_t pid)
{
	struct tap_task task;

	assert_ok(tap_task_read(pid, pid, &task));
	return task.state;
}

/* Not by waitpid(): what the tracer thread is to be told would go to us. */
static bool stands_still(void)
{
	struct timespec pause = {0, 20000000};
	long before = shared->calls;

	nanosleep(&pause, NULL);
	return shared->calls == before;
}

static void test_stopped_while_traced(void **state)
{
	pid_t pid = child_start(call_for_ever, NULL);
	struct tracing t = tracing_of_code(pid);
	long before;

	(void)state;
	tracing_begin(&t);
	for (int i = 0; i < 5; i++) {
		kill(pid, SIGSTOP);
		wait_until(stands_still());
		before = shared->calls;
		kill(pid, SIGCONT);
		wait_until(shared->calls > before + 10);
	}
	/* Left in a stop, it stays in it. */
	kill(pid, SIGSTOP);
	wait_until(stands_still());
	before = shared->calls;
	tracing_end(&t);
	assert_traced(&t);
	wait_until(state_of(pid) == 'T');
	assert_int_equal(shared->calls, before);
	assert_int_equal(count_areas(pid), 0);
	kill(pid, SIGCONT);
	wait_until(shared->calls > before + 10);
	shared->end = 1;
	assert_int_equal(child_end(pid), 0);
	assert_int_equal(shared->wrong, 0);
	tracing_free(&t);
}

static void test_stopped_before_the_attach(void **state)
{
	pid_t pid = child_start(call_for_ever, NULL);
	long before;
	int status;

	(void)state;
	wait_until(shared->calls > 10);
	kill(pid, SIGSTOP);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	before = shared->calls;
	for (int i = 0; i < 3; i++) {
		struct tracing t = tracing_of_code(pid);

		tracing_begin(&t);
		assert_no_error(t.armed);
		tracing_end(&t);
		assert_traced(&t);
		assert_int_equal(t.hits[0], 0);
		assert_int_equal(count_areas(pid), 0);
		wait_until(state_of(pid) == 'T');
		tracing_free(&t);
	}
	assert_int_equal(shared->calls, before);
	kill(pid, SIGCONT);
	wait_until(shared->calls > before + 10);
	shared->end = 1;
	assert_int_equal(child_end(pid), 0);
	assert_int_equal(shared->wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_handlers_among_hits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_come_and_go_among_handlers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_own_traps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stopped_while_traced, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stopped_before_the_attach, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
