/* SPDX-License-Identifier: Apache-2.0 */
/*
 * signals [HZ]
 *
 * A timer's signal HZ times a second (1000) into a program that allocates and
 * computes. At the end it says how many came, how many the timer overran, and
 * whether its computation came out right each time.
 */
#include "target.h"

static volatile sig_atomic_t ticks, overruns;
static timer_t timer;

static void on_tick(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	ticks++;
	if (info->si_overrun > 0)
		overruns += info->si_overrun;
}

static NOINLINE unsigned int compute(void)
{
	unsigned int sum = 1;

	for (unsigned int i = 0; i < 200; i++) {
		unsigned int *block = malloc(sizeof(*block) * 16);

		for (unsigned int k = 0; k < 16; k++)
			block[k] = sum + k * i;
		for (unsigned int k = 0; k < 16; k++)
			sum = sum * 16777619u ^ block[k];
		free(block);
	}
	return sum;
}

static void start_timer(double hz)
{
	struct sigevent event;
	struct itimerspec spec = { { 0, (long)(1e9 / hz) }, { 0, (long)(1e9 / hz) } };
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_sigaction = on_tick;
	action.sa_flags = SA_SIGINFO | SA_RESTART;
	sigaction(SIGALRM, &action, NULL);
	memset(&event, 0, sizeof(event));
	event.sigev_notify = SIGEV_SIGNAL;
	event.sigev_signo = SIGALRM;
	timer_create(CLOCK_MONOTONIC, &event, &timer);
	timer_settime(timer, 0, &spec, NULL);
}

static void stop_timer(void)
{
	struct itimerspec none;

	memset(&none, 0, sizeof(none));
	timer_settime(timer, 0, &none, NULL);
}

int main(int argc, char **argv)
{
	double hz = argc > 1 ? atof(argv[1]) : 1000;
	unsigned int right = compute();
	unsigned long rounds = 0, wrong = 0;
	struct timespec next;
	double began;

	catch_terminate();
	say("{\"ready\": true, \"pid\": %d}\n", getpid());
	began = now_s();
	start_timer(hz);
	clock_gettime(CLOCK_MONOTONIC, &next);
	do {
		rounds++;
		wrong += compute() != right;
		add_ns(&next, 20000000);
	} while (wait_until(&next));
	stop_timer();
	say("{\"done\": true, \"ticks\": %ld, \"overruns\": %ld, \"expected\": %.0f, "
	    "\"rounds\": %lu, \"wrong\": %lu}\n",
	    (long)ticks, (long)overruns, (now_s() - began) * hz, rounds, wrong);
	return wrong != 0;
}
