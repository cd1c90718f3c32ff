/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_ARCH_PROBE_H
#define HEAPTAP_ARCH_PROBE_H

/*
 * The probe: code that is placed in the target in front of an allocator's
 * entry points. It counts bytes down to the next sample and jumps on; only a
 * sampled call is made by the probe itself, put into a record of a page that
 * is shared with heaptap, and held until heaptap has looked at the thread's
 * stack, for 100 ms at most. No ptrace is needed for any of that.
 *
 * One region of memory in the target holds everything, so that the code
 * reaches its data by 32-bit displacements:
 *
 *	code     r-x  the common part, then one instance for each entry point
 *	private  rw-  struct tap_probe_private; wiped in a forked child, which
 *	              disarms it
 *	shared   rw-  struct tap_probe_shared, mapped by heaptap too
 *
 * The fast path has no frame and leaves every register but rax and the flags
 * as they were. Structures here are the binary interface of that code; what
 * heaptap reads of them is target memory and not to be trusted.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "heaptap/arch/regs.h"
#include "heaptap/base/error.h"

#define TAP_PROBE_SLOT_BITS 14
#define TAP_PROBE_SLOTS (1u << TAP_PROBE_SLOT_BITS)
/* Behind them: of the probes whose calls never run at once, one for all
 * threads. */
#define TAP_PROBE_COMMON_SLOT TAP_PROBE_SLOTS
#define TAP_PROBE_ALL_SLOTS (TAP_PROBE_SLOTS + 1)
#define TAP_PROBE_RECORDS 64u
#define TAP_PROBE_FILTER_BITS 20
#define TAP_PROBE_CELL_BITS 18
#define TAP_PROBE_CELLS (1u << TAP_PROBE_CELL_BITS)
/* Cells after an address's home that it may lie in. */
#define TAP_PROBE_CELL_REACH 32u

/* Of `left`: above is nobody's countdown. */
#define TAP_PROBE_LARGEST_GAP (INT64_C(1) << 48)
/* A thread is in the slow path with this slot. */
#define TAP_PROBE_CLAIMED (INT64_C(1) << 61)

#define TAP_PROBE_ANY_CORE UINT64_MAX

/* A thread waits for its answer so long, in slices, and looks between them
 * whether it is still armed. */
#define TAP_PROBE_WAIT_NS INT64_C(100000000)
#define TAP_PROBE_SLICE_NS INT64_C(20000000)
/* The part of it that a thread stands in line for a record, where all are
 * taken. */
#define TAP_PROBE_QUEUE_NS INT64_C(50000000)

/* The countdown of a thread, found by a hash of its fs base. What is left of
 * an exponential gap is one itself, whoever counts it down: a thread may come
 * to another one's slot, or to another slot, in the middle of it. */
struct tap_probe_slot {
	int64_t left; /* bytes to the next sample; negative: the next call is one */
	int64_t gap;  /* what it was last set to, drawn by heaptap */
	uint64_t lost; /* samples that were let go since the last one that was not */
	uint64_t interval; /* the mean, in bytes, that the gap was drawn with; 0: every call */
};

struct tap_probe_private {
	uint64_t generation; /* of the records' words, 32 bits; 0: disarmed */
	uint64_t multiplier; /* of the slots' hash; odd */
	uint64_t notes;      /* not 0: frees are noted, also while disarmed: from the first arming
	                      * on, and not in a forked child, as the cells are its parent's */
	uint64_t unused[5];
	struct tap_probe_slot slots[TAP_PROBE_ALL_SLOTS];
};

/* A record's word: generation << 32 | life << 8 | state; every change is one
 * compare-and-swap of the whole, so that a thread that was held for long
 * cannot write into another's record. The life is another one each time that
 * the record is free again: it may be taken back from a thread that left it
 * behind (killed, or by a longjmp out of a signal handler). The half with life
 * and state is a futex. */
enum tap_probe_state {
	TAP_PROBE_FREE,
	TAP_PROBE_FILLING,
	TAP_PROBE_POSTED,
	TAP_PROBE_ANSWERED,
};

static inline uint64_t tap_probe_word(uint64_t generation, uint64_t life, enum tap_probe_state state)
{
	return generation << 32 | (life & 0xffffff) << 8 | (uint64_t)state;
}

static inline uint64_t tap_probe_word_to(uint64_t word, enum tap_probe_state state)
{
	return (word & ~UINT64_C(0xff)) | (uint64_t)state;
}

