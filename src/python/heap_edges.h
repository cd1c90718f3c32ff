/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_PYTHON_HEAP_EDGES_H
#define HEAPTAP_PYTHON_HEAP_EDGES_H

/*
 * What an object refers to, and how: what heap_references.c gives and
 * heap_names.c puts into words. An edge carries what its name is made of, not
 * the name: names are asked for rarely, edges of every object.
 */

#include "python/heap_internal.h"

enum tap_python_edge_how {
	TAP_PYTHON_EDGE_PLAIN,     /* nothing more is known */
	TAP_PYTHON_EDGE_PART,      /* a block of its own */
	TAP_PYTHON_EDGE_NAMESPACE, /* a dict of its own that gives names to others */
	TAP_PYTHON_EDGE_FIELD,     /* text: ".__code__" */
	TAP_PYTHON_EDGE_INDEX,     /* number: of the item */
	TAP_PYTHON_EDGE_KEY,       /* key: the object that it is found by */
	TAP_PYTHON_EDGE_SHARED,    /* number: of the entry in the key table at `key` */
	TAP_PYTHON_EDGE_SLOT,      /* number: bytes from the object's start */
	TAP_PYTHON_EDGE_LOCAL,     /* number: of the variable of the code object at `key` */
};

struct tap_python_edge {
	uint64_t addr;
	enum tap_python_edge_how how;
	const char *text;
	uint64_t number;
	uint64_t key;
};

/* False: enough. */
typedef bool (*tap_python_edge_fn)(void *context, const struct tap_python_edge *edge);

/* One object's walk. */
struct tap_python_edges {
	struct tap_python_heap *heap;
	uint64_t addr;
	const struct tap_python_heap_type *type;
	tap_python_edge_fn fn;
	void *context;
	bool enough;
};

/* Every edge of the object; false where its type's are not known, but for what
 * lies in front of it and its type. */
bool tap_python_edges_walk(struct tap_python_edges *edges);

/* Gives an edge on unless it is one to nowhere; false: enough. */
static inline bool tap_python_edges_give(
	struct tap_python_edges *edges, const struct tap_python_edge *edge)
{
	if (edge->addr && !edges->enough)
		edges->enough = !edges->fn(edges->context, edge);
	return !edges->enough;
}

static inline bool tap_python_edges_add(
	struct tap_python_edges *edges, uint64_t addr, enum tap_python_edge_how how)
{
	return tap_python_edges_give(edges, &(struct tap_python_edge){.addr = addr, .how = how});
}

/* The pointer in a field of the object; 0 also where the version has none. */
static inline uint64_t tap_python_edges_field(const struct tap_python_edges *edges, int32_t offset)
{
	uint64_t value;

	return tap_python_heap_field(edges->heap, edges->addr, offset, &value) ? value : 0;
}

/* count pointers from addr on, as edges with ascending numbers: for SLOT from
 * first by 8, else from first by 1. */
void tap_python_edges_array(struct tap_python_edges *edges, uint64_t addr, uint64_t count,
	enum tap_python_edge_how how, uint64_t first, uint64_t key);

/* heap_containers.c: false where the kind is none of its own. */
bool tap_python_edges_of_container(struct tap_python_edges *edges);
/* heap_records.c: objects that are fields with names. */
bool tap_python_edges_of_record(struct tap_python_edges *edges);
/* heap_frames.c: frames and generators. */
void tap_python_edges_of_frame(struct tap_python_edges *edges);
void tap_python_edges_of_generator(struct tap_python_edges *edges);
/* heap_attributes.c: what an object has because of its class: attributes, slots,
 * the class itself. */
void tap_python_edges_of_class(struct tap_python_edges *edges);
/* heap_lru.c */
void tap_python_edges_of_lru(struct tap_python_edges *edges);

/* --- attributes (heap_attributes.c) ------------------------------------------- */

/* Where an object keeps its attributes: in a dict, in an array that goes with
 * its class's key table, or both (3.13 on: the dict then has the same array). */
struct tap_python_attributes {
	uint64_t dict;   /* 0: none */
	uint64_t block;  /* that the array lies in where that is one of its own, else 0 */
	uint64_t values; /* the array; 0: none */
	uint64_t count;
};
void tap_python_attributes_read(struct tap_python_heap *heap, uint64_t addr,
	const struct tap_python_heap_type *type, struct tap_python_attributes *ret);

/* --- frames (heap_frames.c) --------------------------------------------------- */

/* A frame's variables and operands: from 3.11 on those of a frame, before those
 * of a frame object. */
struct tap_python_locals {
	uint64_t code;
	uint64_t function;     /* 0 to 3.10 */
	uint64_t names;        /* f_locals, where it has a dict for its variables */
	uint64_t globals;
	uint64_t frame_object; /* 0 to 3.10, and where there is none */
	uint64_t first;        /* address of the variables */
	uint64_t variables;    /* their number, cells included */
	uint64_t words;        /* variables and operands */
	uint64_t room;         /* the same at most, where it is not told how many operands */
	bool is_told;          /* that is: while it does not run */
	uint8_t owner;
};
bool tap_python_locals_read(
	struct tap_python_heap *heap, uint64_t frame, struct tap_python_locals *ret);

/* What a word among them refers to: from 3.14 on they carry two bits of their
 * own, and may be numbers. */
uint64_t tap_python_local_object(const struct tap_python_heap *heap, uint64_t word);

/* The name of a variable of a code object, as it is; false: it has none. */
bool tap_python_local_name(struct tap_python_heap *heap, uint64_t code, uint64_t number,
	char *buf, size_t capacity);
/* Of the number-th of a function's `count` cells. */
bool tap_python_cell_name(struct tap_python_heap *heap, uint64_t code, uint64_t number,
	uint64_t count, char *buf, size_t capacity);

/* The frame of a generator, and whether it was ended; 0 for none. */
uint64_t tap_python_generator_frame(struct tap_python_heap *heap, uint64_t generator);

/* "FUNCTION (FILE:LINE)" of a frame as tap_python_locals_read() takes it (heap_roots.c). */
bool tap_python_frame_text(
	struct tap_python_heap *heap, uint64_t frame_addr, char *buf, size_t capacity);

/* --- names (heap_texts.c) ------------------------------------------------------ */

/* A str, cleaned; false where it is none. */
bool tap_python_clean_text(
	struct tap_python_heap *heap, uint64_t addr, char *buf, size_t capacity);
/* "['key']", "[3]" or "[...]" */
void tap_python_key_text(struct tap_python_heap *heap, uint64_t key, char *buf, size_t capacity);
/* ".name" where the key is one that may follow a dot, else as above. */
void tap_python_attribute_text(
	struct tap_python_heap *heap, uint64_t key, char *buf, size_t capacity);
/* ".name" of what lies `offset` bytes from the start of an object of this type;
 * false where nobody named it. */
bool tap_python_slot_text(struct tap_python_heap *heap, const struct tap_python_heap_type *type,
	uint64_t offset, char *buf, size_t capacity);
/* "module.qualname" of a function. */
bool tap_python_function_text(
	struct tap_python_heap *heap, uint64_t function, char *buf, size_t capacity);
/* Does it give names to others: the __dict__ of a module, a class, an instance?
 * By what is in it, as nothing leads back from it. *module_ret (may be NULL): the
 * module's __name__, 0 where it is none's. */
bool tap_python_dict_is_namespace(
	struct tap_python_heap *heap, uint64_t addr, uint64_t *module_ret);

#endif
