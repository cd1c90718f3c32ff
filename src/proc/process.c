/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/text.h"
#include "heaptap/base/vector.h"
#include "heaptap/proc/process.h"
#include "heaptap/proc/root.h"
#include "hierarchy.h"
#include "scan.h"

#define DELETED " (deleted)"
#define PF_KTHREAD 0x00200000 /* include/linux/sched.h */
#define ARGUMENTS_MAX 65536

/* What stat alone tells. */
struct stat_line {
	char *comm;
	char state;
	uint64_t parent;
	uint64_t flags;
	uint64_t start_ticks;
};

/* Moves to field number wanted, at being at the start of number field. */
static const char *skip_to(const char *at, int field, int wanted)
{
	for (; at && field < wanted; field++) {
		at = strchr(at, ' ');
		if (at)
			at++;
	}
	return at;
}

/* comm may hold blanks, parentheses and newlines: it ends at the last ')'. */
static bool parse_stat(const char *text, struct stat_line *ret)
{
	const char *open = strchr(text, '('), *close = strrchr(text, ')');
	const char *state, *parent, *flags, *start;

	if (!open || !close || close < open || close[1] != ' ')
		return false;
	state = close + 2;
	parent = skip_to(state, 3, 4);
	flags = skip_to(parent, 4, 9);
	start = skip_to(flags, 9, 22);
	if (!start || !tap_scan_decimal(&start, &ret->start_ticks) ||
		!tap_scan_decimal(&flags, &ret->flags) ||
		!tap_scan_decimal(&parent, &ret->parent) || ret->parent > INT_MAX)
		return false;
	ret->state = *state;
	ret->comm = tap_strndup(open + 1, (size_t)(close - open - 1));
	return true;
}

static struct tap_error *read_stat(pid_t pid, struct stat_line *ret)
{
	_cleanup_free_ char *text = NULL;
	struct tap_error *err = tap_proc_read(pid, "stat", &text, NULL);

	if (err)
		return err;
	if (!parse_stat(text, ret))
		return tap_error_new(
			TAP_ERR_BAD_DATA, "cannot make sense of /proc/%d/stat", (int)pid);
	return NULL;
}

static void parse_users(const char *status, struct tap_process *ret)
{
	const char *at = tap_scan_find(status, "Uid");
	uint64_t uid, euid;

	if (!at || !tap_scan_decimal(&at, &uid))
		return;
	tap_scan_blanks(&at);
	if (!tap_scan_decimal(&at, &euid))
		return;
	ret->uid = (uid_t)uid;
	ret->euid = (uid_t)euid;
}

static int small_number(const char *status, const char *key)
{
	uint64_t number;

	return tap_scan_number(status, key, &number) && number <= INT_MAX ? (int)number : 0;
}

static struct tap_error *read_status(pid_t pid, struct tap_process *ret)
{
	_cleanup_free_ char *status = NULL;
	struct tap_error *err = tap_proc_read(pid, "status", &status, NULL);
	int group;

	if (err)
		return err;
	/* /proc/TID answers for a thread as well, without being listed. */
	group = small_number(status, "Tgid");
	if (group && group != pid)
		return tap_error_advise(
			tap_error_new(TAP_ERR_GONE, "no such process: %d is a thread of process %d",
				(int)pid, group),
			"give the process instead: %d", group);
	parse_users(status, ret);
	ret->tracer = small_number(status, "TracerPid");
	ret->threads = small_number(status, "Threads");
	ret->seccomp = small_number(status, "Seccomp");
	ret->shadow_stack = tap_scan_says(status, "x86_Thread_features", "shstk");
	if (small_number(status, "Kthread"))
		ret->kernel_thread = true;
	return NULL;
}

static void read_cmdline(pid_t pid, struct tap_process *ret)
{
	TAP_VECTOR(char *) list = {0};
	_cleanup_free_ char *text = NULL;
	_cleanup_error_ struct tap_error *err = NULL;
	size_t size = 0;

	err = tap_proc_read(pid, "cmdline", &text, &size);
	if (err)
		return;
	for (size_t at = 0; at < size && list.count < ARGUMENTS_MAX; at += strlen(text + at) + 1)
		tap_vector_push(&list, tap_strdup(text + at));
	ret->cmdline = list.items;
	ret->cmdline_count = list.count;
}

