/* SPDX-License-Identifier: Apache-2.0 */
/*
 * odd [--block-sigtrap] [--storm FUNCTION] [PLUGIN]: an allocator of its own, some
 * of whose functions begin in a way that leaves no room for a jump: own code jumps
 * back into their first five bytes. It waits for a line on standard input, works,
 * says what each function has allocated, freed and still has (truth.h), and waits
 * on.
 *
 * --storm: instead it calls that one (odd_malloc or odd_free) as fast as it can, in
 * turn with its counterpart, and says what it made of it a second.
 * PLUGIN: a module to be loaded with the first line; the work begins with the
 * second. Its late_alloc() calls one of that kind.
 * A line "exec" makes it another program.
 */
#include "truth.h"

#include <dlfcn.h>
#include <malloc.h>
#include <setjmp.h>
#include <sys/wait.h>

#include "odd.h"

#define ARENA_BYTES ((size_t)32 << 20)
#define CLASSES 16
#define HEAD 32

/* --- the allocator ---------------------------------------------------------- */

struct block {
	size_t size;
	unsigned int size_class;
	struct block *next;
};

static char arena[ARENA_BYTES] __attribute__((aligned(64)));
static size_t arena_used;
static struct block *unused[CLASSES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static jmp_buf back;

static NOINLINE void *take(size_t size)
{
	unsigned int size_class = 0;
	struct block *block;

	while (((size_t)64 << size_class) < size + HEAD)
		if (++size_class == CLASSES)
			return NULL;
	pthread_mutex_lock(&lock);
	block = unused[size_class];
	if (block) {
		unused[size_class] = block->next;
	} else if (arena_used + ((size_t)64 << size_class) <= ARENA_BYTES) {
		block = (struct block *)(arena + arena_used);
		arena_used += (size_t)64 << size_class;
	}
	if (block)
		*block = (struct block){ .size = size, .size_class = size_class };
	pthread_mutex_unlock(&lock);
	return block ? (char *)block + HEAD : NULL;
}

static NOINLINE struct block *block_of(void *addr)
{
	return (struct block *)((char *)addr - HEAD);
}

static NOINLINE void give(void *addr)
{
	struct block *block = block_of(addr);

	pthread_mutex_lock(&lock);
	block->next = unused[block->size_class];
	unused[block->size_class] = block;
	pthread_mutex_unlock(&lock);
}

NOINLINE void *own_malloc(size_t size);
NOINLINE void own_free(void *addr);
NOINLINE void *own_memalign(size_t alignment, size_t size);
NOINLINE void *own_realloc(void *addr, size_t size);
void *odd_malloc(size_t size);
void odd_free(void *addr);
void *odd_calloc(size_t count, size_t size);
void *odd_realloc(void *addr, size_t size);

/* That they keep something makes room for a jump. */
NOINLINE void *own_malloc(size_t size)
{
	volatile size_t asked = size;
	void *block = take(size);

	(void)asked;
	return block;
}

NOINLINE void own_free(void *addr)
{
	void *volatile freed = addr;

	give(addr);
	(void)freed;
}

/* What the one kind needs of the other, neither of them calls itself. */
static NOINLINE void *helper_malloc(size_t size, int odd)
{
	void *block = odd ? odd_malloc(size) : own_malloc(size);

	BARRIER();
	return block;
}

static NOINLINE void helper_free(void *addr, int odd)
{
	if (odd)
		odd_free(addr);
	else
		own_free(addr);
	BARRIER();
}

static NOINLINE void *move(void *addr, size_t size, int odd)
{
	void *block = helper_malloc(size, odd);

	if (!block)
		return NULL;
	memcpy(block, addr, block_of(addr)->size < size ? block_of(addr)->size : size);
	helper_free(addr, odd);
	return block;
}

NOINLINE void *own_memalign(size_t alignment, size_t size)
{
	void *block = helper_malloc(size + alignment, 1);

	BARRIER();
	return block;
}

NOINLINE void *own_realloc(void *addr, size_t size)
{
	void *block;

	if (!addr)
		block = odd_malloc(size);
	else
		block = move(addr, size, 1);
	BARRIER();
	return block;
}

__attribute__((used)) static void *odd_malloc_body(size_t size)
{
	if (size > ARENA_BYTES)
		longjmp(back, 1);
	return take(size);
}
ODD(odd_malloc);

__attribute__((used)) static void odd_free_body(void *addr)
{
	give(addr);
}
ODD(odd_free);

__attribute__((used)) static void *odd_calloc_body(size_t count, size_t size)
{
	void *block = helper_malloc(count * size, 0);

	return block ? memset(block, 0, count * size) : NULL;
}
ODD(odd_calloc);

__attribute__((used)) static void *odd_realloc_body(void *addr, size_t size)
{
	if (!addr)
		return own_malloc(size);
	if (!size) {
		own_free(addr);
		return NULL;
	}
	return move(addr, size, 0);
}
ODD(odd_realloc);

/* In place of the C library's. */
__attribute__((used)) static void *valloc_body(size_t size)
{
	return memalign(4096, size);
}
ODD(valloc);

/* --- its use ---------------------------------------------------------------- */

static void *volatile last;

static NOINLINE void *by_own_malloc(size_t size)
{
	last = own_malloc(size);
	GOT(size);
	return last;
}

static NOINLINE void *by_odd_malloc(size_t size)
{
	last = odd_malloc(size);
	GOT(size);
	return last;
}

static NOINLINE void *by_odd_calloc(size_t count, size_t size)
{
	last = odd_calloc(count, size);
	GOT(count * size);
	return last;
}

static NOINLINE void *by_own_memalign(size_t alignment, size_t size)
{
	last = own_memalign(alignment, size);
	GOT(size);
	return last;
}

static NOINLINE void *by_own_realloc(void *addr, size_t size)
{
	last = own_realloc(addr, size);
	GOT(size);
	return last;
}

static NOINLINE void *by_odd_realloc(void *addr, size_t size)
{
	last = odd_realloc(addr, size);
	GOT(size);
	return last;
}

static NOINLINE void by_odd_realloc_failed(void *addr)
{
	last = odd_realloc(addr, ARENA_BYTES);
	BARRIER();
}

static NOINLINE void by_odd_realloc_to_zero(void *addr)
{
	last = odd_realloc(addr, 0);
	BARRIER();
}

/* Each kind of block, freed by each kind of free, and some that stay. */
static NOINLINE void cross(void)
{
	for (size_t i = 0; i < 60; i++) {
		void *own = by_own_malloc(100 + i), *odd = by_odd_malloc(200 + i);
		void *zeroed = by_odd_calloc(3, 50 + i), *aligned = by_own_memalign(64, 300 + i);

		if (i % 3 == 0)
			continue;
		(i % 3 == 1 ? own_free : odd_free)(own);
		gave("by_own_malloc", 100 + i);
		(i % 3 == 1 ? own_free : odd_free)(odd);
		gave("by_odd_malloc", 200 + i);
		(i % 3 == 1 ? own_free : odd_free)(zeroed);
		gave("by_odd_calloc", 3 * (50 + i));
		(i % 3 == 1 ? own_free : odd_free)(aligned);
		gave("by_own_memalign", 300 + i);
	}
}

static NOINLINE void reallocate(void)
{
	void *block;

	for (size_t i = 1; i <= 20; i++) {
		block = by_own_realloc(by_odd_calloc(1, 10 * i), 1000 + i);
		gave("by_odd_calloc", 10 * i);
		block = by_odd_realloc(block, 20 * i);
		gave("by_own_realloc", 1000 + i);
		by_odd_realloc_failed(block);
		block = by_own_realloc(block, 3000 + i);
		gave("by_odd_realloc", 20 * i);
		if (i % 4 == 0) {
			odd_free(block);
			gave("by_own_realloc", 3000 + i);
		}
		block = by_odd_realloc(by_own_malloc(30 * i), 2000 + i);
		gave("by_own_malloc", 30 * i);
		if (i % 4 == 1) {
			by_odd_realloc_to_zero(block);
			gave("by_odd_realloc", 2000 + i);
		}
		by_own_realloc(NULL, 400 + i);
		by_odd_realloc(NULL, 500 + i);
	}
}

static NOINLINE void *deeper(int depth, size_t size)
{
	void *block = depth > 0 ? deeper(depth - 1, size) : own_malloc(size);

	BARRIER();
	return block;
}

/* A call that is left by a longjmp holds none of the later ones back. */
static NOINLINE void leave(void)
{
	for (volatile int i = 0; i < 10; i++) {
		if (setjmp(back) == 0)
			last = odd_malloc(2 * ARENA_BYTES);
		last = deeper(20, 77);
		got("deeper", 77);
	}
}

static NOINLINE void *by_thread(void *arg)
{
	void **slots = arg;

	for (int i = 0; i < 60; i++) {
		slots[i] = i % 2 ? own_malloc(640) : odd_malloc(640);
		BARRIER();
	}
	for (int i = 0; i < 20; i++)
		(i % 3 ? own_free : odd_free)(slots[i]);
	return NULL;
}

static NOINLINE void run_threads(void)
{
	static void *slots[4][60];
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, by_thread, slots[i]);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		for (int j = 0; j < 60; j++) {
			got("by_thread", 640);
			if (j >= 20 && j < 40)
				(j % 3 ? odd_free : own_free)(slots[i][j]);
			if (j < 40)
				gave("by_thread", 640);
		}
	}
}

