/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How one object refers to another, as text. What does not refer to it itself
 * may do so by a part: its __dict__, the cells of a function, the frame of a
 * generator, the dicts that a threading.local has for each thread.
 */

#include <stdio.h>
#include <string.h>
#include "python/heap_edges.h"

#define MAX_NAMESPACES 8
#define MAX_CELLS 65536
#define MAX_WORDS 512 /* of an object that is looked through word by word */
#define MAX_BASES 80

struct match {
	uint64_t to;
	struct tap_python_edge edge; /* addr 0: none yet */
	uint64_t namespaces[MAX_NAMESPACES];
	size_t namespace_count;
};

/* The best that is said of it: a name, else that it is a part, else anything. */
static bool match_edge(void *context, const struct tap_python_edge *edge)
{
	struct match *match = context;

	if (edge->how == TAP_PYTHON_EDGE_NAMESPACE && match->namespace_count < MAX_NAMESPACES)
		match->namespaces[match->namespace_count++] = edge->addr;
	if (edge->addr != match->to)
		return true;
	if (!match->edge.addr || match->edge.how == TAP_PYTHON_EDGE_PLAIN)
		match->edge = *edge;
	return match->edge.how == TAP_PYTHON_EDGE_PLAIN;
}

static void shared_key_text(struct tap_python_heap *heap, const struct tap_python_edge *edge,
	char *buf, size_t capacity)
{
	struct tap_python_keys keys;
	uint64_t key = 0;

	if (tap_python_keys_read(heap, edge->key, &keys) && edge->number < keys.count)
		tap_memory_try_u64(heap->memory,
			keys.entries + edge->number * keys.entry_bytes + keys.key_offset, &key);
	tap_python_attribute_text(heap, key, buf, capacity);
}

static void local_text(struct tap_python_heap *heap, const struct tap_python_edge *edge, char *buf,
	size_t capacity)
{
	char name[256];

	if (tap_python_local_name(heap, edge->key, edge->number, name, sizeof(name)))
		snprintf(buf, capacity, " local %s", name);
	else
		snprintf(buf, capacity, " local");
}

static void plain_text(enum tap_python_kind kind, char *buf, size_t capacity)
{
	bool has_items = kind == TAP_PYTHON_DICT || kind == TAP_PYTHON_SET;

	snprintf(buf, capacity, "%s", has_items ? "[...]" : "");
}

static void edge_text(const struct tap_python_edges *edges, const struct tap_python_edge *edge,
	char *buf, size_t capacity)
{
	struct tap_python_heap *heap = edges->heap;

	switch (edge->how) {
	case TAP_PYTHON_EDGE_PLAIN:
		plain_text(edges->type->shown.kind, buf, capacity);
		break;
	case TAP_PYTHON_EDGE_PART:
	case TAP_PYTHON_EDGE_NAMESPACE:
		*buf = '\0';
		break;
	case TAP_PYTHON_EDGE_FIELD:
		snprintf(buf, capacity, "%s", edge->text);
		break;
	case TAP_PYTHON_EDGE_INDEX:
		snprintf(buf, capacity, "[%lu]", edge->number);
		break;
	case TAP_PYTHON_EDGE_KEY:
		if (edges->type->shown.kind == TAP_PYTHON_DICT &&
			tap_python_dict_is_namespace(heap, edges->addr, NULL))
			tap_python_attribute_text(heap, edge->key, buf, capacity);
		else
			tap_python_key_text(heap, edge->key, buf, capacity);
		break;
	case TAP_PYTHON_EDGE_SHARED:
		shared_key_text(heap, edge, buf, capacity);
		break;
	case TAP_PYTHON_EDGE_SLOT:
		if (!tap_python_slot_text(heap, edges->type, edge->number, buf, capacity))
			*buf = '\0';
		break;
	case TAP_PYTHON_EDGE_LOCAL:
		local_text(heap, edge, buf, capacity);
		break;
	}
}

