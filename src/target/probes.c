/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "heaptap/arch/cpu.h"
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/proc/root.h"
#include "heaptap/proc/tasks.h"
#include "target/probes_internal.h"
#include "target/ptrace.h"
#include "target/restart.h"

#define INSTANCE_ALIGN 64u
#define CODE_BOUND_NS UINT64_C(2000000000)
#define BORROW_BOUND_NS UINT64_C(500000000)
#define BORROW_PAUSE_NS 1000000

/* --- a borrowed thread: several calls for one stop ----------------------- */

struct borrowed {
	struct tap_target *target;
	struct tracee *tracee;
	bool was_running;
};

/* A thread may be in a call that is not to be stopped for a moment only: the
 * parent of a vfork, for one. */
static struct tap_error *borrow(struct tap_target *target, struct borrowed *ret)
{
	uint64_t deadline = tap_clock_ns() + BORROW_BOUND_NS;
	struct timespec pause = {0, BORROW_PAUSE_NS};

	*ret = (struct borrowed){.target = target};
	while (!(ret->tracee = tracee_pick(target, &ret->was_running)) &&
		tap_clock_ns() < deadline) {
		nanosleep(&pause, NULL);
		events_serve(target);
	}
	if (!ret->tracee)
		return tap_error_new(TAP_ERR_TIMEOUT,
			"no thread of process %d can be stopped without a system call of its own "
			"ending early",
			target->pid);
	tracee_restart_call(target, ret->tracee);
	leave_critical_section(target, ret->tracee);
	return NULL;
}

static void give_back(struct borrowed *borrowed)
{
	/* The calls have left the registers as they were; to the kernel they
	 * are others. */
	if (borrowed->tracee && tap_restart_kernel_by_hand(&borrowed->tracee->public.regs))
		borrowed->tracee->public.regs_changed = true;
	if (borrowed->tracee && borrowed->was_running)
		tracee_continue(borrowed->target, borrowed->tracee, 0);
	borrowed->tracee = NULL;
}

/* A call that must not fail; what it returns goes to *result_ret. */
static struct tap_error *call(struct borrowed *borrowed, const char *name, long number,
	const uint64_t arguments[6], int64_t *result_ret)
{
	struct tap_target *target = borrowed->target;
	struct tap_error *err = remote_call(target, borrowed->tracee->public.tid, target->memory,
		&borrowed->tracee->public.regs, number, arguments, result_ret);

	if (!err && *result_ret < 0 && *result_ret > -4096)
		err = tap_error_errno((int)-*result_ret, "%s in process %d", name, target->pid);
	return err;
}

