/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the graph of a heap takes: heaps of 100,000, a million and ten million
 * blocks, or as many as are asked for, in the shape of a Python program's. CPU
 * time and the peak of memory: bench_graph [NODES...]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/map.h"
#include "heaptap/graph/graph.h"

#define BASE UINT64_C(0x7f1234500000)
#define POOL_BYTES 4096
#define POOL_HEADER 48
#define ARENA_POOLS 64
#define NAMES 4096
#define FINDS UINT32_C(50000000)
#define WORDS (UINT32_C(1) << 22)

/*
 * Sixteen blocks that belong together, in the order of their addresses: an
 * instance and its dict, a list, values, and an entry of a linked list that
 * runs through all of them.
 */
enum {
	INSTANCE,
	DICT,
	KEYS,
	LIST,
	ITEMS,
	VALUES,
	PAIRS = VALUES + 6,
	LINK = VALUES + 8,
	TUPLE,
	CELL,
	GROUP
};

struct heap {
	struct tap_graph *graph;
	uint32_t groups;
	uint64_t edges;
};

static void edge(struct heap *heap, uint32_t from, uint32_t to)
{
	tap_graph_add_edge(heap->graph, from, to);
	heap->edges++;
}

static uint32_t some(const struct heap *heap, uint32_t group, uint32_t i)
{
	return (uint32_t)(tap_hash_u64((uint64_t)group << 8 | i) % heap->groups);
}

static bool is_garbage(uint32_t group)
{
	return group && tap_hash_u64(group) % 20 == 0;
}

static void add_keys(struct heap *heap, uint32_t group, uint32_t first)
{
	for (uint32_t i = 0; i < 8; i++) {
		edge(heap, first + KEYS, some(heap, group, i) % NAMES * GROUP + VALUES);
		edge(heap, first + KEYS, first + VALUES + i);
	}
}

/* Two of three are near, as objects that are made together are. */
static void add_items(struct heap *heap, uint32_t group, uint32_t first)
{
	for (uint32_t i = 0; i < 14; i++) {
		uint32_t to = i % 3 ? (group + i) % heap->groups : some(heap, group, 100 + i);

		if (!is_garbage(to))
			edge(heap, first + ITEMS, to * GROUP + INSTANCE);
	}
}

static void add_group(struct heap *heap, uint32_t group)
{
	uint32_t first = group * GROUP, next = group + 1;

	edge(heap, first + INSTANCE, first + DICT);
	edge(heap, first + INSTANCE, VALUES + 1);
	edge(heap, first + INSTANCE, first + LIST);
	edge(heap, first + DICT, first + KEYS);
	add_keys(heap, group, first);
	edge(heap, first + LIST, first + ITEMS);
	add_items(heap, group, first);
	for (uint32_t i = 0; i < 2; i++) {
		edge(heap, first + PAIRS + i, first + VALUES + i);
		edge(heap, first + PAIRS + i, first + VALUES + 2 + i);
	}
	while (next < heap->groups && is_garbage(next))
		next++;
	if (next < heap->groups)
		edge(heap, first + LINK, next * GROUP + LINK);
	edge(heap, first + LINK, first + INSTANCE);
	edge(heap, first + LINK, first + CELL);
	edge(heap, first + TUPLE, first + VALUES);
	edge(heap, first + TUPLE, first + VALUES + 1);
	edge(heap, first + TUPLE, first + LIST);
	edge(heap, first + CELL, first + TUPLE);
}

static uint32_t block_bytes(uint64_t pool)
{
	return 32 + (uint32_t)(tap_hash_u64(pool) % 7) * 16;
}

/* Pool by pool, arenas in no order. Returns how many blocks there are. */
static void add_nodes(struct heap *heap, uint32_t count)
{
	uint64_t arenas = count / (ARENA_POOLS * ((POOL_BYTES - POOL_HEADER) / 32)) + 1;
	uint32_t added = 0;

	arenas *= 5;
	for (uint64_t i = 0; added < count; i++) {
		uint64_t arena = i / ARENA_POOLS % arenas;
		uint64_t pool = (arena * 2654435761 % arenas) * ARENA_POOLS + i % ARENA_POOLS;
		uint32_t size = block_bytes(pool);

		for (uint32_t at = POOL_HEADER; at + size <= POOL_BYTES && added < count;
			at += size, added++)
			tap_graph_add_node(
				heap->graph, BASE + pool * POOL_BYTES + at, size, size, added);
	}
}

