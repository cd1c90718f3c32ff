/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which text is the evaluation function. Its hot part has an exported name
 * everywhere; parts that the compiler or a post-link optimiser split off have
 * a name only where there are symbols. Without one they are known by jumps in
 * both directions: nothing else jumps into the middle of a function.
 */
#include <stdlib.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "python/runtime.h"

#define EVAL_NAME "_PyEval_EvalFrameDefault"
#define MAX_TEXT (4 << 20)
/* Bytes that only look like a jump are rare, two such pairs do not happen. */
#define MIN_JUMPS 2

static bool covers(const struct tap_python_range *range, uint64_t addr)
{
	return addr >= range->start && addr < range->end;
}

bool tap_python_is_eval(struct tap_python *python, uint64_t pc)
{
	for (size_t i = 0; i < python->eval_count; i++) {
		if (covers(&python->eval[i], pc))
			return true;
	}
	return false;
}

static void add_range(struct tap_python *python, uint64_t start, uint64_t end)
{
	if (start < end && python->eval_count < TAP_PYTHON_EVAL_RANGES)
		python->eval[python->eval_count++] = (struct tap_python_range){start, end};
}

/* A named part: as far as its FDE reaches, else its symbol. */
static void add_part(struct tap_python *python, const struct tap_symbol *symbol)
{
	uint64_t start, end;

	if (tap_python_is_eval(python, symbol->addr))
		return;
	if (tap_symbols_try_extent(python->symbols, symbol->addr, &start, &end))
		add_range(python, start, end);
	else
		add_range(python, symbol->addr, symbol->addr + symbol->size_bytes);
}

/* _PyEval_EvalFrameDefault.cold, .cold.0, .part.1 */
static bool add_split_part(void *context, const struct tap_symbol *symbol)
{
	if (strncmp(symbol->name, EVAL_NAME ".", strlen(EVAL_NAME ".")) == 0)
		add_part(context, symbol);
	return true;
}

struct text {
	struct tap_python_range range;
	uint8_t *bytes;
	size_t size_bytes;
};

static bool text_read(struct tap_python *python, struct tap_python_range range, struct text *ret)
{
	ret->range = range;
	ret->size_bytes = (size_t)(range.end - range.start);
	if (!ret->size_bytes || ret->size_bytes > MAX_TEXT)
		return false;
	ret->bytes = tap_alloc(ret->size_bytes);
	if (tap_memory_try_read(python->memory, range.start, ret->bytes, ret->size_bytes))
		return true;
	free(ret->bytes);
	return false;
}

/* The target of a jmp rel32 (E9) or jcc rel32 (0F 80 to 0F 8F) at byte *i or
 * behind; *i is moved past its opcode. False at the end. */
static bool next_jump(const struct text *text, size_t *i, uint64_t *target_ret)
{
	for (; *i + 6 <= text->size_bytes; ++*i) {
		const uint8_t *p = text->bytes + *i;
		size_t opcode = p[0] == 0xE9 ? 1 : p[0] == 0x0F && (p[1] & 0xF0) == 0x80 ? 2 : 0;
		int32_t displacement;

		if (!opcode)
			continue;
		memcpy(&displacement, p + opcode, sizeof(displacement));
		*target_ret = text->range.start + *i + opcode + 4 + (uint64_t)(int64_t)displacement;
		++*i;
		return true;
	}
	return false;
}

/* Jumps from text into range, its first instruction not counted. */
static unsigned count_jumps(const struct text *text, const struct tap_python_range *range)
{
	unsigned count = 0;
	uint64_t target;

	for (size_t i = 0; next_jump(text, &i, &target);)
		count += covers(range, target) && target != range->start;
	return count;
}

static bool jumps_back(struct tap_python *python, struct tap_python_range part,
	const struct tap_python_range *known)
{
	struct text text;
	bool yes;

	if (!text_read(python, part, &text))
		return false;
	yes = count_jumps(&text, known) >= MIN_JUMPS;
	free(text.bytes);
	return yes;
}

/* Parts that this one jumps into and that jump back into it. */
static void add_unnamed_parts(struct tap_python *python, const struct text *known)
{
	uint64_t target;

	for (size_t i = 0; next_jump(known, &i, &target);) {
		struct tap_python_range part;

		if (target < python->module->start || target >= python->module->end ||
			tap_python_is_eval(python, target) ||
			!tap_symbols_try_extent(python->symbols, target, &part.start, &part.end) ||
			target == part.start)
			continue;
		if (count_jumps(known, &part) >= MIN_JUMPS &&
			jumps_back(python, part, &known->range))
			add_range(python, part.start, part.end);
	}
}

void tap_python_eval_find(struct tap_python *python)
{
	struct tap_symbol symbol;

	if (!tap_module_try_symbol(python->module, EVAL_NAME, &symbol))
		return;
	add_part(python, &symbol);
	tap_module_each_symbol(python->module, add_split_part, python);
	/* A part may lead to others; each is looked through once. */
	for (size_t i = 0; i < python->eval_count; i++) {
		struct text text;

		if (!text_read(python, python->eval[i], &text))
			continue;
		add_unnamed_parts(python, &text);
		free(text.bytes);
	}
}