#define CALL(borrowed, result, name, ...)                                                          \
	call(borrowed, #name, SYS_##name, (const uint64_t[6]){__VA_ARGS__}, result)

/* --- the region ----------------------------------------------------------- */

/* A memfd made there and opened by us, so that we size it: its own ftruncate
 * could run into its file size limit. */
static struct tap_error *share_memfd(struct tap_probes *probes, struct borrowed *borrowed)
{
	uint64_t at = probes->region + TAP_PROBE_SHARED_AT;
	char name[32], path[256];
	int64_t fd = -1, result;
	struct tap_error *err;

	err = CALL(borrowed, &fd, memfd_create,
		probes->region + PROBE_FILE_NAME_AT, 1 /* CLOEXEC */);
	if (err)
		return err;
	snprintf(name, sizeof(name), "fd/%d", (int)fd);
	probes->fd = open(tap_proc_path(path, sizeof(path), probes->pid, name), O_RDWR | O_CLOEXEC);
	if (probes->fd < 0)
		err = tap_error_errno(errno, "cannot open the memory shared with %d", probes->pid);
	else if (ftruncate(probes->fd, (off_t)TAP_PROBE_SHARED_BYTES))
		err = tap_error_errno(errno, "cannot size the memory shared with %d", probes->pid);
	/* All of it at once, before the curve of its RSS begins: pages that it met one
	 * after the other would look like growth. They are ours, not its cgroup's. */
	if (!err)
		fallocate(probes->fd, 0, 0, (off_t)TAP_PROBE_SHARED_BYTES);
	if (!err)
		err = CALL(borrowed, &result, mmap, at, TAP_PROBE_SHARED_BYTES,
			PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE, (uint64_t)fd,
			0);
	tap_error_free(CALL(borrowed, &result, close, (uint64_t)fd));
	return err;
}

/* Without a descriptor to spare there, or where we may not size it: an
 * anonymous shared mapping, opened through map_files. */
static struct tap_error *share_anonymous(struct tap_probes *probes, struct borrowed *borrowed)
{
	uint64_t at = probes->region + TAP_PROBE_SHARED_AT;
	char name[64], path[256];
	int64_t result;
	struct tap_error *err;

	err = CALL(borrowed, &result, mmap, at, TAP_PROBE_SHARED_BYTES, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, UINT64_MAX, 0);
	if (err)
		return err;
	snprintf(name, sizeof(name), "map_files/%llx-%llx", (unsigned long long)at,
		(unsigned long long)(at + TAP_PROBE_SHARED_BYTES));
	probes->fd = open(tap_proc_path(path, sizeof(path), probes->pid, name), O_RDWR | O_CLOEXEC);
	if (probes->fd < 0)
		return tap_error_advise(
			tap_error_new(TAP_ERR_UNSUPPORTED,
				"memory shared with process %d cannot be had: no descriptor for it, and "
				"its map_files may not be opened (%s)",
				probes->pid, strerror(errno)),
			"run heaptap as root, or leave out --engine probe");
	return NULL;
}

/* A full table of descriptors, its own or the system's; our own limit of file
 * sizes. */
static bool is_for_anonymous(const struct tap_error *err)
{
	return err && (err->errnum == EMFILE || err->errnum == ENFILE || err->errnum == EFBIG);
}

static struct tap_error *map_shared(struct tap_probes *probes, struct borrowed *borrowed)
{
	struct tap_error *err = share_memfd(probes, borrowed);

	if (is_for_anonymous(err)) {
		tap_error_free(err);
		if (probes->fd >= 0)
			close(probes->fd);
		err = share_anonymous(probes, borrowed);
	}
	if (err)
		return err;
	probes->shared = mmap(NULL, TAP_PROBE_SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
		probes->fd, 0);
	if (probes->shared == MAP_FAILED) {
		probes->shared = NULL;
		return tap_error_errno(errno, "cannot map the memory shared with %d", probes->pid);
	}
	return NULL;
}

/* The region names its owner before it is anything but an address. */
static struct tap_error *lay_head(struct tap_probes *probes, const struct tap_target *target)
{
	struct probe_head *head = &probes->head;
	struct tap_error *err = area_fill_head(&head->area, TAP_PROBE_REGION_BYTES);

	head->target_pid = target->pid;
	head->target_start_ticks = target->process.start_ticks;
	head->area.version = PROBE_HEAD_VERSION;
	return err ? err :
		     tap_memory_write(probes->memory, probes->region + TAP_PROBE_NAME_AT, head,
			     sizeof(*head));
}

static struct tap_error *lay_common(struct tap_probes *probes)
{
	size_t size;
	const uint8_t *common = tap_probe_common(&size);
	struct tap_error *err = tap_memory_write(probes->memory,
		probes->region + PROBE_FILE_NAME_AT, PROBE_FILE_NAME, sizeof(PROBE_FILE_NAME));

	probes->used_bytes = (uint32_t)((size + INSTANCE_ALIGN - 1) & ~(size_t)(INSTANCE_ALIGN - 1));
	return err ? err : tap_memory_write(probes->memory, probes->region, common, size);
}

static struct tap_error *map_region(
	struct tap_probes *probes, struct borrowed *borrowed, uint64_t near)
{
	uint64_t hole, private;
	int64_t result;
	struct tap_error *err;

	err = area_find_hole(borrowed->target, near, TAP_PROBE_REGION_BYTES, &hole);
	if (err)
		return err;
	err = CALL(borrowed, &result, mmap, hole, TAP_PROBE_REGION_BYTES, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, UINT64_MAX, 0);
	if (err)
		return err;
	probes->region = (uint64_t)result;
	private = probes->region + TAP_PROBE_PRIVATE_AT;
	err = lay_head(probes, borrowed->target);
	/* All but the head's page: we alone read and write that. */
	if (!err)
		err = CALL(borrowed, &result, mmap, probes->region, TAP_PROBE_NAME_AT,
			PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, UINT64_MAX,
			0);
	if (!err)
		err = lay_common(probes);
	if (!err)
		err = CALL(borrowed, &result, mmap, private, TAP_PROBE_PRIVATE_BYTES,
			PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, UINT64_MAX,
			0);
	if (!err)
		err = CALL(borrowed, &result, madvise, private, TAP_PROBE_PRIVATE_BYTES,
			MADV_WIPEONFORK);
	return err ? err : map_shared(probes, borrowed);
}

static void unmap_region(struct tap_probes *probes, struct borrowed *borrowed, struct tap_error **err)
{
	int64_t result;

	if (!probes->region)
		return;
	*err = CALL(borrowed, &result, munmap, probes->region, TAP_PROBE_REGION_BYTES);
	if (!*err)
		probes->region = 0;
}

struct tap_error *tap_probes_create(
	struct tap_target *target, uint64_t near, struct tap_probes **ret)
{
	struct tap_probes *probes = tap_alloc(sizeof(*probes));
	struct borrowed borrowed;
	struct tap_error *err, *undo = NULL;

	probes->pid = target->pid;
	probes->fd = -1;
	err = probes_check_room(target->pid);
	if (!err)
		err = tap_memory_open(target->pid, true, &probes->memory);
	if (!err)
		err = borrow(target, &borrowed);
	if (!err) {
		err = map_region(probes, &borrowed, near);
		if (err)
			unmap_region(probes, &borrowed, &undo);
		tap_error_free(undo);
		give_back(&borrowed);
	}
	if (err) {
		tap_probes_destroy(probes);
		return err;
	}
	*ret = probes;
	return NULL;
}

void tap_probes_destroy(struct tap_probes *probes)
{
	if (!probes)
		return;
	if (probes->shared)
		munmap(probes->shared, TAP_PROBE_SHARED_BYTES);
	if (probes->fd >= 0)
		close(probes->fd);
	tap_memory_close(probes->memory);
	tap_vector_free(&probes->patches);
	tap_vector_free(&probes->pointers);
	free(probes);
}

/* --- what is to be placed -------------------------------------------------- */

static struct tap_error *reserve(struct tap_probes *probes, size_t size_bytes, uint64_t *at_ret)
{
	if (probes->used_bytes + size_bytes > PROBE_FILE_NAME_AT)
		return tap_error_new(TAP_ERR_UNSUPPORTED, "no room for more probes");
	*at_ret = probes->region + probes->used_bytes;
	probes->used_bytes +=
		(uint32_t)((size_bytes + INSTANCE_ALIGN - 1) & ~(size_t)(INSTANCE_ALIGN - 1));
	return NULL;
}

static struct tap_error *lay_instance(struct tap_probes *probes,
	const struct tap_probe_spec *spec, uint64_t original, uint64_t *entry_ret)
{
	uint8_t code[TAP_PROBE_INSTANCE_MAX];
	uint64_t at = 0;
	size_t size;
	struct tap_error *err = reserve(probes, sizeof(code), &at);

	if (!err)
		err = tap_probe_instance(spec, probes->region, at, original, code, sizeof(code),
			&size, entry_ret);
	return err ? err : tap_memory_write(probes->memory, at, code, size);
}

struct tap_error *tap_probes_add_function(struct tap_probes *probes, uint64_t addr,
	const uint8_t *function, size_t size_bytes, const struct tap_probe_spec *spec)
{
	struct patch patch = {.addr = addr};
	struct tap_prologue prologue;
	uint8_t now[PATCH_MAX_BYTES];
	uint64_t original = 0, instance;
	struct tap_error *err = reserve(probes, sizeof(prologue.code), &original);

	if (!err)
		err = tap_prologue_move(addr, function, size_bytes, original, &prologue);
	if (err)
		return err;
	patch.size_bytes = prologue.displaced_bytes;
	memcpy(patch.original, function, patch.size_bytes);
	if (!tap_memory_try_read(probes->memory, addr, now, patch.size_bytes) ||
		memcmp(now, patch.original, patch.size_bytes))
		return tap_error_new(TAP_ERR_BAD_DATA,
			"its code is not what its file has: another tool has changed it");
	err = tap_memory_write(probes->memory, original, prologue.code, prologue.code_bytes);
	if (!err)
		err = lay_instance(probes, spec, original, &instance);
	if (err)
		return err;
	if (!tap_probe_jump(addr, instance, patch.jump))
		return tap_error_new(TAP_ERR_UNSUPPORTED, "it is more than 2 GiB away");
	tap_vector_push(&probes->patches, patch);
	return NULL;
}

struct tap_error *tap_probes_add_pointer(struct tap_probes *probes, uint64_t pointer_addr,
	uint64_t expected, const struct tap_probe_spec *spec)
{
	struct redirected pointer = {.addr = pointer_addr, .original = expected};
	struct tap_error *err = lay_instance(probes, spec, expected, &pointer.instance);

	if (!err)
		tap_vector_push(&probes->pointers, pointer);
	return err;
}

/* --- arming ----------------------------------------------------------------- */

struct tap_error *tap_probes_set_multiplier(struct tap_probes *probes, uint64_t multiplier)
{
	return tap_memory_write(probes->memory,
		probes->region + TAP_PROBE_PRIVATE_AT + offsetof(struct tap_probe_private, multiplier),
		&multiplier, sizeof(multiplier));
}

struct tap_error *tap_probes_arm(struct tap_probes *probes, uint64_t generation, uint64_t multiplier)
{
	uint64_t private = probes->region + TAP_PROBE_PRIVATE_AT, notes = 1;
	struct tap_error *err;

	for (unsigned i = 0; i < TAP_PROBE_RECORDS; i++)
		atomic_store(&probes->shared->records[i].word,
			tap_probe_word(generation, 0, TAP_PROBE_FREE));
	atomic_store(&probes->shared->in_line, 0);
	err = tap_probes_set_multiplier(probes, multiplier);
	if (!err)
		err = tap_memory_write(probes->memory,
			private + offsetof(struct tap_probe_private, notes), &notes, sizeof(notes));
	return err ? err :
		     tap_memory_write(probes->memory,
			     private + offsetof(struct tap_probe_private, generation), &generation,
			     sizeof(generation));
}

struct tap_error *tap_probes_disarm(struct tap_probes *probes)
{
	uint64_t none = 0;
	struct tap_error *err = tap_memory_write(probes->memory,
		probes->region + TAP_PROBE_PRIVATE_AT + offsetof(struct tap_probe_private, generation),
		&none, sizeof(none));

	/* Whoever waits is woken, looks and leaves. */
	for (unsigned i = 0; probes->shared && i < TAP_PROBE_RECORDS; i++)
		syscall(SYS_futex, &probes->shared->records[i].word, 1 /* FUTEX_WAKE */, INT32_MAX,
			NULL, NULL, 0);
	return err;
}

static struct tap_error *set_slots(struct tap_probes *probes, int64_t left)
{
	struct tap_probe_slot *slots = tap_alloc(TAP_PROBE_ALL_SLOTS * sizeof(*slots));
	struct tap_error *err;

	for (unsigned i = 0; i < TAP_PROBE_ALL_SLOTS; i++)
		slots[i].left = left;
	err = tap_memory_write(probes->memory,
		probes->region + TAP_PROBE_PRIVATE_AT + offsetof(struct tap_probe_private, slots),
		slots, TAP_PROBE_ALL_SLOTS * sizeof(*slots));
	free(slots);
	return err;
}

struct tap_error *tap_probes_restart(struct tap_probes *probes)
{
	return set_slots(probes, 0);
}

struct tap_error *tap_probes_hold(struct tap_probes *probes)
{
	return set_slots(probes, INT64_MAX);
}

static uint64_t slots_addr(const struct tap_probes *probes)
{
	return probes->region + TAP_PROBE_PRIVATE_AT + offsetof(struct tap_probe_private, slots);
}

bool tap_probes_read_slots(const struct tap_probes *probes, struct tap_probe_slot *slots)
{
	return tap_memory_try_read(
		probes->memory, slots_addr(probes), slots, TAP_PROBE_ALL_SLOTS * sizeof(*slots));
}

bool tap_probes_try_slot(
	const struct tap_probes *probes, uint32_t index, struct tap_probe_slot *ret)
{
	return tap_memory_try_read(
		probes->memory, slots_addr(probes) + index * sizeof(*ret), ret, sizeof(*ret));
}

/* Its next call is a sample that stands for itself. Who sees the countdown at
 * its end sees the interval as well. */
bool tap_probes_restart_slot(struct tap_probes *probes, uint32_t index)
{
	uint64_t slot = slots_addr(probes) + index * sizeof(struct tap_probe_slot);
	struct tap_probe_slot none = {0};
	struct tap_error *err = tap_memory_write(probes->memory,
		slot + offsetof(struct tap_probe_slot, interval), &none.interval, sizeof(none.interval));

	if (!err)
		err = tap_memory_write(probes->memory, slot + offsetof(struct tap_probe_slot, left),
			&none.left, sizeof(none.left));
	tap_error_free(err);
	return !err;
}

bool tap_probes_is_disarmed(const struct tap_probes *probes)
{
	uint64_t generation;

	return tap_memory_try_u64(probes->memory,
		       probes->region + TAP_PROBE_PRIVATE_AT +
			       offsetof(struct tap_probe_private, generation),
		       &generation) &&
		!generation;
}

struct tap_probe_shared *tap_probes_shared(struct tap_probes *probes)
{
	return probes->shared;
}

uint64_t tap_probes_private_addr(const struct tap_probes *probes)
{
	return probes->region + TAP_PROBE_PRIVATE_AT;
}
