/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "heaptap/analysis/suspects.h"
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "session/heap_findings.h"

#define SUSPECTS_MAX 100
#define ITEM_TYPES_MAX 5
#define REFERRERS_MAX 64

static enum tap_python_kind kind_of(const struct heap_model *model, uint32_t node)
{
	uint32_t type = heap_model_type(model, node);

	return type == UINT32_MAX ? TAP_PYTHON_OTHER :
				    tap_python_heap_type(model->python, type)->kind;
}

static enum tap_node_role role(void *context, uint32_t node)
{
	const struct heap_model *model = context;

	if (heap_model_type(model, node) == UINT32_MAX)
		return tap_graph_dominator(model->graph, node) == TAP_GRAPH_NONE ?
			TAP_NODE_VALUE :
			TAP_NODE_PART;
	switch (kind_of(model, node)) {
	case TAP_PYTHON_DICT:
		return heap_model_is_namespace(model, node) ? TAP_NODE_NAMES :
							      TAP_NODE_COLLECTION;
	case TAP_PYTHON_LIST:
	case TAP_PYTHON_TUPLE:
	case TAP_PYTHON_SET:
	case TAP_PYTHON_DEQUE:
	case TAP_PYTHON_LRU_CACHE:
		return TAP_NODE_COLLECTION;
	case TAP_PYTHON_ATOM:
	case TAP_PYTHON_NDARRAY:
	case TAP_PYTHON_BYTEARRAY:
	case TAP_PYTHON_CODE:
		return TAP_NODE_VALUE;
	default:
		return TAP_NODE_NAMES;
	}
}

/* Classes of the program's own; that there are many strings says nothing. */
static uint32_t type_of(void *context, uint32_t node)
{
	const struct heap_model *model = context;
	enum tap_python_kind kind = kind_of(model, node);

	return kind == TAP_PYTHON_INSTANCE || kind == TAP_PYTHON_NDARRAY ||
			kind == TAP_PYTHON_EXCEPTION || kind == TAP_PYTHON_GENERATOR ?
		heap_model_type(model, node) :
		UINT32_MAX;
}

static const char *kind_name(enum tap_python_kind kind)
{
	switch (kind) {
	case TAP_PYTHON_LIST:
	case TAP_PYTHON_TUPLE:
		return "list";
	case TAP_PYTHON_DICT:
		return "dict";
	case TAP_PYTHON_SET:
		return "set";
	case TAP_PYTHON_DEQUE:
		return "deque";
	case TAP_PYTHON_LRU_CACHE:
		return "lru_cache";
	case TAP_PYTHON_MODULE:
		return "module";
	case TAP_PYTHON_FUNCTION:
	case TAP_PYTHON_CELL:
		return "closure";
	case TAP_PYTHON_NDARRAY:
	case TAP_PYTHON_BYTEARRAY:
		return "array";
	case TAP_PYTHON_TYPE:
		return "type";
	default:
		return "instance";
	}
}

/* --- what a suspect holds ------------------------------------------------------ */

/* The types of what it refers to, its own parts left out; of a dict its values
 * and keys alike. */
struct counting {
	const struct heap_model *model;
	uint64_t *by_type;
};

static bool count_item(void *context, uint64_t addr)
{
	struct counting *counting = context;
	uint32_t node = tap_graph_find(counting->model->graph, addr);
	uint32_t type = node == TAP_GRAPH_NONE ? UINT32_MAX :
						 heap_model_type(counting->model, node);

	if (type != UINT32_MAX)
		counting->by_type[type]++;
	return true;
}

static void add_item_types(const struct heap_model *model, const struct tap_python_object *object,
	struct tap_type_count_list *ret)
{
	uint32_t types = tap_python_heap_types(model->python);
	struct counting counting = {model, tap_alloc((types + (size_t)1) * sizeof(uint64_t))};

	tap_python_heap_references(model->python, object, count_item, &counting);
	heap_findings_rank_types(model, counting.by_type, ret);
	if (ret->count > ITEM_TYPES_MAX)
		ret->count = ITEM_TYPES_MAX;
	free(counting.by_type);
}

static void add_lru_note(const struct heap_model *model, const struct tap_python_object *object,
	struct tap_suspect *suspect)
{
	_cleanup_free_ char *text = NULL;
	struct tap_python_lru lru;

