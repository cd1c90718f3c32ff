/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "heaptap/base/text.h"
#include "view/text.h"

static void show_reason(const struct tap_page *page, const char *what, const char *reason)
{
	fprintf(page->out, " (%s", what);
	if (reason) {
		fputs(": ", page->out);
		tap_page_text(page, reason);
	}
	fputc(')', page->out);
}

static void show_point(const struct tap_page *page, const struct tap_entry_point *point)
{
	char count[TAP_SIZE_TEXT];

	fputc(' ', page->out);
	tap_page_text(page, point->symbol);
	if (point->calls)
		fprintf(page->out, " %s", tap_text_count(count, (int64_t)point->calls));
	if (point->how == TAP_ENTRY_NONE)
		show_reason(page, "not seen", point->reason);
	else if (point->how == TAP_ENTRY_BREAKPOINT && point->reason)
		show_reason(page, "by a breakpoint", point->reason);
}

static bool same_module(const struct tap_entry_point *a, const struct tap_entry_point *b)
{
	return !strcmp(a->module, b->module);
}

static bool was_shown(const struct tap_entry_point_list *points, size_t index)
{
	for (size_t i = 0; i < index; i++)
		if (same_module(&points->items[i], &points->items[index]))
			return true;
	return false;
}

/* In a recording with calls, names without any are only counted. */
static void show_module(const struct tap_page *page, const struct tap_entry_point_list *points,
	size_t first, bool only_called)
{
	size_t silent = 0;

	tap_page_text(page, tap_page_base(points->items[first].module));
	fputc(':', page->out);
	for (size_t i = first; i < points->count; i++) {
		const struct tap_entry_point *point = &points->items[i];

		if (!same_module(&points->items[first], point))
			continue;
		if (only_called && !point->calls && point->how != TAP_ENTRY_NONE)
			silent++;
		else
			show_point(page, point);
	}
	if (silent)
		fprintf(page->out, " (%zu not called)", silent);
	fputc('\n', page->out);
}

void tap_page_entry_points(const struct tap_page *page, int indent, const char *label,
	const struct tap_entry_point_list *points)
{
	bool called = false;

	for (size_t i = 0; i < points->count; i++)
		called |= points->items[i].calls > 0;
	for (size_t i = 0; i < points->count; i++) {
		if (was_shown(points, i))
			continue;
		fprintf(page->out, "%-*s", indent, i ? "" : label);
		show_module(page, points, i, called);
	}
}
