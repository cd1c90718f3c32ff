/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/text.h"
#include "session/heap_model.h"

#define PATH_MAX_NODES 64
#define STEP_BYTES 160
#define REFERRERS_MAX 64

static enum tap_python_kind kind_of(
	const struct heap_model *model, uint32_t node, struct tap_python_object *object)
{
	if (!heap_model_object(model, node, object))
		return TAP_PYTHON_OTHER;
	return tap_python_heap_type(model->python, object->type)->kind;
}

static bool names_attributes(enum tap_python_kind kind)
{
	return kind == TAP_PYTHON_MODULE || kind == TAP_PYTHON_TYPE ||
	       kind == TAP_PYTHON_INSTANCE || kind == TAP_PYTHON_EXCEPTION ||
	       kind == TAP_PYTHON_OTHER;
}

bool heap_model_is_namespace(const struct heap_model *model, uint32_t node)
{
	struct tap_python_object object, owner;
	const uint32_t *referrers;
	char text[STEP_BYTES];
	size_t count;
	bool is_part;

	if (kind_of(model, node, &object) != TAP_PYTHON_DICT)
		return false;
	referrers = tap_graph_referrers(model->graph, node, &count);
	for (size_t i = 0; i < count && i < REFERRERS_MAX; i++)
		if (heap_model_object(model, referrers[i], &owner) &&
			names_attributes(tap_python_heap_type(model->python, owner.type)->kind) &&
			tap_python_heap_reference_name(model->python, &owner, object.addr, text,
				sizeof(text), &is_part) &&
			is_part)
			return true;
	return false;
}

/* "static_cache", "static_cache+16", "libx.so+0x4020": of a native pointer. */
static char *native_name(const struct heap_model *model, uint64_t addr)
{
	const struct tap_module *module = tap_symbols_module_at(model->look->symbols, addr);
	struct tap_symbol symbol;

	if (tap_symbols_try_name(model->look->symbols, addr, &symbol))
		return addr > symbol.addr ?
			tap_format("%s+%llu", symbol.name,
				(unsigned long long)(addr - symbol.addr)) :
			tap_strdup(symbol.name);
	if (module)
		return tap_format("%s+0x%llx", module->name,
			(unsigned long long)(addr - module->bias));
	return tap_format("0x%llx", (unsigned long long)addr);
}

static char *root_name(const struct heap_model *model, uint32_t label)
{
	const struct heap_root *root = &model->roots.items[label];

	if (root->addr)
		return native_name(model, root->addr);
	return tap_strdup(root->name ? root->name : "the interpreter");
}

/* The name that an object has wherever it is: a module's, a function's. */
static bool own_name(const struct heap_model *model, uint32_t node, char *buf, size_t capacity)
{
	struct tap_python_object object;
	struct tap_python_lru lru;
	enum tap_python_kind kind = kind_of(model, node, &object);

	switch (kind) {
	case TAP_PYTHON_LRU_CACHE:
		if (!tap_python_heap_lru(model->python, &object, &lru))
			return false;
		tap_text_clean(buf, capacity, lru.name);
		return true;
	case TAP_PYTHON_MODULE:
	case TAP_PYTHON_TYPE:
	case TAP_PYTHON_FUNCTION:
		return tap_python_heap_own_name(model->python, &object, buf, capacity);
	default:
		return false;
	}
}

/* What follows the name of `from` where `to` is meant. False: `to` is a part of
 * it, and knows no better name for what it holds itself. */
static bool step_name(
	const struct heap_model *model, uint32_t from, uint32_t to, struct tap_text *name)
{
	struct tap_python_object object, target;
	char text[STEP_BYTES];
	uint64_t addr = tap_graph_addr(model->graph, to);
	bool is_part = false;

	if (heap_model_object(model, to, &target))
		addr = target.addr;
	if (!heap_model_object(model, from, &object))
		return true;
	if (tap_python_heap_reference_name(
		    model->python, &object, addr, text, sizeof(text), &is_part))
		tap_text_add(name, "%s", text);
	return !is_part;
}

/* A function is asked for its cells by itself: between them is a tuple, which does
 * not know their names. */
static bool is_closure(const struct heap_model *model, const uint32_t *nodes, size_t at, size_t count)
{
	struct tap_python_object object;

	return at + 1 < count && kind_of(model, nodes[at - 1], &object) == TAP_PYTHON_FUNCTION &&
	       kind_of(model, nodes[at], &object) == TAP_PYTHON_TUPLE &&
	       kind_of(model, nodes[at + 1], &object) == TAP_PYTHON_CELL;
}

static const char *block_name(const struct heap_model *model, uint32_t node)
{
	struct tap_python_object object;
	_cleanup_free_ char *text = NULL;

	if (heap_model_object(model, node, &object))
		text = tap_format("%s at 0x%llx",
			tap_python_heap_type(model->python, object.type)->name,
			(unsigned long long)object.addr);
	else
		text = tap_format("a block at 0x%llx",
			(unsigned long long)tap_graph_addr(model->graph, node));
	return tap_strings_add(model->strings, text);
}

/* One step of the path, in words: what it is, and how it is reached. */
static void add_step(const struct heap_model *model, const char *name, uint32_t node,
	struct tap_name_list *path)
{
	struct tap_python_object object;
	_cleanup_free_ char *text = NULL;

	if (!path)
		return;
	if (heap_model_object(model, node, &object))
		text = tap_format("%s (%s)", name,
			tap_python_heap_type(model->python, object.type)->name);
	else
		text = tap_strdup(name);
	if (path->count && !strcmp(path->items[path->count - 1], text))
		return;
	tap_vector_push(path, tap_strings_add(model->strings, text));
}

const char *heap_model_name(
	const struct heap_model *model, uint32_t node, struct tap_name_list *path)
{
	uint32_t nodes[PATH_MAX_NODES], label = 0;
	struct tap_text name = {0};
	char own[STEP_BYTES * 2];
	const char *ret;
	bool cut = false;
	size_t from = 0, count =
		tap_graph_path(model->graph, node, nodes, PATH_MAX_NODES, &label, &cut);

	if (!count)
		return block_name(model, node);
	if (!cut) {
		_cleanup_free_ char *root = root_name(model, label);

		/* sys.modules is where every name begins, and is not part of any. */
		if (model->roots.items[label].rank != HEAP_ROOT_MODULES)
			tap_text_add(&name, "%s", root);
	}
	for (size_t i = 0; i < count; i++) {
		if (own_name(model, nodes[i], own, sizeof(own))) {
			tap_text_deinit(&name);
			tap_text_add(&name, "%s", own);
			from = i;
		} else if (i) {
			if (!is_closure(model, nodes, i, count) &&
				step_name(model, nodes[from], nodes[i], &name))
				from = i;
		}
		if (name.data)
			add_step(model, name.data, nodes[i], path);
	}
	ret = name.data ? tap_strings_add(model->strings, name.data) : block_name(model, node);
	tap_text_deinit(&name);
	return ret;
}
