/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_SESSION_HEAP_MODEL_H
#define HEAPTAP_SESSION_HEAP_MODEL_H

/*
 * The heap of a process, or of a copy of one, as a graph with names: every block
 * of every allocator that is read is a node; objects of CPython are known as
 * such. What the process consists of must stand still.
 */

#include <stdbool.h>
#include <stdint.h>
#include "heaptap/analysis/heap_report.h"
#include "heaptap/base/vector.h"
#include "heaptap/graph/graph.h"
#include "heaptap/heap/glibc.h"
#include "heaptap/python/heap.h"
#include "heaptap/python/pools.h"
#include "session/look.h"
#include "session/memory_table.h"
#include "session/page_set.h"
#include "session/root_areas.h"

/* In ascending order: the lower gives names first. */
enum heap_root_rank {
	HEAP_ROOT_MODULES,
	HEAP_ROOT_FRAMES,
	HEAP_ROOT_THREADS,
	HEAP_ROOT_NATIVE, /* writable data of a module */
	HEAP_ROOT_PYTHON, /* all else of the interpreter */
	HEAP_ROOT_OTHER,
};

/* What a root's label stands for. */
struct heap_root {
	enum heap_root_rank rank;
	const char *name; /* "local rows of main (etl.py:40)", "stack of thread 42"; NULL: none */
	uint64_t addr;    /* NATIVE: where the pointer lies; else 0 */
};

struct heap_model {
	const struct tap_look *look;
	pid_t pid; /* whose maps and pages these are: the copy's, if it is one */
	pid_t process_pid;
	struct tap_graph *graph;
	struct tap_glibc *glibc; /* NULL: its heap is not walked */
	struct tap_python_heap *python; /* NULL: none */
	struct page_set understood;  /* by the walks of the heaps: no roots lie there */
	struct tap_heap_ranges pools; /* of pymalloc's */
	struct memory_shares *shares; /* what those saw, for the memory table */
	TAP_VECTOR(struct heap_root) roots;
	struct tap_strings *strings; /* the report's */
	uint64_t *started; /* a bit for each node: something refers to its beginning */
	uint64_t *parts;   /* a bit for each node: a table or buffer of an object's */
	uint64_t live_bytes;
	uint64_t blocks, objects;
	const char *stopped_by; /* where a heap could not be walked to its end */
};

/* threads: stack pointers and registers of the threads as they stood. All of it
 * is built: tap_graph_finish() was called. */
struct tap_error *heap_model_build(const struct tap_look *look, pid_t pid, pid_t process_pid,
	const struct root_thread *threads, size_t thread_count, struct tap_strings *strings,
	struct heap_model *ret);
void heap_model_deinit(struct heap_model *model);

/* The object that a node holds; false: it is a plain block. */
bool heap_model_object(
	const struct heap_model *model, uint32_t node, struct tap_python_object *ret);
/* The number of its type, UINT32_MAX for none; without reading. */
uint32_t heap_model_type(const struct heap_model *model, uint32_t node);
/* A block of pymalloc, not of the C heap. */
bool heap_model_is_pooled(const struct heap_model *model, uint32_t node);

/* heap_names.c: what a programmer would type for a node, and the steps that lead
 * to it. Belongs to model->strings. */
const char *heap_model_name(
	const struct heap_model *model, uint32_t node, struct tap_name_list *path);
/* Gives names to other nodes: the __dict__ of a module, class or instance. */
bool heap_model_is_namespace(const struct heap_model *model, uint32_t node);

#endif
