/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/proc/maps.h"
#include "heaptap/proc/process.h"
#include "target/internal.h"
#include "target/ptrace.h"

#define PAGE_BYTES UINT64_C(4096)
#define AREA_BYTES (16 * PAGE_BYTES)
/* How far a 32-bit displacement reaches, with room for the area itself and
 * for what a relocated operand adds. */
#define NEAR_BYTES (UINT64_C(0x7f000000))
#define LOWEST_ADDR UINT64_C(0x10000)
/* What is left to brk before it meets an area. */
#define HEAP_ROOM_BYTES (UINT64_C(64) << 30)
#define ALIGN_BYTES 16
#define SEARCH_PIECE_BYTES (64 << 10)
#define SEARCH_MAX_BYTES (UINT64_C(64) << 20) /* of one module's data */

static uint64_t distance(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

/* Memory that may grow upwards: the heap of brk, or the executable's last
 * segment, behind which brk begins where it was not called yet. */
static bool grows_up(const struct tap_maps *maps, size_t i)
{
	if (!strcmp(maps->items[i + 1].path, "[heap]"))
		return false;
	return !strcmp(maps->items[i].path, "[heap]") ||
		(i > 0 && !maps->items[i].inode && !maps->items[i].path[0] &&
			maps->items[i - 1].end == maps->items[i].start && maps->items[i - 1].inode &&
			!strcmp(maps->items[i - 1].path, maps->items[0].path));
}

/* Room for an area between two mappings, as near as can be, a page away from
 * both: at the lower end unless a heap grows there, at the upper one unless a
 * stack does. 0: none in reach. */
static uint64_t room_between(
	const struct tap_maps *maps, size_t i, uint64_t near, uint64_t size_bytes)
{
	uint64_t start = maps->items[i].end + PAGE_BYTES;
	uint64_t end = maps->items[i + 1].start;
	uint64_t low, high, best = 0;

	if (end <= start || end - start < size_bytes + PAGE_BYTES)
		return 0;
	low = start;
	high = end - size_bytes - PAGE_BYTES;
	if (low >= LOWEST_ADDR && distance(low, near) <= NEAR_BYTES && !grows_up(maps, i))
		best = low;
	/* Of a hole above a heap only what is far from it. */
	if (grows_up(maps, i) && high - start < HEAP_ROOM_BYTES)
		return best;
	if (high >= LOWEST_ADDR && distance(high, near) <= NEAR_BYTES &&
		strcmp(maps->items[i + 1].path, "[stack]") &&
		(!best || distance(high, near) < distance(best, near)))
		best = high;
	return best;
}

/* Below everything, where an executable at a fixed address leaves room. */
static uint64_t room_below(const struct tap_maps *maps, uint64_t near, uint64_t size_bytes)
{
	uint64_t start = maps->count ? maps->items[0].start : 0;
	uint64_t addr = start - size_bytes - PAGE_BYTES;

	if (start < LOWEST_ADDR + size_bytes + PAGE_BYTES || distance(addr, near) > NEAR_BYTES)
		return 0;
	return addr;
}

struct tap_error *area_find_hole(
	struct tap_target *target, uint64_t near, uint64_t size_bytes, uint64_t *addr_ret)
{
	struct tap_maps maps = {0};
	struct tap_error *err = tap_maps_read(target->pid, &maps);
	uint64_t best = 0;

	if (err)
		return err;
	best = room_below(&maps, near, size_bytes);
	for (size_t i = 0; i + 1 < maps.count; i++) {
		uint64_t room = room_between(&maps, i, near, size_bytes);

		if (room && (!best || distance(room, near) < distance(best, near)))
			best = room;
	}
	tap_maps_deinit(&maps);
	*addr_ret = best;
	if (!best)
		return tap_error_new(TAP_ERR_UNSUPPORTED,
			"no free address within 2 GiB of 0x%llx", (unsigned long long)near);
	return NULL;
}

static uint64_t pid_namespace(void)
{
	struct stat info;

	return stat("/proc/self/ns/pid", &info) ? 0 : info.st_ino;
}

struct tap_error *area_fill_head(struct area_head *head, uint64_t size_bytes)
{
	struct tap_process self = {0};
	struct tap_error *err = tap_process_read(getpid(), &self);

	*head = (struct area_head){
		.magic = AREA_MAGIC,
		.version = 1,
		.owner_pid = getpid(),
		.owner_start_ticks = self.start_ticks,
		.owner_pid_namespace = pid_namespace(),
		.size_bytes = size_bytes,
	};
	tap_process_deinit(&self);
	return err;
}

static struct tap_error *map_area(struct tap_target *target, uint64_t near)
{
	struct area_head head;
	uint64_t hole;
	int64_t result = 0;
	struct area area;
	struct tap_error *err;

	err = area_fill_head(&head, AREA_BYTES);
	if (!err)
		err = area_find_hole(target, near, AREA_BYTES, &hole);
	if (!err)
		err = remote_call_anywhere(target, SYS_mmap,
			(uint64_t[]){hole, AREA_BYTES, PROT_READ | PROT_EXEC,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, UINT64_MAX, 0},
			&result);
	if (err)
		return err;
	if (result < 0 && result > -4096)
		return tap_error_errno((int)-result, "no memory for code in process %d", target->pid);
	/* A kernel before 4.17 knows no MAP_FIXED_NOREPLACE and takes the
	 * address as a hint: what it gave is used only if it is in reach. */
	area = (struct area){(uint64_t)result, AREA_BYTES, sizeof(struct area_head)};
	area.used_bytes = (area.used_bytes + ALIGN_BYTES - 1) & ~(uint64_t)(ALIGN_BYTES - 1);
	tap_vector_push(&target->areas, area);
	return tap_memory_write(target->memory, area.start, &head, sizeof(head));
}

static bool take(struct area *area, uint64_t near, size_t size_bytes, uint64_t *addr_ret)
{
	if (distance(area->start, near) > NEAR_BYTES ||
		area->used_bytes + size_bytes > area->size_bytes)
		return false;
	*addr_ret = area->start + area->used_bytes;
	area->used_bytes += (size_bytes + ALIGN_BYTES - 1) & ~(size_t)(ALIGN_BYTES - 1);
	return true;
}

struct tap_error *area_reserve(
	struct tap_target *target, uint64_t near, size_t size_bytes, uint64_t *addr_ret)
{
	struct tap_error *err;

	for (size_t i = 0; i < target->areas.count; i++)
		if (take(&target->areas.items[i], near, size_bytes, addr_ret))
			return NULL;
	err = map_area(target, near);
	if (err)
		return err;
	if (!take(&target->areas.items[target->areas.count - 1], near, size_bytes, addr_ret))
		return tap_error_new(TAP_ERR_UNSUPPORTED, "memory for code came too far away");
	return NULL;
}

bool area_holds(const struct tap_target *target, uint64_t addr)
{
	for (size_t i = 0; i < target->areas.count; i++)
		if (addr - target->areas.items[i].start < target->areas.items[i].size_bytes)
			return true;
	return false;
}

uint64_t area_way_out(const struct tap_target *target, uint64_t pc)
{
	struct tap_map_slot *slot;

	if (!area_holds(target, pc))
		return 0;
	for (size_t i = 0; tap_map_next(&target->breakpoints, &i, &slot);) {
		const struct tap_breakpoint *bp = (const struct tap_breakpoint *)slot->value;

		if (bp->leads_to && pc - bp->addr < bp->insn.size_bytes + 1u)
			return bp->leads_to;
		if (!bp->slot)
			continue;
		if (pc == bp->slot)
			return bp->addr;
		if (pc == bp->slot_jump)
			return bp->addr + bp->insn.size_bytes;
	}
	return 0;
}

/* Low addresses are easily mistaken for: only a stub's own is a copy. */
static bool is_stub(const struct tap_target *target, uint64_t word)
{
	const struct tap_breakpoint *bp;

	if (!area_holds(target, word))
		return false;
	bp = tap_target_breakpoint_at(target, word);
	return bp && bp->leads_to;
}

/* A word in [start, end) that leads to a stub; 0: none. */
static uint64_t find_copy(
	struct tap_target *target, struct tap_memory *memory, uint64_t start, uint64_t end)
{
	_cleanup_free_ uint64_t *words = tap_alloc(SEARCH_PIECE_BYTES);

	for (uint64_t at = start; at < end; at += SEARCH_PIECE_BYTES) {
		size_t wanted = end - at < SEARCH_PIECE_BYTES ? (size_t)(end - at) :
								SEARCH_PIECE_BYTES;
		size_t got = tap_memory_read_some(memory, at, words, wanted);

		for (size_t i = 0; i < got / sizeof(*words); i++)
			if (is_stub(target, words[i]))
				return at + i * sizeof(*words);
	}
	return 0;
}

/* The writable part of a module, and its bss behind it. */
static bool is_module_data(const struct tap_maps *maps, size_t i)
{
	const struct tap_mapping *mapping = &maps->items[i];

	if (!mapping->writable || mapping->shared)
		return false;
	if (mapping->inode)
		return true;
	return i > 0 && !mapping->path[0] && maps->items[i - 1].inode &&
		maps->items[i - 1].end == mapping->start;
}

uint64_t area_find_copy(struct tap_target *target, pid_t pid, struct tap_memory *memory)
{
	struct tap_maps maps = {0};
	uint64_t found = 0;
	/* Entry points alone are led to by nothing but what we wrote. */
	_cleanup_error_ struct tap_error *err =
		target->redirects.count ? tap_maps_read(pid, &maps) : NULL;

	for (size_t i = 0; !err && i < maps.count && !found; i++) {
		const struct tap_mapping *mapping = &maps.items[i];
		uint64_t end = mapping->end;

		if (!is_module_data(&maps, i))
			continue;
		if (end - mapping->start > SEARCH_MAX_BYTES)
			end = mapping->start + SEARCH_MAX_BYTES;
		found = find_copy(target, memory, mapping->start, end);
	}
	tap_maps_deinit(&maps);
	return found;
}

struct tap_error *area_unmap_all(struct tap_target *target)
{
	struct tap_error *err = NULL;

	for (size_t i = 0; i < target->areas.count && !err; i++) {
		const struct area *area = &target->areas.items[i];
		int64_t result = 0;

		err = remote_call_anywhere(target, SYS_munmap,
			(uint64_t[]){area->start, area->size_bytes, 0, 0, 0, 0}, &result);
		if (!err && result)
			err = tap_error_errno((int)-result, "munmap");
	}
	return tap_error_wrap(err, "heaptap's code stays mapped in process %d, unused",
		target->pid);
}

/* A copy of the memory may be from before the area came, or after it went, and
 * then something else may lie there; or from before its head was written. */
static bool is_ours(pid_t tid, struct tap_memory *memory, const struct area *area)
{
	static const struct area_head nothing;
	struct area_head head;
	struct tap_maps maps = {0};
	_cleanup_error_ struct tap_error *err = tap_maps_read(tid, &maps);
	const struct tap_mapping *mapping = err ? NULL : tap_maps_find(&maps, area->start);
	bool ours = mapping && mapping->start == area->start &&
		mapping->end == area->start + area->size_bytes && mapping->executable &&
		!mapping->writable && !mapping->inode;

	tap_maps_deinit(&maps);
	if (!ours || !tap_memory_try_read(memory, area->start, &head, sizeof(head)))
		return false;
	return !memcmp(&head, &nothing, sizeof(head)) ||
		(!memcmp(head.magic, AREA_MAGIC, sizeof(head.magic)) && head.owner_pid == getpid());
}

struct tap_error *area_unmap_in_child(
	struct tap_target *target, pid_t tid, struct tap_memory *memory)
{
	struct tap_error *err = NULL;
	struct tap_regs regs;

	if (!target->areas.count)
		return NULL;
	if (pt_get_regs(tid, &regs))
		return tap_error_errno(ESRCH, "registers of process %d", tid);
	for (size_t i = 0; i < target->areas.count && !err; i++) {
		const struct area *area = &target->areas.items[i];
		int64_t result;

		if (!is_ours(tid, memory, area))
			continue;
		err = remote_call(target, tid, memory, &regs, SYS_munmap,
			(uint64_t[]){area->start, area->size_bytes, 0, 0, 0, 0}, &result);
	}
	return err;
}
