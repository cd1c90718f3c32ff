/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames at an address, from DWARF where there is some: the function whose
 * code it is and whatever was inlined there, with lines. What was resolved is
 * kept, as the same addresses come back in stack after stack.
 */
#include <dwarf.h>
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/text.h"
#include "demangle.h"
#include "units.h"

/* An inlined chain deeper than this is cut at its outer end. */
#define CHAIN_MAX 64
#define DEPTH_MAX 128
#define DIES_MAX 2000000
#define KEPT_MAX 65536

/* Codes of DWARF 6 (dwarfstd.org, language names) that compilers write
 * already and elfutils 0.188 does not name. */
#define LANG_CXX17 0x2a
#define LANG_CXX20 0x2b
#define LANG_C17 0x2c

struct kept {
	struct kept *next; /* of another module or kind with the same key */
	const struct tap_module *module;
	bool is_call;
	size_t count;
	struct tap_frame frames[];
};

struct tap_lines {
	struct tap_strings *strings;
	struct tap_map by_pc; /* of struct kept * */
};

/* Innermost last. */
struct chain {
	Dwarf_Die dies[CHAIN_MAX];
	size_t count;
	unsigned long visited;
};

static bool can_hold_functions(int tag)
{
	switch (tag) {
	case DW_TAG_namespace:
	case DW_TAG_module:
	case DW_TAG_class_type:
	case DW_TAG_structure_type:
	case DW_TAG_union_type:
	case DW_TAG_enumeration_type: /* Rust */
		return true;
	default:
		return false;
	}
}

static bool is_code(int tag)
{
	return tag == DW_TAG_subprogram || tag == DW_TAG_inlined_subroutine ||
		tag == DW_TAG_lexical_block || tag == DW_TAG_try_block ||
		tag == DW_TAG_catch_block;
}

static bool find_chain(Dwarf_Die *parent, uint64_t vaddr, struct chain *chain, int depth);

/* Does die, or something inside of it, hold vaddr? Its functions are then in
 * the chain. */
static bool enter(Dwarf_Die *die, uint64_t vaddr, struct chain *chain, int depth)
{
	int tag = dwarf_tag(die);
	bool is_function = tag == DW_TAG_subprogram || tag == DW_TAG_inlined_subroutine;

	if (can_hold_functions(tag))
		return find_chain(die, vaddr, chain, depth + 1);
	if (!is_code(tag))
		return false;
	if (dwarf_haspc(die, vaddr) <= 0) {
		/* A block need not say where it is, and what is inlined in it does;
		 * a function nests others (GNU C, Rust closures). */
		if (tag == DW_TAG_inlined_subroutine || dwarf_hasattr(die, DW_AT_inline))
			return false;
		return find_chain(die, vaddr, chain, depth + 1);
	}
	if (is_function && chain->count < CHAIN_MAX)
		chain->dies[chain->count++] = *die;
	find_chain(die, vaddr, chain, depth + 1);
	return true;
}

static bool find_chain(Dwarf_Die *parent, uint64_t vaddr, struct chain *chain, int depth)
{
	Dwarf_Die die, next;

	if (depth > DEPTH_MAX || dwarf_child(parent, &die))
		return false;
	for (;;) {
		if (++chain->visited > DIES_MAX)
			return false;
		if (enter(&die, vaddr, chain, depth))
			return true;
		/* A sibling that lies before its elder would be a circle. */
		if (dwarf_siblingof(&die, &next) || next.addr <= die.addr)
			return false;
		die = next;
	}
}

static const char *text_of(Dwarf_Die *die, unsigned name)
{
	Dwarf_Attribute attribute;

	return dwarf_attr_integrate(die, name, &attribute) ? dwarf_formstring(&attribute) : NULL;
}

static const char *add_demangled(struct tap_strings *strings, const char *raw)
{
	char *text = tap_demangle(raw);
	const char *kept = tap_strings_add(strings, text ? text : raw);

	free(text);
	return kept;
}

/* The DIE whose place among namespaces and classes is meant: the declaration
 * that a definition or an inlined copy refers to. */
static Dwarf_Die declaration_of(Dwarf_Die die)
{
	Dwarf_Attribute attribute;
	Dwarf_Die next;

	for (int i = 0; i < 4; i++) {
		if (!dwarf_formref_die(
			    dwarf_attr(&die, DW_AT_abstract_origin, &attribute), &next) &&
			!dwarf_formref_die(
				dwarf_attr(&die, DW_AT_specification, &attribute), &next))
			break;
		die = next;
	}
	return die;
}

