/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fills heaps in every way there is and tells what it holds. Stage 1: nothing
 * but what the C library and the threads' start took. Stage 2: the blocks of
 * the table as well, and no other. By the first argument:
 *
 *   plain    the main heap is the break alone
 *   foreign  somebody else moves the break meanwhile
 *   blocked  the break cannot grow: the main heap goes on in mappings
 *   damaged  one thread; a header in the middle of the main heap is wrong, and a
 *            fast bin is a circle where there are any
 *   lying    as damaged, and with every byte it gets words here and there in the
 *            heap become others
 *   busy     as plain, and after stage 2 all threads go on until killed
 *   trimmed  as plain, and then malloc_trim(0): stage 3
 */
#include <gnu/libc-version.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "heap_target.h"

#define THREADS 4
#define BLOCKS 12000

static struct target_told *told;
static pthread_barrier_t barrier;
static atomic_ulong count;
static bool foreign, blocked, damaged, lying, busy, trimmed;
static FILE *info_file;
static void *volatile escaped;

struct worker {
	pthread_t thread;
	unsigned number;
	unsigned seed;
};

static unsigned draw(struct worker *worker)
{
	worker->seed = worker->seed * 1664525u + 1013904223u;
	return worker->seed >> 8;
}

static struct target_block *hold(void *ptr, size_t size_bytes)
{
	unsigned long at = atomic_fetch_add(&count, 1);
	struct target_block *block;

	if (!ptr || at >= TARGET_BLOCKS)
		abort();
	block = &told->blocks[at];
	block->addr = (uint64_t)ptr;
	block->size_bytes = size_bytes;
	block->usable_bytes = malloc_usable_size(ptr);
	return block;
}

static void drop(struct target_block *block)
{
	free((void *)block->addr);
	block->addr = 0;
}

static void change(struct target_block *block, size_t size_bytes)
{
	void *ptr = realloc((void *)block->addr, size_bytes);

	block->addr = (uint64_t)ptr;
	block->size_bytes = size_bytes;
	block->usable_bytes = malloc_usable_size(ptr);
}

static size_t draw_size(struct worker *worker)
{
	unsigned kind = draw(worker) % 16;

	if (kind < 10)
		return draw(worker) % 200;
	if (kind < 15)
		return draw(worker) % 2000;
	return draw(worker) % 40000;
}

static void allocate_small(struct worker *worker)
{
	struct target_block **mine = malloc(BLOCKS * sizeof(*mine));

	for (int i = 0; i < BLOCKS; i++) {
		size_t size = draw_size(worker);

		if (i == BLOCKS / 2 && foreign && !worker->number && sbrk(10008) == (void *)-1)
			abort();
		mine[i] = hold(i % 7 ? malloc(size) : memalign(16u << (i % 9), size), size);
		if (draw(worker) % 3 == 0) {
			int other = (int)(draw(worker) % (unsigned)(i + 1));

			if (mine[other]->addr)
				drop(mine[other]);
		}
		if (draw(worker) % 11 == 0 && mine[i]->addr)
			change(mine[i], draw_size(worker));
	}
	free(mine);
}

static void allocate_large(struct worker *worker)
{
	struct target_block *block;

	for (size_t size = 150000; size < 6000000; size = size * 5 / 3) {
		hold(malloc(size), size);
		hold(memalign(64, size), size);
		hold(memalign(4096, size), size);
		change(hold(memalign(1024, size), size), size + 700000);
		block = hold(memalign(65536, size), size);
		if (draw(worker) % 2)
			drop(block);
		change(hold(malloc(size), size), size * 3);
	}
	hold(memalign(1 << 20, 3000000), 3000000);
	hold(calloc(1, 64 << 20), 64 << 20);
	/* More than a heap of a thread arena can hold. */
	for (int i = 0; worker->number == 1 && i < 900; i++)
		hold(malloc(100000), 100000);
}

/* The last to go are small: they stay in the thread's cache and in fast bins. */
static void free_last(struct worker *worker)
{
	struct target_block *blocks[40];

	for (unsigned size = 8; size < 1000; size += 64) {
		for (int i = 0; i < 40; i++)
			blocks[i] = hold(malloc(size), size);
		for (int i = 0; i < 30; i++)
			drop(blocks[i + (int)(worker->number & 1)]);
	}
}

static void churn(struct worker *worker)
{
	void *held[1000] = {0};

	for (;;) {
		unsigned at = draw(worker) % 1000;

		free(held[at]);
		held[at] = malloc(draw(worker) % 100 ? draw_size(worker) : 300000);
	}
}

static void work(struct worker *worker)
{
	escaped = malloc(100);
	free(escaped);
	pthread_barrier_wait(&barrier); /* stage 1 */
	pthread_barrier_wait(&barrier);
	allocate_small(worker);
	allocate_large(worker);
	free_last(worker);
	pthread_barrier_wait(&barrier); /* stage 2 */
	pthread_barrier_wait(&barrier);
	if (busy)
		churn(worker);
}

