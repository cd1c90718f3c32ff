/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/proc/root.h"
#include "heaptap/proc/usage.h"
#include "scan.h"

struct tap_usage_reader {
	pid_t pid;
	int dir; /* /proc/PID: bound to the process, not to its number */
	int statm;
	int status;
	int fds; /* -1 where not permitted */
	uint64_t page_bytes;
	char *text; /* what was read last */
	size_t capacity;
};

#define TEXT_BYTES 4096
#define TEXT_MAX_BYTES (1 << 20)

static struct tap_error *gone(pid_t pid)
{
	return tap_error_new(TAP_ERR_GONE, "process %d has ended", (int)pid);
}

static struct tap_error *failed(const struct tap_usage_reader *reader, const char *name, int errnum)
{
	if (errnum == ESRCH || errnum == ENOENT)
		return gone(reader->pid);
	return tap_error_errno(errnum, "cannot read /proc/%d/%s", (int)reader->pid, name);
}

struct tap_error *tap_usage_open(pid_t pid, struct tap_usage_reader **ret)
{
	struct tap_usage_reader *reader = tap_alloc(sizeof(*reader));
	_cleanup_free_ char *text = NULL;
	char path[PATH_MAX];
	struct tap_error *err;

	*reader = (struct tap_usage_reader){.pid = pid, .dir = -1, .statm = -1, .status = -1,
		.fds = -1, .page_bytes = (uint64_t)sysconf(_SC_PAGESIZE)};
	reader->capacity = TEXT_BYTES;
	reader->text = tap_alloc(reader->capacity);
	err = tap_proc_read(pid, "statm", &text, NULL);
	if (err) {
		tap_usage_close(reader);
		return err;
	}
	tap_proc_path(path, sizeof(path), pid, "");
	reader->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (reader->dir >= 0) {
		reader->statm = openat(reader->dir, "statm", O_RDONLY | O_CLOEXEC);
		reader->status = openat(reader->dir, "status", O_RDONLY | O_CLOEXEC);
		reader->fds = openat(reader->dir, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (reader->statm < 0 || reader->status < 0) {
		err = failed(reader, "statm", errno);
		tap_usage_close(reader);
		return err;
	}
	*ret = reader;
	return NULL;
}

void tap_usage_close(struct tap_usage_reader *reader)
{
	if (!reader)
		return;
	tap_cleanup_close(&reader->fds);
	tap_cleanup_close(&reader->status);
	tap_cleanup_close(&reader->statm);
	tap_cleanup_close(&reader->dir);
	free(reader->text);
	free(reader);
}

/* Reads from the start into reader->text; 0 or an errno. status grows with
 * the user's list of groups. */
static int read_again(struct tap_usage_reader *reader, int fd)
{
	for (;;) {
		ssize_t n = pread(fd, reader->text, reader->capacity - 1, 0);

		if (n < 0)
			return errno;
		reader->text[n] = '\0';
		if ((size_t)n + 1 < reader->capacity || reader->capacity >= TEXT_MAX_BYTES)
			return 0;
		reader->capacity *= 2;
		reader->text = tap_realloc(reader->text, reader->capacity);
	}
}

/* Linux 6.2 and later tell the number as the directory's size. */
static uint64_t count_fds(const struct tap_usage_reader *reader)
{
	_cleanup_closedir_ DIR *dir = NULL;
	struct dirent *entry;
	struct stat st;
	uint64_t count = 0;
	int copy;

	if (reader->fds < 0)
		return TAP_USAGE_UNKNOWN;
	if (!*tap_proc_root() && !fstat(reader->fds, &st) && st.st_size > 0)
		return (uint64_t)st.st_size;
	copy = openat(reader->fds, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (copy < 0)
		return TAP_USAGE_UNKNOWN;
	dir = fdopendir(copy);
	if (!dir) {
		close(copy);
		return TAP_USAGE_UNKNOWN;
	}
	while ((entry = readdir(dir)))
		count += entry->d_name[0] >= '0' && entry->d_name[0] <= '9';
	return count;
}

static struct tap_error *read_resident(struct tap_usage_reader *reader, uint64_t *ret)
{
	int errnum = read_again(reader, reader->statm);
	const char *at = reader->text;
	uint64_t size, resident;

	if (errnum)
		return failed(reader, "statm", errnum);
	if (!tap_scan_decimal(&at, &size) || !tap_scan_char(&at, ' ') ||
		!tap_scan_decimal(&at, &resident) || resident > UINT64_MAX / reader->page_bytes)
		return tap_error_new(
			TAP_ERR_BAD_DATA, "cannot make sense of /proc/%d/statm", (int)reader->pid);
	*ret = resident * reader->page_bytes;
	return NULL;
}

static struct tap_error *read_swap(struct tap_usage_reader *reader, uint64_t *ret)
{
	int errnum = read_again(reader, reader->status);
	const char *state;

	if (errnum)
		return failed(reader, "status", errnum);
	/* A zombie still has its files, with nothing in them. */
	state = tap_scan_find(reader->text, "State");
	if (state && (*state == 'Z' || *state == 'X'))
		return gone(reader->pid);
	tap_scan_kib(reader->text, "VmSwap", ret);
	return NULL;
}

struct tap_error *tap_usage_read(struct tap_usage_reader *reader, bool with_fds, struct tap_usage *ret)
{
	struct tap_error *err;

	*ret = (struct tap_usage){.pss_bytes = TAP_USAGE_UNKNOWN,
		.uss_bytes = TAP_USAGE_UNKNOWN,
		.fds = TAP_USAGE_UNKNOWN};
	err = read_resident(reader, &ret->rss_bytes);
	if (!err)
		err = read_swap(reader, &ret->swap_bytes);
	if (!err && with_fds)
		ret->fds = count_fds(reader);
	return err;
}

/* Sums the lines of smaps_rollup, or of smaps, which may be of any length. */
static int sum_shared(FILE *file, uint64_t *pss_ret, uint64_t *uss_ret)
{
	char line[512];
	uint64_t bytes;
	bool at_start = true, here;

	*pss_ret = *uss_ret = 0;
	while (fgets(line, sizeof(line), file)) {
		here = at_start;
		at_start = strchr(line, '\n') != NULL;
		if (!here)
			continue;
		if (tap_scan_kib(line, "Pss", &bytes))
			*pss_ret += bytes;
		else if (tap_scan_kib(line, "Private_Clean", &bytes) ||
			 tap_scan_kib(line, "Private_Dirty", &bytes) ||
			 tap_scan_kib(line, "Private_Hugetlb", &bytes))
			*uss_ret += bytes;
	}
	return ferror(file) ? errno : 0;
}

static FILE *open_below(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	FILE *file;

	if (fd < 0)
		return NULL;
	file = fdopen(fd, "r");
	if (!file)
		close(fd);
	return file;
}

struct tap_error *tap_usage_read_shared(
	struct tap_usage_reader *reader, struct tap_usage *usage, uint64_t *cost_ns_ret)
{
	uint64_t start_ns = tap_clock_ns(), pss, uss;
	/* Opened anew each time: the file is bound to one address space, which
	 * execve() replaces. */
	_cleanup_fclose_ FILE *file = open_below(reader->dir, "smaps_rollup");
	int errnum;

	if (!file && errno == ENOENT)
		file = open_below(reader->dir, "smaps");
	errnum = file ? sum_shared(file, &pss, &uss) : errno;
	*cost_ns_ret = tap_clock_ns() - start_ns;
	if (errnum)
		return failed(reader, "smaps_rollup", errnum);
	usage->pss_bytes = pss;
	usage->uss_bytes = uss;
	return NULL;
}