/* A file may really be called "x (deleted)". */
static bool is_there(const char *path)
{
	_cleanup_free_ char *full = tap_format("%s%s", tap_proc_root(), path);

	return !access(full, F_OK);
}

static void read_exe(pid_t pid, struct tap_process *ret)
{
	_cleanup_error_ struct tap_error *err = tap_proc_readlink(pid, "exe", &ret->exe);
	size_t size, suffix = strlen(DELETED);

	if (err)
		return;
	size = strlen(ret->exe);
	if (size > suffix && !strcmp(ret->exe + size - suffix, DELETED) && !is_there(ret->exe)) {
		ret->exe[size - suffix] = '\0';
		ret->exe_deleted = true;
	}
}

/* The ELF class of the executable, through /proc so that it is found in other
 * mount namespaces and after deletion. x32 programs are of class 32 too. */
static bool is_elf32(pid_t pid)
{
	char head[6];

	return tap_proc_try_read(pid, "exe", head, sizeof(head)) &&
	       !memcmp(head, "\177ELF\1", 5);
}

static uint64_t wall_of_ticks(uint64_t ticks)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_error_ struct tap_error *err = tap_proc_read(0, "stat", &text, NULL);
	long hertz = sysconf(_SC_CLK_TCK);
	uint64_t boot_s;

	if (err || hertz <= 0 || !tap_scan_number(text, "btime", &boot_s) ||
		boot_s > UINT64_MAX / 2000000000 || ticks / (uint64_t)hertz > UINT64_MAX / 2000000000)
		return 0;
	return boot_s * 1000000000 + ticks / (uint64_t)hertz * 1000000000 +
	       ticks % (uint64_t)hertz * (1000000000 / (uint64_t)hertz);
}

static void read_cgroup(pid_t pid, struct tap_process *ret)
{
	struct tap_membership membership;

	if (!tap_membership_read(pid, &membership))
		return;
	if (membership.memory)
		ret->cgroup = tap_strdup(membership.memory);
	else if (membership.unified)
		ret->cgroup = tap_strdup(membership.unified);
	tap_membership_deinit(&membership);
}

struct tap_error *tap_process_read(pid_t pid, struct tap_process *ret)
{
	struct stat_line line = {0};
	struct tap_error *err;

	*ret = (struct tap_process){.pid = pid};
	err = read_stat(pid, &line);
	if (err)
		return err;
	ret->comm = line.comm;
	ret->state = line.state;
	ret->parent = (pid_t)line.parent;
	ret->kernel_thread = line.flags & PF_KTHREAD;
	ret->start_ticks = line.start_ticks;
	ret->start_wall_ns = wall_of_ticks(line.start_ticks);
	err = read_status(pid, ret);
	if (err) {
		tap_process_deinit(ret);
		return err;
	}
	read_exe(pid, ret);
	read_cmdline(pid, ret);
	read_cgroup(pid, ret);
	ret->elf32 = is_elf32(pid);
	return NULL;
}

void tap_process_deinit(struct tap_process *process)
{
	for (size_t i = 0; i < process->cmdline_count; i++)
		free(process->cmdline[i]);
	free(process->cmdline);
	free(process->comm);
	free(process->exe);
	free(process->python_version);
	free(process->cgroup);
	*process = (struct tap_process){0};
}

static char *copy_text(const char *text)
{
	return text ? tap_strdup(text) : NULL;
}

void tap_process_copy(const struct tap_process *from, struct tap_process *to)
{
	*to = *from;
	to->comm = copy_text(from->comm);
	to->exe = copy_text(from->exe);
	to->python_version = copy_text(from->python_version);
	to->cgroup = copy_text(from->cgroup);
	to->cmdline = NULL;
	if (!from->cmdline_count)
		return;
	to->cmdline = tap_alloc(from->cmdline_count * sizeof(*to->cmdline));
	for (size_t i = 0; i < from->cmdline_count; i++)
		to->cmdline[i] = tap_strdup(from->cmdline[i]);
}

bool tap_process_is_same(const struct tap_process *process)
{
	struct stat_line line = {0};
	_cleanup_error_ struct tap_error *err = read_stat(process->pid, &line);

	if (err)
		return false;
	free(line.comm);
	return line.start_ticks == process->start_ticks;
}

char *tap_process_name(const struct tap_process *process, char *buf, size_t capacity)
{
	return tap_text_clean(buf, capacity, process->comm ? process->comm : "?");
}
