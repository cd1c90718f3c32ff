/* SPDX-License-Identifier: Apache-2.0 */
#include <cpuid.h>
#include <string.h>
#include "heaptap/arch/probe.h"

/* The section that probe_entry.S and probe_slow.c make, named by the linker. */
extern const uint8_t __start_tap_probe[], __stop_tap_probe[];
extern const uint8_t tap_probe_slow_call[], tap_probe_slow_free[];

/* The layout is struct desc of probe_slow.c. */
struct desc {
	uint64_t original, private, shared;
	uint32_t kind, entry;
	uint64_t limit_bytes;
	uint64_t common;
};

enum reg {
	RDX = 2,
	RSI = 6,
	RDI = 7,
};

/* Code under way: where it will lie, and where the data is. */
struct emitter {
	uint8_t *code;
	size_t size_bytes;
	size_t capacity;
	uint64_t at;
	uint64_t region;
	uint64_t desc;
	uint64_t original;
	const struct tap_probe_spec *spec;
};

/* AMD64 Architecture Programmer's Manual 3, E.4.2: CPUID function 8000_0001h. */
#define CPUID_EXTENDED 0x80000001
#define EDX_RDTSCP (1u << 27)

bool tap_probe_can_run(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(CPUID_EXTENDED, &a, &b, &c, &d) && (d & EDX_RDTSCP);
}

const uint8_t *tap_probe_common(size_t *size_ret)
{
	*size_ret = (size_t)(__stop_tap_probe - __start_tap_probe);
	return __start_tap_probe;
}

static void put(struct emitter *e, const void *bytes, size_t size_bytes)
{
	if (e->size_bytes + size_bytes <= e->capacity)
		memcpy(e->code + e->size_bytes, bytes, size_bytes);
	e->size_bytes += size_bytes;
}

#define PUT(e, ...) put((e), (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* The four bytes that end an instruction and lead to `to`. */
static void put_displacement(struct emitter *e, uint64_t to)
{
	int32_t displacement = (int32_t)(to - (e->at + e->size_bytes + 4));

	put(e, &displacement, sizeof(displacement));
}

static uint64_t private_at(const struct emitter *e, size_t offset)
{
	return e->region + TAP_PROBE_PRIVATE_AT + offset;
}

static uint64_t common_at(const struct emitter *e, const uint8_t *label)
{
	return e->region + (uint64_t)(label - __start_tap_probe);
}

/* rax: the slot of this thread. */
static void emit_slot(struct emitter *e)
{
	PUT(e, 0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0); /* mov %fs:0,%rax */
	PUT(e, 0x48, 0x0f, 0xaf, 0x05);                   /* imul multiplier(%rip),%rax */
	put_displacement(e, private_at(e, offsetof(struct tap_probe_private, multiplier)));
	PUT(e, 0x48, 0xc1, 0xe8, 64 - TAP_PROBE_SLOT_BITS); /* shr */
	PUT(e, 0x48, 0xc1, 0xe0, 5);                        /* shl: sizeof(slot) */
	PUT(e, 0x48, 0x03, 0x05);                           /* add slots(%rip),%rax */
	/* Not from the private page: in a forked child that is wiped. */
	put_displacement(e, e->desc + sizeof(struct desc));
}

#define JB 0x72
#define JE 0x74
#define JNE 0x75
#define JA 0x77
#define JS 0x78

/* A short conditional jump whose end is set later. */
static size_t emit_branch(struct emitter *e, uint8_t opcode)
{
	PUT(e, opcode, 0);
	return e->size_bytes;
}

static void land(struct emitter *e, size_t branch)
{
	if (e->size_bytes <= e->capacity)
		e->code[branch - 1] = (uint8_t)(e->size_bytes - branch);
}

static void emit_go_on(struct emitter *e)
{
	int64_t away = (int64_t)(e->original - (e->at + e->size_bytes + TAP_PROBE_JUMP_BYTES));

	if (away == (int32_t)away) {
		PUT(e, 0xe9); /* jmp original */
		put_displacement(e, e->original);
	} else {
		PUT(e, 0xff, 0x25); /* jmp *original(%rip) */
		put_displacement(e, e->desc);
	}
}

/* Who asks for more than the limit goes on uncounted: the jump to where it does,
 * out of the way of all others; 0 where there is no limit. */
static size_t emit_limit(struct emitter *e, enum reg size)
{
	if (!e->spec->limit_bytes)
		return 0;
	PUT(e, 0x48, 0x81, (uint8_t)(0xf8 | size)); /* cmp $limit,%size */
	put(e, &e->spec->limit_bytes, sizeof(e->spec->limit_bytes));
	return emit_branch(e, JA);
}

static uint64_t common_slot(const struct emitter *e)
{
	return private_at(e, offsetof(struct tap_probe_private, slots[TAP_PROBE_COMMON_SLOT]));
}