static void *start(void *argument)
{
	work(argument);
	for (;;)
		pause();
	return NULL;
}

static void say(char stage)
{
	char byte;

	if (write(1, &stage, 1) != 1 || read(0, &byte, 1) != 1)
		_exit(0);
}

static void tell_totals(void)
{
	struct mallinfo info;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	info = mallinfo();
#pragma GCC diagnostic pop
	told->count = count;
	told->arena = (unsigned)info.arena;
	told->fast_blocks = (unsigned)info.smblks;
	told->fast_bytes = (unsigned)info.fsmblks;
	told->free_blocks = (unsigned)info.ordblks;
	told->in_use = (unsigned)info.uordblks;
	told->free_bytes = (unsigned)info.fordblks;
	told->mapped_blocks = (unsigned)info.hblks;
	told->mapped_bytes = (unsigned)info.hblkhd;
}

/* Nothing is allocated when it is told. */
static void prepare_info(void)
{
	static char buffer[TARGET_INFO_BYTES];

	info_file = fmemopen(told->info, sizeof(told->info), "w");
	if (!info_file || setvbuf(info_file, buffer, _IOFBF, sizeof(buffer)))
		abort();
}

static void tell_info(void)
{
	if (malloc_info(0, info_file) || fflush(info_file))
		abort();
}

static void block_the_break(void)
{
	uint64_t end = ((uint64_t)sbrk(0) + 4095) & ~UINT64_C(4095);

	if (mmap((void *)end, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		    -1, 0) == MAP_FAILED)
		abort();
}

/* A block that is freed twice, with another between, is its own successor but
 * one. Up to 2.41. More are taken first than caches and bins may hold. */
static void make_circle(void)
{
	void *volatile blocks[100];
	int minor = 99;

	sscanf(gnu_get_libc_version(), "2.%d", &minor);
	for (int i = 0; i < 100; i++)
		blocks[i] = malloc(100);
	for (int i = 0; i < 12; i++)
		free(blocks[i]);
	if (minor < 42)
		free(blocks[10]);
}

/* The size of the block after one in the middle. */
static void damage(void)
{
	struct target_block *block = &told->blocks[0];

	for (unsigned long i = 0; i < BLOCKS / 2; i++)
		if (told->blocks[i].addr && told->blocks[i].size_bytes < 2000)
			block = &told->blocks[i];
	*(uint64_t *)(block->addr + block->usable_bytes) = 0x4242424242424242;
}

/* One of the words around the end of a block: of what it holds, of the header
 * behind it, of what that one holds, which may be a link. */
static void lie(struct worker *worker)
{
	struct target_block *block = &told->blocks[draw(worker) % told->count];
	uint64_t *word = (uint64_t *)(block->addr + block->usable_bytes) + draw(worker) % 3;

	if (!block->addr || block->usable_bytes > 10000)
		return;
	switch (draw(worker) % 5) {
	case 0:
		*word ^= UINT64_C(1) << draw(worker) % 48;
		break;
	case 1:
		*word = draw(worker) % 65536;
		break;
	case 2:
		*word = told->blocks[draw(worker) % told->count].addr - 16;
		break;
	case 3:
		*word += draw(worker) % 64 * 16;
		break;
	case 4:
		*word = (uint64_t)draw(worker) << 40;
		break;
	}
}

int main(int argc, char **argv)
{
	static struct worker workers[THREADS];
	const char *mode = argc > 1 ? argv[1] : "plain";
	unsigned threads = THREADS;

	foreign = strcmp(mode, "foreign") == 0;
	blocked = strcmp(mode, "blocked") == 0;
	lying = strcmp(mode, "lying") == 0;
	damaged = lying || strcmp(mode, "damaged") == 0;
	threads = damaged ? 1 : THREADS;
	busy = strcmp(mode, "busy") == 0;
	trimmed = strcmp(mode, "trimmed") == 0;
	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED, 3, 0);
	if (told == MAP_FAILED)
		abort();
	prepare_info();
	pthread_barrier_init(&barrier, NULL, threads);
	for (unsigned i = 0; i < threads; i++)
		workers[i].number = workers[i].seed = i;
	for (unsigned i = 1; i < threads; i++)
		if (pthread_create(&workers[i].thread, NULL, start, &workers[i]))
			abort();
	escaped = malloc(100);
	free(escaped);
	pthread_barrier_wait(&barrier);
	if (blocked)
		block_the_break();
	say('1');
	pthread_barrier_wait(&barrier);
	allocate_small(&workers[0]);
	allocate_large(&workers[0]);
	free_last(&workers[0]);
	pthread_barrier_wait(&barrier);
	tell_totals();
	tell_info();
	if (damaged) {
		make_circle();
		damage();
	}
	say('2');
	if (trimmed) {
		malloc_trim(0);
		say('3');
	}
	while (lying) {
		for (int i = 0; i < 20; i++)
			lie(&workers[0]);
		say('3');
	}
	pthread_barrier_wait(&barrier);
	if (busy)
		churn(&workers[0]);
	return 0;
}
