/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_SESSION_STOP_H
#define HEAPTAP_SESSION_STOP_H

/*
 * How a person ends long work: SIGINT, SIGTERM, SIGHUP and SIGQUIT ask it to
 * end with its answer; a second one asks to skip the answer, never the
 * detach. SIGTSTP asks for a pause. SIGPIPE is ignored (writes fail instead).
 */

#include <stdbool.h>

/* Installs the handlers; called once, before any thread is made. */
void tap_stop_install(void);

/* How many times a signal asked for the end: 0, 1, or more. */
int tap_stop_requested(void);

/* Asks for the end as a signal would: nobody reads the answer any more. */
void tap_stop_request(void);

/* A suspend (Ctrl-Z) is asked for; whoever records lifts what is planted and
 * then calls tap_stop_suspend(), which stops heaptap and returns after
 * SIGCONT. */
bool tap_stop_suspend_requested(void);
void tap_stop_suspend(void);

/* Sleeps until the CLOCK_MONOTONIC time, or a request, whichever comes first;
 * true: the time was reached. A request that came before ends it at once. */
bool tap_stop_sleep_until(unsigned long long monotonic_ns);

#endif
