/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_TESTS_TRUTH_H
#define HEAPTAP_TESTS_TRUTH_H

/*
 * What each function of a program has allocated, freed and still has:
 *
 * {"worked": true, "sites": {FUNCTION: {"allocated_blocks", "allocated_bytes",
 * "freed_bytes", "live_blocks", "live_bytes"}}}
 */

#include "target.h"

#define BARRIER() __asm__ volatile("" ::: "memory")

/* What a function did. */
struct truth {
	const char *function;
	unsigned long long allocated_blocks, allocated_bytes, freed_blocks, freed_bytes;
};

static struct truth truths[64];
static unsigned int truth_count;

static NOINLINE struct truth *truth_of(const char *function)
{
	for (unsigned int i = 0; i < truth_count; i++)
		if (strcmp(truths[i].function, function) == 0)
			return &truths[i];
	truths[truth_count].function = function;
	return &truths[truth_count++];
}

static NOINLINE void got(const char *function, size_t bytes)
{
	struct truth *truth = truth_of(function);

	truth->allocated_blocks++;
	truth->allocated_bytes += bytes;
}

static NOINLINE void gave(const char *function, size_t bytes)
{
	struct truth *truth = truth_of(function);

	truth->freed_blocks++;
	truth->freed_bytes += bytes;
}

#define GOT(bytes) got(__func__, bytes)
#define GAVE(bytes) gave(__func__, bytes)

static void say_truths(void)
{
	say("{\"worked\": true, \"sites\": {");
	for (unsigned int i = 0; i < truth_count; i++) {
		const struct truth *t = &truths[i];

		say("%s\"%s\": {\"allocated_blocks\": %llu, \"allocated_bytes\": %llu, "
		    "\"freed_bytes\": %llu, \"live_blocks\": %llu, \"live_bytes\": %llu}",
		    i ? ", " : "", t->function, t->allocated_blocks, t->allocated_bytes,
		    t->freed_bytes, t->allocated_blocks - t->freed_blocks,
		    t->allocated_bytes - t->freed_bytes);
	}
	say("}}\n");
}

#endif
