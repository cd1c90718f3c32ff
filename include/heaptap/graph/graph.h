/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_GRAPH_GRAPH_H
#define HEAPTAP_GRAPH_GRAPH_H

/*
 * A heap as a graph: nodes are blocks of memory, edges are pointers. Knows
 * nothing of allocators or languages. Flat arrays and 32-bit node numbers; all
 * work is linear, or nearly so, in nodes and edges.
 *
 * In this order: tap_graph_add_node() for every block, tap_graph_seal(),
 * tap_graph_add_edge() and tap_graph_add_root(), tap_graph_finish(). From then
 * on it only answers.
 *
 * The dominator of a node is the last node that every path from the roots to it
 * leads through: without it, it would be garbage. What a node retains is all
 * that it dominates, itself included. By the semi-NCA algorithm (L. Georgiadis,
 * R. Tarjan, "Finding Dominators in Practice", 2004) over an imaginary node
 * that leads to all roots.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "heaptap/base/error.h"

struct tap_graph;

/* No node; as a dominator or as the first node of a path: the roots. */
#define TAP_GRAPH_NONE UINT32_MAX

struct tap_graph *tap_graph_create(void);
void tap_graph_destroy(struct tap_graph *graph); /* takes NULL */

/* --- nodes ------------------------------------------------------------ */

/* A block [addr, addr + size_bytes); size_bytes > 0. tag is the caller's.
 * `owned_bytes` is what counts as its size where it is retained: what the
 * allocator takes for it, which may be more than size_bytes. */
void tap_graph_add_node(struct tap_graph *graph, uint64_t addr, uint64_t size_bytes,
	uint64_t owned_bytes, uint32_t tag);

/* Numbers the nodes by address, from 0. Of two that overlap the one that begins
 * later is dropped (in *dropped_ret how many, may be NULL). NOMEM beyond 2^32 - 2
 * nodes. */
struct tap_error *tap_graph_seal(struct tap_graph *graph, uint64_t *dropped_ret);

uint32_t tap_graph_count(const struct tap_graph *graph);
uint64_t tap_graph_addr(const struct tap_graph *graph, uint32_t node);
uint64_t tap_graph_size(const struct tap_graph *graph, uint32_t node);
uint64_t tap_graph_owned(const struct tap_graph *graph, uint32_t node);
uint32_t tap_graph_tag(const struct tap_graph *graph, uint32_t node);
void tap_graph_set_tag(struct tap_graph *graph, uint32_t node, uint32_t tag);

/* The node that addr lies in, its first byte or any other; TAP_GRAPH_NONE.
 * Constant time on average, a few cache misses: it is asked for every word of
 * memory that may be a pointer. */
uint32_t tap_graph_find(const struct tap_graph *graph, uint64_t addr);

/* --- edges ------------------------------------------------------------ */

/* Edges come in ascending order of `from`; to itself and repeated ones are
 * allowed (the first of a run counts). */
void tap_graph_add_edge(struct tap_graph *graph, uint32_t from, uint32_t to);

/* Something outside of the heap holds this node. rank: roots of a lower rank
 * give names to paths first, however long these are; label is the caller's. */
void tap_graph_add_root(struct tap_graph *graph, uint32_t to, uint8_t rank, uint32_t label);

/* Builds all that is asked for below. */
struct tap_error *tap_graph_finish(struct tap_graph *graph);

/* --- answers ---------------------------------------------------------- */

/* Where a node leads to, in the order in which the edges were added; valid as
 * long as the graph. */
const uint32_t *tap_graph_edges(const struct tap_graph *graph, uint32_t node, size_t *count_ret);
/* And what leads to it, by ascending number. */
const uint32_t *tap_graph_referrers(
	const struct tap_graph *graph, uint32_t node, size_t *count_ret);

/* Some root leads to it. */
bool tap_graph_is_reached(const struct tap_graph *graph, uint32_t node);

/* Of a node that is not reached: the sum of owned_bytes, and the number, of what
 * is reached from it and from no root; each node is counted under the first of
 * its group that leads to it. Groups: what is not reached, as strongly connected
 * components; only heads (components that no other unreached one leads to) are
 * given. fn may be NULL. Returns the number of heads. */
typedef void (*tap_graph_lost_fn)(void *context, uint32_t head, uint64_t nodes, uint64_t bytes);
size_t tap_graph_lost(const struct tap_graph *graph, tap_graph_lost_fn fn, void *context);

/* The dominator of a node that is reached; TAP_GRAPH_NONE: the roots alone, or
 * not reached. */
uint32_t tap_graph_dominator(const struct tap_graph *graph, uint32_t node);
/* Sum of owned_bytes of all that a node dominates, itself included; 0 where it
 * is not reached. And their number. */
uint64_t tap_graph_retained(const struct tap_graph *graph, uint32_t node);
uint32_t tap_graph_retained_nodes(const struct tap_graph *graph, uint32_t node);
/* The children of a node (TAP_GRAPH_NONE: of the roots) in the dominator tree:
 * by ascending number. */
const uint32_t *tap_graph_dominated(
	const struct tap_graph *graph, uint32_t node, size_t *count_ret);
/* What a set of nodes retains together: the sum over those that no other of the
 * set dominates. bits: one for each node, set for members. */
uint64_t tap_graph_retained_by_set(const struct tap_graph *graph, const uint64_t *bits);

/* The shortest path from a root of the lowest rank that leads to the node:
 * outermost first, the node itself last. Returns its length, at most capacity
 * (the innermost part where it is longer; *cut_ret, may be NULL), 0 where it is
 * not reached. *label_ret: of the root. */
size_t tap_graph_path(const struct tap_graph *graph, uint32_t node, uint32_t *path,
	size_t capacity, uint32_t *label_ret, bool *cut_ret);

static inline void tap_graph_cleanup(struct tap_graph **graph)
{
	tap_graph_destroy(*graph);
}
#define _cleanup_graph_ __attribute__((cleanup(tap_graph_cleanup)))

#endif
