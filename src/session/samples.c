/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/futex.h>
#include <math.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "session/sampler.h"

/* Samples; of which so many from one CPU. */
#define FOLLOW_EVERY 32
#define FOLLOW_LEAST 29
/* In a row, of one thread; more is no number that a probe has counted. */
#define LOST_MAX 1000.0

/* Each call counts a byte more than it asks for. */
double samples_weight(double interval_bytes, uint64_t size_bytes)
{
	if (interval_bytes <= 0)
		return 1;
	return -1 / expm1(-((double)size_bytes + 1) / interval_bytes);
}

/* The old block of a realloc: what is known of it goes over to the new one. */
static void take_old(struct sampler *s, uint64_t old, struct tap_ledger_block *block)
{
	struct tap_ledger_block before;
	struct cell_info info;

	if (!cells_take(s, old, &info))
		return;
	if (!info.old) {
		if (!tap_ledger_take(s->rec->ledger, old, &before))
			return;
		tap_ledger_replaced(s->rec->ledger, &before);
		block->baseline_bytes = before.baseline_bytes;
		block->baseline_class = before.baseline_class;
	} else if (info.weight < SAME_BLOCK_WEIGHT && block->weight < SAME_BLOCK_WEIGHT) {
		/* It was as large as this before, or had room for it. */
		block->baseline_bytes =
			info.usable_bytes < block->size_bytes ? info.usable_bytes : block->size_bytes;
		block->baseline_class = info.size_class;
	} else {
		tap_ledger_free_unseen(
			s->rec->ledger, info.size_class, info.usable_bytes, info.weight);
	}
}

bool samples_freed(struct sampler *s, uint64_t addr)
{
	struct tap_ledger_block before;
	struct cell_info info;

	if (!cells_take(s, addr, &info))
		return false;
	if (info.old)
		tap_ledger_free_unseen(
			s->rec->ledger, info.size_class, info.usable_bytes, info.weight);
	else if (tap_ledger_take(s->rec->ledger, addr, &before))
		tap_ledger_freed(s->rec->ledger, &before);
	return true;
}

/* pool_bytes: of the pymalloc block that it is, or 0. lost: how many samples
 * before this one it stands for as well, which found no record. */
static void record_block(struct sampler *s, const struct pending *pending, struct tap_tracee *thread,
	uint64_t addr, uint32_t pool_bytes, double interval_bytes, uint64_t lost)
{
	struct recorder *rec = s->rec;
	struct tap_ledger_block block = {.size_bytes = hits_requested(pending)};
	struct cell_info info = {.addr = addr};
	uint64_t usable = 0;

	block.weight = samples_weight(interval_bytes, block.size_bytes) *
		(1 + fmin((double)lost, LOST_MAX));
	s->window.samples++;
	s->window.bytes += ((double)block.size_bytes + 1) * block.weight;
	while (s->calls.count <= pending->hook->point)
		tap_vector_push(&s->calls, 0.0);
	s->calls.items[pending->hook->point] += block.weight;
	if (hits_reallocates(pending->hook->entry) && pending->arguments[0])
		take_old(s, pending->arguments[0], &block);
	/* Whatever was there before was freed: it is given out again. */
	samples_freed(s, addr);
	if (pending->hook->entry == TAP_ENTRY_MMAP || pending->hook->entry == TAP_ENTRY_MREMAP)
		block.size_class = block_class_of_mapping(block.size_bytes);
	else if (pool_bytes)
		block.size_class = block_class_of_pool(pool_bytes);
	else
		block_class(rec, addr, false, &block.size_class, &usable);
	if (block.baseline_bytes)
		block.size_class = TAP_LEDGER_NO_CLASS;
	block.stack = capture_stack(rec, thread);
	if (!cells_add(s, &info)) {
		rec->lost_calls++;
		s->interval_bytes = fmax(s->interval_bytes, (double)block.size_bytes) * 2;
		return;
	}
	tap_ledger_add(rec->ledger, addr, &block);
	atomic_store(&rec->net_bytes, tap_ledger_net_bytes(rec->ledger));
	atomic_fetch_add(&rec->calls, (uint64_t)llround(block.weight));
}

