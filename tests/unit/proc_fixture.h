/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_TESTS_PROC_FIXTURE_H
#define HEAPTAP_TESTS_PROC_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include "heaptap/proc/root.h"

/* Reads the system from tests/fixtures/<name> from now on; NULL: from here. */
static inline void use_system(const char *name)
{
	static char path[4096];
	const char *fixtures = getenv("TAP_FIXTURES");

	if (!name) {
		tap_proc_root_set("");
		return;
	}
	snprintf(path, sizeof(path), "%s/%s", fixtures ? fixtures : "tests/fixtures", name);
	tap_proc_root_set(path);
}

#endif
