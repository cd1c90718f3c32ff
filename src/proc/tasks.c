/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/proc/root.h"
#include "heaptap/proc/tasks.h"
#include "scan.h"

#define NAME_MAX_BYTES 64
#define STAT_PROCESSOR 39 /* field of stat, counted from 1 */

TAP_VECTOR_TYPE(tid_list, pid_t);

static int by_number(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return (x > y) - (x < y);
}

static struct tap_error *cannot_list(pid_t pid)
{
	_cleanup_free_ char *text = NULL;
	int errnum = errno;
	struct tap_error *err = tap_proc_read(pid, "stat", &text, NULL);

	/* The reader of stat knows best why nothing is there. */
	if (err)
		return err;
	return tap_error_errno(errnum == ENOENT ? ESRCH : errnum,
		"cannot list the threads of process %d", (int)pid);
}

struct tap_error *tap_tasks_ids(pid_t pid, pid_t **tids_ret, size_t *count_ret)
{
	struct tid_list list = {0};
	char path[PATH_MAX];
	_cleanup_closedir_ DIR *dir = opendir(tap_proc_path(path, sizeof(path), pid, "task"));
	struct dirent *entry;

	if (!dir)
		return cannot_list(pid);
	while ((entry = readdir(dir))) {
		const char *at = entry->d_name;
		uint64_t tid;

		if (tap_scan_decimal(&at, &tid) && !*at && tid > 0 && tid <= INT_MAX)
			tap_vector_push(&list, (pid_t)tid);
	}
	if (!list.count)
		return tap_error_new(TAP_ERR_GONE, "no such process: %d", (int)pid);
	qsort(list.items, list.count, sizeof(*list.items), by_number);
	*tids_ret = list.items;
	*count_ret = list.count;
	return NULL;
}

static char *task_name(char *buf, size_t capacity, pid_t tid, const char *name)
{
	snprintf(buf, capacity, "task/%d/%s", (int)tid, name);
	return buf;
}

static void read_wchan(pid_t pid, struct tap_task *ret)
{
	char name[NAME_MAX_BYTES];

	if (!tap_proc_try_read(pid, task_name(name, sizeof(name), ret->tid, "wchan"), ret->wchan,
		    sizeof(ret->wchan)) ||
		!strcmp(ret->wchan, "0"))
		ret->wchan[0] = '\0';
}

static void read_comm(pid_t pid, struct tap_task *ret)
{
	char name[NAME_MAX_BYTES];
	size_t size;

	if (!tap_proc_try_read(pid, task_name(name, sizeof(name), ret->tid, "comm"), ret->name,
		    sizeof(ret->name)))
		ret->name[0] = '\0';
	size = strlen(ret->name);
	if (size && ret->name[size - 1] == '\n')
		ret->name[size - 1] = '\0';
}

struct tap_error *tap_task_read(pid_t pid, pid_t tid, struct tap_task *ret)
{
	_cleanup_free_ char *status = NULL;
	char name[NAME_MAX_BYTES];
	uint64_t own = 0, shared = 0, seccomp = 0;
	const char *state;
	struct tap_error *err;

	*ret = (struct tap_task){.tid = tid};
	err = tap_proc_read(pid, task_name(name, sizeof(name), tid, "status"), &status, NULL);
	if (err && err->code == TAP_ERR_NOT_FOUND) {
		tap_error_free(err);
		return tap_error_new(
			TAP_ERR_GONE, "thread %d of process %d has ended", (int)tid, (int)pid);
	}
	if (err)
		return err;
	state = tap_scan_find(status, "State");
	ret->state = state && *state && *state != '\n' ? *state : '?';
	tap_scan_mask(status, "SigBlk", &ret->sig_blocked);
	tap_scan_mask(status, "SigIgn", &ret->sig_ignored);
	tap_scan_mask(status, "SigCgt", &ret->sig_caught);
	tap_scan_mask(status, "SigPnd", &own);
	tap_scan_mask(status, "ShdPnd", &shared);
	ret->sig_pending = own | shared;
	tap_scan_number(status, "Seccomp", &seccomp);
	ret->seccomp = (int)(seccomp & 0xff);
	ret->shadow_stack = tap_scan_says(status, "x86_Thread_features", "shstk");
	read_comm(pid, ret);
	read_wchan(pid, ret);
	return NULL;
}

