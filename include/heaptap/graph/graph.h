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
 * on it only answers. After an error it can only be destroyed.
 *
 * Needs 46 bytes a node and 8 an edge, no more at any time: 70 a node where each
 * has three edges. Beside that 8 for each page of 4 KiB that a node lies in (none
 * for a whole GiB that one node covers), which is 0.2 % of the heap.
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

/* A block [addr, addr + size_bytes); size_bytes > 0, all of it below 2^47, where
 * addresses of user space end. tag is the caller's. In any order.
 * `owned_bytes` is what counts as its size where it is retained: what the
 * allocator takes for it, which may be more than size_bytes. */
void tap_graph_add_node(struct tap_graph *graph, uint64_t addr, uint64_t size_bytes,
	uint64_t owned_bytes, uint32_t tag);

/* Numbers the nodes by address, from 0. Of two that overlap the one that begins
 * later, or was added later, is dropped, and so is one that is empty or beyond
 * user space (in *dropped_ret how many, may be NULL). NOMEM beyond 2^32 - 2
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

/* Edges come in ascending order of `from`, else finish fails with BAD_DATA; to
 * itself and repeated ones are allowed (of a run of the same, the first counts).
 * TAP_GRAPH_NONE as `to`, as tap_graph_find() may give it, adds nothing. At most
 * 2^32 - 1 edges. */
void tap_graph_add_edge(struct tap_graph *graph, uint32_t from, uint32_t to);

/* Something outside of the heap holds this node. rank: roots of a lower rank
 * give names to paths first, however long these are; label is the caller's. Of
 * several roots that are one node, the first of the lowest rank counts: memory
 * is bounded however often a node is held. TAP_GRAPH_NONE adds nothing. */
void tap_graph_add_root(struct tap_graph *graph, uint32_t to, uint8_t rank, uint32_t label);

/* Builds all that is asked for below. NOMEM, or BAD_DATA for edges out of order. */
struct tap_error *tap_graph_finish(struct tap_graph *graph);

/* --- answers ---------------------------------------------------------- */

/* Where a node leads to, in the order in which the edges were added; valid as
 * long as the graph. */
const uint32_t *tap_graph_edges(const struct tap_graph *graph, uint32_t node, size_t *count_ret);
/* And what leads to it, by ascending number; as often as there are edges. */
const uint32_t *tap_graph_referrers(
	const struct tap_graph *graph, uint32_t node, size_t *count_ret);

/* Some root leads to it. */
bool tap_graph_is_reached(const struct tap_graph *graph, uint32_t node);

/* What is not reached, as groups that hang together: heads are the components
 * (strongly connected ones) that no other unreached one leads to, each given as
 * its first node, by ascending number. With each the number, and the sum of
 * owned_bytes, of what it leads to and no root does, itself included; what
 * several lead to is counted under the first, so that the sums add up to all
 * that is lost. fn may be NULL. Returns the number of heads. Linear, anew with
 * each call. */
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
 * set dominates. bits: one for each node, node % 64 of word node / 64, set for
 * members; those not reached count 0. Linear in words, members and what is above
 * them. */
uint64_t tap_graph_retained_by_set(const struct tap_graph *graph, const uint64_t *bits);
/* The same for many sets of which each node is in one at most, in one go:
 * bytes[c] for the nodes of class c. classes: one for each node; class_count or
 * more is none. Linear in nodes. */
void tap_graph_retained_by_class(const struct tap_graph *graph, const uint32_t *classes,
	uint32_t class_count, uint64_t *bytes);

/* The shortest path from a root of the lowest rank that leads to the node:
 * outermost first, the node itself last. Returns its length, at most capacity
 * (the innermost part where it is longer; *cut_ret, may be NULL), 0 where it is
 * not reached. *label_ret, may be NULL: of the root. */
size_t tap_graph_path(const struct tap_graph *graph, uint32_t node, uint32_t *path,
	size_t capacity, uint32_t *label_ret, bool *cut_ret);

static inline void tap_graph_cleanup(struct tap_graph **graph)
{
	tap_graph_destroy(*graph);
}
#define _cleanup_graph_ __attribute__((cleanup(tap_graph_cleanup)))

#endif