/* A sample more or less changes nothing for others. */
bool samples_is_nested(const struct sampler *s, uint64_t return_addr)
{
	for (size_t i = 0; i < s->allocators.count; i++)
		if (return_addr > s->allocators.items[i].start &&
			return_addr < s->allocators.items[i].end)
			return true;
	return false;
}

bool samples_is_counting(struct sampler *s, uint64_t fs_base)
{
	struct tap_probe_slot slot;

	/* Whatever it asks for meanwhile is counted down from there. */
	return tap_probes_try_slot(s->probes, tap_probe_slot_index(fs_base, s->multiplier), &slot) &&
		slot.left > TAP_PROBE_LARGEST_GAP && slot.left <= TAP_PROBE_CLAIMED;
}

static void look_at(struct sampler *s, const struct tap_probe_record *record, double interval_bytes)
{
	struct recorder *rec = s->rec;
	struct tap_tracee thread = {.regs = record->regs};
	struct pending pending = {0};
	uint32_t pool_bytes = 0;
	uint64_t addr;

	if (record->entry >= rec->hooks.count || samples_is_nested(s, record->regs.rip) ||
		hits_is_inside(rec, record->regs.fs_base, record->regs.rsp - 8))
		return;
	if (!tap_symbols_module_at(rec->symbols, record->regs.rip))
		placing_read_modules(s);
	pending.hook = rec->hooks.items[record->entry];
	for (unsigned i = 0; i + pending.hook->table < 4; i++)
		pending.arguments[i] = record->arguments[i + pending.hook->table];
	addr = hits_result(rec, &pending, &thread.regs);
	if (!addr || !hits_is_memory(&pending))
		return;
	if ((pending.hook->entry == TAP_ENTRY_MMAP || pending.hook->entry == TAP_ENTRY_MREMAP) &&
		hits_is_allocators_own(rec, record->regs.rip))
		return;
	/* What pymalloc passed on to malloc is counted there. */
	if (pending.hook->object_domain)
		pool_bytes = tap_python_pool_block_size(rec->python, addr);
	if (pending.hook->object_domain && !pool_bytes)
		return;
	record_block(s, &pending, &thread, addr, pool_bytes, interval_bytes, record->lost);
}

/* Nearly all samples come from one CPU: there they are answered, too. */
static void follow(struct sampler *s, uint64_t core)
{
	s->cores.same += core == s->cores.core;
	if (++s->cores.count < FOLLOW_EVERY)
		return;
	if (s->cores.same < FOLLOW_LEAST || !core_follow((int)s->cores.core)) {
		core_follow(-1);
		s->cores.core = TAP_PROBE_ANY_CORE;
	}
	atomic_store(&s->shared->core, s->cores.core);
	s->cores.core = core;
	s->cores.count = s->cores.same = 0;
}

static void note_slot(struct sampler *s, const struct tap_probe_record *record)
{
	bool common = s->takes_turns && record->entry < s->rec->hooks.count &&
		s->rec->hooks.items[record->entry]->table;

	s->reclaim.answered[common ? TAP_PROBE_COMMON_SLOT :
				     tap_probe_slot_index(record->regs.fs_base, s->multiplier)] =
		true;
	if (!common)
		crowding_note(s, record->regs.fs_base);
}

void samples_answer(struct sampler *s, struct tap_probe_record *record)
{
	uint64_t posted = atomic_load(&record->word);
	/* Target memory: looked at once, then only the copy. */
	struct tap_probe_record copy;
	double interval;

	if (!tap_probe_word_is(posted, s->generation, TAP_PROBE_POSTED))
		return;
	memcpy(&copy, record, sizeof(copy));
	pthread_mutex_lock(&s->rec->lock);
	look_at(s, &copy, fmin((double)copy.interval, s->largest_interval_bytes));
	pthread_mutex_unlock(&s->rec->lock);
	note_slot(s, &copy);
	/* A whole number, as the weight must be that of the gap's own mean. */
	interval = floor(s->interval_bytes);
	s->largest_interval_bytes = fmax(s->largest_interval_bytes, interval);
	record->next_interval = (uint64_t)interval;
	record->next_gap = control_draw(&s->random, interval);
	if (atomic_compare_exchange_strong(
		    &record->word, &posted, tap_probe_word_to(posted, TAP_PROBE_ANSWERED)))
		syscall(SYS_futex, &record->word, FUTEX_WAKE, 1, NULL, NULL, 0);
	follow(s, copy.core);
}