/* Takes size + 1 off the slot: the common one, or the one in rax. The sign flag
 * says that it is used up, the carry flag that it was 2^63 bytes and more, which
 * would wind the countdown up. */
static void emit_take(struct emitter *e, enum reg size)
{
	PUT(e, 0xf9); /* stc */
	if (e->spec->common) {
		PUT(e, 0x48, 0x19, (uint8_t)(0x05 | (unsigned)size << 3)); /* sbb %size,slot(%rip) */
		put_displacement(e, common_slot(e));
	} else {
		PUT(e, 0x48, 0x19, (uint8_t)((unsigned)size << 3)); /* sbb %size,(%rax) */
	}
}

static size_t emit_count(struct emitter *e, enum reg size)
{
	size_t over = emit_limit(e, size);

	if (!e->spec->common)
		emit_slot(e);
	emit_take(e, size);
	return over;
}

static size_t emit_count_product(struct emitter *e, enum reg a, enum reg b)
{
	size_t over;

	if (!e->spec->common)
		emit_slot(e);
	PUT(e, (uint8_t)(0x50 + a));                                      /* push %a */
	PUT(e, 0x48, 0x0f, 0xaf, (uint8_t)(0xc0 | (unsigned)a << 3 | b)); /* imul %b,%a */
	over = emit_limit(e, a);
	emit_take(e, a);
	PUT(e, (uint8_t)(0x58 + a)); /* pop %a: flags stay */
	return over;
}

/* Counts what this call asks for; the jump of those who ask for too much, and in
 * *pop_ret the instruction that gives them their register back, 0 for none. */
static size_t emit_count_kind(struct emitter *e, uint8_t *pop_ret)
{
	*pop_ret = 0;
	switch (e->spec->kind) {
	case TAP_PROBE_SIZE0:
		return emit_count(e, RDI);
	case TAP_PROBE_SIZE1:
	case TAP_PROBE_RESIZE01:
		return emit_count(e, RSI);
	case TAP_PROBE_PRODUCT01:
		*pop_ret = 0x58 + RDI;
		return emit_count_product(e, RDI, RSI);
	case TAP_PROBE_PRODUCT12:
	case TAP_PROBE_RESIZE_PRODUCT:
		*pop_ret = 0x58 + RSI;
		return emit_count_product(e, RSI, RDX);
	default:
		return emit_count(e, RDX);
	}
}

/* rax: the filter's byte for this block. Not zero: one is watched whose address
 * has the same index. */
static void emit_filter(struct emitter *e, enum reg block)
{
	PUT(e, 0x48, 0x89, (uint8_t)(0xc0 | (unsigned)block << 3)); /* mov %block,%rax */
	PUT(e, 0x48, 0xc1, 0xe0, 64 - TAP_PROBE_TAG_SHIFT);         /* shl */
	PUT(e, 0x48, 0xc1, 0xe8, 64 - TAP_PROBE_FILTER_BITS);       /* shr */
	PUT(e, 0x48, 0x03, 0x05);                                   /* add filter,%rax */
	put_displacement(e, e->desc + sizeof(struct desc) + sizeof(uint64_t));
	PUT(e, 0x80, 0x38, 0); /* cmpb $0,(%rax) */
}

static void emit_slow(struct emitter *e, const uint8_t *label)
{
	PUT(e, 0x48, 0x8d, 0x05); /* lea desc(%rip),%rax */
	put_displacement(e, e->desc);
	PUT(e, 0x50); /* push %rax */
	PUT(e, 0xe9); /* jmp */
	put_displacement(e, common_at(e, label));
}

/* Of a byte that is not zero: where the jumps end that are taken if this may be
 * the block. */
static void emit_tag(struct emitter *e, enum reg block, size_t marked_ret[2])
{
	PUT(e, 0x0f, 0xb6, 0x00);             /* movzbl (%rax),%eax */
	PUT(e, 0x3c, TAP_PROBE_TAG_SEVERAL);  /* cmp $,%al */
	marked_ret[0] = emit_branch(e, JE);
	PUT(e, 0x51);                                               /* push %rcx */
	PUT(e, 0x48, 0x89, (uint8_t)(0xc1 | (unsigned)block << 3)); /* mov %block,%rcx */
	PUT(e, 0x48, 0xc1, 0xe9, TAP_PROBE_TAG_SHIFT);              /* shr $,%rcx */
	PUT(e, 0x83, 0xe1, TAP_PROBE_TAG_MASK);                     /* and $,%ecx */
	PUT(e, 0xff, 0xc1);                                         /* inc %ecx */
	PUT(e, 0x38, 0xc8);                                         /* cmp %cl,%al */
	PUT(e, 0x59);                                               /* pop %rcx: flags stay */
	marked_ret[1] = emit_branch(e, JE);
}

