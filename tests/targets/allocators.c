/* SPDX-License-Identifier: Apache-2.0 */
/*
 * allocators: each way to get and give back memory, an exact number of times,
 * from functions of their own. It waits for a line on standard input, works,
 * says what each function has allocated, freed and still has (truth.h), and
 * waits on.
 */
#include "truth.h"

#include <malloc.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>

#define PAGE 4096UL

static void *kept[4096];
static volatile size_t huge = (size_t)-1 / 4;

/* What is stored here after a call keeps that from being a jump. */
static void *volatile last;

static NOINLINE void *by_malloc(size_t size)
{
	last = malloc(size);
	GOT(size);
	return last;
}

static NOINLINE void by_malloc_zero(void)
{
	last = malloc(0);
	GOT(0);
}

static NOINLINE void by_malloc_failed(void)
{
	last = malloc(huge * 3);
	BARRIER();
}

static NOINLINE void *by_calloc(size_t count, size_t size)
{
	last = calloc(count, size);
	GOT(count * size);
	return last;
}

static NOINLINE void by_calloc_overflow(void)
{
	last = calloc(huge, 16);
	BARRIER();
}

static NOINLINE void by_realloc_of_null(size_t size)
{
	last = realloc(NULL, size);
	GOT(size);
}

static NOINLINE void *by_realloc(void *block, size_t size)
{
	last = realloc(block, size);
	GOT(size);
	return last;
}

static NOINLINE void by_realloc_to_zero(void *block)
{
	last = realloc(block, 0);
	BARRIER();
}

static NOINLINE void by_realloc_failed(void *block)
{
	last = realloc(block, huge * 3);
	BARRIER();
}

static NOINLINE void *by_reallocarray(void *block, size_t count, size_t size)
{
	last = reallocarray(block, count, size);
	GOT(count * size);
	return last;
}

static NOINLINE void by_reallocarray_overflow(void *block)
{
	last = reallocarray(block, huge, 16);
	BARRIER();
}

static NOINLINE void *by_aligned_alloc(size_t alignment, size_t size)
{
	last = aligned_alloc(alignment, size);
	GOT(size);
	return last;
}

static NOINLINE void by_memalign(size_t alignment, size_t size)
{
	last = memalign(alignment, size);
	GOT(size);
}

static NOINLINE void by_posix_memalign(size_t alignment, size_t size)
{
	void *block = NULL;

	if (posix_memalign(&block, alignment, size) == 0)
		GOT(size);
	last = block;
}

static NOINLINE void by_posix_memalign_failed(void)
{
	void *block = &block;

	if (posix_memalign(&block, 3, 100) == 0)
		GOT(100);
	last = block;
}

static NOINLINE void by_valloc(size_t size)
{
	last = valloc(size);
	GOT(size);
}

static NOINLINE void by_pvalloc(size_t size)
{
	last = pvalloc(size);
	GOT((size + PAGE - 1) / PAGE * PAGE);
}

static NOINLINE void *by_strdup(const char *text)
{
	last = strdup(text);
	GOT(strlen(text) + 1);
	return last;
}

static NOINLINE void by_large_malloc(size_t size)
{
	last = malloc(size);
	GOT(size);
}

static NOINLINE void *by_mmap(size_t size)
{
	last = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	GOT(size);
	return last;
}

static NOINLINE void by_mmap_without_memory(size_t size)
{
	last = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	BARRIER();
}

