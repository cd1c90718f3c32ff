/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/proc/root.h"
#include "hierarchy.h"
#include "scan.h"

/* Is word one of the words of list, which commas part? */
static bool lists(const char *list, const char *word)
{
	size_t size = strlen(word);

	while (list) {
		if (!strncmp(list, word, size) && (!list[size] || list[size] == ','))
			return true;
		list = strchr(list, ',');
		if (list)
			list++;
	}
	return false;
}

static void replace(char **text, const char *with)
{
	free(*text);
	*text = tap_strdup(with);
}

/* "4:memory,hugetlb:/path" or, for v2, "0::/path" */
static void parse_membership(char *line, struct tap_membership *ret)
{
	char *controllers = strchr(line, ':'), *path;

	if (!controllers)
		return;
	*controllers++ = '\0';
	path = strchr(controllers, ':');
	if (!path || path[1] != '/')
		return;
	*path++ = '\0';
	if (!*controllers && !strcmp(line, "0"))
		replace(&ret->unified, path);
	if (lists(controllers, "memory"))
		replace(&ret->memory, path);
	if (lists(controllers, "freezer"))
		replace(&ret->freezer, path);
}

bool tap_membership_read(pid_t pid, struct tap_membership *ret)
{
	_cleanup_free_ char *text = NULL;
	struct tap_error *err = tap_proc_read(pid, "cgroup", &text, NULL);
	char *rest = text, *line;

	*ret = (struct tap_membership){0};
	if (err) {
		tap_error_free(err);
		return false;
	}
	while ((line = strsep(&rest, "\n")))
		parse_membership(line, ret);
	return true;
}

void tap_membership_deinit(struct tap_membership *membership)
{
	free(membership->memory);
	free(membership->freezer);
	free(membership->unified);
	*membership = (struct tap_membership){0};
}

/* What a line of mountinfo says: proc_pid_mountinfo(5). */
struct mount {
	char *group; /* the cgroup that is mounted, as seen from our namespace */
	char *point;
	char *type;
	char *options; /* of the hierarchy: names its controllers */
};

static bool parse_mount(char *line, struct mount *ret)
{
	char *behind = strstr(line, " - ");
	char *field = NULL;

	*ret = (struct mount){0};
	if (!behind)
		return false;
	*behind = '\0';
	behind += 3;
	for (int i = 0; i < 5; i++) {
		field = strsep(&line, " ");
		if (i == 3)
			ret->group = field;
	}
	ret->point = field;
	ret->type = strsep(&behind, " ");
	strsep(&behind, " ");
	ret->options = behind;
	if (!ret->group || !ret->point || !ret->type || !ret->options)
		return false;
	tap_scan_unescape(ret->group);
	tap_scan_unescape(ret->point);
	return true;
}

static bool carries(const struct mount *mount, const char *controller)
{
	if (!controller)
		return !strcmp(mount->type, "cgroup2");
	return !strcmp(mount->type, "cgroup") && lists(mount->options, controller);
}

/* Does the path name a parent? Such a group lies above what is mounted, and
 * following it would lead out of the mount. */
static bool climbs(const char *path)
{
	size_t size = strlen(path);

	return strstr(path, "/../") || (size >= 3 && !strcmp(path + size - 3, "/.."));
}

/* What is left of group below the mounted one, "" or "/..."; NULL where it is
 * not below it. A container without a cgroup namespace has its own group
 * mounted ("/docker/ID"); one inside of a namespace may have a group above
 * its namespace's root mounted ("/../.."). */
static const char *below(const char *group, const char *mounted)
{
	size_t size = strlen(mounted);
	const char *rest;

	if (!strcmp(mounted, "/"))
		rest = strcmp(group, "/") ? group : "";
	else if (!strncmp(group, mounted, size) && (!group[size] || group[size] == '/'))
		rest = group + size;
	else if (climbs(mounted) && !climbs(group))
		/* Its names between the mount and our namespace's root cannot be
		 * known; what is mounted is an ancestor all the same. */
		rest = "";
	else
		return NULL;
	return climbs(rest) ? NULL : rest;
}

static bool is_there(const char *path)
{
	_cleanup_free_ char *full = tap_format("%s%s", tap_proc_root(), path);

	return !access(full, F_OK);
}

bool tap_cgroup_dir_find(
	const char *mountinfo, const char *controller, const char *group, struct tap_cgroup_dir *ret)
{
	_cleanup_free_ char *copy = tap_strdup(mountinfo);
	char *rest = copy, *line;
	bool found = false;

	*ret = (struct tap_cgroup_dir){0};
	while ((line = strsep(&rest, "\n"))) {
		struct tap_cgroup_dir dir;
		struct mount mount;
		const char *inside;

		if (!parse_mount(line, &mount) || !carries(&mount, controller))
			continue;
		inside = below(group, mount.group);
		if (!inside)
			continue;
		dir.path = tap_format("%s%s", mount.point, inside);
		dir.mount_size = strlen(mount.point);
		/* One whose directory is there is better than one where only the
		 * mount is (a group of another namespace of the same name). */
		if (!ret->path || (!found && is_there(dir.path))) {
			tap_cgroup_dir_deinit(ret);
			*ret = dir;
			found = is_there(dir.path);
		} else {
			tap_cgroup_dir_deinit(&dir);
		}
	}
	return ret->path != NULL;
}

bool tap_cgroup_dir_up(struct tap_cgroup_dir *dir)
{
	char *slash = strrchr(dir->path, '/');

	if (strlen(dir->path) <= dir->mount_size || !slash ||
		(size_t)(slash - dir->path) < dir->mount_size)
		return false;
	*slash = '\0';
	return true;
}

void tap_cgroup_dir_deinit(struct tap_cgroup_dir *dir)
{
	free(dir->path);
	*dir = (struct tap_cgroup_dir){0};
}

char *tap_cgroup_dir_read(const struct tap_cgroup_dir *dir, const char *name)
{
	_cleanup_free_ char *path = tap_format("%s/%s", dir->path, name);
	char *text = NULL;

	tap_error_free(tap_proc_read_path(path, &text, NULL));
	return text;
}