/* 0 where the child ran to its end. */
static NOINLINE int by_forked_child(void)
{
	pid_t child = fork();
	int status = -1;

	if (child == 0) {
		void *block = odd_realloc(odd_calloc(3, 30), 911);

		odd_free(own_realloc(own_malloc(912), 913));
		_exit(block ? 0 : 1);
	}
	waitpid(child, &status, 0);
	return status;
}

static NOINLINE void use_plugin(void *(*late_alloc)(size_t size))
{
	for (size_t i = 0; late_alloc && i < 30; i++) {
		last = late_alloc(60 + i);
		got("late_alloc", 60 + i);
		if (i % 3 == 0)
			continue;
		(i % 3 == 1 ? own_free : odd_free)(last);
		gave("late_alloc", 60 + i);
	}
}

static NOINLINE void by_valloc(void)
{
	for (size_t i = 0; i < 12; i++) {
		last = valloc(5000 + i);
		GOT(5000 + i);
		if (i % 3)
			continue;
		free(last);
		GAVE(5000 + i);
	}
}

/* The module's own storage is ours, too. */
void *odd_take(size_t size);
void *odd_take(size_t size)
{
	return take(size);
}

static NOINLINE void storm(const char *function)
{
	int odd_frees = strcmp(function, "odd_free") == 0;
	double since = now_s();
	unsigned long pairs = 0;

	while (!target_stop) {
		struct pollfd in = { STDIN_FILENO, POLLIN, 0 };
		void *block = odd_frees ? own_malloc(64) : odd_malloc(64);

		(odd_frees ? odd_free : own_free)(block);
		if (++pairs % 64 || now_s() - since < 0.5)
			continue;
		say("{\"pairs_per_s\": %.0f}\n", (double)pairs / (now_s() - since));
		since = now_s();
		pairs = 0;
		if (poll(&in, 1, 0) > 0)
			break;
	}
}