	if (!tap_python_heap_lru(model->python, object, &lru))
		return;
	if (lru.maxsize < 0)
		text = tap_format("maxsize None, %llu hits, %llu misses",
			(unsigned long long)lru.hits, (unsigned long long)lru.misses);
	else
		text = tap_format("maxsize %lld, %llu hits, %llu misses", (long long)lru.maxsize,
			(unsigned long long)lru.hits, (unsigned long long)lru.misses);
	suspect->items = (int64_t)lru.size;
	suspect->note = tap_strings_add(model->strings, text);
}

/* The cache's dict is found where its bytes are; who looks for it knows it as
 * the function. Something may hold the dict besides: what an earlier call left on
 * a stack, for one. */
static uint32_t whole_of(const struct heap_model *model, uint32_t node)
{
	size_t count;
	const uint32_t *referrers = tap_graph_referrers(model->graph, node, &count);

	for (size_t i = 0; i < count && i < REFERRERS_MAX; i++)
		if (kind_of(model, referrers[i]) == TAP_PYTHON_LRU_CACHE)
			return referrers[i];
	return node;
}

static void describe_object(const struct heap_model *model, uint32_t node,
	const struct tap_python_object *object, struct tap_suspect *suspect)
{
	const struct tap_python_type *type = tap_python_heap_type(model->python, object->type);

	suspect->kind = kind_name(type->kind);
	suspect->type = tap_strings_add(model->strings, type->name);
	suspect->address = object->addr;
	suspect->own_bytes = tap_python_heap_sizeof(model->python, object);
	suspect->items = tap_python_heap_length(model->python, object);
	add_item_types(model, object, &suspect->item_types);
	if (type->kind == TAP_PYTHON_LRU_CACHE)
		add_lru_note(model, object, suspect);
	suspect->name = heap_model_name(model, node, &suspect->path);
}

static void describe_node(
	const struct heap_model *model, uint32_t node, struct tap_suspect *suspect)
{
	uint64_t bytes = tap_graph_retained(model->graph, node);
	struct tap_python_object object;

	node = whole_of(model, node);
	suspect->retained_bytes = tap_graph_retained(model->graph, node);
	if (suspect->retained_bytes < bytes)
		suspect->retained_bytes = bytes;
	if (heap_model_object(model, node, &object)) {
		describe_object(model, node, &object, suspect);
		return;
	}
	suspect->kind = "native";
	suspect->address = tap_graph_addr(model->graph, node);
	suspect->own_bytes = tap_graph_size(model->graph, node);
	suspect->items = (int64_t)tap_graph_retained_nodes(model->graph, node) - 1;
	suspect->name = heap_model_name(model, node, &suspect->path);
}

static void describe_type(const struct heap_model *model, const struct tap_suspect_found *found,
	struct tap_suspect *suspect)
{
	suspect->kind = "type";
	suspect->name = tap_strings_add(
		model->strings, tap_python_heap_type(model->python, found->type)->name);
	suspect->type = suspect->name;
	suspect->retained_bytes = found->retained_bytes;
	suspect->items = (int64_t)found->instances;
}

void heap_findings_suspects(
	const struct heap_model *model, double threshold, struct tap_heap_report *report)
{
	const struct tap_suspects_input input = {
		.graph = model->graph,
		.total_bytes = model->live_bytes,
		.threshold = threshold,
		.most = SUSPECTS_MAX,
		.role = role,
		.type = type_of,
		.types = model->python ? tap_python_heap_types(model->python) : 0,
		.context = (void *)model,
	};
	struct tap_suspects_found found;

	tap_suspects_find(&input, &found);
	for (size_t i = 0; i < found.count; i++) {
		struct tap_suspect *suspect = tap_vector_add(&report->suspects);

		suspect->items = -1;
		if (found.items[i].node == TAP_GRAPH_NONE)
			describe_type(model, &found.items[i], suspect);
		else
			describe_node(model, found.items[i].node, suspect);
		suspect->share = model->live_bytes ?
			(double)suspect->retained_bytes / (double)model->live_bytes :
			0;
	}
	tap_vector_free(&found);
}
