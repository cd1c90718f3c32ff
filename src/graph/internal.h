/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_GRAPH_INTERNAL_H
#define HEAPTAP_GRAPH_INTERNAL_H

/*
 * The graph's arrays, and what its files tell each other. Where memory is out a
 * function here returns false or NULL; tap_graph_seal() and tap_graph_finish()
 * make an error of it.
 *
 * Bytes per node, of n nodes with e edges: 14 n for nodes, 2 (4 n + 4 e) for
 * edges there and back, 24 n for what is found out. The dominators need 24 n
 * for a while, before any of the latter is there.
 */

#include "heaptap/base/map.h"
#include "heaptap/base/vector.h"
#include "heaptap/graph/graph.h"

#define NONE TAP_GRAPH_NONE

/* Where addresses of user space end; what lies beyond is no node. */
#define ADDR_BITS 47
#define ADDR_END ((uint64_t)1 << ADDR_BITS)

/* --- array.c ---------------------------------------------------------- */

/* Zeroed, in huge pages where it is large; for free(). */
void *graph_array(size_t count, size_t item_size);
/* Makes room for one more in an array that realloc() may move. */
bool graph_grow(void **items, size_t *capacity, size_t count, size_t item_size);

/* --- numbers.c -------------------------------------------------------- */

/* Numbers of 64 bits in 32, as most are small: those of 31 bits as they are,
 * others as places in `items`. */
TAP_VECTOR_TYPE(numbers, uint64_t);

#define NUMBER_IS_WIDE ((uint32_t)1 << 31)

uint32_t number_new(struct numbers *numbers, uint64_t value);
uint64_t number_get(const struct numbers *numbers, uint32_t number);
void number_add(struct numbers *numbers, uint32_t *number, uint64_t value);

/* --- csr.c ------------------------------------------------------------ */

/* Compressed sparse rows: the items of row r are items[first[r]] up to, not
 * including, items[first[r + 1]]. Made by csr_create(), csr_count() for each
 * item, csr_open(), csr_put() for each item. */
struct csr {
	uint32_t *first;
	uint32_t *items;
};

bool csr_create(struct csr *csr, size_t rows);
bool csr_open(struct csr *csr, size_t rows);
void csr_deinit(struct csr *csr);

static inline void csr_count(struct csr *csr, size_t row)
{
	csr->first[row + 2]++;
}

static inline void csr_put(struct csr *csr, size_t row, uint32_t item)
{
	csr->items[csr->first[row + 1]++] = item;
}

static inline const uint32_t *csr_row(const struct csr *csr, size_t row, size_t *count_ret)
{
	*count_ret = csr->first[row + 1] - csr->first[row];
	return csr->items + csr->first[row];
}

/* --- the graph -------------------------------------------------------- */

/* A node before it has its number. */
struct staged {
	uint64_t addr;
	uint32_t size;  /* in wide */
	uint32_t owned; /* in wide */
	uint32_t tag;
};

/* Where a node lies; together, as one is asked for with the other. */
struct place {
	uint32_t low;  /* lower half of the address */
	uint32_t size; /* in wide */
};

/* From this node on, all have the same upper half of their address. */
struct high {
	uint32_t first;
	uint32_t high;
};

/* The nodes that lie in a page of 4 KiB. */
struct page {
	uint32_t first;
	uint32_t end;
};

/* 1 GiB of addresses. */
struct gib {
	struct page *pages; /* NULL: no node begins or ends in it */
	uint32_t whole;     /* the node that covers all of it, plus 1 */
};

struct root {
	uint32_t node;
	uint32_t label;
	uint8_t rank;
};

struct tap_graph {
	bool failed;      /* memory was out, or there are too many of something */
	bool is_unsorted; /* edges came in another order than promised */
	struct numbers wide;

	/* until it is sealed */
	struct staged *staged;
	size_t staged_count;
	size_t staged_capacity;

	/* nodes */
	uint32_t count;
	struct place *places;
	uint16_t *slack; /* owned less size, or SLACK_IS_ODD */
	uint32_t *tag;
	struct tap_map odd_owned; /* owned, of nodes with an odd slack */
	TAP_VECTOR(struct high) highs;

	/* find */
	uint64_t min;
	uint64_t span;    /* from min on, no node lies behind it */
	struct gib *gibs; /* by addr >> GIB_SHIFT */

	/* edges */
	struct csr out;
	struct csr in;
	uint32_t edge_count;
	size_t edge_capacity;
	uint32_t open; /* out.first is known up to this node, not including it */

	/* roots */
	TAP_VECTOR(struct root) roots; /* in the order added; from finish on by node */
	uint32_t *root_of;             /* place in roots, plus 1; NULL from finish on */
	uint32_t *seeds;               /* nodes of roots by rank; NULL after finish */
	uint32_t rank_end[256];        /* in seeds */

	/* answers */
	uint32_t *dominator;
	uint32_t *retained;       /* in wide; 0 where not reached */
	uint32_t *retained_nodes; /* 0 where not reached */
	struct csr dominated;     /* row 0: of the roots; row v + 1: of v */
	uint32_t *via;            /* what comes before it on its path; itself: a root */
};

/* --- what finish is made of ------------------------------------------- */

bool nodes_sort(struct staged **nodes, size_t count); /* stable, by address */
bool find_build(struct tap_graph *graph);
void find_deinit(struct tap_graph *graph);
bool edges_finish(struct tap_graph *graph);
/* One root a node, of the lowest rank; seeds. */
bool roots_finish(struct tap_graph *graph);
const struct root *root_find(const struct tap_graph *graph, uint32_t node);
/* *order_ret: the nodes that are reached, each behind its dominator; the
 * caller's. */
bool dominators_build(struct tap_graph *graph, uint32_t **order_ret, uint32_t *count_ret);
bool retained_build(struct tap_graph *graph, const uint32_t *order, uint32_t count);
bool dominated_build(struct tap_graph *graph);
bool paths_build(struct tap_graph *graph);

#endif
