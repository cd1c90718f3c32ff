/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding the file that a mapping shows. map_files gives the very file, but
 * wants capabilities over the process; a path may name another file by now,
 * so that what it names must be proved to be the one that is mapped.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include "heaptap/base/cleanup.h"
#include "heaptap/proc/root.h"
#include "object.h"

#define HEAD_BYTES 4096

static struct tap_image *open_map_file(pid_t pid, const struct tap_mapping *mapping)
{
	char name[64], path[PATH_MAX];

	snprintf(name, sizeof(name), "map_files/%llx-%llx", (unsigned long long)mapping->start,
		(unsigned long long)mapping->end);
	return tap_image_open_path(tap_proc_path(path, sizeof(path), pid, name));
}

static const struct tap_mapping *head_of(
	const struct tap_maps *maps, const struct tap_mapping *mapping)
{
	for (const struct tap_mapping *m = mapping;; m--) {
		if (m->inode == mapping->inode && m->offset == 0 && !strcmp(m->path, mapping->path))
			return m;
		if (m == maps->items)
			return NULL;
	}
}

static bool is_mapped_file(int fd, const struct tap_mapping *mapping)
{
	struct stat st;

	return !fstat(fd, &st) && st.st_ino == mapping->inode &&
		major(st.st_dev) == mapping->dev_major && minor(st.st_dev) == mapping->dev_minor;
}

/* btrfs and overlayfs show another device in maps than stat() does: a file
 * that has a build id and whose first page is what is mapped is the same. */
static bool has_same_head(struct tap_symbols *symbols, const struct tap_image *image,
	const struct tap_mapping *head)
{
	uint8_t mapped[HEAD_BYTES];
	_cleanup_free_ char *build_id = tap_image_build_id(image);

	return build_id && head && image->size_bytes >= HEAD_BYTES &&
		tap_memory_try_read(symbols->memory, head->start, mapped, HEAD_BYTES) &&
		!memcmp(mapped, image->bytes, HEAD_BYTES);
}

static struct tap_image *open_proved(struct tap_symbols *symbols, const char *path,
	const struct tap_mapping *mapping, const struct tap_mapping *head)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	_cleanup_image_ struct tap_image *image = NULL;
	struct tap_image *proved;

	if (fd < 0)
		return NULL;
	image = tap_image_open(fd);
	if (!image || (!is_mapped_file(fd, mapping) && !has_same_head(symbols, image, head)))
		return NULL;
	proved = image;
	image = NULL;
	return proved;
}

static struct tap_image *open_by_name(struct tap_symbols *symbols,
	const struct tap_mapping *mapping, const struct tap_mapping *head)
{
	char root[PATH_MAX];
	_cleanup_free_ char *below = NULL;
	struct tap_image *image;

	if (mapping->deleted || mapping->path[0] != '/')
		return NULL;
	below = tap_format("%s%s", tap_proc_path(root, sizeof(root), symbols->pid, "root"),
		mapping->path);
	image = open_proved(symbols, below, mapping, head);
	return image ? image : open_proved(symbols, mapping->path, mapping, head);
}

static struct tap_image *open_image(struct tap_symbols *symbols, const struct tap_maps *maps,
	const struct tap_mapping *mapping)
{
	const struct tap_mapping *head = head_of(maps, mapping);
	struct tap_image *image;

	if (!mapping->inode)
		return tap_image_read(symbols->memory, mapping->start, mapping->end, true);
	image = open_map_file(symbols->pid, mapping);
	if (!image)
		image = open_by_name(symbols, mapping, head);
	if (!image && head)
		image = tap_image_read(symbols->memory, head->start, mapping->end, false);
	return image;
}

struct tap_object *tap_object_open(struct tap_symbols *symbols, const struct tap_maps *maps,
	const struct tap_mapping *mapping)
{
	struct tap_object *object = tap_alloc(sizeof(*object));
	char *slash;

	object->owner = symbols;
	object->inode = mapping->inode;
	object->dev_major = mapping->dev_major;
	object->dev_minor = mapping->dev_minor;
	object->path = tap_strdup(mapping->path);
	slash = strrchr(object->path, '/');
	object->name = slash ? slash + 1 : object->path;
	object->image = open_image(symbols, maps, mapping);
	if (object->image)
		object->build_id = tap_image_build_id(object->image);
	return object;
}

void tap_object_close(struct tap_object *object)
{
	tap_object_drop_units(object);
	tap_object_drop_cfi(object);
	tap_object_drop_names(object);
	tap_vector_free(&object->extents);
	/* The one that refers to the other goes first. */
	tap_image_close(object->debug);
	tap_image_close(object->image);
	tap_image_close(object->alt);
	free(object->build_id);
	free(object->path);
	free(object);
}