static NOINLINE void by_mmap_failed(void)
{
	last = mmap(NULL, 0, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	BARRIER();
}

static NOINLINE void *by_mremap(void *block, size_t old_size, size_t size)
{
	last = mremap(block, old_size, size, MREMAP_MAYMOVE);
	GOT(size);
	return last;
}

static NOINLINE void by_mremap_failed(void *block, size_t size)
{
	last = mremap(block, size, 0, MREMAP_MAYMOVE);
	BARRIER();
}

/* An aligned piece out of a larger mapping: its head and tail go back. */
static NOINLINE void *by_mmap_trimmed(size_t size, size_t head, size_t tail)
{
	char *block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(block, head);
	munmap(block + size - tail, tail);
	last = block + head;
	GOT(size);
	truth_of(__func__)->freed_bytes += head + tail;
	return last;
}

static NOINLINE void recurse(int depth)
{
	if (depth > 0)
		recurse(depth - 1);
	else
		last = malloc(77);
	BARRIER();
}

static NOINLINE void by_recursion(void)
{
	recurse(30);
	got("recurse", 77);
}

static jmp_buf back;

static NOINLINE void by_jump(size_t size)
{
	last = malloc(size);
	GOT(size);
	longjmp(back, 1);
}

static void on_signal(int sig)
{
	(void)sig;
	last = malloc(250);
	got("on_signal", 250);
}

static char alternate_stack[65536];

static NOINLINE void take_signals(int times)
{
	stack_t stack = { .ss_sp = alternate_stack, .ss_size = sizeof(alternate_stack) };
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };

	sigaltstack(&stack, NULL);
	sigaction(SIGUSR1, &action, NULL);
	for (int i = 0; i < times; i++)
		raise(SIGUSR1);
}

/* Blocks that move from one thread to another. */
static NOINLINE void *by_thread(void *arg)
{
	void **slots = arg;

	for (int i = 0; i < 25; i++) {
		slots[i] = malloc(640);
		BARRIER();
	}
	return NULL;
}

static NOINLINE void run_threads(void)
{
	static void *slots[4][25];
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, by_thread, slots[i]);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		for (int j = 0; j < 25; j++) {
			got("by_thread", 640);
			if (j % 5 == 0) {
				free(slots[i][j]);
				gave("by_thread", 640);
			}
		}
	}
}

/* Threads that reallocate at the same time take each other's addresses. */
static NOINLINE void *by_racing_realloc(void *arg)
{
	void **slot = arg;

	for (int i = 0; i < 60; i++) {
		*slot = realloc(*slot, 100 + 137 * (size_t)(i % 7));
		BARRIER();
	}
	return NULL;
}

static NOINLINE void race(void)
{
	static void *slots[4];
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, by_racing_realloc, &slots[i]);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		for (int j = 0; j < 60; j++) {
			got("by_racing_realloc", 100 + 137 * (size_t)(j % 7));
			if (j < 59)
				gave("by_racing_realloc", 100 + 137 * (size_t)(j % 7));
		}
	}
}

