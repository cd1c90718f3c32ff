/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Separate debug files: by build id, then by .gnu_debuglink, below the
 * directory that the user named, then as the target sees its files, then as
 * we do. A file is taken only if its build id or its checksum proves it.
 */
#include <elfutils/libdwelf.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/cleanup.h"
#include "heaptap/proc/root.h"
#include "object.h"

#define SYSTEM_DEBUG_DIR "/usr/lib/debug"

/* What a candidate must be to be taken. */
struct proof {
	const char *build_id;
	bool has_checksum;
	uint32_t checksum;
};

/* CRC-32 (ISO 3309), as .gnu_debuglink has it. */
static uint32_t checksum_of(const uint8_t *bytes, size_t size_bytes)
{
	uint32_t table[256], crc = UINT32_MAX;

	for (uint32_t i = 0; i < 256; i++) {
		uint32_t value = i;

		for (int bit = 0; bit < 8; bit++)
			value = value & 1 ? value >> 1 ^ UINT32_C(0xedb88320) : value >> 1;
		table[i] = value;
	}
	for (size_t i = 0; i < size_bytes; i++)
		crc = table[(crc ^ bytes[i]) & 0xff] ^ crc >> 8;
	return ~crc;
}

static bool is_proved(const struct tap_image *image, const struct proof *proof)
{
	_cleanup_free_ char *build_id = tap_image_build_id(image);

	if (proof->build_id && build_id)
		return !strcmp(build_id, proof->build_id);
	return proof->has_checksum &&
		checksum_of(image->bytes, image->size_bytes) == proof->checksum;
}

static struct tap_image *try_path(const char *path, const struct proof *proof)
{
	struct tap_image *image = tap_image_open_path(path);

	if (image && !is_proved(image, proof)) {
		tap_image_close(image);
		return NULL;
	}
	return image;
}

/* An absolute path: below the target's root, then as it is. */
static struct tap_image *try_roots(
	const struct tap_object *object, const char *path, const struct proof *proof)
{
	char root[PATH_MAX];
	_cleanup_free_ char *below = tap_format("%s%s",
		tap_proc_path(root, sizeof(root), object->owner->pid, "root"), path);
	struct tap_image *image = try_path(below, proof);

	return image ? image : try_path(path, proof);
}

static struct tap_image *by_build_id(
	const struct tap_object *object, const char *build_id, const struct proof *proof)
{
	_cleanup_free_ char *tail = NULL, *path = NULL, *system = NULL;
	struct tap_image *image = NULL;

	if (strlen(build_id) < 4)
		return NULL;
	tail = tap_format("/.build-id/%.2s/%s.debug", build_id, build_id + 2);
	if (object->owner->debug_dir) {
		path = tap_format("%s%s", object->owner->debug_dir, tail);
		image = try_path(path, proof);
	}
	system = tap_format(SYSTEM_DEBUG_DIR "%s", tail);
	return image ? image : try_roots(object, system, proof);
}

static struct tap_image *by_link(
	const struct tap_object *object, const char *link, const struct proof *proof)
{
	_cleanup_free_ char *copy = tap_strdup(object->path);
	_cleanup_free_ char *named = NULL, *beside = NULL, *hidden = NULL, *system = NULL;
	const char *dir = dirname(copy);
	struct tap_image *image = NULL;

	/* The link is a plain name; anything else leads out of its directory. */
	if (strchr(link, '/') || dir[0] != '/')
		return NULL;
	if (object->owner->debug_dir) {
		named = tap_format("%s%s/%s", object->owner->debug_dir, dir, link);
		image = try_path(named, proof);
	}
	beside = tap_format("%s/%s", dir, link);
	hidden = tap_format("%s/.debug/%s", dir, link);
	system = tap_format(SYSTEM_DEBUG_DIR "%s/%s", dir, link);
	if (!image)
		image = try_roots(object, hidden, proof);
	if (!image)
		image = try_roots(object, system, proof);
	return image ? image : try_roots(object, beside, proof);
}

static uint64_t first_load(const struct tap_image *image)
{
	uint64_t low = 0, high;

	tap_image_extent(image, &low, &high);
	return low;
}

/* dwz moves what several files share into one more file. */
static void find_alt(struct tap_object *object, struct tap_image *main)
{
	Dwarf *dwarf = tap_image_dwarf(main);
	_cleanup_free_ char *text = NULL;
	struct proof proof = {0};
	const char *name;
	const void *id;
	ssize_t size;

	size = dwarf ? dwelf_dwarf_gnu_debugaltlink(dwarf, &name, &id) : 0;
	if (size < 2 || size > 64)
		return;
	text = tap_alloc((size_t)size * 2 + 1);
	for (ssize_t i = 0; i < size; i++)
		snprintf(text + i * 2, 3, "%02x", ((const uint8_t *)id)[i]);
	proof.build_id = text;
	object->alt = by_build_id(object, text, &proof);
	if (!object->alt && name[0] == '/')
		object->alt = try_roots(object, name, &proof);
	if (!object->alt) {
		const char *slash = strrchr(name, '/');
		_cleanup_free_ char *shared =
			tap_format(SYSTEM_DEBUG_DIR "/.dwz/x86_64-linux-gnu/%s",
				slash ? slash + 1 : name);

		object->alt = try_roots(object, shared, &proof);
	}
	if (object->alt && tap_image_dwarf(object->alt))
		dwarf_setalt(dwarf, tap_image_dwarf(object->alt));
}

void tap_object_find_debug(struct tap_object *object)
{
	struct proof proof = {.build_id = object->build_id};
	const char *link;
	GElf_Word checksum;

	if (object->debug_tried)
		return;
	object->debug_tried = true;
	if (!object->image || tap_image_has_dwarf(object->image))
		return;
	if (object->build_id)
		object->debug = by_build_id(object, object->build_id, &proof);
	link = dwelf_elf_gnu_debuglink(object->image->elf, &checksum);
	if (!object->debug && link) {
		proof.has_checksum = true;
		proof.checksum = checksum;
		object->debug = by_link(object, link, &proof);
	}
	if (object->debug)
		object->debug_delta = first_load(object->image) - first_load(object->debug);
}

struct tap_image *tap_object_dwarf_image(struct tap_object *object)
{
	struct tap_image *image;

	if (!object->image)
		return NULL;
	tap_object_find_debug(object);
	image = object->debug ? object->debug : object->image;
	if (!tap_image_has_dwarf(image))
		return NULL;
	if (!image->dwarf_tried)
		find_alt(object, image);
	return tap_image_dwarf(image) ? image : NULL;
}