static const char *scope_name(Dwarf_Die *scope, const char *function)
{
	const char *name = dwarf_diename(scope);

	if (name)
		return name;
	if (dwarf_tag(scope) == DW_TAG_namespace)
		return "(anonymous namespace)";
	return strcmp(function, "operator()") ? "(anonymous class)" : "{lambda}";
}

/* "ns::Class::name" where the compiler gives no linkage name: functions of
 * one file, and lambdas. */
static const char *qualified(struct tap_strings *strings, Dwarf_Die *die, const char *name)
{
	Dwarf_Die declaration = declaration_of(*die), *scopes = NULL;
	int count = dwarf_getscopes_die(&declaration, &scopes);
	struct tap_text text = {0};
	const char *kept;

	for (int i = count - 1; i > 0; i--)
		if (can_hold_functions(dwarf_tag(&scopes[i])) ||
			dwarf_tag(&scopes[i]) == DW_TAG_subprogram)
			tap_text_add(&text, "%s::", scope_name(&scopes[i], name));
	tap_text_add(&text, "%s", name);
	kept = tap_strings_add(strings, text.data);
	tap_text_deinit(&text);
	free(scopes);
	return kept;
}

static const char *function_name(
	struct tap_strings *strings, Dwarf_Die *die, enum tap_language language)
{
	const char *linkage = text_of(die, DW_AT_linkage_name);
	const char *name = text_of(die, DW_AT_name);

	if (!linkage)
		linkage = text_of(die, DW_AT_MIPS_linkage_name);
	if (linkage)
		return add_demangled(strings, linkage);
	if (name && (language == TAP_LANGUAGE_CXX || language == TAP_LANGUAGE_RUST))
		return qualified(strings, die, name);
	return tap_strings_add(strings, name);
}

static enum tap_language language_of(Dwarf_Die *unit)
{
	switch (dwarf_srclang(unit)) {
	case DW_LANG_C89:
	case DW_LANG_C:
	case DW_LANG_C99:
	case DW_LANG_C11:
		return TAP_LANGUAGE_C;
	case DW_LANG_C_plus_plus:
	case DW_LANG_C_plus_plus_03:
	case DW_LANG_C_plus_plus_11:
	case DW_LANG_C_plus_plus_14:
		return TAP_LANGUAGE_CXX;
	case DW_LANG_Rust:
		return TAP_LANGUAGE_RUST;
	case LANG_C17:
		return TAP_LANGUAGE_C;
	case LANG_CXX17:
	case LANG_CXX20:
		return TAP_LANGUAGE_CXX;
	default:
		return TAP_LANGUAGE_UNKNOWN;
	}
}

static void set_line(struct tap_strings *strings, Dwarf_Die *unit, uint64_t vaddr,
	struct tap_frame *frame)
{
	Dwarf_Line *line = dwarf_getsrc_die(unit, vaddr);
	int number;

	if (!line)
		return;
	frame->file = tap_strings_add(strings, dwarf_linesrc(line, NULL, NULL));
	if (!dwarf_lineno(line, &number) && number > 0)
		frame->line = number;
}

/* Where an inlined function was called: the line of the frame around it. */
static void set_call_site(struct tap_strings *strings, Dwarf_Die *unit, Dwarf_Die *inlined,
	struct tap_frame *frame)
{
	Dwarf_Attribute attribute;
	Dwarf_Files *files;
	Dwarf_Word value;
	size_t count;

	if (!dwarf_formudata(dwarf_attr(inlined, DW_AT_call_line, &attribute), &value) &&
		value <= INT32_MAX)
		frame->line = (int)value;
	if (!dwarf_formudata(dwarf_attr(inlined, DW_AT_call_file, &attribute), &value) &&
		!dwarf_getsrcfiles(unit, &files, &count) && value < count)
		frame->file =
			tap_strings_add(strings, dwarf_filesrc(files, (size_t)value, NULL, NULL));
}

static size_t from_dwarf(struct tap_object *object, uint64_t vaddr, struct tap_strings *strings,
	struct tap_frame *frames)
{
	struct tap_image *image = tap_object_dwarf_image(object);
	struct chain chain = {.count = 0};
	struct tap_unit *unit;
	size_t count = 0;

	if (!image)
		return 0;
	vaddr -= image == object->debug ? object->debug_delta : 0;
	unit = tap_object_unit_at(object, tap_image_dwarf(image), vaddr);
	if (!unit)
		return 0;
	find_chain(&unit->scope, vaddr, &chain, 0);
	set_line(strings, &unit->die, vaddr, &frames[0]);
	frames[0].language = language_of(&unit->scope);
	for (size_t i = chain.count; i-- > 0; count++) {
		Dwarf_Die *die = &chain.dies[i];

		frames[count].function = function_name(strings, die, frames[0].language);
		frames[count].language = frames[0].language;
		frames[count].inlined = i > 0;
		if (i > 0)
			set_call_site(strings, &unit->die, die, &frames[count + 1]);
	}
	return count ? count : 1;
}

