/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "command/output.h"
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/session/stop.h"

#define FIFO_POLL_NS 50000000ULL

static struct tap_error *file_error(int errnum, const char *verb, const char *name)
{
	return tap_error_new(TAP_ERR_FILE, "cannot %s %s: %s", verb, name, strerror(errnum));
}

/* /dev/stdout and its like name a descriptor of ours, which may be a file: it
 * is neither opened again nor replaced. */
static int own_descriptor(const char *path)
{
	static const char *const folders[] = {"/dev/fd/", "/proc/self/fd/"};

	if (!strcmp(path, "/dev/stdout"))
		return STDOUT_FILENO;
	if (!strcmp(path, "/dev/stderr"))
		return STDERR_FILENO;
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		size_t length = strlen(folders[i]);
		char *end;
		long fd;

		if (strncmp(path, folders[i], length) || !path[length])
			continue;
		fd = strtol(path + length, &end, 10);
		if (!*end && fd >= 0 && fd <= INT_MAX && fcntl((int)fd, F_GETFD) >= 0)
			return (int)fd;
	}
	return -1;
}

/* open(2) of a FIFO waits for a reader where no signal handler gets a word in;
 * this ends when the user asks for it. */
static int open_fifo(const char *path)
{
	for (;;) {
		int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);

		if (fd >= 0) {
			fcntl(fd, F_SETFL, 0);
			return fd;
		}
		if (errno != ENXIO || !tap_stop_sleep_until(tap_clock_ns() + FIFO_POLL_NS))
			return -1;
	}
}

/* An existing file's mode goes to what replaces it. */
static int create_beside(struct tap_output *output, mode_t mode, bool exists)
{
	_cleanup_free_ char *for_dirname = tap_strdup(output->path);
	_cleanup_free_ char *for_basename = tap_strdup(output->path);
	const char *folder = dirname(for_dirname);
	const char *name = basename(for_basename);

	for (int i = 0; i < 100; i++) {
		int fd;

		output->temp_path =
			tap_format("%s/.%.200s.heaptap-%d-%d", folder, name, getpid(), i);
		fd = open(output->temp_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (fd >= 0) {
			if (exists)
				fchmod(fd, mode & 07777);
			return fd;
		}
		free(output->temp_path);
		output->temp_path = NULL;
		if (errno != EEXIST)
			return -1;
	}
	return -1;
}

static struct tap_error *open_regular(
	struct tap_output *output, const char *path, const struct stat *there)
{
	int create_errno;

	if (there && access(path, W_OK))
		return file_error(errno, "write", output->name);
	/* A link stays a link: what it names is replaced. */
	output->path = there ? realpath(path, NULL) : tap_strdup(path);
	if (!output->path)
		return file_error(errno, "write", output->name);
	output->fd = create_beside(output, there ? there->st_mode : 0, there != NULL);
	if (output->fd >= 0)
		return NULL;
	create_errno = errno;
	if (there)
		output->fd = open(output->path, O_WRONLY | O_CLOEXEC);
	if (output->fd < 0)
		return file_error(create_errno, "write", output->name);
	output->truncate = true;
	return NULL;
}

static struct tap_error *open_path(struct tap_output *output, const char *path)
{
	struct stat status;
	bool there = !stat(path, &status);

	output->own_fd = true;
	output->name = tap_strdup(path);
	if (there && S_ISDIR(status.st_mode))
		return file_error(EISDIR, "write", output->name);
	if (!there || S_ISREG(status.st_mode))
		return open_regular(output, path, there ? &status : NULL);
	output->fd = S_ISFIFO(status.st_mode) ? open_fifo(path) : open(path, O_WRONLY | O_CLOEXEC);
	if (output->fd < 0)
		return file_error(errno, "write", output->name);
	return NULL;
}

struct tap_error *tap_output_open(const char *path, int default_fd, struct tap_output *ret)
{
	struct tap_error *err = NULL;

	memset(ret, 0, sizeof(*ret));
	ret->fd = default_fd;
	if (path && strcmp(path, "-")) {
		ret->fd = own_descriptor(path);
		if (ret->fd < 0)
			err = open_path(ret, path);
	}
	if (err)
		return err;
	if (!ret->name)
		ret->name = tap_strdup(path && strcmp(path, "-")  ? path
				       : ret->fd == STDERR_FILENO ? "standard error"
								  : "standard output");
	ret->file = open_memstream(&ret->data, &ret->size_bytes);
	if (!ret->file)
		return tap_error_errno(errno, "cannot make a buffer");
	return NULL;
}

struct tap_error *tap_output_stream(struct tap_output *output, const char *bytes, size_t size_bytes)
{
	while (size_bytes && !output->broken) {
		ssize_t n = write(output->fd, bytes, size_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EPIPE) {
			output->broken = true;
			return NULL;
		}
		if (n < 0)
			return file_error(errno, "write", output->name);
		bytes += n;
		size_bytes -= (size_t)n;
	}
	return NULL;
}

static struct tap_error *put_in_place(struct tap_output *output)
{
	int fd = output->fd;

	output->fd = -1;
	/* Some file systems tell of a full disk only now. */
	if (close(fd))
		return file_error(errno, "write", output->name);
	if (output->temp_path && rename(output->temp_path, output->path))
		return file_error(errno, "replace", output->name);
	free(output->temp_path);
	output->temp_path = NULL;
	return NULL;
}

struct tap_error *tap_output_commit(struct tap_output *output)
{
	struct tap_error *err;

	if (fflush(output->file))
		return tap_error_errno(errno, "cannot fill a buffer");
	if (output->truncate && ftruncate(output->fd, 0))
		return file_error(errno, "write", output->name);
	err = tap_output_stream(output, output->data, output->size_bytes);
	if (err || !output->own_fd)
		return err;
	return put_in_place(output);
}

void tap_output_deinit(struct tap_output *output)
{
	if (output->file)
		fclose(output->file);
	free(output->data);
	if (output->own_fd && output->fd >= 0)
		close(output->fd);
	if (output->temp_path)
		unlink(output->temp_path);
	free(output->temp_path);
	free(output->path);
	free(output->name);
	memset(output, 0, sizeof(*output));
}
