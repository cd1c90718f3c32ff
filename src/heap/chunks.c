/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chunks lie end to end: the size in each header leads to the next, whose
 * lowest bit says whether the one before is in use. A region ends with its
 * arena's top chunk or with marks, chunks too small to be one, where a heap
 * was left behind (sysmalloc() of malloc/malloc.c).
 */
#include "internal.h"

#define CHAIN 16

struct chain {
	struct tap_heap_walker *walker;
	const struct tap_region *region;
	uint64_t top;
	uint64_t at;
	uint64_t word; /* of the header at `at` */
	const char *reason;
};

enum step {
	STEP_CHUNK,
	STEP_TOP,
	STEP_MARK,
	STEP_TROUBLE,
};

static bool read_header(
	struct chain *chain, uint64_t addr, uint64_t *before_ret, uint64_t *word_ret)
{
	const uint8_t *header = tap_window_at(&chain->walker->window, addr, TAP_CHUNK_HEADER);

	if (!header)
		return false;
	*before_ret = tap_heap_u64(header);
	*word_ret = tap_heap_u64(header + 8);
	return true;
}

static inline uint64_t size_of(uint64_t word)
{
	return word & ~(uint64_t)TAP_CHUNK_FLAGS;
}

static bool is_plausible(const struct chain *chain, uint64_t at, uint64_t word)
{
	uint64_t end = chain->region->range.end;
	uint64_t size = size_of(word);

	/* A header has to fit behind it. */
	return size >= TAP_CHUNK_MIN && !(size & 15) && !(word & TAP_CHUNK_MAPPED) &&
	       at + TAP_CHUNK_HEADER < end && size <= end - at - TAP_CHUNK_HEADER &&
	       !(chain->region->main && (word & TAP_CHUNK_NOT_MAIN));
}

static bool is_mark(const struct chain *chain, uint64_t word)
{
	uint64_t size = size_of(word);

	return size == 16 || (!size && !chain->region->main);
}

static enum step look(struct chain *chain)
{
	if (chain->at == chain->top)
		return STEP_TOP;
	if (is_mark(chain, chain->word))
		return STEP_MARK;
	if (is_plausible(chain, chain->at, chain->word))
		return STEP_CHUNK;
	chain->reason = "a chunk's size cannot be right";
	return STEP_TROUBLE;
}

static void read_top(struct chain *chain)
{
	chain->top = 0;
	tap_arena_try_word(chain->walker->glibc, chain->region->arena, TAP_ARENA_TOP, &chain->top);
}

/* Looks at the chunk again, in a process that may have moved on: it may be
 * another by now, or the top. */
static enum step look_again(struct chain *chain)
{
	uint64_t before;

	tap_window_forget(&chain->walker->window);
	read_top(chain);
	if (read_header(chain, chain->at, &before, &chain->word))
		return look(chain);
	chain->reason = "a chunk's header is not mapped";
	return STEP_TROUBLE;
}

/* The marks that end a stretch, as one; returns the address behind them. */
static uint64_t pass_marks(struct chain *chain, tap_chunk_fn fn)
{
	uint64_t start = chain->at, before;

	if (!chain->region->main) {
		chain->at = chain->region->range.end;
	} else {
		for (int i = 0; i < 3 && size_of(chain->word) == 16; i++) {
			chain->at += 16;
			if (!read_header(chain, chain->at, &before, &chain->word))
				break;
		}
	}
	if (fn)
		fn(chain->walker, chain->region, start, chain->at - start, TAP_CHUNK_OVERHEAD);
	return chain->at;
}

static void pass_top(struct chain *chain, tap_chunk_fn fn, bool noisy)
{
	uint64_t size = size_of(chain->word), room = chain->region->range.end - chain->at;

	if (size > room || (!chain->region->main && size != room)) {
		if (noisy)
			chain->walker->stats->inconsistencies++;
		size = size < room ? size : room;
	}
	fn(chain->walker, chain->region, chain->at, size, TAP_CHUNK_TOP);
	chain->at += size;
}

/* In a heap that was left with hardly anything free the mark is a chunk of
 * its own, which only what follows gives away. */