static inline uint64_t tap_probe_word_freed(uint64_t word)
{
	return tap_probe_word(word >> 32, (word >> 8) + 1, TAP_PROBE_FREE);
}

static inline bool tap_probe_word_is(uint64_t word, uint64_t generation, enum tap_probe_state state)
{
	return word >> 32 == generation && (word & 0xff) == (uint64_t)state;
}

struct tap_probe_record {
	_Atomic uint64_t word;
	uint32_t kind;  /* enum tap_probe_kind */
	uint32_t entry; /* the instance's number */
	struct tap_regs regs; /* as they are once the call has returned to its caller */
	uint64_t arguments[4];
	uint64_t result;
	int64_t gap;       /* that the sample was drawn with */
	uint64_t interval; /* and the mean of that */
	uint64_t lost;     /* samples before it that it stands for as well */
	int64_t next_gap;  /* heaptap's answer */
	uint64_t next_interval;
	uint64_t core;     /* the CPU it was filled on */
};

/* A sampled block. Made by heaptap, which alone writes addr; a free() in the
 * target changes its state. word: generation << 8 | state. */
enum tap_probe_cell_state {
	TAP_PROBE_CELL_EMPTY,
	TAP_PROBE_CELL_LIVE,
	TAP_PROBE_CELL_MOVING, /* inside realloc */
	TAP_PROBE_CELL_FREED,
};

struct tap_probe_cell {
	_Atomic uint64_t word;
	_Atomic uint64_t addr;
};

struct tap_probe_shared {
	_Atomic uint32_t bell;     /* a futex: counts posted records */
	_Atomic uint32_t sleeping; /* heaptap waits on the bell */
	_Atomic uint32_t line;     /* a futex: counts records that were given back while... */
	_Atomic uint32_t in_line;  /* ... threads waited for one */
	_Atomic uint64_t samples;  /* records posted */
	_Atomic uint64_t lost;     /* no record was free in time */
	_Atomic uint64_t late;     /* no answer in time */
	_Atomic uint64_t crowded;  /* samples meanwhile another thread counted in the same slot */
	_Atomic uint64_t waited_ticks; /* of the time stamp counter, in all waits */
	/* The CPU that heaptap answers on, TAP_PROBE_ANY_CORE where it may be any. A
	 * thread on the same one lets go of it at once; else it looks for the answer
	 * for some microseconds first. */
	_Atomic uint64_t core;
	uint64_t unused[8];
	struct tap_probe_record records[TAP_PROBE_RECORDS];
	struct tap_probe_cell cells[TAP_PROBE_CELLS];
	/* A bit for each cell, set once that is marked as freed, so that heaptap need
	 * not look at all of them. */
	_Atomic uint64_t freed[TAP_PROBE_CELLS / 64];
	/* By index: 0, the tag of the watched block that has it, or
	 * TAP_PROBE_TAG_SEVERAL. Bytes, as to test a bit takes the processor longer.
	 * heaptap alone writes it, before it answers. */
	_Atomic uint8_t filter[1u << TAP_PROBE_FILTER_BITS];
};

/* What a probe has to know of a function: where its size and block are. */
enum tap_probe_kind {
	TAP_PROBE_SIZE0, /* f(size) */
	TAP_PROBE_SIZE1, /* f(x, size) */
	TAP_PROBE_SIZE2, /* int f(where, x, size): 0 is success */
	TAP_PROBE_PRODUCT01, /* f(count, size) */
	TAP_PROBE_PRODUCT12, /* f(x, count, size) */
	TAP_PROBE_RESIZE01,  /* f(block, size) */
	TAP_PROBE_RESIZE12,  /* f(x, block, size) */
	TAP_PROBE_RESIZE02,  /* f(block, x, size) */
	TAP_PROBE_RESIZE_PRODUCT, /* f(block, count, size) */
	TAP_PROBE_FREE0, /* f(block, ...) */
	TAP_PROBE_FREE1, /* f(x, block, ...) */
	TAP_PROBE_KINDS,
};

/* One probe. */
struct tap_probe_spec {
	enum tap_probe_kind kind;
	uint32_t entry;       /* the caller's number, in every record of this probe */
	uint32_t limit_bytes; /* larger requests go by uncounted: whoever they are passed on to
	                       * counts them; 0: no limit */
	bool common; /* its calls never run at once with those of others that are so (the
	              * GIL): they count in one slot, which takes half of the instructions */
	bool passes_null; /* of a realloc: so do those without a block */
	uint8_t passes_alignment; /* of f(alignment, size): so do those of no more; 0: none */
};