static enum tap_language language_of_name(const char *raw)
{
	if (tap_demangle_is_rust(raw))
		return TAP_LANGUAGE_RUST;
	return strncmp(raw, "_Z", 2) ? TAP_LANGUAGE_UNKNOWN : TAP_LANGUAGE_CXX;
}

static void name_by_symbol(struct tap_object *object, uint64_t vaddr,
	struct tap_strings *strings, struct tap_frame *frame)
{
	const struct tap_name *name = tap_object_name_at(object, vaddr);

	if (!name)
		return;
	frame->function = add_demangled(strings, name->text);
	if (frame->language == TAP_LANGUAGE_UNKNOWN)
		frame->language = language_of_name(name->text);
}

static size_t resolve(const struct tap_module *module, uint64_t pc, bool is_call,
	struct tap_strings *strings, struct tap_frame *frames)
{
	struct tap_object *object = tap_loaded_of(module)->object;
	uint64_t vaddr = pc - module->bias - is_call;
	size_t count = from_dwarf(object, vaddr, strings, frames);

	if (!count)
		count = 1;
	if (!frames[count - 1].function)
		name_by_symbol(object, vaddr, strings, &frames[count - 1]);
	for (size_t i = 0; i < count; i++) {
		frames[i].module = tap_strings_add(strings, module->path);
		frames[i].pc = pc;
		frames[i].offset = pc - module->bias;
	}
	return count;
}

static void forget_all(struct tap_lines *lines)
{
	struct tap_map_slot *slot;

	for (size_t i = 0; tap_map_next(&lines->by_pc, &i, &slot);) {
		for (struct kept *kept = (struct kept *)slot->value, *next; kept; kept = next) {
			next = kept->next;
			free(kept);
		}
	}
	tap_map_clear(&lines->by_pc);
	tap_strings_destroy(lines->strings);
	lines->strings = tap_strings_create();
}

static const struct kept *keep(
	struct tap_symbols *symbols, const struct tap_module *module, uint64_t pc, bool is_call)
{
	struct tap_lines *lines = symbols->lines;
	struct tap_frame frames[CHAIN_MAX + 1];
	struct kept *kept;
	uint64_t *head;
	size_t count;

	if (lines->by_pc.count >= KEPT_MAX)
		forget_all(lines);
	head = tap_map_put(&lines->by_pc, pc, NULL);
	for (kept = (struct kept *)*head; kept; kept = kept->next)
		if (kept->module == module && kept->is_call == is_call)
			return kept;
	memset(frames, 0, sizeof(frames));
	count = resolve(module, pc, is_call, lines->strings, frames);
	kept = tap_alloc(sizeof(*kept) + count * sizeof(frames[0]));
	kept->module = module;
	kept->is_call = is_call;
	kept->count = count;
	memcpy(kept->frames, frames, count * sizeof(frames[0]));
	kept->next = (struct kept *)*head;
	*head = (uint64_t)kept;
	return kept;
}

size_t tap_symbols_resolve(struct tap_symbols *symbols, uint64_t pc, bool is_call,
	struct tap_strings *strings, struct tap_frame *frames, size_t capacity)
{
	const struct tap_module *module = tap_symbols_module_at(symbols, pc - is_call);
	const struct kept *kept;
	size_t count;

	if (!capacity)
		return 0;
	memset(frames, 0, sizeof(frames[0]));
	frames[0].pc = pc;
	if (!module)
		return 1;
	if (!symbols->lines) {
		symbols->lines = tap_alloc(sizeof(*symbols->lines));
		symbols->lines->strings = tap_strings_create();
	}
	kept = keep(symbols, module, pc, is_call);
	count = kept->count < capacity ? kept->count : capacity;
	for (size_t i = 0; i < count; i++) {
		frames[i] = kept->frames[i];
		frames[i].function = tap_strings_add(strings, frames[i].function);
		frames[i].file = tap_strings_add(strings, frames[i].file);
		frames[i].module = tap_strings_add(strings, frames[i].module);
	}
	return count;
}

void tap_lines_destroy(struct tap_lines *lines)
{
	if (!lines)
		return;
	forget_all(lines);
	tap_strings_destroy(lines->strings);
	tap_map_deinit(&lines->by_pc);
	free(lines);
}
