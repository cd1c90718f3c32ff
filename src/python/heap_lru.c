/* SPDX-License-Identifier: Apache-2.0 */
/*
 * functools.lru_cache (Modules/_functoolsmodule.c): a dict from arguments to
 * results or, where it is bounded, to links of a ring that begins and ends in
 * the cache itself.
 */

#include <stdio.h>
#include <string.h>
#include "python/heap_edges.h"
#include "python/walk.h"

#define MAX_LINKS (1u << 30)

static void add_field(struct tap_python_edges *edges, int32_t offset, const char *text)
{
	tap_python_edges_give(edges,
		&(struct tap_python_edge){.addr = tap_python_edges_field(edges, offset),
			.how = TAP_PYTHON_EDGE_FIELD,
			.text = text});
}

/* The collector takes what a link holds for the cache's. */
static void add_links(struct tap_python_edges *edges)
{
	const struct tap_python_layout *layout = edges->heap->layout;
	uint64_t link = tap_python_edges_field(edges, layout->lru.root_next), key, result;
	struct tap_python_walk walk = {0};

	while (link != edges->addr && !edges->enough &&
		tap_python_walk_on(&walk, link, MAX_LINKS)) {
		if (!tap_python_heap_field(
			    edges->heap, link, layout->lru.element_key, &key) ||
			!tap_python_heap_field(
				edges->heap, link, layout->lru.element_result, &result))
			return;
		tap_python_edges_add(edges, link, TAP_PYTHON_EDGE_PART);
		tap_python_edges_add(edges, key, TAP_PYTHON_EDGE_PLAIN);
		tap_python_edges_give(edges, &(struct tap_python_edge){.addr = result,
						     .how = TAP_PYTHON_EDGE_KEY,
						     .key = key});
		if (!tap_python_heap_field(edges->heap, link, layout->lru.element_next, &link))
			return;
	}
}

void tap_python_edges_of_lru(struct tap_python_edges *edges)
{
	const struct tap_python_layout *layout = edges->heap->layout;

	tap_python_edges_add(
		edges, tap_python_edges_field(edges, layout->lru.cache), TAP_PYTHON_EDGE_PART);
	add_field(edges, layout->lru.function, ".__wrapped__");
	add_links(edges);
	tap_python_edges_add(
		edges, tap_python_edges_field(edges, layout->lru.dict), TAP_PYTHON_EDGE_NAMESPACE);
	add_field(edges, layout->lru.cache_info_type, "");
	add_field(edges, layout->lru.mark, "");
	add_field(edges, layout->lru.element_type, "");
}

/* functools.wraps() has given it the names of what it wraps, which need not be
 * a function. */
static bool wrapped_name(struct tap_python_heap *heap, uint64_t dict, char *buf, size_t capacity)
{
	char module[128], name[120];
	uint64_t text;

	if (!tap_python_dict_get(heap, dict, "__qualname__", &text) ||
		!tap_python_clean_text(heap, text, name, sizeof(name)))
		return false;
	if (tap_python_dict_get(heap, dict, "__module__", &text) &&
		tap_python_clean_text(heap, text, module, sizeof(module)))
		snprintf(buf, capacity, "%s.%s", module, name);
	else
		snprintf(buf, capacity, "%s", name);
	return true;
}

bool tap_python_heap_lru(struct tap_python_heap *heap, const struct tap_python_object *object,
	struct tap_python_lru *ret)
{
	const struct tap_python_layout *layout = heap->layout;
	uint64_t addr = object->addr, cache, dict, function, maxsize;

	memset(ret, 0, sizeof(*ret));
	if (tap_python_heap_type_of(heap, object)->shown.kind != TAP_PYTHON_LRU_CACHE ||
		!tap_python_heap_field(heap, addr, layout->lru.cache, &cache) ||
		!tap_python_heap_field(heap, addr, layout->lru.hits, &ret->hits) ||
		!tap_python_heap_field(heap, addr, layout->lru.misses, &ret->misses) ||
		!tap_python_heap_field(heap, addr, layout->lru.maxsize, &maxsize) ||
		!tap_python_heap_field(heap, addr, layout->lru.function, &function) ||
		!tap_python_heap_field(heap, addr, layout->lru.dict, &dict))
		return false;
	ret->maxsize = (int64_t)maxsize;
	if (!tap_python_heap_field(heap, cache, layout->dict.used, &ret->size))
		ret->size = 0;
	if (!tap_python_function_text(heap, function, ret->name, sizeof(ret->name)))
		wrapped_name(heap, dict, ret->name, sizeof(ret->name));
	return true;
}