/* Parts of the region, from its start. */
#define TAP_PROBE_PAGE 4096u
#define TAP_PROBE_ALIGN(n) (((n) + TAP_PROBE_PAGE - 1) & ~(uint64_t)(TAP_PROBE_PAGE - 1))
#define TAP_PROBE_CODE_BYTES UINT64_C(0x10000)
#define TAP_PROBE_PRIVATE_AT TAP_PROBE_CODE_BYTES
#define TAP_PROBE_PRIVATE_BYTES TAP_PROBE_ALIGN(sizeof(struct tap_probe_private))
#define TAP_PROBE_SHARED_AT (TAP_PROBE_PRIVATE_AT + TAP_PROBE_PRIVATE_BYTES)
#define TAP_PROBE_SHARED_BYTES TAP_PROBE_ALIGN(sizeof(struct tap_probe_shared))
#define TAP_PROBE_REGION_BYTES (TAP_PROBE_SHARED_AT + TAP_PROBE_SHARED_BYTES)

/* Neighbours have neighbouring bytes, so that the filter takes up no more of the
 * processor's cache than the blocks that are in use: of each 16 bytes of
 * memory one, the same again for what lies 16 MiB further. */
#define TAP_PROBE_GRANULE_SHIFT 4
static inline uint64_t tap_probe_filter_index(uint64_t addr)
{
	return addr >> TAP_PROBE_GRANULE_SHIFT & ((1u << TAP_PROBE_FILTER_BITS) - 1);
}

/* What tells those apart, mostly. */
#define TAP_PROBE_TAG_SHIFT (TAP_PROBE_FILTER_BITS + TAP_PROBE_GRANULE_SHIFT)
#define TAP_PROBE_TAG_MASK 127u
#define TAP_PROBE_TAG_SEVERAL 255u
static inline uint8_t tap_probe_filter_tag(uint64_t addr)
{
	return (uint8_t)((addr >> TAP_PROBE_TAG_SHIFT & TAP_PROBE_TAG_MASK) + 1);
}

/* The home of a cell. */

static inline uint32_t tap_probe_cell_home(uint64_t addr)
{
	return (uint32_t)((addr * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - TAP_PROBE_CELL_BITS));
}

static inline uint32_t tap_probe_slot_index(uint64_t fs_base, uint64_t multiplier)
{
	return (uint32_t)((fs_base * multiplier) >> (64 - TAP_PROBE_SLOT_BITS));
}

/* The common part: bytes to be laid at the region's start. */
const uint8_t *tap_probe_common(size_t *size_ret);

/* How the common part is left that made a sampled call, from the return address
 * of that on: the CFA is cfa_offset behind rbx; what it has saved lies at
 * these offsets from the CFA. */
struct tap_probe_frame {
	int32_t cfa_offset;
	int32_t ra_offset;
	int32_t rbx_offset, rbp_offset, r12_offset, r13_offset, r14_offset, r15_offset;
};
extern const struct tap_probe_frame tap_probe_frame;

/* Code for one entry point, to be laid at `at` in the region's code part.
 * original: where the call goes on (a relocated prologue, or a function).
 * *entry_ret: the address that is jumped to. NOMEM where capacity is too
 * small; TAP_PROBE_INSTANCE_MAX always suffices. */
#define TAP_PROBE_INSTANCE_MAX 256u
struct tap_error *tap_probe_instance(const struct tap_probe_spec *spec, uint64_t region,
	uint64_t at, uint64_t original, uint8_t *code, size_t capacity, size_t *size_ret,
	uint64_t *entry_ret);

/* Has this processor what the probe's code takes for granted (rdtscp)? */
bool tap_probe_can_run(void);

/* What one pass through a probe costs that is not sampled, in ticks of the time
 * stamp counter: measured on a copy of our own. */
double tap_probe_pass_ticks(void);

/* A system call that a probe makes in a thread of the target, from anywhere in
 * the common part. */
struct tap_probe_call {
	const char *name;
	int number;
	uint64_t arguments[6];
	uint8_t unknown; /* bit n: arguments[n] is an address, or what only the call itself knows */
};
#define TAP_PROBE_CALLS 4u
extern const struct tap_probe_call tap_probe_calls[TAP_PROBE_CALLS];

/* The five bytes of a jump from `at` to `to`; false where that is too far. */
#define TAP_PROBE_JUMP_BYTES 5u
bool tap_probe_jump(uint64_t at, uint64_t to, uint8_t code[TAP_PROBE_JUMP_BYTES]);

#endif
