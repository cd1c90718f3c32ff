/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The slow path of the probe: runs in the target. Compiled without the C
 * library, without vector registers, into one section that is copied as it
 * is: no data of its own, no call that leaves the section.
 */
#include "heaptap/arch/probe.h"
#include "probe_calls.h"

#define IN_PROBE __attribute__((section("tap_probe"), visibility("hidden"), used))
#define INLINE static inline __attribute__((always_inline))

/* Laid behind each instance by probe.c. */
struct desc {
	uint64_t original;
	struct tap_probe_private *private;
	struct tap_probe_shared *shared;
	uint32_t kind;
	uint32_t entry;
	uint64_t limit_bytes;
	uint64_t common; /* its calls count in the common slot */
};

/* What probe_entry.S saves. */
struct frame {
	uint64_t r11, r10, r9, r8, rcx, rdx, rsi, rdi;
	uint64_t r15, r14, r13, r12, rbp, rbx;
	uint64_t result;
	struct tap_probe_cell *cell; /* of the block that a realloc moves, or NULL */
	uint64_t cell_word;
	int64_t gap; /* >= 0: sampled */
	uint64_t interval;
	const struct desc *desc;
	struct tap_probe_slot *slot;
	uint64_t return_addr;
};

/* Called by probe_entry.S. */
int tap_probe_before(struct frame *frame);
void tap_probe_after(struct frame *frame);
void tap_probe_freeing(struct frame *frame);

#define NS_PER_S 1000000000
#define SPINS 200
#define NOT_SAMPLED (-1)

#define STATE_MASK 0xffull

