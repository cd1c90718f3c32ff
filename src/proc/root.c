/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/proc/root.h"

#define READ_MAX ((size_t)16 << 20)

static const char *root = "";

void tap_proc_root_set(const char *path)
{
	root = path ? path : "";
}

const char *tap_proc_root(void)
{
	return root;
}

char *tap_proc_path(char *buf, size_t capacity, pid_t pid, const char *name)
{
	if (pid)
		snprintf(buf, capacity, "%s/proc/%d/%s", root, (int)pid, name);
	else
		snprintf(buf, capacity, "%s/proc/%s", root, name);
	return buf;
}

static struct tap_error *no_process(pid_t pid)
{
	char dir[PATH_MAX];

	/* With hidepid=2 a process of another user looks as if it were not
	 * there; kill(2) tells. */
	if (!*root && access(tap_proc_path(dir, sizeof(dir), pid, ""), F_OK) && kill(pid, 0) &&
		errno == EPERM)
		return tap_error_advise(
			tap_error_new(TAP_ERR_PERMISSION,
				"process %d is hidden: /proc is mounted with hidepid", (int)pid),
			"run heaptap as root or as the user that owns it: sudo heaptap ...");
	return tap_error_advise(tap_error_new(TAP_ERR_GONE, "no such process: %d", (int)pid),
		"it has ended, or it has another number here (a container's own PIDs differ)");
}

/* Says why something below /proc could not be opened or read. */
static struct tap_error *explain(int errnum, pid_t pid, const char *path)
{
	char dir[PATH_MAX];

	if (errnum == ENOENT || errnum == ESRCH || errnum == ENOTDIR) {
		if (access(tap_proc_path(dir, sizeof(dir), 0, "self/stat"), F_OK))
			return tap_error_advise(tap_error_new(TAP_ERR_GONE, "cannot read /proc"),
				"mount it: mount -t proc proc /proc");
		if (pid && (errnum == ESRCH ||
				   access(tap_proc_path(dir, sizeof(dir), pid, ""), F_OK)))
			return no_process(pid);
		return tap_error_new(
			TAP_ERR_NOT_FOUND, "cannot read %s: %s", path, strerror(errnum));
	}
	if (errnum == EACCES || errnum == EPERM)
		return tap_error_advise(tap_error_errno(errnum, "cannot read %s", path),
			"run heaptap as root or as the user that owns it: sudo heaptap ...");
	return tap_error_errno(errnum, "cannot read %s", path);
}

/* Reads from where fd stands to the end; 0 or an errno. */
static int read_all(int fd, char **text_ret, size_t *size_ret)
{
	size_t capacity = 4096, size = 0;
	char *text = tap_alloc(capacity);

	for (;;) {
		ssize_t n = read(fd, text + size, capacity - size - 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int errnum = errno;

			free(text);
			return errnum;
		}
		size += (size_t)n;
		if (!n || size + 1 >= READ_MAX)
			break;
		if (size + 1 == capacity) {
			capacity *= 2;
			text = tap_realloc(text, capacity);
		}
	}
	text[size] = '\0';
	*text_ret = text;
	if (size_ret)
		*size_ret = size;
	return 0;
}

static int read_file(const char *path, char **text_ret, size_t *size_ret)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? errno : read_all(fd, text_ret, size_ret);
}

struct tap_error *tap_proc_read(pid_t pid, const char *name, char **text_ret, size_t *size_ret)
{
	char path[PATH_MAX];
	int errnum = read_file(
		tap_proc_path(path, sizeof(path), pid, name), text_ret, size_ret);

	return errnum ? explain(errnum, pid, path + strlen(root)) : NULL;
}

struct tap_error *tap_proc_read_path(const char *path, char **text_ret, size_t *size_ret)
{
	_cleanup_free_ char *full = tap_format("%s%s", root, path);
	int errnum = read_file(full, text_ret, size_ret);

	if (errnum == ENOENT || errnum == ENOTDIR)
		return tap_error_new(
			TAP_ERR_NOT_FOUND, "cannot read %s: %s", path, strerror(errnum));
	return errnum ? tap_error_errno(errnum, "cannot read %s", path) : NULL;
}

bool tap_proc_try_read(pid_t pid, const char *name, char *buf, size_t capacity)
{
	char path[PATH_MAX];
	_cleanup_close_ int fd =
		open(tap_proc_path(path, sizeof(path), pid, name), O_RDONLY | O_CLOEXEC);
	size_t size = 0;
	ssize_t n = 1;

	if (fd < 0)
		return false;
	while (n && size + 1 < capacity) {
		n = read(fd, buf + size, capacity - size - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		size += (size_t)n;
	}
	buf[size] = '\0';
	return true;
}

struct tap_error *tap_proc_readlink(pid_t pid, const char *name, char **target_ret)
{
	char path[PATH_MAX], target[PATH_MAX];
	ssize_t n = readlink(
		tap_proc_path(path, sizeof(path), pid, name), target, sizeof(target) - 1);

	if (n < 0)
		return explain(errno, pid, path + strlen(root));
	*target_ret = tap_strndup(target, (size_t)n);
	return NULL;
}
