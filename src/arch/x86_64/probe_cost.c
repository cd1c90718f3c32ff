/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <sys/mman.h>
#include <x86intrin.h>
#include "heaptap/arch/probe.h"

#define CALLS 20000
#define ROUNDS 5
#define COST_UNKNOWN 3.0 /* what was seen on most machines */

static uint64_t nothing(uint64_t size)
{
	return size;
}

static uint64_t time_calls(uint64_t (*volatile function)(uint64_t))
{
	uint64_t best = UINT64_MAX;

	for (int round = 0; round < ROUNDS; round++) {
		uint64_t since = __rdtsc(), taken;

		for (int i = 0; i < CALLS; i++)
			function(16);
		taken = __rdtsc() - since;
		if (taken < best)
			best = taken;
	}
	return best;
}

double tap_probe_pass_ticks(void)
{
	struct tap_probe_spec spec = {.kind = TAP_PROBE_SIZE0};
	double cost = COST_UNKNOWN;
	size_t common_size, size;
	const uint8_t *common = tap_probe_common(&common_size);
	uint8_t *region = mmap(NULL, TAP_PROBE_REGION_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct tap_probe_private *private;
	uint64_t entry, at;

	if (region == MAP_FAILED)
		return cost;
	memcpy(region, common, common_size);
	private = (void *)(region + TAP_PROBE_PRIVATE_AT);
	private->multiplier = 1;
	for (unsigned i = 0; i < TAP_PROBE_ALL_SLOTS; i++)
		private->slots[i].left = INT64_MAX;
	at = (uint64_t)region + TAP_PROBE_CODE_BYTES / 2;
	if (!tap_probe_instance(&spec, (uint64_t)region, at, (uint64_t)nothing, (uint8_t *)at,
		    TAP_PROBE_INSTANCE_MAX, &size, &entry) &&
		!mprotect(region, TAP_PROBE_CODE_BYTES, PROT_READ | PROT_EXEC)) {
		uint64_t bare = time_calls(nothing);
		uint64_t probed = time_calls((uint64_t(*)(uint64_t))entry);

		cost = probed > bare ? (double)(probed - bare) / CALLS : 0;
	}
	munmap(region, TAP_PROBE_REGION_BYTES);
	return cost;
}
