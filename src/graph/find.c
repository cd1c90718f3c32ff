/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "graph/internal.h"

#define PAGE_SHIFT 12
#define PAGE_BYTES ((uint32_t)1 << PAGE_SHIFT)
#define GIB_SHIFT 30
#define GIB_PAGES ((size_t)1 << (GIB_SHIFT - PAGE_SHIFT))
#define GIBS ((size_t)1 << (ADDR_BITS - GIB_SHIFT))

/* [start, end) is within one GiB. */
static bool cover_pages(struct gib *gib, uint64_t start, uint64_t end, uint32_t node)
{
	uint64_t last = (end - 1) >> PAGE_SHIFT;

	if (!gib->pages)
		gib->pages = calloc(GIB_PAGES, sizeof(*gib->pages));
	if (!gib->pages)
		return false;
	for (uint64_t at = start >> PAGE_SHIFT; at <= last; at++) {
		struct page *page = &gib->pages[at & (GIB_PAGES - 1)];

		if (page->first == page->end)
			page->first = node;
		page->end = node + 1;
	}
	return true;
}

static bool cover(struct tap_graph *graph, uint32_t node, uint64_t start, uint64_t end)
{
	while (start < end) {
		struct gib *gib = &graph->gibs[start >> GIB_SHIFT];
		uint64_t next = ((start >> GIB_SHIFT) + 1) << GIB_SHIFT;

		if (next - start == (uint64_t)1 << GIB_SHIFT && next <= end)
			gib->whole = node + 1;
		else if (!cover_pages(gib, start, next < end ? next : end, node))
			return false;
		start = next;
	}
	return true;
}

bool find_build(struct tap_graph *graph)
{
	uint64_t start, end = 0;

	graph->gibs = calloc(GIBS, sizeof(*graph->gibs));
	if (!graph->gibs)
		return false;
	for (uint32_t i = 0; i < graph->count; i++) {
		start = tap_graph_addr(graph, i);
		end = start + tap_graph_size(graph, i);
		if (!i)
			graph->min = start;
		if (!cover(graph, i, start, end))
			return false;
	}
	graph->span = end - graph->min;
	return true;
}

void find_deinit(struct tap_graph *graph)
{
	if (!graph->gibs)
		return;
	for (size_t i = 0; i < GIBS; i++)
		free(graph->gibs[i].pages);
	free(graph->gibs);
}

/* The last node of the page that begins at or before the address. Nodes of a page
 * are mostly of one size: from where it is then, it is not far. The first may
 * begin before the page; the others begin in it, so that the lower halves of
 * their addresses can be compared. */
static uint32_t last_before(const struct tap_graph *graph, struct page page, uint32_t low)
{
	uint32_t offset = low & (PAGE_BYTES - 1);
	uint32_t node =
		page.first + (uint32_t)((uint64_t)offset * (page.end - page.first) >> PAGE_SHIFT);

	while (node > page.first && graph->places[node].low > low)
		node--;
	while (node + 1 < page.end && graph->places[node + 1].low <= low)
		node++;
	return node;
}

uint32_t tap_graph_find(const struct tap_graph *graph, uint64_t addr)
{
	const struct gib *gib;
	struct page page;
	uint32_t node, size;

	if (addr - graph->min >= graph->span)
		return NONE;
	gib = &graph->gibs[addr >> GIB_SHIFT];
	if (!gib->pages)
		return gib->whole - 1;
	page = gib->pages[(addr >> PAGE_SHIFT) & (GIB_PAGES - 1)];
	if (page.first == page.end)
		return NONE;
	node = last_before(graph, page, (uint32_t)addr);
	size = graph->places[node].size;
	if (size & NUMBER_IS_WIDE)
		return addr - tap_graph_addr(graph, node) < tap_graph_size(graph, node) ? node
											: NONE;
	return (uint32_t)addr - graph->places[node].low < size ? node : NONE;
}
