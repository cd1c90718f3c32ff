/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "view/text.h"

#define SHARE_WIDTH 5
#define BYTES_WIDTH 10
#define ITEM_TYPES_SHOWN 3
#define NUMBER_WIDTH 12
#define PATHS_SHOWN 3

static void show_head(
	const struct tap_page *page, const char *command, const struct tap_heap_report *report)
{
	char text[TAP_SIZE_TEXT];

	tap_page_head(page, command, &report->process);
	tap_page_dot(page);
	if (report->memory.rss_bytes != UINT64_MAX) {
		fprintf(page->out, "RSS %s",
			tap_text_size(text, (int64_t)report->memory.rss_bytes));
		tap_page_dot(page);
	}
	if (report->pause_s < 1e-3)
		fprintf(page->out, "held for %.1f ms", report->pause_s * 1e3);
	else
		fprintf(page->out, "held for %s", tap_text_duration(text, report->pause_s));
	fputs(report->in_place ? " (read in place)\n" : "\n", page->out);
}

static void show_notes(const struct tap_page *page, const struct tap_heap_report *report)
{
	for (size_t i = 0; i < report->notes.count; i++) {
		fputs("note: ", page->out);
		tap_page_text(page, report->notes.items[i]);
		fputc('\n', page->out);
	}
	if (!report->walk.complete) {
		fputs("note: not all of the heap could be read: ", page->out);
		tap_page_text(page, report->walk.stopped_by);
		fputc('\n', page->out);
	}
}

static void show_item_types(const struct tap_page *page, const struct tap_type_count_list *types)
{
	char count[TAP_SIZE_TEXT];

	for (size_t i = 0; i < types->count && i < ITEM_TYPES_SHOWN; i++) {
		fprintf(page->out, "%s%s ", i ? ", " : " of ",
			tap_text_count(count, (int64_t)types->items[i].count));
		tap_page_text(page, types->items[i].type);
	}
}

static void show_path(const struct tap_page *page, const struct tap_name_list *path)
{
	for (size_t i = 0; i < path->count; i++) {
		fputs("                 ", page->out);
		tap_page_ink(page, TAP_INK_DIM);
		tap_page_text(page, path->items[i]);
		tap_page_ink(page, TAP_INK_PLAIN);
		fputc('\n', page->out);
	}
}

static void show_suspect(
	const struct tap_page *page, const struct tap_suspect *suspect, bool with_path)
{
	char text[TAP_SIZE_TEXT];

	fprintf(page->out, "%*.0f %%%*s  ", SHARE_WIDTH - 2, suspect->share * 100, BYTES_WIDTH,
		tap_text_size(text, (int64_t)suspect->retained_bytes));
	tap_page_ink(page, TAP_INK_BOLD);
	tap_page_text(page, suspect->name);
	tap_page_ink(page, TAP_INK_PLAIN);
	fprintf(page->out, "   %s", suspect->kind);
	if (suspect->items >= 0)
		fprintf(page->out, ", %s %s", tap_text_count(text, suspect->items),
			!strcmp(suspect->kind, "type") ? "instances" : "items");
	show_item_types(page, &suspect->item_types);
	if (suspect->note) {
		fputs("   ", page->out);
		tap_page_text(page, suspect->note);
	}
	fputc('\n', page->out);
	if (with_path)
		show_path(page, &suspect->path);
}

static void show_suspects(const struct tap_page *page, const struct tap_heap_report *report)
{
	size_t limit = page->options->limit;

	fputs("\nHeld by\n", page->out);
	if (!report->suspects.count)
		fputs("  nothing that holds a large share (--threshold)\n", page->out);
	for (size_t i = 0; i < report->suspects.count && i < limit; i++)
		show_suspect(page, &report->suspects.items[i], i < PATHS_SHOWN);
}

static void show_row(
	const struct tap_page *page, const char *name, uint64_t bytes, uint64_t of)
{
	char text[TAP_SIZE_TEXT];

	if (bytes == UINT64_MAX)
		return;
	fprintf(page->out, "  %-26s%*s", name, BYTES_WIDTH, tap_text_size(text, (int64_t)bytes));
	if (of)
		fprintf(page->out, "%*.0f %%", SHARE_WIDTH, (double)bytes * 100 / (double)of);
	fputc('\n', page->out);
}

static void show_memory(const struct tap_page *page, const struct tap_memory_table *memory)
{
	uint64_t rss = memory->rss_bytes;

	if (rss == UINT64_MAX)
		return;
	fputs("\nResident\n", page->out);
	show_row(page, "Python objects", memory->python_live_bytes, rss);
	show_row(page, "held free by pymalloc", memory->python_free_bytes, rss);
	show_row(page, "C blocks", memory->c_live_bytes, rss);
	show_row(page, "held free by the C heap", memory->c_free_bytes, rss);
	show_row(page, "code and files", memory->code_bytes, rss);
	show_row(page, "stacks", memory->stack_bytes, rss);
	show_row(page, "other", memory->other_bytes, rss);
	if (memory->swapped_bytes && memory->swapped_bytes != UINT64_MAX)
		show_row(page, "swapped out", memory->swapped_bytes, 0);
	if (memory->trimmable_bytes && memory->trimmable_bytes != UINT64_MAX)
		show_row(page, "malloc_trim() gives back", memory->trimmable_bytes, 0);
}

