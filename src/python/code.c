/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Code objects. What a key has to be resolved with later is copied when a
 * code object is first seen, and numbered by content: the same function
 * compiled twice has one number. A second map goes from addresses to numbers,
 * with a stamp of the object that was there, so that an address that is used
 * again is noticed; where somebody sees every free, by that, and what is there
 * is not read again.
 */
#include <stdlib.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/map.h"
#include "heaptap/base/vector.h"
#include "python/runtime.h"

#define MAX_NAME 4096
#define MAX_TABLE (1 << 20)
#define MAX_KEPT_BYTES (64 << 20)
#define MAX_CODES (1 << 20)
#define MAX_STAMPS (1 << 18)
#define STAMP_PREFIX 64

/* What is kept of one function. */
struct code {
	char *function;
	char *file;
	uint8_t *lines;
	uint32_t lines_size;
	int firstlineno;
};

/* What a code object at an address looked like, and its number. */
struct stamp {
	uint64_t filename, name, qualname, linetable;
	uint64_t table_size, table_hash;
	uint32_t firstlineno;
	uint32_t number;
	bool is_function;
	uint64_t watch; /* that it is the same still; 0: none */
};

struct tap_python_codes {
	TAP_VECTOR(struct code) codes; /* by number; number 0 is whatever came too late */
	TAP_VECTOR(struct stamp) stamps;
	struct tap_map by_addr;    /* address -> index in stamps */
	struct tap_map by_content; /* hash -> number */
	size_t kept_bytes;
	struct tap_python_watch watch; /* begin: NULL where there is none */
};

struct tap_python_codes *tap_python_codes_create(void)
{
	struct tap_python_codes *codes = tap_alloc(sizeof(*codes));

	tap_vector_add(&codes->codes);
	return codes;
}

static void code_deinit(struct code *code)
{
	free(code->function);
	free(code->file);
	free(code->lines);
}

void tap_python_codes_destroy(struct tap_python_codes *codes)
{
	if (!codes)
		return;
	for (size_t i = 0; i < codes->codes.count; i++)
		code_deinit(&codes->codes.items[i]);
	tap_vector_free(&codes->codes);
	tap_vector_free(&codes->stamps);
	tap_map_deinit(&codes->by_addr);
	tap_map_deinit(&codes->by_content);
	free(codes);
}

/* All code objects have one type; the first is known by its name. */
static bool has_code_type(struct tap_python *python, uint64_t type)
{
	uint64_t name_addr;
	char name[8];

	if (!type)
		return false;
	if (python->code_type)
		return type == python->code_type;
	if (!tap_python_try_field(python, type, python->layout.type.name, &name_addr) ||
		!tap_memory_try_string(python->memory, name_addr, name, sizeof(name)) ||
		strcmp(name, "code") != 0)
		return false;
	python->code_type = type;
	return true;
}

/* False where the line table is no bytes object of a possible size. */
static bool take_stamp(struct tap_python *python, const uint8_t *copy, struct stamp *stamp)
{
	const struct tap_python_layout *layout = &python->layout;
	uint8_t head[TAP_PYTHON_STRUCT] = {0};
	size_t want = (size_t)layout->bytes.data + STAMP_PREFIX, got, prefix;

	memset(stamp, 0, sizeof(*stamp));
	stamp->filename = tap_python_u64(copy, layout->code.filename);
	stamp->name = tap_python_u64(copy, layout->code.name);
	stamp->qualname = tap_python_u64(copy, layout->code.qualname);
	stamp->linetable = tap_python_u64(copy, layout->code.linetable);
	stamp->firstlineno = tap_python_u32(copy, layout->code.firstlineno);
	if (want > sizeof(head))
		want = sizeof(head);
	got = tap_memory_read_some(python->memory, stamp->linetable, head, want);
	if (got < (size_t)layout->bytes.data)
		return false;
	stamp->table_size = tap_python_u64(head, layout->bytes.length);
	if (stamp->table_size > MAX_TABLE)
		return false;
	prefix = got - (size_t)layout->bytes.data;
	if (prefix > stamp->table_size)
		prefix = (size_t)stamp->table_size;
	stamp->table_hash = tap_hash_bytes(head + layout->bytes.data, prefix, 0);
	return true;
}

static bool same_object(const struct stamp *a, const struct stamp *b)
{
	return a->filename == b->filename && a->name == b->name && a->qualname == b->qualname &&
	       a->linetable == b->linetable && a->table_size == b->table_size &&
	       a->table_hash == b->table_hash && a->firstlineno == b->firstlineno;
}

static bool read_code(struct tap_python *python, const struct stamp *stamp, struct code *code)
{
	_cleanup_free_ char *text = tap_alloc(MAX_NAME);

	code->firstlineno = (int)stamp->firstlineno;
	code->lines_size = (uint32_t)stamp->table_size;
	code->lines = tap_alloc(code->lines_size + 1);
	if (!tap_memory_try_read(python->memory,
		    stamp->linetable + (uint64_t)python->layout.bytes.data, code->lines,
		    code->lines_size))
		return false;
	if (!tap_python_unicode(python, stamp->qualname, text, MAX_NAME) &&
		!tap_python_unicode(python, stamp->name, text, MAX_NAME))
		return false;
	code->function = tap_strdup(text);
	if (!tap_python_unicode(python, stamp->filename, text, MAX_NAME))
		return false;
	code->file = tap_strdup(text);
	return true;
}

static uint64_t content_hash(const struct code *code)
{
	uint64_t hash = tap_hash_bytes(code->function, strlen(code->function), 1);

	hash = tap_hash_bytes(code->file, strlen(code->file), hash);
	hash = tap_hash_bytes(&code->firstlineno, sizeof(code->firstlineno), hash);
	return tap_hash_bytes(code->lines, code->lines_size, hash);
}

