/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/base/map.h"
#include "heaptap/proc/descriptors.h"
#include "heaptap/proc/root.h"
#include "scan.h"
#include "sockets.h"

#define GROUPS_MAX 65536
#define LIMITS_BYTES 4096

struct reader {
	struct tap_descriptors *out;
	struct tap_map by_target; /* interned text: index in groups */
	struct tap_map sockets;   /* inode: how many descriptors */
	uint64_t deadline_ns;
};

static void add(struct reader *reader, const char *target, uint64_t count)
{
	const char *text;
	uint64_t *at;
	bool added;

	if (reader->out->groups.count >= GROUPS_MAX) {
		reader->out->ungrouped += count;
		return;
	}
	text = tap_strings_add(reader->out->strings, target);
	at = tap_map_put(&reader->by_target, (uintptr_t)text, &added);
	if (added) {
		*at = reader->out->groups.count;
		tap_vector_push(&reader->out->groups, ((struct tap_descriptor_group){text, 0}));
	}
	reader->out->groups.items[*at].count += count;
}

static bool is_socket(const char *target, uint64_t *inode_ret)
{
	static const char start[] = "socket:[";
	const char *at = target + strlen(start);

	return !strncmp(target, start, strlen(start)) && tap_scan_decimal(&at, inode_ret) &&
	       *at == ']';
}

/* "anon_inode:[eventpoll]" and "anon_inode:inotify" by their kind, "pipe:[123]"
 * without its number, "/memfd:name (deleted)" by its name. Changes target. */
static char *name_of(char *target)
{
	static const char anonymous[] = "anon_inode:", memfd[] = "/memfd:", gone[] = " (deleted)";
	size_t size;

	if (!strncmp(target, anonymous, strlen(anonymous))) {
		target += strlen(anonymous);
		target += *target == '[';
		target[strcspn(target, "]")] = '\0';
	} else if (!strncmp(target, memfd, strlen(memfd))) {
		target++;
		size = strlen(target);
		if (size > strlen(gone) && !strcmp(target + size - strlen(gone), gone))
			target[size - strlen(gone)] = '\0';
	} else if (*target != '/' && strstr(target, ":[")) {
		*strstr(target, ":[") = '\0';
	}
	return target;
}

static void look_at(struct reader *reader, int dir, const char *number)
{
	char target[PATH_MAX];
	ssize_t size = readlinkat(dir, number, target, sizeof(target) - 1);
	uint64_t inode;

	if (size < 0) {
		/* Closed meanwhile. */
		reader->out->count--;
		return;
	}
	target[size] = '\0';
	if (is_socket(target, &inode))
		++*tap_map_put(&reader->sockets, inode, NULL);
	else
		add(reader, name_of(target), 1);
}

static void read_links(struct reader *reader, DIR *dir)
{
	struct dirent *entry;

	while ((entry = readdir(dir))) {
		if (*entry->d_name < '0' || *entry->d_name > '9')
			continue;
		reader->out->count++;
		if (tap_clock_ns() > reader->deadline_ns)
			reader->out->ungrouped++;
		else
			look_at(reader, dirfd(dir), entry->d_name);
	}
}

static void on_socket(void *context, uint64_t inode, const char *label)
{
	struct reader *reader = context;
	uint64_t count;

	if (tap_map_remove(&reader->sockets, inode, &count))
		add(reader, label, count);
}

static void name_sockets(struct reader *reader, pid_t pid)
{
	struct tap_map_slot *slot;

	if (!reader->sockets.count)
		return;
	tap_sockets_find(pid, &reader->sockets, reader->deadline_ns, on_socket, reader);
	for (size_t i = 0; tap_map_next(&reader->sockets, &i, &slot);)
		add(reader, "socket", slot->value);
}

static uint64_t read_limit(pid_t pid)
{
	char text[LIMITS_BYTES];
	uint64_t limit;

	if (!tap_proc_try_read(pid, "limits", text, sizeof(text)) ||
		!tap_scan_number(text, "Max open files", &limit))
		return UINT64_MAX;
	return limit;
}

static int by_count(const void *a, const void *b)
{
	const struct tap_descriptor_group *x = a, *y = b;

	if (x->count != y->count)
		return x->count > y->count ? -1 : 1;
	return strcmp(x->target, y->target);
}

static struct tap_error *cannot_list(pid_t pid, int errnum)
{
	_cleanup_free_ char *text = NULL;
	struct tap_error *err = tap_proc_read(pid, "stat", &text, NULL);

	/* The reader of stat knows best why nothing is there. */
	if (err)
		return err;
	return tap_error_errno(errnum, "cannot list the descriptors of process %d", (int)pid);
}

struct tap_error *tap_descriptors_read(pid_t pid, uint64_t budget_ns, struct tap_descriptors *ret)
{
	struct reader reader = {.out = ret, .deadline_ns = tap_clock_ns() + budget_ns};
	char path[PATH_MAX];
	_cleanup_closedir_ DIR *dir = opendir(tap_proc_path(path, sizeof(path), pid, "fd"));

	memset(ret, 0, sizeof(*ret));
	if (!dir)
		return cannot_list(pid, errno);
	ret->strings = tap_strings_create();
	ret->limit = read_limit(pid);
	read_links(&reader, dir);
	name_sockets(&reader, pid);
	if (ret->groups.count)
		qsort(ret->groups.items, ret->groups.count, sizeof(ret->groups.items[0]), by_count);
	tap_map_deinit(&reader.by_target);
	tap_map_deinit(&reader.sockets);
	return NULL;
}

void tap_descriptors_deinit(struct tap_descriptors *descriptors)
{
	tap_vector_free(&descriptors->groups);
	tap_strings_destroy(descriptors->strings);
	memset(descriptors, 0, sizeof(*descriptors));
}
