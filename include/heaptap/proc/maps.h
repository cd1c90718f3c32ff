/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_PROC_MAPS_H
#define HEAPTAP_PROC_MAPS_H

/* The mappings of a process, from /proc/PID/maps, in address order. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "heaptap/base/error.h"

struct tap_mapping {
	uint64_t start; /* inclusive */
	uint64_t end;   /* exclusive */
	uint64_t offset;
	uint64_t inode; /* 0 for anonymous memory */
	uint32_t dev_major;
	uint32_t dev_minor;
	bool readable;
	bool writable;
	bool executable;
	bool shared;
	bool deleted;     /* the file's name is gone: " (deleted)" is cut off path */
	const char *path; /* as seen from heaptap, "[heap]", "[stack]", ... or "" ; never NULL */
};

struct tap_maps {
	struct tap_mapping *items;
	size_t count;
	char *text; /* what the paths point into */
};

struct tap_error *tap_maps_read(pid_t pid, struct tap_maps *ret);
/* Parses text in the format of /proc/PID/maps; takes over text, which is
 * changed in place. Lines that do not parse are left out. */
void tap_maps_parse(char *text, struct tap_maps *ret);
void tap_maps_deinit(struct tap_maps *maps);

/* The mapping that holds addr, or NULL. */
const struct tap_mapping *tap_maps_find(const struct tap_maps *maps, uint64_t addr);

#endif
