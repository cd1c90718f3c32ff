/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>
#include "heaptap/base/text.h"
#include "heaptap/proc/root.h"
#include "target/probes_internal.h"

/* Of a process that has a limit: a mapping of ours is none of its own. What it
 * asks for next must not fail for that, so as much again stays free. */
static struct tap_error *check(pid_t pid, const char *name, __rlimit_resource_t resource,
	uint64_t used_bytes, uint64_t wanted_bytes)
{
	char left[TAP_SIZE_TEXT], wanted[TAP_SIZE_TEXT];
	struct rlimit limit;
	uint64_t left_bytes;

	/* Where we may not see it, the call itself fails. */
	if (prlimit(pid, resource, NULL, &limit) || limit.rlim_cur == RLIM_INFINITY)
		return NULL;
	left_bytes = limit.rlim_cur > used_bytes ? limit.rlim_cur - used_bytes : 0;
	if (left_bytes >= 2 * wanted_bytes)
		return NULL;
	return tap_error_advise(
		tap_error_new(TAP_ERR_UNSUPPORTED,
			"the limit of memory of process %d (%s) leaves it %s: probes take %s, and come "
			"only where as much again stays free",
			pid, name, tap_text_size(left, (int64_t)left_bytes),
			tap_text_size(wanted, (int64_t)wanted_bytes)),
		"raise it with prlimit(1), or leave out --engine probe");
}

struct tap_error *probes_check_room(pid_t pid)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), size, data;
	struct tap_error *err;
	char text[256];

	/* proc(5): size resident shared text lib data dirty */
	if (!tap_proc_try_read(pid, "statm", text, sizeof(text)) ||
		sscanf(text, "%lu %*u %*u %*u %*u %lu", &size, &data) != 2)
		return NULL;
	err = check(pid, "RLIMIT_AS", RLIMIT_AS, size * page, TAP_PROBE_REGION_BYTES);
	return err ? err :
		     check(pid, "RLIMIT_DATA", RLIMIT_DATA, data * page, TAP_PROBE_PRIVATE_BYTES);
}
