/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#include "unit.h"
#include "heaptap/base/clock.h"
#include "heaptap/session/stop.h"

#define HOUR_NS UINT64_C(3600000000000)

static void test_time_comes(void **state)
{
	(void)state;
	assert_true(tap_stop_sleep_until(tap_clock_ns() + 1000000));
	assert_true(tap_stop_sleep_until(0));
	assert_int_equal(tap_stop_requested(), 0);
}

static void *send_signal(void *signal_number)
{
	kill(getpid(), *(int *)signal_number);
	return NULL;
}

/* In whatever order: the one that sleeps wakes up. */
static void test_signal_wakes(void **state)
{
	int signal_number = SIGTERM;
	pthread_t sender;

	(void)state;
	assert_int_equal(pthread_create(&sender, NULL, send_signal, &signal_number), 0);
	assert_false(tap_stop_sleep_until(tap_clock_ns() + HOUR_NS));
	pthread_join(sender, NULL);
	assert_int_equal(tap_stop_requested(), 1);
	assert_false(tap_stop_sleep_until(tap_clock_ns() + HOUR_NS));
	raise(SIGINT);
	tap_stop_request();
	assert_int_equal(tap_stop_requested(), 3);
}

static void test_suspend(void **state)
{
	int before = tap_stop_requested();

	(void)state;
	assert_false(tap_stop_suspend_requested());
	raise(SIGTSTP);
	assert_true(tap_stop_suspend_requested());
	assert_int_equal(tap_stop_requested(), before);
}

static int setup(void **state)
{
	(void)state;
	tap_stop_install();
	return 0;
}

int main(void)
{
	/* A request is never taken back, so that the order matters. */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_time_comes),
		cmocka_unit_test(test_signal_wakes),
		cmocka_unit_test(test_suspend),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
