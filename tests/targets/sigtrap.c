/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sigtrap default|block|ignore|handler
 *
 * A program with its own idea of SIGTRAP. A thread (the one that allocates)
 * sets it up, raises SIGTRAP itself where that is harmless, and says at the
 * end whether mask, action and count are what they must be.
 */
#include "target.h"

static volatile sig_atomic_t handled;

static void on_trap(int sig)
{
	(void)sig;
	handled++;
}

static const char *mode;

static int is(const char *name)
{
	return strcmp(mode, name) == 0;
}

static void set_up(void)
{
	struct sigaction action;
	sigset_t set;

	memset(&action, 0, sizeof(action));
	action.sa_handler = is("ignore") ? SIG_IGN : is("default") ? SIG_DFL : on_trap;
	action.sa_flags = SA_RESTART;
	sigaddset(&action.sa_mask, SIGUSR2);
	sigaction(SIGTRAP, &action, NULL);
	if (is("block")) {
		sigemptyset(&set);
		sigaddset(&set, SIGTRAP);
		pthread_sigmask(SIG_BLOCK, &set, NULL);
	}
}

static int action_is_kept(void)
{
	struct sigaction action;

	sigaction(SIGTRAP, NULL, &action);
	return action.sa_handler == (is("ignore")  ? SIG_IGN :
				     is("default") ? SIG_DFL :
						     on_trap) &&
	       (action.sa_flags & SA_RESTART) && sigismember(&action.sa_mask, SIGUSR2) == 1;
}

static int mask_is_kept(void)
{
	sigset_t set;

	pthread_sigmask(SIG_BLOCK, NULL, &set);
	return sigismember(&set, SIGTRAP) == is("block");
}

static void *work(void *arg)
{
	long raised = 0, steps = 0;
	void *ring[16] = { NULL };

	(void)arg;
	set_up();
	say("{\"ready\": true, \"pid\": %d, \"mode\": \"%s\"}\n", getpid(), mode);
	while (!target_stop) {
		struct timespec pause = { 0, 5000000 };
		void **slot = &ring[steps++ % 16];

		free(*slot);
		*slot = malloc(500);
		if (is("handler") || is("ignore")) {
			raise(SIGTRAP);
			raised++;
		}
		nanosleep(&pause, NULL);
	}
	say("{\"done\": true, \"mask_kept\": %s, \"action_kept\": %s, \"raised\": %ld, "
	    "\"handled\": %ld}\n",
	    mask_is_kept() ? "true" : "false", action_is_kept() ? "true" : "false", raised,
	    (long)handled);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	mode = argc > 1 ? argv[1] : "default";
	catch_terminate();
	pthread_create(&thread, NULL, work, NULL);
	wait_for_end();
	target_stop = 1;
	pthread_join(thread, NULL);
	return 0;
}
