/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/memory/memory.h"
#include "heaptap/proc/maps.h"
#include "heaptap/proc/root.h"
#include "heaptap/target/left.h"
#include "target/probes_internal.h"

#define LEFT_MAX 16u
#define FILE_NAME "/memfd:" PROBE_FILE_NAME

static bool read_head(struct tap_memory *memory, uint64_t region, struct probe_head *ret)
{
	return tap_memory_try_read(memory, region + TAP_PROBE_NAME_AT, ret, sizeof(*ret)) &&
		!memcmp(ret->area.magic, AREA_MAGIC, sizeof(ret->area.magic)) &&
		ret->area.version == PROBE_HEAD_VERSION &&
		ret->area.size_bytes == TAP_PROBE_REGION_BYTES &&
		ret->place_count <= PROBE_PLACES_MAX;
}

static bool owner_is_alive(const struct area_head *head)
{
	struct tap_process owner = {0};
	_cleanup_error_ struct tap_error *err = tap_process_read(head->owner_pid, &owner);
	bool alive = !err && owner.start_ticks == head->owner_start_ticks && owner.state != 'Z' &&
		owner.state != 'X';

	tap_process_deinit(&owner);
	return alive;
}

static void look_at(const struct tap_process *process, struct tap_memory *memory, uint64_t region,
	struct tap_left_list *list)
{
	struct probe_head head;
	struct area_head self;
	_cleanup_error_ struct tap_error *err = area_fill_head(&self, 0);
	struct tap_left left = {.region = region};

	if (err || !read_head(memory, region, &head))
		return;
	left.owner = head.area.owner_pid;
	left.owner_known = head.area.owner_pid_namespace == self.owner_pid_namespace;
	left.owner_alive = !left.owner_known || owner_is_alive(&head.area);
	left.copy = head.target_start_ticks != process->start_ticks ||
		(left.owner_known && head.target_pid != process->pid);
	tap_vector_push(list, left);
}

struct tap_error *tap_left_find(const struct tap_process *process, struct tap_left_list *ret)
{
	_cleanup_memory_ struct tap_memory *memory = NULL;
	struct tap_maps maps = {0};
	struct tap_error *err = tap_memory_open(process->pid, false, &memory);

	if (!err)
		err = tap_maps_read(process->pid, &maps);
	for (size_t i = 0; !err && i < maps.count && ret->count < LEFT_MAX; i++) {
		const struct tap_mapping *mapping = &maps.items[i];

		/* Code, or where that was not mapped yet. */
		if (mapping->executable == mapping->readable && !mapping->writable &&
			!mapping->shared && !mapping->inode && !mapping->path[0] &&
			mapping->end - mapping->start >= TAP_PROBE_NAME_AT)
			look_at(process, memory, mapping->start, ret);
	}
	tap_maps_deinit(&maps);
	return err;
}

static bool is_code(uint64_t region, uint64_t addr)
{
	return addr - region < TAP_PROBE_NAME_AT;
}

/* Only what leads into the region is taken for a place of ours. */
static void add_place(struct tap_probes *probes, const struct probe_place *place)
{
	if (place->addr - probes->region < TAP_PROBE_REGION_BYTES)
		return;
	if (place->size_bytes == TAP_PROBE_JUMP_BYTES) {
		struct patch patch = {.addr = place->addr, .size_bytes = place->size_bytes, .placed = true};
		int32_t displacement;

		memcpy(&displacement, place->ours + 1, sizeof(displacement));
		if (place->ours[0] != 0xe9 ||
			!is_code(probes->region,
				place->addr + TAP_PROBE_JUMP_BYTES + (uint64_t)(int64_t)displacement))
			return;
		memcpy(patch.original, place->original, sizeof(patch.jump));
		memcpy(patch.jump, place->ours, sizeof(patch.jump));
		tap_vector_push(&probes->patches, patch);
	} else if (place->size_bytes == sizeof(uint64_t) && place->addr % sizeof(uint64_t) == 0) {
		struct redirected pointer = {.addr = place->addr, .placed = true};

		memcpy(&pointer.original, place->original, sizeof(pointer.original));
		memcpy(&pointer.instance, place->ours, sizeof(pointer.instance));
		if (is_code(probes->region, pointer.instance))
			tap_vector_push(&probes->pointers, pointer);
	}
}

struct tap_error *tap_left_remove(struct tap_target *target, const struct tap_left *left)
{
	struct tap_probes *probes = tap_alloc(sizeof(*probes));
	_cleanup_free_ struct probe_place *places =
		tap_alloc(PROBE_PLACES_MAX * sizeof(*places));
	struct tap_error *err = tap_memory_open(target->pid, true, &probes->memory);

	probes->pid = target->pid;
	probes->fd = -1;
	probes->region = left->region;
	if (!err && (!read_head(target->memory, left->region, &probes->head) ||
			    !tap_memory_try_read(target->memory,
				    left->region + TAP_PROBE_NAME_AT + sizeof(probes->head), places,
				    probes->head.place_count * sizeof(*places))))
		err = tap_error_new(TAP_ERR_GONE, "it is no longer there");
	for (uint32_t i = 0; !err && i < probes->head.place_count; i++)
		add_place(probes, &places[i]);
	if (!err)
		err = tap_probes_remove(probes, target);
	tap_probes_destroy(probes);
	return err;
}

/* The next descriptor from `from` on that has the name that only the memory
 * shared with a heaptap has; -1: none. */
static int find_file(pid_t pid, int from)
{
	char path[256];
	DIR *dir = opendir(tap_proc_path(path, sizeof(path), pid, "fd"));
	int best = -1;

	for (struct dirent *entry; dir && (entry = readdir(dir));) {
		_cleanup_free_ char *link = NULL;
		int fd = atoi(entry->d_name);
		char name[32];

		if (entry->d_name[0] == '.' || fd < from || (best >= 0 && fd >= best))
			continue;
		snprintf(name, sizeof(name), "fd/%d", fd);
		tap_error_free(tap_proc_readlink(pid, name, &link));
		if (link && !strncmp(link, FILE_NAME, sizeof(FILE_NAME) - 1))
			best = fd;
	}
	if (dir)
		closedir(dir);
	return best;
}

bool tap_left_has_files(pid_t pid)
{
	return find_file(pid, 0) >= 0;
}

struct tap_error *tap_left_close_files(struct tap_target *target)
{
	struct tap_error *err = NULL;
	int fd = -1;

	while (!err && (fd = find_file(target->pid, fd + 1)) >= 0) {
		int64_t result = 0;

		err = remote_call_anywhere(
			target, SYS_close, (uint64_t[]){(uint64_t)fd, 0, 0, 0, 0, 0}, &result);
	}
	return err;
}
