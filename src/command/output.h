/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_COMMAND_OUTPUT_H
#define HEAPTAP_COMMAND_OUTPUT_H

/*
 * Where an answer goes. It is opened before anything is attached to, so that
 * a file that cannot be written costs nobody a recording; what is there is
 * replaced only once the answer is whole (a temporary file beside it, then a
 * rename). Standard output, pipes and devices are written directly.
 *
 * A reader that went away (`| head`) is no error; a full disk or a closed
 * descriptor is, with code FILE.
 */

#include <stdbool.h>
#include <stdio.h>
#include "heaptap/base/error.h"

struct tap_output {
	int fd;
	bool own_fd;
	char *name; /* for messages */
	char *path; /* to be replaced by temp_path, NULL where written directly */
	char *temp_path;
	bool truncate; /* its directory takes no new file: overwritten at the end */
	bool broken;   /* nobody reads any more */
	FILE *file;    /* what the answer is printed to: memory until it is whole */
	char *data;
	size_t size_bytes;
};

/* path: -o's argument; "-" or NULL for default_fd. */
struct tap_error *tap_output_open(const char *path, int default_fd, struct tap_output *ret);

/* Writes bytes out now, in front of what is in file: for lines that are wanted
 * as they come. */
struct tap_error *tap_output_stream(
	struct tap_output *output, const char *bytes, size_t size_bytes);

/* Writes what was printed to file, and puts it in place. */
struct tap_error *tap_output_commit(struct tap_output *output);

/* Frees; what was not committed is taken away. A zeroed one is fine. */
void tap_output_deinit(struct tap_output *output);

#define _cleanup_output_ __attribute__((cleanup(tap_output_deinit)))

#endif