static bool same_content(const struct code *a, const struct code *b)
{
	return a->firstlineno == b->firstlineno && a->lines_size == b->lines_size &&
	       memcmp(a->lines, b->lines, a->lines_size) == 0 &&
	       strcmp(a->function, b->function) == 0 && strcmp(a->file, b->file) == 0;
}

/* Takes over code. The number of an equal one where there is one. */
static uint32_t number_of(struct tap_python_codes *codes, struct code *code)
{
	size_t size_bytes =
		strlen(code->function) + strlen(code->file) + code->lines_size + sizeof(*code);
	uint64_t hash = content_hash(code);
	uint64_t *number;

	/* Two contents of one hash: the second takes the next free hash. */
	while ((number = tap_map_find(&codes->by_content, hash)) != NULL) {
		if (same_content(&codes->codes.items[*number], code)) {
			code_deinit(code);
			return (uint32_t)*number;
		}
		hash++;
	}
	if (codes->codes.count >= MAX_CODES || codes->kept_bytes + size_bytes > MAX_KEPT_BYTES) {
		code_deinit(code);
		return 0;
	}
	codes->kept_bytes += size_bytes;
	*tap_map_put(&codes->by_content, hash, NULL) = codes->codes.count;
	tap_vector_push(&codes->codes, *code);
	return (uint32_t)(codes->codes.count - 1);
}

/* Code that calls __init__ for a class (3.12 on) is no function: no
 * instruction of it can be traced. */
static bool is_function(const struct tap_python *python, const uint8_t *code)
{
	const struct tap_python_layout *layout = &python->layout;

	return layout->code.firsttraceable < 0 ||
	       (int32_t)tap_python_u32(code, layout->code.firsttraceable) <
		       (int64_t)tap_python_u64(code, layout->code.instructions);
}

static void remember(struct tap_python_codes *codes, uint64_t addr, const struct stamp *stamp)
{
	uint64_t *index;
	bool added;

	if (codes->stamps.count >= MAX_STAMPS) {
		tap_map_clear(&codes->by_addr);
		codes->stamps.count = 0;
	}
	index = tap_map_put(&codes->by_addr, addr, &added);
	if (added) {
		*index = codes->stamps.count;
		tap_vector_push(&codes->stamps, *stamp);
	} else {
		codes->stamps.items[*index] = *stamp;
	}
}

void tap_python_watch(struct tap_python *python, const struct tap_python_watch *watch)
{
	struct tap_python_codes *codes = python->codes;

	codes->watch = watch ? *watch : (struct tap_python_watch){0};
	for (size_t i = 0; i < codes->stamps.count; i++)
		codes->stamps.items[i].watch = 0;
}

static bool is_watched(const struct tap_python_codes *codes, const struct stamp *stamp)
{
	return stamp->watch && codes->watch.holds(codes->watch.context, stamp->watch);
}

/* What is there now, and the stamp of what was there before. */
static bool number_at(
	struct tap_python *python, uint64_t addr, struct stamp *known, struct tap_python_code *ret)
{
	struct tap_python_codes *codes = python->codes;
	uint8_t copy[TAP_PYTHON_STRUCT];
	struct code code = {0};
	struct stamp stamp;
	uint64_t watch = 0;

	/* First: what is read afterwards is what is watched. */
	if (codes->watch.begin)
		watch = codes->watch.begin(codes->watch.context, addr);
	if (!tap_memory_try_read(python->memory, addr, copy, python->code_bytes) ||
		!has_code_type(python, tap_python_u64(copy, python->layout.object.type)) ||
		!take_stamp(python, copy, &stamp))
		return false;
	stamp.is_function = is_function(python, copy);
	stamp.watch = watch;
	if (known && same_object(known, &stamp)) {
		stamp.number = known->number;
		*known = stamp;
	} else if (read_code(python, &stamp, &code)) {
		stamp.number = number_of(codes, &code);
		remember(codes, addr, &stamp);
	} else {
		code_deinit(&code);
		return false;
	}
	*ret = (struct tap_python_code){stamp.number, stamp.is_function};
	return true;
}

bool tap_python_code_at(struct tap_python *python, uint64_t addr, struct tap_python_code *ret)
{
	struct tap_python_codes *codes = python->codes;
	const uint64_t *index = tap_map_find(&codes->by_addr, addr);
	struct stamp *known = index ? &codes->stamps.items[*index] : NULL;

	if (!addr)
		return false;
	if (!known || !is_watched(codes, known))
		return number_at(python, addr, known, ret);
	*ret = (struct tap_python_code){known->number, known->is_function};
	return true;
}

void tap_python_resolve(
	struct tap_python *python, uint64_t key, struct tap_strings *strings, struct tap_frame *ret)
{
	uint64_t number = (key & ~TAP_PYTHON_KEY) >> TAP_PYTHON_UNIT_BITS;
	uint32_t unit = key & TAP_PYTHON_UNIT_NONE;
	const struct code *code;

	memset(ret, 0, sizeof(*ret));
	ret->language = TAP_LANGUAGE_PYTHON;
	ret->trust = TAP_FRAME_EXACT;
	if (!number || number >= python->codes->codes.count)
		return;
	code = &python->codes->codes.items[number];
	ret->function = tap_strings_add(strings, code->function);
	ret->file = tap_strings_add(strings, code->file);
	ret->line = tap_python_line(python->layout.lines, code->lines, code->lines_size,
		code->firstlineno, unit == TAP_PYTHON_UNIT_NONE ? -1 : (int64_t)unit * 2);
}