static void show_lost(const struct tap_page *page, const struct tap_unreachable *lost)
{
	char text[TAP_SIZE_TEXT], count[TAP_SIZE_TEXT];
	size_t limit = page->options->limit;

	if (lost->c_blocks) {
		fprintf(page->out, "\nNothing refers to  %s in %s C blocks\n",
			tap_text_size(text, (int64_t)lost->c_bytes),
			tap_text_count(count, (int64_t)lost->c_blocks));
		for (size_t i = 0; i < lost->groups.count && i < limit; i++) {
			const struct tap_lost_group *group = &lost->groups.items[i];

			fprintf(page->out, "%*s", NUMBER_WIDTH,
				tap_text_count(count, (int64_t)group->count));
			fprintf(page->out, " of %s   ",
				tap_text_size(text, (int64_t)group->size_bytes));
			if (group->preview)
				tap_page_text(page, group->preview);
			fputc('\n', page->out);
		}
	}
	if (lost->python_objects) {
		fprintf(page->out, "\nCycles that the collector has not freed  %s in %s objects",
			tap_text_size(text, (int64_t)lost->python_bytes),
			tap_text_count(count, (int64_t)lost->python_objects));
		show_item_types(page, &lost->python_types);
		fputc('\n', page->out);
	}
}

static void show_types(const struct tap_page *page, const struct tap_heap_report *report)
{
	char text[TAP_SIZE_TEXT + 1];
	size_t limit = page->options->limit;

	if (!report->types.count)
		return;
	fprintf(page->out, "\n%*s%*s%*s  Type\n", NUMBER_WIDTH, "Count", BYTES_WIDTH, "Own",
		BYTES_WIDTH, "Retained");
	for (size_t i = 0; i < report->types.count && i < limit; i++) {
		const struct tap_heap_type *type = &report->types.items[i];

		fprintf(page->out, "%*s", NUMBER_WIDTH, tap_text_count(text, (int64_t)type->count));
		fprintf(page->out, "%*s", BYTES_WIDTH, tap_text_size(text, (int64_t)type->own_bytes));
		fprintf(page->out, "%*s  ", BYTES_WIDTH,
			tap_text_size(text, (int64_t)type->retained_bytes));
		tap_page_text(page, type->type);
		if (report->growth && type->count_change) {
			fprintf(page->out, "   %s%s",
				type->count_change > 0 ? "+" : "",
				tap_text_count(text, type->count_change));
			fprintf(page->out, " (%s)", tap_page_change(text, type->own_change));
		}
		fputc('\n', page->out);
	}
}

static void show_fds(const struct tap_page *page, const struct tap_fds *fds)
{
	char count[TAP_SIZE_TEXT];
	size_t limit = page->options->limit;

	if (!fds->count)
		return;
	fprintf(page->out, "\nDescriptors  %s", tap_text_count(count, (int64_t)fds->count));
	if (fds->limit != UINT64_MAX)
		fprintf(page->out, " of %s", tap_text_count(count, (int64_t)fds->limit));
	fputc('\n', page->out);
	for (size_t i = 0; i < fds->groups.count && i < limit; i++) {
		if (fds->groups.items[i].count < 2)
			break;
		fprintf(page->out, "%*s  ", NUMBER_WIDTH,
			tap_text_count(count, (int64_t)fds->groups.items[i].count));
		tap_page_text(page, fds->groups.items[i].target);
		fputc('\n', page->out);
	}
}

void tap_view_report_text(
	FILE *out, const struct tap_heap_report *report, const struct tap_view_options *options)
{
	const struct tap_page page = {out, options};
	char blocks[TAP_SIZE_TEXT], objects[TAP_SIZE_TEXT], seconds[TAP_SIZE_TEXT];

	show_head(&page, "report", report);
	tap_page_verdict(&page, &report->verdict);
	show_notes(&page, report);
	show_suspects(&page, report);
	show_memory(&page, &report->memory);
	show_lost(&page, &report->unreachable);
	show_types(&page, report);
	show_fds(&page, &report->fds);
	fprintf(out, "\nRead  %s blocks, %s objects in %s\n",
		tap_text_count(blocks, (int64_t)report->walk.blocks),
		tap_text_count(objects, (int64_t)report->walk.objects),
		tap_text_duration(seconds, report->walk.seconds));
}

void tap_view_types_text(
	FILE *out, const struct tap_heap_report *report, const struct tap_view_options *options)
{
	const struct tap_page page = {out, options};

	show_head(&page, "types", report);
	show_notes(&page, report);
	show_types(&page, report);
}