/* The child of a vfork has its parent's memory. */
static NOINLINE void by_vfork_child(void)
{
	pid_t child = vfork();

	if (child == 0) {
		last = malloc(910);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	GOT(910);
}

/* A forked one has not. */
static NOINLINE void by_forked_child(void)
{
	pid_t child = fork();

	if (child == 0) {
		last = malloc(911);
		_exit(last ? 0 : 1);
	}
	waitpid(child, NULL, 0);
}

static ucontext_t outside, inside;

static NOINLINE void by_coroutine(void)
{
	for (int i = 0; i < 10; i++) {
		last = malloc(388);
		got("by_coroutine", 388);
		swapcontext(&inside, &outside);
	}
}

static NOINLINE void run_coroutine(void)
{
	static char stack[65536];

	getcontext(&inside);
	inside.uc_stack.ss_sp = stack;
	inside.uc_stack.ss_size = sizeof(stack);
	inside.uc_link = &outside;
	makecontext(&inside, by_coroutine, 0);
	for (int i = 0; i < 10; i++)
		swapcontext(&outside, &inside);
}

/* An allocator of the program's own, on top of malloc, that gives a block
 * behind a head; left by longjmp where it is asked for too much. */
NOINLINE void *own_malloc(size_t size);
NOINLINE void own_free(void *block);

NOINLINE void *own_malloc(size_t size)
{
	char *block;

	if (size > 1000000)
		longjmp(back, 1);
	block = malloc(size + 32);
	BARRIER();
	return block + 32;
}

NOINLINE void own_free(void *block)
{
	free((char *)block - 32);
	BARRIER();
}

static NOINLINE void by_own_malloc(int named)
{
	void *blocks[40];

	for (int i = 0; i < 40; i++) {
		if (setjmp(back) == 0)
			blocks[i] = own_malloc(i % 4 == 3 ? 2000000 : 450);
		else
			blocks[i] = NULL;
	}
	for (int i = 0; i < 40; i++) {
		if (!blocks[i])
			continue;
		got(named ? "by_own_malloc" : "own_malloc", named ? 450 : 482);
		if (i < 20) {
			own_free(blocks[i]);
			gave(named ? "by_own_malloc" : "own_malloc", named ? 450 : 482);
		}
	}
}

static NOINLINE void use_heap(void)
{
	for (int i = 0; i < 100; i++) {
		void *block = by_malloc(1000 + (size_t)i);

		if (i % 2) {
			free(block);
			gave("by_malloc", 1000 + (size_t)i);
		}
	}
	by_malloc_zero();
	by_malloc_failed();
	for (int i = 0; i < 40; i++)
		kept[i] = by_calloc(7, 31);
	for (int i = 0; i < 13; i++) {
		free(kept[i]);
		gave("by_calloc", 7 * 31);
	}
	by_calloc_overflow();
	free(NULL);
	for (int i = 0; i < 9; i++)
		by_aligned_alloc(64, 640);
	free(by_aligned_alloc(4096, 8192));
	gave("by_aligned_alloc", 8192);
	for (int i = 0; i < 8; i++)
		by_memalign(256, 300);
	for (int i = 0; i < 7; i++)
		by_posix_memalign(128, 555);
	by_posix_memalign_failed();
	for (int i = 0; i < 6; i++)
		by_valloc(5000);
	for (int i = 0; i < 5; i++)
		by_pvalloc(5000);
	for (int i = 0; i < 11; i++)
		by_strdup("a text of the program");
	for (int i = 0; i < 3; i++)
		by_large_malloc(1000000);
	for (int i = 0; i < 12; i++)
		by_recursion();
}

static NOINLINE void use_realloc(void)
{
	void *block;

	for (int i = 0; i < 5; i++)
		by_realloc_of_null(333);
	/* grows, moves, shrinks; in the end one block of 50 bytes */
	block = by_realloc(NULL, 100);
	for (size_t size = 200; size <= 204800; size *= 2) {
		gave("by_realloc", size == 200 ? 100 : size / 2);
		block = by_realloc(block, size);
	}
	gave("by_realloc", 204800);
	block = by_realloc(block, 50);
	by_realloc_failed(block);
	/* one that is freed by realloc(p, 0) */
	block = by_malloc(60);
	by_realloc_to_zero(block);
	gave("by_malloc", 60);
	block = by_reallocarray(NULL, 10, 30);
	gave("by_reallocarray", 300);
	block = by_reallocarray(block, 40, 30);
	by_reallocarray_overflow(block);
}

static NOINLINE void use_mappings(void)
{
	void *block;

	for (int i = 0; i < 6; i++)
		block = by_mmap(5 * PAGE);
	munmap(block, 5 * PAGE);
	gave("by_mmap", 5 * PAGE);
	by_mmap_without_memory(100 * PAGE);
	by_mmap_failed();
	block = by_mmap(4 * PAGE);
	gave("by_mmap", 4 * PAGE);
	block = by_mremap(block, 4 * PAGE, 900 * PAGE);
	by_mremap_failed(block, 900 * PAGE);
	by_mmap_trimmed(64 * PAGE, 3 * PAGE, 5 * PAGE);
}

static NOINLINE void use_jumps(void)
{
	for (volatile int i = 0; i < 15; i++)
		if (setjmp(back) == 0)
			by_jump(717);
}

int main(int argc, char **argv)
{
	void *volatile old = malloc(3000);
	char line[64];

	catch_terminate();
	say("{\"ready\": true, \"pid\": %d}\n", getpid());
	if (read(STDIN_FILENO, line, sizeof(line)) <= 0)
		return 2;
	use_heap();
	use_realloc();
	use_mappings();
	use_jumps();
	take_signals(14);
	run_threads();
	race();
	by_vfork_child();
	by_forked_child();
	run_coroutine();
	by_own_malloc(has_option(argc, argv, "--named"));
	free(old);
	say_truths();
	wait_for_end();
	say("{\"done\": true}\n");
	return 0;
}
