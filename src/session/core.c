/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include "session/recorder.h"

bool core_follow(int core)
{
	static __thread cpu_set_t all;
	static __thread bool known, pinned;
	cpu_set_t one;

	if (!known)
		known = !sched_getaffinity(0, sizeof(all), &all);
	if (!known)
		return false;
	if (core < 0 || core >= CPU_SETSIZE || !CPU_ISSET(core, &all)) {
		if (pinned)
			sched_setaffinity(0, sizeof(all), &all);
		pinned = false;
		return false;
	}
	CPU_ZERO(&one);
	CPU_SET(core, &one);
	pinned = !sched_setaffinity(0, sizeof(one), &one);
	return pinned;
}