INLINE long system_call(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
	uint64_t f)
{
	register uint64_t r10 __asm__("r10") = d;
	register uint64_t r8 __asm__("r8") = e;
	register uint64_t r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

INLINE uint64_t fs_base(void)
{
	uint64_t base;

	__asm__("mov %%fs:0, %0" : "=r"(base));
	return base;
}

INLINE uint64_t ticks(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

/* Linux keeps the CPU's number in the auxiliary word, below the node's
 * (arch/x86/include/asm/segment.h, VDSO_CPUNODE_BITS). */
INLINE uint64_t core(void)
{
	uint32_t low, high, word;

	__asm__ volatile("rdtscp" : "=a"(low), "=d"(high), "=c"(word));
	return word & 0xfff;
}

/* Negative where there is no time to be had: a filter of system calls may have
 * been set since the probe was placed. */
INLINE int64_t now_ns(void)
{
	int64_t now[2] = {0, 0};

	if (system_call(SYS_CLOCK_GETTIME, MONOTONIC, (uint64_t)now, 0, 0, 0, 0))
		return -1;
	return now[0] * NS_PER_S + now[1];
}

INLINE int resizes(uint32_t kind)
{
	return kind >= TAP_PROBE_RESIZE01 && kind <= TAP_PROBE_RESIZE_PRODUCT;
}

INLINE uint64_t block_of(const struct frame *frame)
{
	uint32_t kind = frame->desc->kind;

	return kind == TAP_PROBE_RESIZE12 || kind == TAP_PROBE_FREE1 ? frame->rsi : frame->rdi;
}

/* What the fast path has counted. */
INLINE uint64_t size_of(const struct frame *frame)
{
	uint32_t kind = frame->desc->kind;

	if (kind == TAP_PROBE_SIZE0)
		return frame->rdi;
	if (kind == TAP_PROBE_SIZE1 || kind == TAP_PROBE_RESIZE01)
		return frame->rsi;
	if (kind == TAP_PROBE_PRODUCT01)
		return frame->rdi * frame->rsi;
	if (kind == TAP_PROBE_PRODUCT12 || kind == TAP_PROBE_RESIZE_PRODUCT)
		return frame->rsi * frame->rdx;
	return frame->rdx;
}

/* posix_memalign returns 0 where it gave a block, the others where not. */
INLINE int succeeded(const struct frame *frame)
{
	return frame->desc->kind == TAP_PROBE_SIZE2 ? !(uint32_t)frame->result : frame->result != 0;
}

INLINE int is_marked(struct tap_probe_shared *shared, uint64_t addr)
{
	uint8_t tag = shared->filter[tap_probe_filter_index(addr)];

	return tag == TAP_PROBE_TAG_SEVERAL || tag == tap_probe_filter_tag(addr);
}

/* The cell of a sampled block that is live; its word as it was read. */
INLINE struct tap_probe_cell *find_cell(
	struct tap_probe_shared *shared, uint64_t addr, uint64_t *word_ret)
{
	uint32_t home = tap_probe_cell_home(addr);

	for (uint32_t i = 0; i < TAP_PROBE_CELL_REACH; i++) {
		struct tap_probe_cell *cell = &shared->cells[(home + i) % TAP_PROBE_CELLS];
		/* The word first: where the cell is given to another block
		 * between the two, the exchange that follows fails. */
		uint64_t word = atomic_load(&cell->word);

		if ((word & STATE_MASK) == TAP_PROBE_CELL_LIVE && atomic_load(&cell->addr) == addr) {
			*word_ret = word;
			return cell;
		}
	}
	return 0;
}

INLINE int change_cell(struct tap_probe_cell *cell, uint64_t word, uint64_t state)
{
	return atomic_compare_exchange_strong(&cell->word, &word, (word & ~STATE_MASK) | state);
}

/* heaptap looks at what has this bit. Of one that it took back meanwhile nothing
 * follows from it. */
INLINE void note_freed(struct tap_probe_shared *shared, const struct tap_probe_cell *cell)
{
	uint64_t index = (uint64_t)(cell - shared->cells);

	atomic_fetch_or(&shared->freed[index / 64], (uint64_t)1 << index % 64);
}

/* Is the call to be sampled? Then the slot is ours until it was answered, and
 * whatever the allocator calls by itself meanwhile goes by uncounted. */
INLINE int claim(struct frame *frame, uint64_t generation)
{
	struct tap_probe_slot *slot = frame->slot;
	int64_t left = slot->left;

	if (!generation) {
		slot->left = INT64_MAX;
		return 0;
	}
	if (left >= 0 ||
		!__atomic_compare_exchange_n(&slot->left, &left, TAP_PROBE_CLAIMED, 0,
			__ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return 0;
	frame->gap = slot->gap;
	frame->interval = slot->interval;
	return 1;
}

/* Non-zero: the call is made by the probe and tap_probe_after() follows. */
IN_PROBE int tap_probe_before(struct frame *frame)
{
	struct tap_probe_private *private = frame->desc->private;
	struct tap_probe_shared *shared = frame->desc->shared;
	uint64_t generation = __atomic_load_n(&private->generation, __ATOMIC_ACQUIRE);

	frame->gap = NOT_SAMPLED;
	frame->cell = 0;
	if (!frame->slot) {
		/* A realloc of a block that may be sampled came here before its
		 * size was counted. */
		frame->slot = &private->slots[frame->desc->common ?
				TAP_PROBE_COMMON_SLOT :
				tap_probe_slot_index(fs_base(), private->multiplier)];
		if (!frame->desc->limit_bytes || size_of(frame) <= frame->desc->limit_bytes)
			__atomic_fetch_sub(&frame->slot->left, (int64_t)(size_of(frame) + 1),
				__ATOMIC_RELAXED);
	}
	if (private->notes && resizes(frame->desc->kind) && is_marked(shared, block_of(frame))) {
		frame->cell = find_cell(shared, block_of(frame), &frame->cell_word);
		if (frame->cell && !change_cell(frame->cell, frame->cell_word, TAP_PROBE_CELL_MOVING))
			frame->cell = 0;
	}
	if ((int64_t)size_of(frame) < 0)
		/* No call gets as much as that: it did not count. */
		__atomic_fetch_add(
			&frame->slot->left, (int64_t)(size_of(frame) + 1), __ATOMIC_RELAXED);
	else if (frame->slot->left < 0 && claim(frame, generation))
		return 1;
	return frame->cell != 0;
}

/* *word_ret: the record's word while it is ours, in the state FILLING. */
INLINE struct tap_probe_record *take_record(
	struct tap_probe_shared *shared, uint64_t generation, uint64_t hint, uint64_t *word_ret)
{
	for (uint32_t i = 0; i < TAP_PROBE_RECORDS; i++) {
		struct tap_probe_record *record =
			&shared->records[(hint + i) % TAP_PROBE_RECORDS];
		uint64_t word = atomic_load(&record->word);

		*word_ret = tap_probe_word_to(word, TAP_PROBE_FILLING);
		if (tap_probe_word_is(word, generation, TAP_PROBE_FREE) &&
			atomic_compare_exchange_strong(&record->word, &word, *word_ret))
			return record;
	}
	return 0;
}

INLINE void fill(struct tap_probe_record *record, const struct frame *frame)
{
	struct tap_regs *regs = &record->regs;

	record->kind = frame->desc->kind;
	record->entry = frame->desc->entry;
	record->arguments[0] = frame->rdi;
	record->arguments[1] = frame->rsi;
	record->arguments[2] = frame->rdx;
	record->arguments[3] = frame->rcx;
	record->result = frame->result;
	record->gap = frame->gap;
	record->core = core();
	record->interval = frame->interval;
	record->lost = frame->slot->lost;
	regs->rbx = frame->rbx;
	regs->rbp = frame->rbp;
	regs->r12 = frame->r12;
	regs->r13 = frame->r13;
	regs->r14 = frame->r14;
	regs->r15 = frame->r15;
	regs->rax = frame->result;
	regs->rip = frame->return_addr;
	regs->rsp = (uint64_t)(&frame->return_addr + 1);
	regs->fs_base = fs_base();
}

/* Not where we are disarmed, and not in a child that was forked, by a signal
 * handler, while we were here: the shared page is the parent's. */
INLINE int is_armed(const struct frame *frame, uint64_t generation)
{
	return __atomic_load_n(&frame->desc->private->generation, __ATOMIC_ACQUIRE) == generation;
}

/* Sleeps while the word has this value, until somebody wakes us or a time. */
INLINE void sleep_on(const void *word, uint32_t value, int64_t until)
{
	int64_t at[2] = {until / NS_PER_S, until % NS_PER_S};

	system_call(SYS_FUTEX, (uint64_t)word, FUTEX_OP_WAIT_BITSET, value, (uint64_t)at, 0,
		ANY_BIT);
}

/* All records are taken: stands in line until one is given back, for a while. */
INLINE struct tap_probe_record *stand_in_line(
	struct frame *frame, uint64_t generation, uint64_t hint, uint64_t *word_ret)
{
	struct tap_probe_shared *shared = frame->desc->shared;
	int64_t end = now_ns() + TAP_PROBE_QUEUE_NS;
	struct tap_probe_record *record;

	atomic_fetch_add(&shared->in_line, 1);
	for (;;) {
		uint32_t line = atomic_load(&shared->line);
		int64_t now = now_ns();

		record = take_record(shared, generation, hint, word_ret);
		if (record || now >= end || !is_armed(frame, generation))
			break;
		sleep_on(&shared->line, line,
			now + TAP_PROBE_SLICE_NS < end ? now + TAP_PROBE_SLICE_NS : end);
	}
	/* Nobody's number in a forked child, and begun anew by who arms again. */
	if (is_armed(frame, generation))
		atomic_fetch_sub(&shared->in_line, 1);
	return record;
}

/* The answered record is anybody's again, whose word is given. */
INLINE void give_back(
	struct tap_probe_shared *shared, struct tap_probe_record *record, uint64_t word)
{
	atomic_compare_exchange_strong(&record->word, &word, tap_probe_word_freed(word));
	if (!atomic_load(&shared->in_line))
		return;
	atomic_fetch_add(&shared->line, 1);
	system_call(SYS_FUTEX, (uint64_t)&shared->line, FUTEX_OP_WAKE, 1, 0, 0, 0);
}

/* Until the answer, for so long at most, or until somebody disarms us. */
INLINE void wait_for_answer(struct frame *frame, struct tap_probe_record *record,
	uint64_t generation, uint64_t posted, int64_t wait_ns)
{
	uint32_t low = (uint32_t)posted;
	int64_t deadline;

	for (int i = 0; i < SPINS && record->core != atomic_load(&frame->desc->shared->core); i++) {
		if (atomic_load(&record->word) != posted)
			return;
		__builtin_ia32_pause();
	}
	deadline = now_ns() + wait_ns;
	while (atomic_load(&record->word) == posted && is_armed(frame, generation)) {
		int64_t now = now_ns();

		if (now < 0 || now >= deadline)
			return;
		/* The futex is the low half of the word: the state is in it. */
		sleep_on(&record->word, low,
			now + TAP_PROBE_SLICE_NS < deadline ? now + TAP_PROBE_SLICE_NS : deadline);
	}
}

/* Posts the record, whose word is given, and waits. False: no answer came. Out
 * of time, the probe stays out from now on. */
INLINE int ask(struct frame *frame, struct tap_probe_record *record, uint64_t generation,
	uint64_t word, int64_t wait_ns)
{
	struct tap_probe_shared *shared = frame->desc->shared;
	uint64_t posted = tap_probe_word_to(word, TAP_PROBE_POSTED);

	if (!is_armed(frame, generation) ||
		!atomic_compare_exchange_strong(&record->word, &word, posted))
		return 0;
	atomic_fetch_add(&shared->samples, 1);
	atomic_fetch_add(&shared->bell, 1);
	if (atomic_load(&shared->sleeping))
		system_call(SYS_FUTEX, (uint64_t)&shared->bell, FUTEX_OP_WAKE, 1, 0, 0, 0);
	wait_for_answer(frame, record, generation, posted, wait_ns);
	if (!is_armed(frame, generation))
		return 0;
	word = posted;
	if (atomic_compare_exchange_strong(&record->word, &word, tap_probe_word_freed(posted))) {
		atomic_fetch_add(&shared->late, 1);
		word = generation;
		__atomic_compare_exchange_n(&frame->desc->private->generation, &word, 0, 0,
			__ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
		return 0;
	}
	return word == tap_probe_word_to(posted, TAP_PROBE_ANSWERED);
}

/* A gap that heaptap has not drawn for us, of about the exponential distribution and
 * of exactly this mean: -log2 of a random number is its leading zeros, plus one,
 * less its further bits taken for the logarithm of what they stand for. That is
 * 3/2 in the mean. The gap that has just ended will not do once more: those that
 * a stop of heaptap falls into are longer than others. */
INLINE int64_t own_gap(uint64_t interval)
{
	uint64_t random = ticks() * 0x9e3779b97f4a7c15ull, zeros, log;

	if (!interval || interval >= (uint64_t)1 << 40)
		return (int64_t)interval;
	random = (random ^ random >> 32) * 0xd6e8feb86659fd93ull | 1;
	zeros = (uint64_t)__builtin_clzll(random);
	log = ((zeros + 1) << 16) - (random << zeros << 1 >> 48);
	return (int64_t)((interval * log >> 16) * 2 / 3);
}

INLINE void sample(struct frame *frame)
{
	struct tap_probe_private *private = frame->desc->private;
	struct tap_probe_shared *shared = frame->desc->shared;
	uint64_t generation = __atomic_load_n(&private->generation, __ATOMIC_ACQUIRE);
	uint64_t hint = (uint64_t)(frame->slot - private->slots);
	uint64_t since = ticks(), interval = frame->interval, word;
	int64_t next = NOT_SAMPLED, wait_ns = TAP_PROBE_WAIT_NS;
	int64_t claimed = __atomic_load_n(&frame->slot->left, __ATOMIC_RELAXED), others;
	struct tap_probe_record *record;

	if (!generation) {
		frame->slot->left = INT64_MAX;
		return;
	}
	record = take_record(shared, generation, hint, &word);
	if (!record) {
		/* Not by the clock: behind many threads it takes a while until
		 * one that was woken runs. */
		wait_ns -= TAP_PROBE_QUEUE_NS;
		record = stand_in_line(frame, generation, hint, &word);
	}
	if (record) {
		fill(record, frame);
		if (ask(frame, record, generation, word, wait_ns)) {
			next = record->next_gap;
			interval = record->next_interval;
			frame->slot->lost = 0;
			give_back(shared, record, tap_probe_word_to(word, TAP_PROBE_ANSWERED));
		}
	}
	if (!is_armed(frame, generation)) {
		frame->slot->left = INT64_MAX;
		return;
	}
	if (next == NOT_SAMPLED) {
		next = own_gap(interval);
		frame->slot->lost++;
		atomic_fetch_add(&shared->lost, 1);
	}
	atomic_fetch_add(&shared->waited_ticks, ticks() - since);
	if (next < 0 || next > TAP_PROBE_LARGEST_GAP)
		next = TAP_PROBE_LARGEST_GAP;
	frame->slot->gap = next;
	frame->slot->interval = interval;
	/* We have called nothing meanwhile: whoever counted here did not sleep
	 * with us. What it asked for went by. */
	others = claimed - __atomic_exchange_n(&frame->slot->left, next, __ATOMIC_ACQ_REL);
	if (others > 0 && others < TAP_PROBE_LARGEST_GAP)
		atomic_fetch_add(&shared->crowded, 1);
}

/* Of a realloc that gave nothing the block is still there, unless it was asked
 * for size 0. */
INLINE void settle_moved(const struct frame *frame)
{
	uint64_t moving = (frame->cell_word & ~STATE_MASK) | TAP_PROBE_CELL_MOVING;

	if (!frame->result && size_of(frame))
		change_cell(frame->cell, moving, TAP_PROBE_CELL_LIVE);
	else if (change_cell(frame->cell, moving, TAP_PROBE_CELL_FREED))
		note_freed(frame->desc->shared, frame->cell);
}

IN_PROBE void tap_probe_after(struct frame *frame)
{
	if (frame->cell && frame->desc->private->notes)
		settle_moved(frame);
	if (frame->gap == NOT_SAMPLED)
		return;
	if (succeeded(frame)) {
		sample(frame);
		return;
	}
	frame->slot->gap = own_gap(frame->interval);
	frame->slot->left = frame->slot->gap;
}

IN_PROBE void tap_probe_freeing(struct frame *frame)
{
	struct tap_probe_shared *shared = frame->desc->shared;
	struct tap_probe_cell *cell;
	uint64_t word;

	if (!frame->desc->private->notes)
		return;
	cell = find_cell(shared, block_of(frame), &word);
	if (cell && change_cell(cell, word, TAP_PROBE_CELL_FREED))
		note_freed(shared, cell);
}

/* For heaptap itself: nothing in the section refers to it. The frame ends with
 * the return address. */
#define FROM_CFA(field) ((int32_t)offsetof(struct frame, field) - (int32_t)sizeof(struct frame))

const struct tap_probe_frame tap_probe_frame = {
	.cfa_offset = sizeof(struct frame),
	.ra_offset = FROM_CFA(return_addr),
	.rbx_offset = FROM_CFA(rbx),
	.rbp_offset = FROM_CFA(rbp),
	.r12_offset = FROM_CFA(r12),
	.r13_offset = FROM_CFA(r13),
	.r14_offset = FROM_CFA(r14),
	.r15_offset = FROM_CFA(r15),
};