static void emit_free(struct emitter *e, enum reg block)
{
	size_t some, marked[2];

	emit_filter(e, block);
	some = emit_branch(e, JNE);
	emit_go_on(e);
	land(e, some);
	emit_tag(e, block, marked);
	emit_go_on(e);
	land(e, marked[0]);
	land(e, marked[1]);
	emit_slow(e, tap_probe_slow_free);
}

/* A realloc without a block that is a malloc's call in the end. */
static void emit_null(struct emitter *e, enum reg block)
{
	size_t some;

	PUT(e, 0x48, 0x85, (uint8_t)(0xc0 | (unsigned)block << 3 | block)); /* test %block,%block */
	some = emit_branch(e, JNE);
	emit_go_on(e);
	land(e, some);
}

static void emit_alignment(struct emitter *e, uint8_t alignment)
{
	size_t more;

	PUT(e, 0x48, 0x83, 0xf8 | RDI, alignment); /* cmp $alignment,%rdi */
	more = emit_branch(e, JA);
	emit_go_on(e);
	land(e, more);
}

static void emit_alloc(struct emitter *e, const struct tap_probe_spec *spec)
{
	enum tap_probe_kind kind = spec->kind;
	size_t some = 0, unmarked = 0, marked[2], over, used_up, beyond = 0;
	enum reg block = kind == TAP_PROBE_RESIZE12 ? RSI : RDI;
	uint8_t pop;

	if (kind == TAP_PROBE_RESIZE01 || kind == TAP_PROBE_RESIZE02 ||
		kind == TAP_PROBE_RESIZE_PRODUCT || kind == TAP_PROBE_RESIZE12) {
		if (spec->passes_null)
			emit_null(e, block);
		emit_filter(e, block);
		some = emit_branch(e, JNE);
		unmarked = e->size_bytes;
	}
	if (spec->passes_alignment && kind == TAP_PROBE_SIZE1)
		emit_alignment(e, spec->passes_alignment);
	over = emit_count_kind(e, &pop);
	used_up = emit_branch(e, JS);
	if (!over)
		beyond = emit_branch(e, JB);
	emit_go_on(e);
	if (over) {
		land(e, over);
		if (pop)
			PUT(e, pop);
		emit_go_on(e);
	}
	if (some) {
		land(e, some);
		emit_tag(e, block, marked);
		PUT(e, 0xe9); /* jmp */
		put_displacement(e, e->at + unmarked);
		land(e, marked[0]);
		land(e, marked[1]);
		PUT(e, 0x6a, 0); /* push $0: not counted yet */
		emit_slow(e, tap_probe_slow_call);
	}
	land(e, used_up);
	if (beyond)
		land(e, beyond);
	if (spec->common) {
		PUT(e, 0x48, 0x8d, 0x05); /* lea slot(%rip),%rax */
		put_displacement(e, common_slot(e));
	}
	PUT(e, 0x50); /* push %rax */
	emit_slow(e, tap_probe_slow_call);
}

struct tap_error *tap_probe_instance(const struct tap_probe_spec *spec, uint64_t region,
	uint64_t at, uint64_t original, uint8_t *code, size_t capacity, size_t *size_ret,
	uint64_t *entry_ret)
{
	struct desc desc = {original, region + TAP_PROBE_PRIVATE_AT, region + TAP_PROBE_SHARED_AT,
		(uint32_t)spec->kind, spec->entry, spec->limit_bytes, spec->common};
	struct emitter e = {
		.code = code, .capacity = capacity, .at = at, .region = region, .desc = at,
		.original = original, .spec = spec};
	uint64_t slots = private_at(&e, offsetof(struct tap_probe_private, slots));
	uint64_t filter = region + TAP_PROBE_SHARED_AT + offsetof(struct tap_probe_shared, filter);

	put(&e, &desc, sizeof(desc));
	put(&e, &slots, sizeof(slots));
	put(&e, &filter, sizeof(filter));
	*entry_ret = at + e.size_bytes;
	if (spec->kind == TAP_PROBE_FREE0 || spec->kind == TAP_PROBE_FREE1)
		emit_free(&e, spec->kind == TAP_PROBE_FREE0 ? RDI : RSI);
	else
		emit_alloc(&e, spec);
	*size_ret = e.size_bytes;
	if (e.size_bytes > capacity)
		return tap_error_new(TAP_ERR_NOMEM, "no room for a probe");
	return NULL;
}

bool tap_probe_jump(uint64_t at, uint64_t to, uint8_t code[TAP_PROBE_JUMP_BYTES])
{
	int64_t displacement = (int64_t)(to - (at + TAP_PROBE_JUMP_BYTES));
	int32_t near = (int32_t)displacement;

	if (near != displacement)
		return false;
	code[0] = 0xe9;
	memcpy(code + 1, &near, sizeof(near));
	return true;
}
