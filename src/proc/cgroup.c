/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/proc/cgroup.h"
#include "heaptap/proc/root.h"
#include "hierarchy.h"
#include "scan.h"

/* v1 writes "no limit" as the largest number of whole pages. */
#define UNLIMITED_FROM (UINT64_C(1) << 62)

/* A cgroup directory's limit and what counts against it. */
struct level {
	uint64_t limit_bytes;
	uint64_t used_bytes;
	uint64_t free_bytes; /* swap counted in */
};

struct machine {
	uint64_t total_bytes; /* memory and swap */
	uint64_t available_bytes;
	uint64_t free_bytes; /* the same and swap */
	uint64_t swap_free_bytes;
};

static uint64_t minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static uint64_t plus(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The number in a file; fallback where it is not there or says "max". */
static uint64_t number_in(const struct tap_cgroup_dir *dir, const char *name, uint64_t fallback)
{
	_cleanup_free_ char *text = tap_cgroup_dir_read(dir, name);
	const char *at = text;
	uint64_t number;

	return at && tap_scan_decimal(&at, &number) ? number : fallback;
}

/* File pages that the kernel drops before anybody has to die. */
static uint64_t droppable(const struct tap_cgroup_dir *dir, const char *key)
{
	_cleanup_free_ char *text = tap_cgroup_dir_read(dir, "memory.stat");
	uint64_t bytes;

	return text && tap_scan_number(text, key, &bytes) ? bytes : 0;
}

static bool read_level_v2(
	const struct tap_cgroup_dir *dir, const struct machine *machine, struct level *ret)
{
	uint64_t swap_max, swap_used, swap_free;

	ret->limit_bytes = number_in(dir, "memory.max", UINT64_MAX);
	if (ret->limit_bytes >= UNLIMITED_FROM)
		return false;
	ret->used_bytes =
		minus(number_in(dir, "memory.current", 0), droppable(dir, "inactive_file"));
	swap_max = number_in(dir, "memory.swap.max", UINT64_MAX);
	swap_used = number_in(dir, "memory.swap.current", 0);
	swap_free = smaller(machine->swap_free_bytes, minus(swap_max, swap_used));
	ret->free_bytes = plus(minus(ret->limit_bytes, ret->used_bytes), swap_free);
	return true;
}

/* memsw is memory and swap together. */
static bool read_level_v1(
	const struct tap_cgroup_dir *dir, const struct machine *machine, struct level *ret)
{
	uint64_t cache = droppable(dir, "total_inactive_file");
	uint64_t both = number_in(dir, "memory.memsw.limit_in_bytes", UINT64_MAX);
	uint64_t both_used = minus(number_in(dir, "memory.memsw.usage_in_bytes", 0), cache);

	ret->limit_bytes = number_in(dir, "memory.limit_in_bytes", UINT64_MAX);
	if (ret->limit_bytes >= UNLIMITED_FROM)
		return false;
	ret->used_bytes = minus(number_in(dir, "memory.usage_in_bytes", 0), cache);
	ret->free_bytes =
		plus(minus(ret->limit_bytes, ret->used_bytes), machine->swap_free_bytes);
	if (both < UNLIMITED_FROM)
		ret->free_bytes = smaller(ret->free_bytes, minus(both, both_used));
	return true;
}

/* Before Linux 5.11 a v1 parent's limit held for its children only where it
 * said so. */
static bool is_inherited(const struct tap_cgroup_dir *dir, int version)
{
	return version == 2 || number_in(dir, "memory.use_hierarchy", 1) != 0;
}

static void take_tightest(
	struct tap_cgroup_dir *dir, const struct machine *machine, struct tap_cgroup *ret)
{
	uint64_t least = UINT64_MAX;
	bool own = true;

	do {
		struct level level;
		bool limited = ret->version == 2 ? read_level_v2(dir, machine, &level) :
						   read_level_v1(dir, machine, &level);

		limited = limited && (own || is_inherited(dir, ret->version));
		if (limited)
			ret->free_memory_bytes = smaller(ret->free_memory_bytes,
				minus(level.limit_bytes, level.used_bytes));
		if (limited && (ret->limit_bytes == UINT64_MAX || level.free_bytes < least)) {
			least = level.free_bytes;
			ret->limit_bytes = level.limit_bytes;
			ret->limit_used_bytes = level.used_bytes;
		}
		own = false;
	} while (tap_cgroup_dir_up(dir));
	if (ret->limit_bytes != UINT64_MAX && least <= ret->free_bytes) {
		ret->kind = TAP_LIMIT_CGROUP;
		ret->tightest_bytes = ret->limit_bytes;
		ret->free_bytes = least;
	}
}

static bool read_machine(struct machine *ret)
{
	_cleanup_free_ char *text = NULL;
	uint64_t total, swap = 0;
	struct tap_error *err = tap_proc_read(0, "meminfo", &text, NULL);

	*ret = (struct machine){0};
	if (err) {
		tap_error_free(err);
		return false;
	}
	if (!tap_scan_kib(text, "MemTotal", &total) ||
		!tap_scan_kib(text, "MemAvailable", &ret->available_bytes))
		return false;
	tap_scan_kib(text, "SwapTotal", &swap);
	tap_scan_kib(text, "SwapFree", &ret->swap_free_bytes);
	ret->total_bytes = plus(total, swap);
	ret->free_bytes = plus(ret->available_bytes, ret->swap_free_bytes);
	return true;
}

static bool is_frozen_v1(struct tap_cgroup_dir *dir)
{
	do {
		_cleanup_free_ char *state = tap_cgroup_dir_read(dir, "freezer.state");

		/* FREEZING: no thread of it may run on either. */
		if ((state && (!strncmp(state, "FROZEN", 6) || !strncmp(state, "FREEZING", 8))) ||
			number_in(dir, "freezer.self_freezing", 0) ||
			number_in(dir, "freezer.parent_freezing", 0))
			return true;
	} while (tap_cgroup_dir_up(dir));
	return false;
}

static bool is_frozen_v2(struct tap_cgroup_dir *dir)
{
	do {
		_cleanup_free_ char *events = tap_cgroup_dir_read(dir, "cgroup.events");
		uint64_t frozen = 0;

		if ((events && tap_scan_number(events, "frozen", &frozen) && frozen) ||
			number_in(dir, "cgroup.freeze", 0))
			return true;
	} while (tap_cgroup_dir_up(dir));
	return false;
}

static bool is_frozen(const struct tap_membership *membership, const char *mountinfo)
{
	struct tap_cgroup_dir dir;
	bool frozen = false;

	if (membership->freezer &&
		tap_cgroup_dir_find(mountinfo, "freezer", membership->freezer, &dir)) {
		frozen = is_frozen_v1(&dir);
		tap_cgroup_dir_deinit(&dir);
	}
	if (!frozen && membership->unified &&
		tap_cgroup_dir_find(mountinfo, NULL, membership->unified, &dir)) {
		frozen = is_frozen_v2(&dir);
		tap_cgroup_dir_deinit(&dir);
	}
	return frozen;
}

bool tap_cgroup_is_frozen(pid_t pid)
{
	struct tap_membership membership;
	_cleanup_free_ char *mountinfo = NULL;
	_cleanup_error_ struct tap_error *err = tap_proc_read(0, "self/mountinfo", &mountinfo, NULL);
	bool frozen;

	if (err || !tap_membership_read(pid, &membership))
		return false;
	frozen = is_frozen(&membership, mountinfo);
	tap_membership_deinit(&membership);
	return frozen;
}

static void read_limits(const struct tap_membership *membership, const struct machine *machine,
	const char *mountinfo, struct tap_cgroup *ret)
{
	const char *path = membership->memory ? membership->memory : membership->unified;
	struct tap_cgroup_dir dir;

	if (!path)
		return;
	ret->path = tap_strdup(path);
	ret->version = membership->memory ? 1 : 2;
	if (tap_cgroup_dir_find(mountinfo, membership->memory ? "memory" : NULL, path, &dir)) {
		take_tightest(&dir, machine, ret);
		tap_cgroup_dir_deinit(&dir);
	}
}

struct tap_error *tap_cgroup_read(pid_t pid, struct tap_cgroup *ret)
{
	struct tap_membership membership = {0};
	_cleanup_free_ char *mountinfo = NULL;
	_cleanup_free_ char *stat = NULL;
	struct machine machine;
	struct tap_error *err = tap_proc_read(pid, "stat", &stat, NULL);

	*ret = (struct tap_cgroup){.limit_bytes = UINT64_MAX,
		.tightest_bytes = UINT64_MAX,
		.free_bytes = UINT64_MAX,
		.free_memory_bytes = UINT64_MAX};
	if (err)
		return err;
	if (read_machine(&machine)) {
		ret->kind = TAP_LIMIT_MACHINE;
		ret->tightest_bytes = machine.total_bytes;
		ret->free_bytes = machine.free_bytes;
		ret->free_memory_bytes = machine.available_bytes;
	}
	/* A kernel without cgroups has no such files: the machine is the limit. */
	if (!tap_membership_read(pid, &membership))
		return NULL;
	tap_error_free(tap_proc_read(0, "self/mountinfo", &mountinfo, NULL));
	if (mountinfo) {
		read_limits(&membership, &machine, mountinfo, ret);
		ret->frozen = is_frozen(&membership, mountinfo);
	}
	tap_membership_deinit(&membership);
	return NULL;
}

void tap_cgroup_deinit(struct tap_cgroup *cgroup)
{
	free(cgroup->path);
	*cgroup = (struct tap_cgroup){0};
}