/* Of this process alone: nothing here waits. */
static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static double since(uint64_t *start_ns)
{
	uint64_t now_ns = cpu_ns();
	double seconds = (double)(now_ns - *start_ns) * 1e-9;

	*start_ns = now_ns;
	return seconds;
}

static uint64_t peak_bytes(void)
{
	_cleanup_fclose_ FILE *status = fopen("/proc/self/status", "r");
	char line[256];
	unsigned long kib = 0;

	while (status && fgets(line, sizeof(line), status))
		if (sscanf(line, "VmHWM: %lu", &kib) == 1)
			break;
	return (uint64_t)kib << 10;
}

/* Words as one block after the other is read. Of ten, six are no addresses, one
 * is an address of code, two lead to blocks near by and one to any block. */
static uint64_t word_of(const struct tap_graph *graph, uint32_t i)
{
	uint64_t hash = tap_hash_u64(i), count = tap_graph_count(graph);

	if (i % 10 < 4)
		return hash % 1000;
	if (i % 10 < 6)
		return hash | UINT64_C(1) << 62;
	if (i % 10 < 7)
		return BASE + (UINT64_C(1) << 36) + hash % (1 << 24);
	if (i % 10 < 9)
		hash = i * count / WORDS + hash % 1000;
	return tap_graph_addr(graph, (uint32_t)(hash % count));
}

static double find_ns(const struct tap_graph *graph)
{
	_cleanup_free_ uint64_t *words = tap_alloc(WORDS * sizeof(*words));
	uint32_t found = 0;
	uint64_t start_ns;
	double seconds;

	for (uint32_t i = 0; i < WORDS; i++)
		words[i] = word_of(graph, i);
	start_ns = cpu_ns();
	for (uint32_t i = 0; i < FINDS; i++)
		found += tap_graph_find(graph, words[i % WORDS]) != TAP_GRAPH_NONE;
	seconds = since(&start_ns);
	if (found < FINDS / 4)
		fputs("bench_graph: blocks were not found\n", stderr);
	return seconds / FINDS * 1e9;
}

static struct tap_error *measure(uint32_t count)
{
	_cleanup_graph_ struct tap_graph *graph = tap_graph_create();
	struct heap heap = {.graph = graph, .groups = count / GROUP};
	uint64_t before = peak_bytes(), start_ns = cpu_ns(), peak;
	double add, seal, edges, finish;
	struct tap_error *err;

	add_nodes(&heap, heap.groups * GROUP);
	add = since(&start_ns);
	err = tap_graph_seal(graph, NULL);
	seal = since(&start_ns);
	for (uint32_t i = 0; i < heap.groups && !err; i++)
		add_group(&heap, i);
	edges = since(&start_ns);
	tap_graph_add_root(graph, LINK, 0, 0);
	if (!err)
		err = tap_graph_finish(graph);
	if (err)
		return err;
	finish = since(&start_ns);
	peak = peak_bytes() - before;
	printf("%9u %6.2f %7.3f %7.3f %7.3f %7.3f %7.2f %7.1f %6.1f", tap_graph_count(graph),
		(double)heap.edges / count, add, seal, edges, finish,
		(double)count / (seal + edges + finish) / 1e6, (double)peak / count,
		find_ns(graph));
	since(&start_ns);
	printf(" %7zu", tap_graph_lost(graph, NULL, NULL));
	printf(" %6.3f\n", since(&start_ns));
	return NULL;
}

/* In a process of its own, whose peak of memory is that of this size alone. */
static int measure_apart(uint32_t count)
{
	_cleanup_error_ struct tap_error *err = NULL;
	int status = 1;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid > 0)
		waitpid(pid, &status, 0);
	if (pid)
		return status;
	err = measure(count);
	if (err)
		fprintf(stderr, "%s\n", err->message);
	fflush(stdout);
	_exit(err != NULL);
}

int main(int argc, char **argv)
{
	const uint32_t counts[] = {100000, 1000000, 10000000};
	int failed = 0;

	puts("    nodes  edges   add s  seal s edges s finish s    M/s bytes/n find ns   heads"
	     " lost s");
	for (int i = 1; i < argc; i++)
		failed |= measure_apart((uint32_t)strtoul(argv[i], NULL, 0));
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]) && argc < 2; i++)
		failed |= measure_apart(counts[i]);
	return failed != 0;
}
