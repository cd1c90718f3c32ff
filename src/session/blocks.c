/* SPDX-License-Identifier: Apache-2.0 */
#include "session/recorder.h"
#include "session/sampler.h"

/* Without a cell its end would not be seen: then it is none of those that are. */
static bool watch(struct recorder *rec, const struct cell_info *info)
{
	if (!rec->beside || cells_add(rec->beside, info))
		return true;
	rec->lost_calls++;
	return false;
}

void blocks_add(struct recorder *rec, uint64_t addr, const struct tap_ledger_block *block)
{
	if (rec->beside)
		samples_freed(rec->beside, addr);
	if (watch(rec, &(struct cell_info){.addr = addr}))
		tap_ledger_add(rec->ledger, addr, block);
}

bool blocks_try_free(struct recorder *rec, uint64_t addr)
{
	struct tap_ledger_block block;

	if (rec->beside)
		return samples_freed(rec->beside, addr);
	if (!tap_ledger_take(rec->ledger, addr, &block))
		return false;
	tap_ledger_freed(rec->ledger, &block);
	return true;
}

bool blocks_try_take(struct recorder *rec, uint64_t addr, struct old_block *ret)
{
	struct cell_info info = {0};

	if (rec->beside && !cells_take(rec->beside, addr, &info))
		return false;
	if (!info.old) {
		ret->seen = tap_ledger_take(rec->ledger, addr, &ret->block);
		return ret->seen;
	}
	ret->watched = true;
	ret->usable_bytes = info.usable_bytes;
	ret->size_class = info.size_class;
	ret->weight = info.weight;
	return true;
}

void blocks_put_back(struct recorder *rec, uint64_t addr, const struct old_block *old)
{
	struct cell_info info = {
		.addr = addr,
		.old = old->watched,
		.size_class = old->size_class,
		.usable_bytes = old->usable_bytes,
		.weight = old->weight,
	};

	if ((old->seen || old->watched) && watch(rec, &info) && old->seen)
		tap_ledger_put_back(rec->ledger, addr, &old->block);
}
