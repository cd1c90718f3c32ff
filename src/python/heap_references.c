/* SPDX-License-Identifier: Apache-2.0 */
#include "python/heap_edges.h"

#define CHUNK_WORDS 512

void tap_python_edges_array(struct tap_python_edges *edges, uint64_t addr, uint64_t count,
	enum tap_python_edge_how how, uint64_t first, uint64_t key)
{
	uint64_t step = how == TAP_PYTHON_EDGE_SLOT ? 8 : 1;
	uint64_t words[CHUNK_WORDS];

	for (uint64_t done = 0; done < count && !edges->enough; done += CHUNK_WORDS) {
		uint64_t some = count - done < CHUNK_WORDS ? count - done : CHUNK_WORDS;

		if (!tap_memory_try_read(edges->heap->memory, addr + done * 8, words, some * 8))
			return;
		for (uint64_t i = 0; i < some; i++) {
			struct tap_python_edge edge = {.addr = words[i],
				.how = how,
				.number = first + (done + i) * step,
				.key = key};

			if (!tap_python_edges_give(edges, &edge))
				return;
		}
	}
}

/* What a str has besides its block: the text where that is not in it, and its
 * UTF-8 and wide forms (PEP 393). Forms that are the text itself lie in it. */
static void blocks_of_str(struct tap_python_edges *edges)
{
	const struct tap_python_layout *layout = edges->heap->layout;
	uint32_t state;
	bool compact, ascii;

	if (!tap_python_heap_field32(edges->heap, edges->addr, layout->unicode.state, &state))
		return;
	compact = state >> 5 & 1;
	ascii = state >> 6 & 1;
	tap_python_edges_add(edges, tap_python_edges_field(edges, layout->unicode.wide),
		TAP_PYTHON_EDGE_PART);
	if (!compact || !ascii)
		tap_python_edges_add(edges, tap_python_edges_field(edges, layout->unicode.utf8),
			TAP_PYTHON_EDGE_PART);
	if (!compact)
		tap_python_edges_add(edges, tap_python_edges_field(edges, layout->unicode.data),
			TAP_PYTHON_EDGE_PART);
}

bool tap_python_edges_walk(struct tap_python_edges *edges)
{
	bool known = true;

	switch (edges->type->shown.kind) {
	case TAP_PYTHON_FRAME:
		tap_python_edges_of_frame(edges);
		break;
	case TAP_PYTHON_GENERATOR:
		tap_python_edges_of_generator(edges);
		break;
	case TAP_PYTHON_LRU_CACHE:
		tap_python_edges_of_lru(edges);
		break;
	case TAP_PYTHON_ATOM:
	case TAP_PYTHON_INSTANCE:
		break;
	default:
		known = tap_python_edges_of_container(edges) || tap_python_edges_of_record(edges);
	}
	if (edges->type->shown.flags & TAP_PYTHON_STR_SUBCLASS)
		blocks_of_str(edges);
	tap_python_edges_of_class(edges);
	return known;
}

struct references {
	tap_python_reference_fn fn;
	void *context;
};

static bool give_address(void *context, const struct tap_python_edge *edge)
{
	const struct references *references = context;

	return references->fn(references->context, edge->addr);
}

bool tap_python_heap_references(struct tap_python_heap *heap,
	const struct tap_python_object *object, tap_python_reference_fn fn, void *context)
{
	struct references references = {fn, context};
	struct tap_python_edges edges = {
		.heap = heap,
		.addr = object->addr,
		.type = tap_python_heap_type_of(heap, object),
		.fn = give_address,
		.context = &references,
	};

	return tap_python_edges_walk(&edges);
}