/* --- by a part -------------------------------------------------------------------- */

struct key_search {
	uint64_t value;
	uint64_t key;
};

static bool is_value(void *context, uint64_t key, uint64_t value)
{
	struct key_search *search = context;

	if (value != search->value)
		return true;
	search->key = key;
	return false;
}

/* 0 where the dict does not refer to it. */
static uint64_t key_of(struct tap_python_heap *heap, uint64_t dict_addr, uint64_t value)
{
	struct key_search search = {.value = value};
	struct tap_python_dict dict;

	if (tap_python_dict_read(heap, dict_addr, &dict))
		tap_python_dict_each(heap, &dict, is_value, &search);
	return search.key;
}

static bool by_namespace(const struct tap_python_edges *edges, const struct match *match,
	char *buf, size_t capacity)
{
	enum tap_python_kind kind = edges->type->shown.kind;

	for (size_t i = 0; i < match->namespace_count; i++) {
		uint64_t key = key_of(edges->heap, match->namespaces[i], match->to);
		char name[256];

		if (!key)
			continue;
		if ((kind == TAP_PYTHON_FRAME || kind == TAP_PYTHON_GENERATOR) &&
			tap_python_clean_text(edges->heap, key, name, sizeof(name)))
			snprintf(buf, capacity, " local %s", name);
		else
			tap_python_attribute_text(edges->heap, key, buf, capacity);
		return true;
	}
	return false;
}

static bool by_closure(const struct tap_python_edges *edges, uint64_t to, char *buf,
	size_t capacity)
{
	struct tap_python_heap *heap = edges->heap;
	const struct tap_python_layout *layout = heap->layout;
	uint64_t closure = tap_python_edges_field(edges, layout->function.closure);
	uint64_t code = tap_python_edges_field(edges, layout->function.code), count, cell;
	char name[256];

	if (!tap_python_heap_field(heap, closure, layout->object.items, &count))
		return false;
	for (uint64_t i = 0; i < count && i < MAX_CELLS; i++) {
		if (!tap_memory_try_u64(
			    heap->memory, closure + (uint64_t)layout->tuple.items + i * 8, &cell))
			return false;
		if (cell != to)
			continue;
		if (tap_python_cell_name(heap, code, i, count, name, sizeof(name)))
			snprintf(buf, capacity, ".__closure__<cell %s>", name);
		else
			snprintf(buf, capacity, ".__closure__[%lu]", i);
		return true;
	}
	return false;
}

/* To 3.10 a generator has its variables in a frame object. */
static bool by_frame(const struct tap_python_edges *edges, struct match *match, char *buf,
	size_t capacity)
{
	uint64_t frame = tap_python_edges_field(edges, edges->heap->layout->generator.frame);
	struct tap_python_object object;
	struct tap_python_edges inner = {
		.heap = edges->heap, .addr = frame, .fn = match_edge, .context = match};

	if (!tap_python_heap_object_at(edges->heap, frame, &object))
		return false;
	inner.type = tap_python_heap_type_of(edges->heap, &object);
	if (inner.type->shown.kind != TAP_PYTHON_FRAME)
		return false;
	tap_python_edges_walk(&inner);
	if (!match->edge.addr)
		return by_namespace(edges, match, buf, capacity);
	edge_text(&inner, &match->edge, buf, capacity);
	return true;
}

static bool is_thread_local(struct tap_python_heap *heap, const struct tap_python_heap_type *type)
{
	for (int i = 0; type && i < MAX_BASES; i++) {
		if (strcmp(type->shown.name, "_thread._local") == 0)
			return true;
		type = type->base ? tap_python_heap_type_at(heap, type->base) : NULL;
	}
	return false;
}

static bool is_dict(struct tap_python_heap *heap, uint64_t addr)
{
	struct tap_python_object object;

	return tap_python_heap_object_at(heap, addr, &object) &&
	       tap_python_heap_type(heap, object.type)->kind == TAP_PYTHON_DICT;
}

