/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "heaptap/arch/probe.h"

/* The probe in our own process: a region of memory with instances in front of
 * functions of ours, and a thread that answers as heaptap would. */

#define GENERATION 7

struct world {
	uint8_t *region;
	struct tap_probe_private *private;
	struct tap_probe_shared *shared;
	uint64_t next_at; /* where the next instance goes */
	pthread_t answerer;
	atomic_bool end;
	int64_t next_gap;
	/* What was seen. */
	uint64_t answered;
	uint64_t bytes;
	struct tap_regs regs;
	uint64_t arguments[4];
	uint64_t result;
	int64_t gap;
	uint64_t interval, lost;
	uint32_t entry;
};

static void answer(struct world *world, struct tap_probe_record *record)
{
	uint64_t posted = atomic_load(&record->word);

	world->answered++;
	world->bytes += record->arguments[0];
	world->regs = record->regs;
	memcpy(world->arguments, record->arguments, sizeof(world->arguments));
	world->result = record->result;
	world->gap = record->gap;
	world->interval = record->interval;
	world->lost = record->lost;
	world->entry = record->entry;
	record->next_gap = world->next_gap;
	record->next_interval = (uint64_t)world->next_gap / 2;
	if (atomic_compare_exchange_strong(
		    &record->word, &posted, tap_probe_word_to(posted, TAP_PROBE_ANSWERED)))
		syscall(SYS_futex, &record->word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void *answer_all(void *context)
{
	struct world *world = context;

	while (!atomic_load(&world->end)) {
		uint32_t bell = atomic_load(&world->shared->bell);
		struct timespec slice = {0, 10000000};

		for (unsigned i = 0; i < TAP_PROBE_RECORDS; i++) {
			struct tap_probe_record *record = &world->shared->records[i];

			if (tap_probe_word_is(
				    atomic_load(&record->word), GENERATION, TAP_PROBE_POSTED))
				answer(world, record);
		}
		atomic_store(&world->shared->sleeping, 1);
		syscall(SYS_futex, &world->shared->bell, FUTEX_WAIT, bell, &slice, NULL, 0);
		atomic_store(&world->shared->sleeping, 0);
	}
	return NULL;
}

static void begin(struct world *world, bool answering)
{
	size_t common_size;
	const uint8_t *common = tap_probe_common(&common_size);

	memset(world, 0, sizeof(*world));
	world->region = mmap(NULL, TAP_PROBE_REGION_BYTES, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(world->region, MAP_FAILED);
	assert_ptr_equal(mmap(world->region + TAP_PROBE_PRIVATE_AT, TAP_PROBE_PRIVATE_BYTES,
				 PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
		world->region + TAP_PROBE_PRIVATE_AT);
	assert_int_equal(madvise(world->region + TAP_PROBE_PRIVATE_AT, TAP_PROBE_PRIVATE_BYTES,
				 MADV_WIPEONFORK),
		0);
	memcpy(world->region, common, common_size);
	world->private = (void *)(world->region + TAP_PROBE_PRIVATE_AT);
	world->shared = (void *)(world->region + TAP_PROBE_SHARED_AT);
	world->private->generation = GENERATION;
	world->private->notes = 1;
	world->private->multiplier = UINT64_C(0x9e3779b97f4a7c15);
	for (unsigned i = 0; i < TAP_PROBE_RECORDS; i++)
		world->shared->records[i].word = tap_probe_word(GENERATION, 0, TAP_PROBE_FREE);
	world->next_at = (uint64_t)world->region + ((common_size + 63) & ~63ul);
	if (answering)
		pthread_create(&world->answerer, NULL, answer_all, world);
}

/* The code becomes executable when all instances are there. */
static void *place_spec(
	struct world *world, const struct tap_probe_spec *spec, void *original)
{
	uint64_t entry_addr;
	size_t size;

	assert_ok(tap_probe_instance(spec, (uint64_t)world->region, world->next_at,
		(uint64_t)original, (uint8_t *)world->next_at, TAP_PROBE_INSTANCE_MAX, &size,
		&entry_addr));
	world->next_at += TAP_PROBE_INSTANCE_MAX;
	return (void *)entry_addr;
}

static void *place_limited(struct world *world, enum tap_probe_kind kind, uint32_t entry,
	void *original, uint32_t limit_bytes)
{
	struct tap_probe_spec spec = {.kind = kind, .entry = entry, .limit_bytes = limit_bytes};

	return place_spec(world, &spec, original);
}

static void *place(struct world *world, enum tap_probe_kind kind, uint32_t entry, void *original)
{
	return place_limited(world, kind, entry, original, 0);
}

static void arm(struct world *world)
{
	assert_int_equal(mprotect(world->region, TAP_PROBE_CODE_BYTES, PROT_READ | PROT_EXEC), 0);
}

static void end(struct world *world)
{
	atomic_store(&world->end, true);
	if (world->answerer)
		pthread_join(world->answerer, NULL);
	munmap(world->region, TAP_PROBE_REGION_BYTES);
}

static uint64_t calls;

static uint64_t original1(uint64_t a)
{
	calls++;
	return a ? 0x1000 + a : 0;
}

static uint64_t original3(uint64_t a, uint64_t b, uint64_t c)
{
	calls++;
	return 0x1000 + a + b + c;
}

static void set_records(struct world *world, enum tap_probe_state state)
{
	for (unsigned i = 0; i < TAP_PROBE_RECORDS; i++)
		world->shared->records[i].word = tap_probe_word(GENERATION, 0, state);
}

static struct tap_probe_slot *own_slot(struct world *world)
{
	uint64_t fs;

	__asm__("mov %%fs:0, %0" : "=r"(fs));
	return &world->private->slots[tap_probe_slot_index(fs, world->private->multiplier)];
}

static void counts_bytes_and_asks_only_when_they_are_used_up(void **state)
{
	struct world world;
	uint64_t (*probed)(uint64_t);

	(void)state;
	begin(&world, true);
	probed = place(&world, TAP_PROBE_SIZE0, 42, original1);
	arm(&world);
	world.next_gap = 1000;
	calls = 0;
	assert_int_equal(probed(10), 0x1000 + 10); /* a fresh slot is used up */
	assert_int_equal(world.answered, 1);
	assert_int_equal(world.entry, 42);
	assert_int_equal(world.arguments[0], 10);
	assert_int_equal(world.result, 0x1000 + 10);
	assert_int_equal(world.gap, 0);
	for (int i = 0; i < 9; i++)
		probed(100);
	assert_int_equal(world.answered, 1);
	assert_int_equal(own_slot(&world)->left, 1000 - 9 * 101);
	probed(100);
	assert_int_equal(world.answered, 2);
	assert_int_equal(world.gap, 1000);
	assert_int_equal(world.interval, 500);
	assert_int_equal(calls, 11);
	/* A call that gave nothing is no sample. */
	own_slot(&world)->left = 0;
	probed(0);
	assert_int_equal(world.answered, 2);
	end(&world);
}

/* Where all records are taken for long, the next sample stands for the one that
 * was let go as well. */
static void what_finds_no_record_is_carried_on(void **state)
{
	struct world world;
	uint64_t (*probed)(uint64_t);

	(void)state;
	begin(&world, true);
	probed = place(&world, TAP_PROBE_SIZE0, 42, original1);
	arm(&world);
	world.next_gap = 1000;
	probed(10);
	set_records(&world, TAP_PROBE_FILLING);
	probed(2000);
	assert_int_equal(world.answered, 1);
	assert_int_equal(world.shared->lost, 1);
	assert_in_range(own_slot(&world)->left, 0, 20 * 500);
	assert_int_equal(world.shared->in_line, 0);
	set_records(&world, TAP_PROBE_FREE);
	probed(20000);
	assert_int_equal(world.answered, 2);
	assert_int_equal(world.lost, 1);
	assert_int_equal(world.interval, 500);
	probed(2000);
	assert_int_equal(world.lost, 0);
	end(&world);
}

static uint64_t gives_nothing(uint64_t size)
{
	(void)size;
	return 0;
}

/* Where heaptap draws none, the probe does: of the same mean, and not the one
 * that has just ended. */
static void a_gap_of_its_own(void **state)
{
	enum { DRAWS = 20000, MEAN = 100000 };
	double sum = 0, below_half_life = 0, below_tenth = 0;
	struct world world;
	uint64_t (*probed)(uint64_t);

	(void)state;
	begin(&world, false);
	probed = place(&world, TAP_PROBE_SIZE0, 42, gives_nothing);
	arm(&world);
	for (int i = 0; i < DRAWS; i++) {
		own_slot(&world)->left = 0;
		own_slot(&world)->gap = 5;
		own_slot(&world)->interval = MEAN;
		probed(10);
		assert_int_equal(own_slot(&world)->left, own_slot(&world)->gap);
		sum += (double)own_slot(&world)->left / DRAWS;
		below_half_life += (own_slot(&world)->left < 0.6931 * MEAN) / (double)DRAWS;
		below_tenth += (own_slot(&world)->left < 0.10536 * MEAN) / (double)DRAWS;
	}
	assert_true(sum > 0.96 * MEAN && sum < 1.04 * MEAN);
	assert_true(below_half_life > 0.44 && below_half_life < 0.56);
	assert_true(below_tenth > 0.06 && below_tenth < 0.14);
	end(&world);
}

static void what_is_passed_on_goes_by(void **state)
{
	struct tap_probe_spec resize = {
		.kind = TAP_PROBE_RESIZE01, .entry = 1, .passes_null = true};
	struct tap_probe_spec align = {
		.kind = TAP_PROBE_SIZE1, .entry = 2, .passes_alignment = 16};
	uint64_t (*resized)(uint64_t, uint64_t, uint64_t);
	uint64_t (*aligned)(uint64_t, uint64_t, uint64_t);
	struct world world;

	(void)state;
	begin(&world, true);
	resized = place_spec(&world, &resize, original3);
	aligned = place_spec(&world, &align, original3);
	arm(&world);
	own_slot(&world)->left = 1000;
	assert_int_equal(resized(0, 100, 0), 0x1000 + 100);
	assert_int_equal(aligned(16, 100, 0), 0x1000 + 116);
	assert_int_equal(own_slot(&world)->left, 1000);
	assert_int_equal(resized(0x10, 100, 0), 0x1000 + 0x10 + 100);
	assert_int_equal(own_slot(&world)->left, 1000 - 101);
	assert_int_equal(aligned(17, 100, 0), 0x1000 + 117);
	assert_int_equal(own_slot(&world)->left, 1000 - 202);
	end(&world);
}

static void every_kind_finds_its_size(void **state)
{
	static const struct {
		enum tap_probe_kind kind;
		int64_t size;
	} rows[] = {
		{TAP_PROBE_SIZE0, 3},
		{TAP_PROBE_SIZE1, 5},
		{TAP_PROBE_SIZE2, 7},
		{TAP_PROBE_PRODUCT01, 15},
		{TAP_PROBE_PRODUCT12, 35},
		{TAP_PROBE_RESIZE01, 5},
		{TAP_PROBE_RESIZE12, 7},
		{TAP_PROBE_RESIZE02, 7},
		{TAP_PROBE_RESIZE_PRODUCT, 35},
	};
	uint64_t (*probed[sizeof(rows) / sizeof(*rows)])(uint64_t, uint64_t, uint64_t);
	struct world world;

	(void)state;
	begin(&world, true);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		probed[i] = place(&world, rows[i].kind, (uint32_t)i, original3);
	arm(&world);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		own_slot(&world)->left = 1000;
		assert_int_equal(probed[i](3, 5, 7), 0x1000 + 15);
		assert_int_equal(own_slot(&world)->left, 1000 - rows[i].size - 1);
	}
	assert_int_equal(world.answered, 0);
	end(&world);
}

static void what_is_over_the_limit_goes_by(void **state)
{
	uint64_t (*size)(uint64_t, uint64_t, uint64_t);
	uint64_t (*product)(uint64_t, uint64_t, uint64_t);
	struct world world;

	(void)state;
	begin(&world, true);
	size = place_limited(&world, TAP_PROBE_SIZE1, 1, original3, 512);
	product = place_limited(&world, TAP_PROBE_PRODUCT12, 2, original3, 512);
	arm(&world);
	own_slot(&world)->left = 10000;
	assert_int_equal(size(1, 513, 0), 0x1000 + 514);
	assert_int_equal(product(1, 2, 257), 0x1000 + 260);
	assert_int_equal(own_slot(&world)->left, 10000);
	assert_int_equal(size(1, 512, 0), 0x1000 + 513);
	assert_int_equal(product(1, 2, 256), 0x1000 + 259);
	assert_int_equal(own_slot(&world)->left, 10000 - 2 * 513);
	end(&world);
}

static void add_cell(struct world *world, uint64_t addr)
{
	struct tap_probe_cell *cell = &world->shared->cells[tap_probe_cell_home(addr)];

	cell->addr = addr;
	cell->word = 5 << 8 | TAP_PROBE_CELL_LIVE;
	world->shared->filter[tap_probe_filter_index(addr)] = tap_probe_filter_tag(addr);
}

static uint64_t cell_state(struct world *world, uint64_t addr)
{
	return world->shared->cells[tap_probe_cell_home(addr)].word;
}

static void who_takes_turns_counts_in_one_slot(void **state)
{
	struct tap_probe_spec spec = {.kind = TAP_PROBE_SIZE1, .common = true, .limit_bytes = 512};
	uint64_t (*size)(uint64_t, uint64_t, uint64_t);
	uint64_t (*product)(uint64_t, uint64_t, uint64_t);
	uint64_t (*resize)(uint64_t, uint64_t, uint64_t);
	struct world world;
	struct tap_probe_slot *common;

	(void)state;
	begin(&world, true);
	common = &world.private->slots[TAP_PROBE_COMMON_SLOT];
	size = place_spec(&world, &spec, original3);
	spec.kind = TAP_PROBE_PRODUCT12;
	product = place_spec(&world, &spec, original3);
	spec.kind = TAP_PROBE_RESIZE12;
	resize = place_spec(&world, &spec, original3);
	arm(&world);
	own_slot(&world)->left = common->left = 10000;
	assert_int_equal(size(1, 513, 0), 0x1000 + 514);
	assert_int_equal(size(1, 100, 0), 0x1000 + 101);
	assert_int_equal(product(1, 2, 257), 0x1000 + 260);
	assert_int_equal(product(1, 2, 100), 0x1000 + 103);
	assert_int_equal(common->left, 10000 - 101 - 201);
	/* Also where the slow path counts, as the block may be a sampled one. */
	add_cell(&world, 0x7fff00004560);
	assert_int_equal(resize(1, 0x7fff00004560, 300), 0x1000 + 1 + 0x7fff00004560 + 300);
	assert_int_equal(common->left, 10000 - 101 - 201 - 301);
	assert_int_equal(cell_state(&world, 0x7fff00004560), 5 << 8 | TAP_PROBE_CELL_FREED);
	assert_int_equal(world.answered, 0);
	common->left = 50;
	common->gap = 60;
	world.next_gap = 7000;
	assert_int_equal(size(1, 100, 0), 0x1000 + 101);
	assert_int_equal(world.answered, 1);
	assert_int_equal(common->left, 7000);
	assert_int_equal(own_slot(&world)->left, 10000);
	end(&world);
}

static bool is_noted(struct world *world, uint64_t addr)
{
	uint32_t index = tap_probe_cell_home(addr);

	return world->shared->freed[index / 64] >> index % 64 & 1;
}

static void a_free_marks_its_cell(void **state)
{
	uint64_t (*free0)(uint64_t, uint64_t, uint64_t);
	uint64_t (*free1)(uint64_t, uint64_t, uint64_t);
	struct world world;

	(void)state;
	begin(&world, true);
	free0 = place(&world, TAP_PROBE_FREE0, 1, original3);
	free1 = place(&world, TAP_PROBE_FREE1, 2, original3);
	arm(&world);
	add_cell(&world, 0x555500001230);
	add_cell(&world, 0x7fff00004560);
	assert_int_equal(free0(0x555500009990, 1, 1), 0x1000 + 0x555500009990 + 2);
	assert_int_equal(free0(0x555500001230, 1, 1), 0x1000 + 0x555500001230 + 2);
	assert_int_equal(free1(1, 0x7fff00004560, 1), 0x1000 + 0x7fff00004560 + 2);
	assert_int_equal(cell_state(&world, 0x555500001230), 5 << 8 | TAP_PROBE_CELL_FREED);
	assert_int_equal(cell_state(&world, 0x7fff00004560), 5 << 8 | TAP_PROBE_CELL_FREED);
	assert_true(is_noted(&world, 0x555500001230) && is_noted(&world, 0x7fff00004560));
	assert_false(is_noted(&world, 0x555500009990));
	/* Also while disarmed: it may be armed again. */
	add_cell(&world, 0x555500001230);
	world.private->generation = 0;
	free0(0x555500001230, 1, 1);
	assert_int_equal(cell_state(&world, 0x555500001230), 5 << 8 | TAP_PROBE_CELL_FREED);
	end(&world);
}

static uint64_t fails(uint64_t a, uint64_t b)
{
	(void)a;
	(void)b;
	return 0;
}

static void a_realloc_moves_its_cell(void **state)
{
	uint64_t (*moved)(uint64_t, uint64_t, uint64_t);
	uint64_t (*failed)(uint64_t, uint64_t);
	struct world world;

	(void)state;
	begin(&world, true);
	moved = place(&world, TAP_PROBE_RESIZE01, 1, original3);
	failed = place(&world, TAP_PROBE_RESIZE01, 2, fails);
	arm(&world);
	add_cell(&world, 0x555500001230);
	own_slot(&world)->left = 1000;
	assert_int_equal(failed(0x555500001230, 10), 0);
	assert_int_equal(cell_state(&world, 0x555500001230), 5 << 8 | TAP_PROBE_CELL_LIVE);
	assert_int_equal(own_slot(&world)->left, 1000 - 11);
	moved(0x555500001230, 10, 0);
	assert_int_equal(cell_state(&world, 0x555500001230), 5 << 8 | TAP_PROBE_CELL_FREED);
	assert_int_equal(world.answered, 0);
	/* Sampled and moved at once. */
	add_cell(&world, 0x555500001230);
	own_slot(&world)->left = 0;
	moved(0x555500001230, 10, 0);
	assert_int_equal(cell_state(&world, 0x555500001230), 5 << 8 | TAP_PROBE_CELL_FREED);
	assert_int_equal(world.answered, 1);
	end(&world);
}

/* Every register but rax and what the function itself changes comes through,
 * on the fast path, on the slow one, and through a sample. */
struct registers {
	uint64_t rbx, rbp, r12, r13, r14, r15, rcx, rdx, rsi, rdi, r8, r9, r10, r11;
	uint8_t xmm[16][16];
};

uint64_t call_with_registers(void *function, struct registers *registers);
/* Changes no register but rax. */
uint64_t tidy_function(uint64_t size);
__asm__(".text\n"
	"tidy_function:\n"
	"	lea 0x1000(%rdi), %rax\n"
	"	ret\n"
	"call_with_registers:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; push %rsi\n"
	"	mov %rdi, %rax\n"
	"	mov %rsi, %rbx\n"
	".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
	"	movups 112 + 16 * \\n(%rbx), %xmm\\n\n"
	".endr\n"
	"	mov 8(%rbx), %rbp; mov 16(%rbx), %r12; mov 24(%rbx), %r13; mov 32(%rbx), %r14\n"
	"	mov 40(%rbx), %r15; mov 48(%rbx), %rcx; mov 56(%rbx), %rdx; mov 64(%rbx), %rsi\n"
	"	mov 72(%rbx), %rdi; mov 80(%rbx), %r8; mov 88(%rbx), %r9; mov 96(%rbx), %r10\n"
	"	mov 104(%rbx), %r11; mov (%rbx), %rbx\n"
	"	call *%rax\n"
	"	xchg %rbx, (%rsp)\n" /* rbx: the structure; on the stack: the program's rbx */
	"	mov %rbp, 8(%rbx); mov %r12, 16(%rbx); mov %r13, 24(%rbx); mov %r14, 32(%rbx)\n"
	"	mov %r15, 40(%rbx); mov %rcx, 48(%rbx); mov %rdx, 56(%rbx); mov %rsi, 64(%rbx)\n"
	"	mov %rdi, 72(%rbx); mov %r8, 80(%rbx); mov %r9, 88(%rbx); mov %r10, 96(%rbx)\n"
	"	mov %r11, 104(%rbx)\n"
	".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
	"	movups %xmm\\n, 112 + 16 * \\n(%rbx)\n"
	".endr\n"
	"	pop (%rbx)\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n");

static void registers_come_through(void **state)
{
	struct registers before, after;
	struct world world;
	void *probed;

	(void)state;
	begin(&world, true);
	probed = place(&world, TAP_PROBE_SIZE0, 1, tidy_function);
	arm(&world);
	world.next_gap = 50;
	for (int round = 0; round < 200; round++) {
		uint64_t answered = world.answered;
		uint64_t random = (uint64_t)round * UINT64_C(0x9e3779b97f4a7c15) + 1;

		for (size_t i = 0; i < sizeof(before) / 8; i++) {
			random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
			((uint64_t *)&before)[i] = random;
		}
		before.rdi = 16;
		after = before;
		assert_int_equal(call_with_registers(probed, &after), 0x1000 + 16);
		assert_memory_equal(&before, &after, sizeof(before));
		if (world.answered > answered) {
			assert_int_equal(world.regs.rbx, before.rbx);
			assert_int_equal(world.regs.rbp, before.rbp);
			assert_int_equal(world.regs.r12, before.r12);
			assert_int_equal(world.regs.r15, before.r15);
		}
	}
	assert_in_range(world.answered, 40, 110);
	end(&world);
}

static void no_answer_disarms_it(void **state)
{
	uint64_t (*probed)(uint64_t);
	struct world world;

	(void)state;
	begin(&world, false);
	probed = place(&world, TAP_PROBE_SIZE0, 1, original1);
	arm(&world);
	assert_int_equal(probed(10), 0x1000 + 10);
	assert_int_equal(world.private->generation, 0);
	assert_int_equal(world.shared->late, 1);
	for (int i = 0; i < 1000; i++)
		probed(1 << 20);
	assert_int_equal(world.shared->samples, 1);
	end(&world);
}

static void a_forked_child_is_disarmed(void **state)
{
	uint64_t (*probed)(uint64_t);
	uint64_t (*free0)(uint64_t, uint64_t, uint64_t);
	struct world world;
	int status;
	pid_t pid;

	(void)state;
	begin(&world, true);
	probed = place(&world, TAP_PROBE_SIZE0, 1, original1);
	free0 = place(&world, TAP_PROBE_FREE0, 2, original3);
	arm(&world);
	world.next_gap = 1 << 30;
	probed(10);
	add_cell(&world, 0x555500001230);
	pid = fork();
	if (!pid) {
		/* Its copy of the block is not the one that is watched. */
		free0(0x555500001230, 1, 1);
		for (int i = 0; i < 1000; i++)
			if (probed(1 << 20) != 0x1000 + (1 << 20))
				_exit(1);
		_exit(world.private->generation ? 2 : 0);
	}
	waitpid(pid, &status, 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(world.answered, 1);
	assert_int_equal(cell_state(&world, 0x555500001230), 5 << 8 | TAP_PROBE_CELL_LIVE);
	assert_false(is_noted(&world, 0x555500001230));
	end(&world);
}

struct worker {
	pthread_t thread;
	struct world *world;
	uint64_t (*probed)(uint64_t);
	uint32_t slot;
};

static void *work(void *context)
{
	struct worker *worker = context;

	worker->slot = (uint32_t)(own_slot(worker->world) - worker->world->private->slots);
	for (int i = 0; i < 2000; i++)
		if (worker->probed(100) != 0x1000 + 100)
			return worker;
	return NULL;
}

/* With a gap of 0 no call of any thread goes by, whatever they share. */
static void threads_are_seen_one_by_one(void **state)
{
	struct worker workers[8];
	struct world world;
	bool shared = false;
	void *probed;

	(void)state;
	begin(&world, true);
	probed = place(&world, TAP_PROBE_SIZE0, 1, tidy_function);
	arm(&world);
	for (int i = 0; i < 8; i++) {
		workers[i] = (struct worker){.world = &world, .probed = probed};
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	}
	for (int i = 0; i < 8; i++) {
		void *failed;

		pthread_join(workers[i].thread, &failed);
		assert_null(failed);
		for (int k = 0; k < i; k++)
			shared |= workers[i].slot == workers[k].slot;
	}
	if (!shared)
		assert_int_equal(world.answered, 8 * 2000);
	assert_int_equal(world.shared->lost, 0);
	assert_int_equal(world.shared->late, 0);
	end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_bytes_and_asks_only_when_they_are_used_up),
		cmocka_unit_test(what_finds_no_record_is_carried_on),
		cmocka_unit_test(a_gap_of_its_own),
		cmocka_unit_test(what_is_passed_on_goes_by),
		cmocka_unit_test(every_kind_finds_its_size),
		cmocka_unit_test(what_is_over_the_limit_goes_by),
		cmocka_unit_test(a_free_marks_its_cell),
		cmocka_unit_test(a_realloc_moves_its_cell),
		cmocka_unit_test(registers_come_through),
		cmocka_unit_test(no_answer_disarms_it),
		cmocka_unit_test(who_takes_turns_counts_in_one_slot),
		cmocka_unit_test(a_forked_child_is_disarmed),
		cmocka_unit_test(threads_are_seen_one_by_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