struct tap_error *tap_tasks_read(pid_t pid, struct tap_task_list *ret)
{
	_cleanup_free_ pid_t *tids = NULL;
	size_t count = 0;
	struct tap_error *err = tap_tasks_ids(pid, &tids, &count);

	*ret = (struct tap_task_list){0};
	if (err)
		return err;
	for (size_t i = 0; i < count; i++) {
		struct tap_task task;

		err = tap_task_read(pid, tids[i], &task);
		if (!err) {
			tap_vector_push(ret, task);
		} else if (err->code == TAP_ERR_GONE) {
			tap_error_free(err);
		} else {
			tap_vector_free(ret);
			return err;
		}
	}
	if (!ret->count)
		return tap_error_new(TAP_ERR_GONE, "no such process: %d", (int)pid);
	return NULL;
}

static bool scan_argument(const char **cursor, uint64_t *ret)
{
	return tap_scan_char(cursor, ' ') && tap_scan_char(cursor, '0') &&
	       tap_scan_char(cursor, 'x') && tap_scan_hex(cursor, ret);
}

bool tap_task_try_syscall(pid_t pid, pid_t tid, struct tap_task_syscall *ret)
{
	char name[NAME_MAX_BYTES], text[512];
	const char *at = text;
	uint64_t number;
	bool outside;

	*ret = (struct tap_task_syscall){.number = -1};
	if (!tap_proc_try_read(
		    pid, task_name(name, sizeof(name), tid, "syscall"), text, sizeof(text)))
		return false;
	if (!strncmp(text, "running", 7))
		return true;
	outside = tap_scan_char(&at, '-');
	if (!tap_scan_decimal(&at, &number) || number > INT_MAX)
		return false;
	ret->number = outside ? -1 : (int64_t)number;
	for (int i = 0; i < 6 && !outside; i++)
		if (!scan_argument(&at, &ret->args[i]))
			return false;
	if (!scan_argument(&at, &ret->sp) || !scan_argument(&at, &ret->pc))
		return false;
	ret->blocked = true;
	return true;
}

bool tap_task_try_seccomp(pid_t pid, pid_t tid, struct tap_task_seccomp *ret)
{
	_cleanup_free_ char *status = NULL;
	_cleanup_error_ struct tap_error *err = NULL;
	char name[NAME_MAX_BYTES];
	uint64_t mode = 0, filters = 0;
	const char *state;

	*ret = (struct tap_task_seccomp){0};
	err = tap_proc_read(pid, task_name(name, sizeof(name), tid, "status"), &status, NULL);
	state = err ? NULL : tap_scan_find(status, "State");
	/* A first thread that has ended stays in the list as long as others run. */
	if (err || (state && (*state == 'Z' || *state == 'X')))
		return false;
	/* Without the line the kernel has no such thing. */
	tap_scan_number(status, "Seccomp", &mode);
	ret->mode = (int)(mode & 0xff);
	if (ret->mode != TAP_SECCOMP_FILTER)
		return true;
	ret->filters = tap_scan_number(status, "Seccomp_filters", &filters) && filters <= INT_MAX ?
		(int)filters :
		-1;
	return true;
}

bool tap_task_try_cpu(pid_t pid, pid_t tid, int *ret)
{
	char name[NAME_MAX_BYTES], text[1024];
	const char *at;
	uint64_t cpu;

	if (!tap_proc_try_read(pid, task_name(name, sizeof(name), tid, "stat"), text, sizeof(text)))
		return false;
	/* The name, which is field 2, may hold anything. */
	at = strrchr(text, ')');
	for (int field = 2; at && field < STAT_PROCESSOR; field++) {
		at = strchr(at, ' ');
		if (at)
			at++;
	}
	if (!at || !tap_scan_decimal(&at, &cpu) || cpu >= CPU_SETSIZE)
		return false;
	*ret = (int)cpu;
	return true;
}
