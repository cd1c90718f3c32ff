/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The allocator tables of 3.8 to 3.11 without symbols. In initialised data,
 * close to each other, lie the three records that are in use and those of the
 * debug allocator: a group {'r', record, 'm', record, 'o', record} that gives
 * the place away. Which of the records is whose follows from the exported
 * functions that load them: PyMem_RawMalloc, PyMem_Malloc, PyObject_Malloc.
 */
#include "heaptap/base/cleanup.h"
#include "python/runtime.h"

#define RECORD_WORDS 5
#define GROUP_WORDS (3 * (1 + RECORD_WORDS))
#define NEAR_WORDS 64 /* on either side of the group */
#define MAX_RECORDS 8
#define MAX_FUNCTION 512

static bool is_function(struct tap_python *python, uint64_t addr)
{
	uint64_t start, end;

	return tap_symbols_module_at(python->symbols, addr) != NULL &&
	       tap_symbols_try_extent(python->symbols, addr, &start, &end) && start == addr;
}

static bool is_record(struct tap_python *python, const uint64_t *words)
{
	for (int i = 1; i < RECORD_WORDS; i++) {
		if (words[i] < 4096 || !is_function(python, words[i]))
			return false;
		for (int j = 1; j < i; j++) {
			if (words[i] == words[j])
				return false;
		}
	}
	/* In the middle of another record the context would be a function. */
	return words[0] == 0 || !is_function(python, words[0]);
}

static bool is_group(struct tap_python *python, const uint64_t *words)
{
	return words[0] == 'r' && words[6] == 'm' && words[12] == 'o' &&
	       is_record(python, words + 1) && is_record(python, words + 7) &&
	       is_record(python, words + 13);
}

struct records {
	uint64_t addrs[MAX_RECORDS];
	size_t count;
};

static void collect(struct tap_python *python, const uint64_t *words, size_t count, size_t group,
	uint64_t addr, struct records *ret)
{
	size_t from = group > NEAR_WORDS ? group - NEAR_WORDS : 0;
	size_t to = group + GROUP_WORDS + NEAR_WORDS;

	if (to > count - RECORD_WORDS)
		to = count - RECORD_WORDS;
	for (size_t i = from; i <= to && ret->count < MAX_RECORDS; i++) {
		if (i + RECORD_WORDS > group && i < group + GROUP_WORDS)
			continue;
		if (is_record(python, words + i))
			ret->addrs[ret->count++] = addr + i * sizeof(*words);
	}
}

static bool find_records(struct tap_python *python, struct records *ret)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	const uint64_t *words;
	size_t size_bytes, count;
	uint64_t addr;

	bytes = tap_python_copy_section(
		python->module, python->memory, ".data", &addr, &size_bytes);
	if (!bytes || addr % 8)
		return false;
	words = (const uint64_t *)(const void *)bytes;
	count = size_bytes / sizeof(*words);
	for (size_t i = 0; i + GROUP_WORDS <= count; i++) {
		if (!is_group(python, words + i))
			continue;
		collect(python, words, count, i, addr, ret);
		return ret->count >= TAP_PYTHON_DOMAINS;
	}
	return false;
}

/* The record whose context or malloc pointer the function loads, by any
 * RIP-relative displacement in it; 0 for none or more than one. Where pymalloc
 * is inlined, PyMem_Malloc and PyObject_Malloc fall back to the raw domain:
 * that one, already known, does not count. */
static uint64_t loaded_record(
	struct tap_python *python, const char *name, const struct records *records, uint64_t raw)
{
	uint8_t text[MAX_FUNCTION];
	struct tap_symbol symbol;
	uint64_t start, end, found = 0;
	size_t size_bytes = sizeof(text);

	if (!tap_module_try_export(python->module, name, &symbol))
		return 0;
	if (tap_symbols_try_extent(python->symbols, symbol.addr, &start, &end) &&
		end - symbol.addr < size_bytes)
		size_bytes = (size_t)(end - symbol.addr);
	size_bytes = tap_memory_read_some(python->memory, symbol.addr, text, size_bytes);
	for (size_t i = 0; i + 4 <= size_bytes; i++) {
		int32_t displacement;
		uint64_t target;

		memcpy(&displacement, text + i, sizeof(displacement));
		target = symbol.addr + i + 4 + (uint64_t)(int64_t)displacement;
		for (size_t j = 0; j < records->count; j++) {
			if (records->addrs[j] == raw ||
				(target != records->addrs[j] && target != records->addrs[j] + 8))
				continue;
			if (found && found != records->addrs[j])
				return 0;
			found = records->addrs[j];
		}
	}
	return found;
}

bool tap_python_tables_scan(struct tap_python *python, uint64_t addrs[TAP_PYTHON_DOMAINS])
{
	static const char *const functions[TAP_PYTHON_DOMAINS] = {
		[TAP_PYTHON_RAW] = "PyMem_RawMalloc",
		[TAP_PYTHON_MEM] = "PyMem_Malloc",
		[TAP_PYTHON_OBJ] = "PyObject_Malloc",
	};
	struct records records = {.count = 0};

	if (!find_records(python, &records))
		return false;
	/* TAP_PYTHON_RAW is the first. */
	for (int i = 0; i < TAP_PYTHON_DOMAINS; i++) {
		addrs[i] = loaded_record(
			python, functions[i], &records, i ? addrs[TAP_PYTHON_RAW] : 0);
		if (!addrs[i])
			return false;
		for (int j = 0; j < i; j++) {
			if (addrs[i] == addrs[j])
				return false;
		}
	}
	return true;
}