static bool is_last_mark(const struct chain *chain, uint64_t size, uint64_t next_word)
{
	return !chain->region->main && size <= TAP_CHUNK_MIN && !size_of(next_word);
}

/* Walks one stretch, to chain->at; returns where the next may begin, 0 where
 * there is none. */
static uint64_t walk_stretch(struct chain *chain, tap_chunk_fn fn, bool noisy)
{
	uint64_t before, word, size;
	enum step step;

	for (;;) {
		step = look(chain);
		if (step == STEP_TROUBLE)
			step = look_again(chain);
		if (step == STEP_MARK)
			return pass_marks(chain, fn);
		if (step == STEP_TOP) {
			pass_top(chain, fn, noisy);
			return 0;
		}
		if (step == STEP_TROUBLE)
			break;
		size = size_of(chain->word);
		if (!read_header(chain, chain->at + size, &before, &word)) {
			chain->reason = "a chunk's header is not mapped";
			break;
		}
		if (is_last_mark(chain, size, word))
			return pass_marks(chain, fn);
		if (noisy && !(word & TAP_CHUNK_IN_USE) && before != size)
			chain->walker->stats->inconsistencies++;
		if (!fn(chain->walker, chain->region, chain->at, size,
			    word & TAP_CHUNK_IN_USE ? TAP_CHUNK_LIVE : TAP_CHUNK_FREE))
			return 0;
		chain->at += size;
		chain->word = word;
	}
	if (noisy)
		tap_heap_note_stop(chain->walker, chain->at, chain->reason);
	return 0;
}

void tap_chunks_walk(struct tap_heap_walker *walker, const struct tap_region *region,
	tap_chunk_fn fn, bool noisy)
{
	struct chain chain = {.walker = walker, .region = region, .at = region->range.start};
	uint64_t before, start, next;

	read_top(&chain);
	tap_window_forget(&walker->window);
	for (;;) {
		if (region->searched)
			chain.at = tap_chunks_search(walker, region, chain.at);
		if (!chain.at)
			return;
		start = chain.at;
		if (!read_header(&chain, chain.at, &before, &chain.word)) {
			if (noisy)
				tap_heap_note_stop(walker, chain.at, "a heap is not mapped");
			return;
		}
		next = walk_stretch(&chain, fn, noisy);
		if (start == region->range.start)
			start -= region->head_bytes;
		if (noisy)
			tap_heap_emit_region(walker, start, chain.at, region->arena);
		if (!next || !region->searched)
			return;
		chain.at = next;
	}
}

uint64_t tap_chunks_follow(struct tap_heap_walker *walker, const struct tap_region *region,
	uint64_t from, size_t limit)
{
	struct chain chain = {.walker = walker, .region = region, .at = from};
	uint64_t before, word, size;

	read_top(&chain);
	if (!read_header(&chain, from, &before, &chain.word) || !(chain.word & TAP_CHUNK_IN_USE))
		return 0;
	for (size_t count = 0;; count++) {
		enum step step = look(&chain);

		if (step == STEP_TOP)
			return chain.at + size_of(chain.word);
		if (step == STEP_MARK && count)
			return pass_marks(&chain, NULL);
		if (limit && count == limit)
			return chain.at;
		if (step != STEP_CHUNK)
			return 0;
		size = size_of(chain.word);
		if (!read_header(&chain, chain.at + size, &before, &word) ||
			(!(word & TAP_CHUNK_IN_USE) && before != size))
			return 0;
		chain.at += size;
		chain.word = word;
	}
}

uint64_t tap_chunks_search(
	struct tap_heap_walker *walker, const struct tap_region *region, uint64_t from)
{
	const struct tap_range *range = &region->range;
	uint64_t at = (from + 15) & ~UINT64_C(15);

	for (; at < range->end && range->end - at > TAP_CHUNK_MIN; at += 16) {
		const uint8_t *header = tap_window_at(&walker->window, at, TAP_CHUNK_HEADER);

		if (!header)
			return 0;
		/* Most of what is no chunk is zero. */
		if (tap_heap_u64(header + 8) && tap_chunks_follow(walker, region, at, CHAIN))
			return at;
	}
	return 0;
}
