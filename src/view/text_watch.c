/* SPDX-License-Identifier: Apache-2.0 */
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "view/text.h"

#define CURVE_ROWS 8
#define SPARK_CELLS 24

static uint64_t footprint(const struct tap_watch_point *point)
{
	return point->usage.rss_bytes + point->usage.swap_bytes;
}

/* RSS + swap as two arrays, which the caller frees. */
static void curve_of(const struct tap_watch_entry *entry, double **times_ret, double **values_ret)
{
	size_t count = entry->timeline.count;

	*times_ret = tap_alloc((count + 1) * sizeof(double));
	*values_ret = tap_alloc((count + 1) * sizeof(double));
	for (size_t i = 0; i < count; i++) {
		(*times_ret)[i] = entry->timeline.items[i].t_s;
		(*values_ret)[i] = (double)footprint(&entry->timeline.items[i]);
	}
}

/* The latest point that has the figure; PSS and USS are not read every time. */
static uint64_t latest(const struct tap_watch_entry *entry, size_t offset)
{
	for (size_t i = entry->timeline.count; i-- > 0;) {
		const char *usage = (const char *)&entry->timeline.items[i].usage;
		uint64_t value = *(const uint64_t *)(usage + offset);

		if (value != TAP_USAGE_UNKNOWN)
			return value;
	}
	return TAP_USAGE_UNKNOWN;
}

static void show_bytes(const struct tap_page *page, const char *name, uint64_t value)
{
	char size[TAP_SIZE_TEXT];

	if (value != TAP_USAGE_UNKNOWN)
		fprintf(page->out, "   %s %s", name, tap_text_size(size, (int64_t)value));
}

static void show_figures(const struct tap_page *page, const struct tap_watch_entry *entry)
{
	const struct tap_watch_point *first = &entry->timeline.items[0];
	const struct tap_watch_point *last = &entry->timeline.items[entry->timeline.count - 1];
	const char *arrow = page->options->utf8 ? "\xe2\x86\x92" : "->";
	char from[TAP_SIZE_TEXT], to[TAP_SIZE_TEXT], change[TAP_SIZE_TEXT + 1];

	fprintf(page->out, "RSS %s %s %s (%s)",
		tap_text_size(from, (int64_t)first->usage.rss_bytes), arrow,
		tap_text_size(to, (int64_t)last->usage.rss_bytes),
		tap_page_change(change, (int64_t)(last->usage.rss_bytes - first->usage.rss_bytes)));
	show_bytes(page, "swap", last->usage.swap_bytes);
	show_bytes(page, "PSS", latest(entry, offsetof(struct tap_usage, pss_bytes)));
	show_bytes(page, "USS", latest(entry, offsetof(struct tap_usage, uss_bytes)));
	if (first->usage.fds != TAP_USAGE_UNKNOWN && last->usage.fds != TAP_USAGE_UNKNOWN)
		fprintf(page->out, "   descriptors %llu %s %llu",
			(unsigned long long)first->usage.fds, arrow,
			(unsigned long long)last->usage.fds);
	fputc('\n', page->out);
}

static void show_error(const struct tap_page *page, const struct tap_watch_entry *entry)
{
	if (!entry->error)
		return;
	tap_page_text(page, entry->error->message);
	fputc('\n', page->out);
}

static void show_one(const struct tap_page *page, const struct tap_watch_report *report)
{
	const struct tap_watch_entry *entry = &report->entries.items[0];
	_cleanup_free_ double *times = NULL, *values = NULL;
	char duration[TAP_SIZE_TEXT], start[TAP_CLOCK_TEXT];

	tap_page_head(page, "watch", &entry->process);
	tap_page_dot(page);
	fputs(tap_text_duration(duration, report->duration_s), page->out);
	tap_page_dot(page);
	fprintf(page->out, "from %s\n", tap_clock_iso(start, report->start_wall_ns));
	tap_page_verdict(page, &entry->verdict);
	show_error(page, entry);
	if (!entry->timeline.count)
		return;
	curve_of(entry, &times, &values);
	if (entry->timeline.count > 1) {
		fputs("\nRSS + swap\n", page->out);
		tap_page_curve(page, times, values, entry->timeline.count, CURVE_ROWS);
	}
	fputc('\n', page->out);
	show_figures(page, entry);
}

static void show_row(const struct tap_page *page, const struct tap_watch_entry *entry)
{
	_cleanup_free_ double *times = NULL, *values = NULL;
	char now[TAP_SIZE_TEXT], change[TAP_SIZE_TEXT + 1], rate[TAP_SIZE_TEXT + 8];
	size_t count = entry->timeline.count;

	fprintf(page->out, "%-8d ", (int)entry->process.pid);
	tap_page_cell(page, entry->process.comm ? entry->process.comm : "-", 16);
	if (!count) {
		fputc(' ', page->out);
		show_error(page, entry);
		return;
	}
	curve_of(entry, &times, &values);
	fprintf(page->out, " %10s %11s %14s  %-8s  ",
		tap_text_size(now, (int64_t)values[count - 1]),
		tap_page_change(change, (int64_t)(values[count - 1] - values[0])),
		entry->verdict.growth_known ? tap_page_rate(rate, entry->verdict.growth_bytes_per_s)
					    : "-",
		tap_verdict_state_name(entry->verdict.state));
	tap_page_sparkline(page, times, values, count, SPARK_CELLS);
	fputc('\n', page->out);
}

static void show_several(const struct tap_page *page, const struct tap_watch_report *report)
{
	char duration[TAP_SIZE_TEXT], start[TAP_CLOCK_TEXT];

	fprintf(page->out, "heaptap watch of %zu processes", report->entries.count);
	tap_page_dot(page);
	fputs(tap_text_duration(duration, report->duration_s), page->out);
	tap_page_dot(page);
	fprintf(page->out, "from %s\n\n", tap_clock_iso(start, report->start_wall_ns));
	fprintf(page->out, "%-8s %-16s %10s %11s %14s  %-8s  %s\n", "PID", "name", "RSS + swap",
		"change", "rate", "verdict", "curve");
	for (size_t i = 0; i < report->entries.count; i++)
		show_row(page, &report->entries.items[i]);
	fputc('\n', page->out);
	for (size_t i = 0; i < report->entries.count; i++) {
		const struct tap_watch_entry *entry = &report->entries.items[i];

		if (!entry->timeline.count)
			continue;
		fprintf(page->out, "%-8d ", (int)entry->process.pid);
		tap_page_verdict(page, &entry->verdict);
		if (entry->error) {
			fprintf(page->out, "%-8s ", "");
			show_error(page, entry);
		}
	}
}

void tap_view_watch_text(
	FILE *out, const struct tap_watch_report *report, const struct tap_view_options *options)
{
	const struct tap_page page = {out, options};

	if (report->entries.count == 1)
		show_one(&page, report);
	else
		show_several(&page, report);
}
