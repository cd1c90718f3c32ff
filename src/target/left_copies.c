/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "heaptap/base/cleanup.h"
#include "heaptap/proc/root.h"
#include "heaptap/proc/tasks.h"
#include "heaptap/target/left.h"
#include "target/internal.h"
#include "target/snapshot_internal.h"

/* Of /proc/PID/stat, counted from 1 (proc(5)). */
#define FIELD_STATE 3
#define FIELD_EXIT_SIGNAL 38
#define FIELD_EXIT_CODE 52

TAP_VECTOR_TYPE(pid_list, pid_t);

/* The name, which is field 2, may hold anything. */
static const char *stat_field(const char *text, int number)
{
	const char *at = strrchr(text, ')');

	for (int field = 2; at && field < number; field++) {
		at = strchr(at, ' ');
		if (at)
			at++;
	}
	return at;
}

static bool has_snapshots_score(pid_t pid)
{
	char text[16];

	return tap_proc_try_read(pid, "oom_score_adj", text, sizeof(text)) &&
	       strtol(text, NULL, 10) == SNAPSHOT_OOM_SCORE;
}

/* Dead, with an exit signal that clone(2) alone gives, and with the end of
 * which a snapshot's child has one of two. */
static bool is_left(pid_t pid)
{
	const char *state, *signal, *code;
	char text[1024];
	long status;

	if (!tap_proc_try_read(pid, "stat", text, sizeof(text)))
		return false;
	state = stat_field(text, FIELD_STATE);
	signal = stat_field(text, FIELD_EXIT_SIGNAL);
	code = stat_field(text, FIELD_EXIT_CODE);
	if (!state || *state != 'Z' || !signal || strncmp(signal, "0 ", 2) || !code)
		return false;
	status = strtol(code, NULL, 10);
	return status == SNAPSHOT_EXIT_CODE << CHAR_BIT ||
	       (status == SIGKILL && has_snapshots_score(pid));
}

static void add_children(pid_t pid, pid_t tid, struct pid_list *list)
{
	_cleanup_free_ char *text = NULL;
	char name[48], *at;
	long child;

	snprintf(name, sizeof(name), "task/%d/children", tid);
	tap_error_free(tap_proc_read(pid, name, &text, NULL));
	for (at = text; at && (child = strtol(at, &at, 10)) > 0 && child <= INT_MAX;)
		if (is_left((pid_t)child))
			tap_vector_push(list, (pid_t)child);
}

static struct pid_list find(pid_t pid)
{
	_cleanup_free_ pid_t *tids = NULL;
	struct pid_list list = {0};
	size_t count = 0;
	_cleanup_error_ struct tap_error *err = tap_tasks_ids(pid, &tids, &count);

	for (size_t i = 0; !err && i < count; i++)
		add_children(pid, tids[i], &list);
	return list;
}

bool tap_left_has_copies(pid_t pid)
{
	struct pid_list list = find(pid);
	bool any = list.count;

	tap_vector_free(&list);
	return any;
}

/* Its number where the process lives: the last one, of the innermost namespace. */
static pid_t number_inside(pid_t pid)
{
	_cleanup_free_ char *status = NULL;
	const char *at, *end;
	long number = pid;

	tap_error_free(tap_proc_read(pid, "status", &status, NULL));
	at = status ? strstr(status, "\nNSpid:") : NULL;
	if (!at)
		return pid;
	at += strlen("\nNSpid:");
	for (end = at + strcspn(at, "\n"); at < end; at += strcspn(at, "\t\n")) {
		at += strspn(at, "\t ");
		number = strtol(at, NULL, 10);
	}
	return number > 0 && number <= INT_MAX ? (pid_t)number : pid;
}

struct tap_error *tap_left_reap_copies(struct tap_target *target)
{
	struct pid_list list = find(target->pid);
	struct tap_error *err = NULL;

	for (size_t i = 0; !err && i < list.count; i++) {
		uint64_t child = (uint64_t)number_inside(list.items[i]);
		int64_t result = 0;

		err = remote_call_anywhere(
			target, SYS_wait4, (uint64_t[6]){child, 0, WNOHANG | __WALL, 0}, &result);
		if (!err && result < 0 && result != -ECHILD)
			err = tap_error_errno((int)-result, "wait4");
	}
	tap_vector_free(&list);
	return tap_error_wrap(err, "a dead child that a snapshot left stays listed");
}
