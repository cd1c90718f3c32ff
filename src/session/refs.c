/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/map.h"
#include "heaptap/session/refs.h"
#include "session/heap_reading.h"

/* Of what holds one node, or is held by it, so many are shown. */
#define FAN_MAX 10
#define NODES_MAX 2000
#define LABEL_BYTES 200

struct collector {
	const struct tap_refs_options *options;
	struct tap_refs_report *report;
	const struct heap_model *model;
	struct tap_map index; /* node of the graph -> index in report->nodes, plus 1 */
	TAP_VECTOR(uint32_t) nodes; /* the graph's, in the report's order */
};

static bool is_named(const char *type, const char *wanted)
{
	const char *last = strrchr(type, '.');

	return !strcmp(type, wanted) || (last && !strcmp(last + 1, wanted));
}

/* The object that is asked for; TAP_GRAPH_NONE: there is none. */
static uint32_t find(struct collector *collector)
{
	const struct tap_refs_options *options = collector->options;
	const struct heap_model *model = collector->model;
	uint32_t found = TAP_GRAPH_NONE;

	if (!options->type) {
		collector->report->matching = 1;
		return tap_graph_find(model->graph, options->addr);
	}
	for (uint32_t node = 0; node < tap_graph_count(model->graph); node++) {
		uint32_t type = heap_model_type(model, node);

		if (type == UINT32_MAX ||
			!is_named(tap_python_heap_type(model->python, type)->name, options->type))
			continue;
		if (collector->report->matching++ == options->index)
			found = node;
	}
	return found;
}

static bool is_root(const struct heap_model *model, uint32_t node)
{
	uint32_t path[2], label;

	return tap_graph_path(model->graph, node, path, 2, &label, NULL) == 1;
}

static size_t add_node(struct collector *collector, uint32_t node, unsigned depth, bool *added_ret)
{
	const struct heap_model *model = collector->model;
	uint64_t *slot = tap_map_put(&collector->index, node, added_ret);
	struct tap_python_object object;
	struct tap_ref_node *ret;

	if (!*added_ret)
		return *slot - 1;
	ret = tap_vector_add(&collector->report->nodes);
	tap_vector_push(&collector->nodes, node);
	*slot = collector->report->nodes.count;
	ret->addr = tap_graph_addr(model->graph, node);
	ret->own_bytes = tap_graph_size(model->graph, node);
	ret->depth = depth;
	ret->root = is_root(model, node);
	if (heap_model_object(model, node, &object)) {
		ret->addr = object.addr;
		ret->own_bytes = tap_python_heap_sizeof(model->python, &object);
		ret->type = tap_strings_add(model->strings,
			tap_python_heap_type(model->python, object.type)->name);
	}
	ret->label = heap_model_name(model, node, NULL);
	return (size_t)*slot - 1;
}

static const char *edge_label(const struct heap_model *model, uint32_t from, uint32_t to)
{
	struct tap_python_object object, target;
	uint64_t addr = tap_graph_addr(model->graph, to);
	char text[LABEL_BYTES];

	if (heap_model_object(model, to, &target))
		addr = target.addr;
	if (!heap_model_object(model, from, &object) ||
		!tap_python_heap_reference_name(
			model->python, &object, addr, text, sizeof(text), NULL))
		return "";
	return tap_strings_add(model->strings, text);
}

static bool is_type_of(const struct heap_model *model, uint32_t type_node, uint32_t node)
{
	struct tap_python_object object, type;

	return heap_model_object(model, type_node, &type) &&
	       heap_model_object(model, node, &object) &&
	       tap_python_heap_type(model->python, object.type)->addr == type.addr;
}

/* One node's neighbours. That an object refers to its class says nothing. */
static void expand(struct collector *collector, size_t at)
{
	const struct heap_model *model = collector->model;
	bool forward = collector->options->forward, added;
	uint32_t node = collector->nodes.items[at], last = TAP_GRAPH_NONE;
	unsigned depth = collector->report->nodes.items[at].depth + 1;
	size_t count, shown = 0;
	const uint32_t *others = forward ? tap_graph_edges(model->graph, node, &count) :
					   tap_graph_referrers(model->graph, node, &count);

	for (size_t i = 0; i < count; i++) {
		uint32_t other = others[i], from = forward ? node : other;
		uint32_t to = forward ? other : node;
		size_t index;

		if (other == node || other == last || is_type_of(model, to, from))
			continue;
		last = other;
		if (shown++ >= FAN_MAX || collector->report->nodes.count >= NODES_MAX) {
			collector->report->nodes.items[at].folded++;
			continue;
		}
		index = add_node(collector, other, depth, &added);
		tap_vector_push(&collector->report->edges,
			((struct tap_ref_edge){forward ? at : index, forward ? index : at,
				edge_label(model, from, to)}));
	}
}

static struct tap_error *not_found(const struct collector *collector)
{
	const struct tap_refs_options *options = collector->options;
	struct tap_error *err;

	if (!options->type)
		return tap_error_advise(
			tap_error_new(TAP_ERR_NOT_FOUND, "no live block holds the address 0x%" PRIx64,
				options->addr),
			"addresses are in heaptap report --json; an object that was freed has none");
	if (collector->report->matching) {
		err = tap_error_new(TAP_ERR_NOT_FOUND,
			"there are %" PRIu64 " objects of type '%s', none with index %" PRIu64,
			collector->report->matching, options->type, options->index);
		return tap_error_advise(err, "indices begin with 0");
	}
	return tap_error_advise(
		tap_error_new(TAP_ERR_NOT_FOUND, "there is no object of type '%s'", options->type),
		"heaptap types shows which there are");
}

static struct tap_error *look(void *context, const struct heap_model *model)
{
	struct collector *collector = context;
	uint32_t start;
	bool added;

	collector->model = model;
	start = find(collector);
	if (start == TAP_GRAPH_NONE)
		return not_found(collector);
	add_node(collector, start, 0, &added);
	/* What holds a root is outside of the heap. */
	for (size_t i = 0; i < collector->report->nodes.count; i++)
		if (collector->report->nodes.items[i].depth < collector->options->max_depth &&
			(collector->options->forward || !collector->report->nodes.items[i].root))
			expand(collector, i);
	return NULL;
}

struct tap_error *tap_refs_collect(
	pid_t pid, const struct tap_refs_options *options, struct tap_refs_report *ret)
{
	struct collector collector = {.options = options, .report = ret};
	const struct heap_reading_options reading = {
		.max_pause_s = options->max_pause_s,
		.debug_dir = options->debug_dir,
		.on_progress = options->on_progress,
		.progress_context = options->context,
		.look = look,
		.context = &collector,
	};
	struct heap_reading_result result = {0};
	struct tap_name_list notes = {0};
	struct tap_error *err;

	ret->strings = tap_strings_create();
	ret->forward = options->forward;
	err = tap_process_read(pid, &ret->process);
	if (!err)
		err = tap_process_check_traceable(&ret->process);
	if (!err)
		err = heap_read(&ret->process, &reading, ret->strings, &notes, &result);
	ret->pause_s = result.pause_s;
	tap_vector_free(&notes);
	tap_map_deinit(&collector.index);
	tap_vector_free(&collector.nodes);
	return err;
}