int main(int argc, char **argv)
{
	const char *calls = option(argc, argv, "--storm", NULL);
	const char *plugin = argc > 1 && argv[argc - 1][0] == '/' ? argv[argc - 1] : NULL;
	void *(*late_alloc)(size_t size) = NULL;
	void *module = NULL;
	sigset_t trap;
	char line[64];
	int child;

	catch_terminate();
	sigemptyset(&trap);
	sigaddset(&trap, SIGTRAP);
	if (has_option(argc, argv, "--block-sigtrap"))
		sigprocmask(SIG_BLOCK, &trap, NULL);
	say("{\"ready\": true, \"pid\": %d}\n", getpid());
	if (calls) {
		storm(calls);
		say("{\"done\": true}\n");
		return 0;
	}
	if (read(STDIN_FILENO, line, sizeof(line)) <= 0)
		return 2;
	if (strncmp(line, "exec", 4) == 0)
		execlp("sleep", "sleep", "30", (char *)NULL);
	if (plugin) {
		module = dlopen(plugin, RTLD_NOW);
		say("{\"loaded\": %s}\n", module ? "true" : "false");
		if (module)
			late_alloc = (void *(*)(size_t))dlsym(module, "late_alloc");
		if (read(STDIN_FILENO, line, sizeof(line)) <= 0)
			return 2;
	}
	cross();
	reallocate();
	leave();
	run_threads();
	child = by_forked_child();
	use_plugin(late_alloc);
	by_valloc();
	cross();
	say_truths();
	wait_for_end();
	say("{\"done\": true, \"child\": %d}\n", child);
	return 0;
}