struct thread_search {
	struct tap_python_heap *heap;
	uint64_t to;
	uint64_t key;
	bool is_part;
};

/* One thread's dict. */
static bool search_thread(void *context, uint64_t key, uint64_t value)
{
	struct thread_search *search = context;

	(void)key;
	search->is_part = value == search->to;
	if (!search->is_part && is_dict(search->heap, value))
		search->key = key_of(search->heap, value, search->to);
	return !search->is_part && !search->key;
}

/* Modules/_threadmodule.c: a dict in it has the dict of each thread. */
static bool by_threads(struct tap_python_heap *heap, uint64_t word, uint64_t to, char *buf,
	size_t capacity, bool *is_part_ret)
{
	struct thread_search search = {.heap = heap, .to = to};
	struct tap_python_dict dict;

	if (!is_dict(heap, word) || !tap_python_dict_read(heap, word, &dict))
		return false;
	*buf = '\0';
	if (word == to) {
		*is_part_ret = true;
		return true;
	}
	tap_python_dict_each(heap, &dict, search_thread, &search);
	*is_part_ret = search.is_part;
	if (search.key)
		tap_python_attribute_text(heap, search.key, buf, capacity);
	return search.key || search.is_part;
}

/* An object of which only the words are known. */
static bool by_word(const struct tap_python_edges *edges, uint64_t to, char *buf, size_t capacity,
	bool *is_part_ret)
{
	uint64_t head = (uint64_t)edges->heap->layout->object.head_size / 8;
	uint64_t count = edges->type->shown.basic_bytes / 8, words[MAX_WORDS];
	bool has_threads = is_thread_local(edges->heap, edges->type);

	if (count > MAX_WORDS)
		count = MAX_WORDS;
	if (!tap_memory_try_read(edges->heap->memory, edges->addr, words, count * 8))
		return false;
	for (uint64_t i = head; has_threads && i < count; i++) {
		if (by_threads(edges->heap, words[i], to, buf, capacity, is_part_ret))
			return true;
	}
	for (uint64_t i = head; i < count; i++) {
		if (words[i] != to)
			continue;
		if (!tap_python_slot_text(edges->heap, edges->type, i * 8, buf, capacity))
			*buf = '\0';
		return true;
	}
	return false;
}

static bool by_part(const struct tap_python_edges *edges, struct match *match, char *buf,
	size_t capacity, bool *is_part_ret)
{
	if (by_namespace(edges, match, buf, capacity))
		return true;
	switch (edges->type->shown.kind) {
	case TAP_PYTHON_FUNCTION:
		return by_closure(edges, match->to, buf, capacity);
	case TAP_PYTHON_GENERATOR:
		return by_frame(edges, match, buf, capacity);
	case TAP_PYTHON_OTHER:
		return by_word(edges, match->to, buf, capacity, is_part_ret);
	default:
		return false;
	}
}

bool tap_python_heap_reference_name(struct tap_python_heap *heap,
	const struct tap_python_object *from, uint64_t to, char *buf, size_t capacity,
	bool *is_part_ret)
{
	struct match match = {.to = to};
	struct tap_python_edges edges = {
		.heap = heap,
		.addr = from->addr,
		.type = tap_python_heap_type_of(heap, from),
		.fn = match_edge,
		.context = &match,
	};
	bool is_part = false, found = true;

	*buf = '\0';
	tap_python_edges_walk(&edges);
	if (to && match.edge.addr) {
		is_part = match.edge.how == TAP_PYTHON_EDGE_PART ||
			  match.edge.how == TAP_PYTHON_EDGE_NAMESPACE;
		edge_text(&edges, &match.edge, buf, capacity);
	} else {
		found = to && by_part(&edges, &match, buf, capacity, &is_part);
	}
	if (is_part_ret)
		*is_part_ret = is_part;
	return found;
}
