/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/vector.h"
#include "heaptap/proc/maps.h"
#include "heaptap/proc/root.h"
#include "scan.h"

#define DELETED " (deleted)"

TAP_VECTOR_TYPE(mapping_list, struct tap_mapping);

static bool scan_flags(const char **cursor, struct tap_mapping *ret)
{
	const char *at = *cursor;

	for (int i = 0; i < 4; i++)
		if (!at[i] || at[i] == '\n' || !strchr("rwxps-", at[i]))
			return false;
	ret->readable = at[0] == 'r';
	ret->writable = at[1] == 'w';
	ret->executable = at[2] == 'x';
	ret->shared = at[3] == 's';
	*cursor = at + 4;
	return true;
}

static bool scan_device(const char **cursor, struct tap_mapping *ret)
{
	uint64_t major, minor;

	if (!tap_scan_hex(cursor, &major) || !tap_scan_char(cursor, ':') ||
		!tap_scan_hex(cursor, &minor) || major > UINT32_MAX || minor > UINT32_MAX)
		return false;
	ret->dev_major = (uint32_t)major;
	ret->dev_minor = (uint32_t)minor;
	return true;
}

/* The kernel writes a newline in a name as \012 and escapes nothing else, not
 * even the backslash. */
static void unescape_newlines(char *path)
{
	char *to = path;

	for (const char *from = path; *from; to++) {
		if (!strncmp(from, "\\012", 4)) {
			*to = '\n';
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

static void take_path(char *path, struct tap_mapping *ret)
{
	size_t size = strlen(path), suffix = strlen(DELETED);

	if (size > suffix && !strcmp(path + size - suffix, DELETED)) {
		path[size - suffix] = '\0';
		ret->deleted = true;
	}
	unescape_newlines(path);
	ret->path = path;
}

/* "start-end rwxp offset major:minor inode   path" */
static bool parse_line(char *line, struct tap_mapping *ret)
{
	const char *at = line;

	*ret = (struct tap_mapping){0};
	if (!tap_scan_hex(&at, &ret->start) || !tap_scan_char(&at, '-') ||
		!tap_scan_hex(&at, &ret->end) || !tap_scan_char(&at, ' ') ||
		!scan_flags(&at, ret) || !tap_scan_char(&at, ' ') ||
		!tap_scan_hex(&at, &ret->offset) || !tap_scan_char(&at, ' ') ||
		!scan_device(&at, ret) || !tap_scan_char(&at, ' ') ||
		!tap_scan_decimal(&at, &ret->inode))
		return false;
	tap_scan_blanks(&at);
	take_path(line + (at - line), ret);
	return ret->start < ret->end;
}

void tap_maps_parse(char *text, struct tap_maps *ret)
{
	struct mapping_list list = {0};
	uint64_t behind = 0;
	char *rest = text, *line;

	while ((line = strsep(&rest, "\n"))) {
		struct tap_mapping mapping;

		/* A text read in pieces while the target maps and unmaps can name
		 * memory twice; the search relies on order. */
		if (!parse_line(line, &mapping) || mapping.start < behind)
			continue;
		behind = mapping.end;
		tap_vector_push(&list, mapping);
	}
	ret->items = list.items;
	ret->count = list.count;
	ret->text = text;
}

struct tap_error *tap_maps_read(pid_t pid, struct tap_maps *ret)
{
	char *text;
	struct tap_error *err = tap_proc_read(pid, "maps", &text, NULL);

	if (err)
		return err;
	tap_maps_parse(text, ret);
	return NULL;
}

void tap_maps_deinit(struct tap_maps *maps)
{
	free(maps->items);
	free(maps->text);
	*maps = (struct tap_maps){0};
}

const struct tap_mapping *tap_maps_find(const struct tap_maps *maps, uint64_t addr)
{
	size_t low = 0, high = maps->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct tap_mapping *mapping = &maps->items[middle];

		if (addr < mapping->start)
			high = middle;
		else if (addr >= mapping->end)
			low = middle + 1;
		else
			return mapping;
	}
	return NULL;
}
