/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects that are fields with names: modules, types, functions, code objects,
 * exceptions and the like. What is not in the tables is borrowed, or weak.
 */

#include "python/heap_edges.h"

struct field {
	enum tap_python_kind kind;
	size_t member; /* of the layout: the offset in the object */
	enum tap_python_edge_how how;
	const char *text;
};

#define AT(member) offsetof(struct tap_python_layout, member)
#define FIELD(kind, member, text) {TAP_PYTHON_##kind, AT(member), TAP_PYTHON_EDGE_FIELD, text}
#define PART(kind, member) {TAP_PYTHON_##kind, AT(member), TAP_PYTHON_EDGE_PART, NULL}
#define PLAIN(kind, member) {TAP_PYTHON_##kind, AT(member), TAP_PYTHON_EDGE_PLAIN, NULL}
#define NAMESPACE(kind, member) {TAP_PYTHON_##kind, AT(member), TAP_PYTHON_EDGE_NAMESPACE, NULL}

static const struct field fields[] = {
	NAMESPACE(MODULE, module.dict),
	PLAIN(MODULE, module.name),
	PART(MODULE, module.state),

	NAMESPACE(TYPE, type.dict),
	FIELD(TYPE, type.base, ".__base__"),
	FIELD(TYPE, type.bases, ".__bases__"),
	FIELD(TYPE, type.mro, ".__mro__"),
	PLAIN(TYPE, type.cache),

	FIELD(FUNCTION, function.code, ".__code__"),
	FIELD(FUNCTION, function.globals, ".__globals__"),
	FIELD(FUNCTION, function.builtins, ".__builtins__"),
	FIELD(FUNCTION, function.defaults, ".__defaults__"),
	FIELD(FUNCTION, function.kwdefaults, ".__kwdefaults__"),
	FIELD(FUNCTION, function.closure, ".__closure__"),
	FIELD(FUNCTION, function.doc, ".__doc__"),
	FIELD(FUNCTION, function.name, ".__name__"),
	FIELD(FUNCTION, function.qualname, ".__qualname__"),
	NAMESPACE(FUNCTION, function.dict),
	FIELD(FUNCTION, function.module, ".__module__"),
	FIELD(FUNCTION, function.annotations, ".__annotations__"),
	FIELD(FUNCTION, function.annotate, ".__annotate__"),
	FIELD(FUNCTION, function.typeparams, ".__type_params__"),

	FIELD(METHOD, method.function, ".__func__"),
	FIELD(METHOD, method.self, ".__self__"),

	/* Whoever names the cell names what is in it. */
	FIELD(CELL, cell.value, ""),

	FIELD(CODE, code_values.consts, ".co_consts"),
	FIELD(CODE, code_values.names, ".co_names"),
	FIELD(CODE, code_values.varnames, ".co_varnames"),
	FIELD(CODE, code_values.freevars, ".co_freevars"),
	FIELD(CODE, code_values.cellvars, ".co_cellvars"),
	PLAIN(CODE, code_values.localsplusnames),
	PLAIN(CODE, code_values.localspluskinds),
	PLAIN(CODE, code_values.exceptiontable),
	FIELD(CODE, code.code, ".co_code"),
	FIELD(CODE, code.filename, ".co_filename"),
	FIELD(CODE, code.name, ".co_name"),
	FIELD(CODE, code.qualname, ".co_qualname"),
	PLAIN(CODE, code.linetable),
	PART(CODE, code_values.cell2arg),
	PART(CODE, code_values.opcache_map),
	PART(CODE, code_values.opcache),
	PLAIN(CODE, code_values.zombie_frame),

	FIELD(WEAKREF, weakref.callback, ".__callback__"),

	FIELD(TRACEBACK, traceback.frame, ".tb_frame"),
	FIELD(TRACEBACK, traceback.next, ".tb_next"),

	FIELD(EXCEPTION, exception.args, ".args"),
	FIELD(EXCEPTION, exception.traceback, ".__traceback__"),
	FIELD(EXCEPTION, exception.context, ".__context__"),
	FIELD(EXCEPTION, exception.cause, ".__cause__"),
	FIELD(EXCEPTION, exception.notes, ".__notes__"),
	NAMESPACE(EXCEPTION, exception.dict),
};

/* Of those alone that a class statement made, or a module did at run time. To
 * 3.11 subclasses are a dict for all of them, then a number for static ones. */
static const struct field heap_type_fields[] = {
	PLAIN(TYPE, type.subclasses),
	PART(TYPE, type.doc),
	FIELD(TYPE, heap_type.name, ".__name__"),
	FIELD(TYPE, heap_type.qualname, ".__qualname__"),
	FIELD(TYPE, heap_type.slots, ".__slots__"),
	FIELD(TYPE, heap_type.module, ".__module__"),
	PART(TYPE, heap_type.cached_keys),
	PART(TYPE, heap_type.type_name),
};

static int32_t offset_of(const struct tap_python_layout *layout, size_t member)
{
	return *(const int32_t *)((const char *)layout + member);
}

static void add_field(struct tap_python_edges *edges, const struct field *field)
{
	int32_t offset = offset_of(edges->heap->layout, field->member);

	tap_python_edges_give(edges,
		&(struct tap_python_edge){.addr = tap_python_edges_field(edges, offset),
			.how = field->how,
			.text = field->text});
}

static void of_heap_type(struct tap_python_edges *edges)
{
	uint64_t flags = tap_python_edges_field(edges, edges->heap->layout->type.flags);

	if (!(flags & TAP_PYTHON_HEAP_TYPE))
		return;
	for (size_t i = 0; i < TAP_PYTHON_COUNT(heap_type_fields); i++)
		add_field(edges, &heap_type_fields[i]);
}

/* From 3.11 on what is made for it while it runs lies between the list of weak
 * references, after the line table, and the instructions. */
static void made_for_code(struct tap_python_edges *edges)
{
	const struct tap_python_layout *layout = edges->heap->layout;
	uint64_t cached = tap_python_edges_field(edges, layout->code_values.cached);
	int32_t first = layout->code.linetable + 16;

	if (layout->minor < 11) {
		tap_python_edges_add(edges,
			tap_python_edges_field(edges, layout->code_values.extra),
			TAP_PYTHON_EDGE_PART);
		return;
	}
	tap_python_edges_array(edges, edges->addr + (uint64_t)first,
		(uint64_t)(layout->code.adaptive - first) / 8, TAP_PYTHON_EDGE_PART, 0, 0);
	if (cached && layout->minor >= 12)
		tap_python_edges_array(edges, cached, 4, TAP_PYTHON_EDGE_PLAIN, 0, 0);
}

bool tap_python_edges_of_record(struct tap_python_edges *edges)
{
	enum tap_python_kind kind = edges->type->shown.kind;
	bool known = false;

	for (size_t i = 0; i < TAP_PYTHON_COUNT(fields); i++) {
		if (fields[i].kind != kind)
			continue;
		add_field(edges, &fields[i]);
		known = true;
	}
	if (kind == TAP_PYTHON_TYPE)
		of_heap_type(edges);
	if (kind == TAP_PYTHON_CODE)
		made_for_code(edges);
	return known;
}
