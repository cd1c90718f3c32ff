/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "view/text.h"

#define STACKS_SHOWN 3 /* sites whose stack is shown */
#define FRAMES_SHOWN 8
#define CURVE_ROWS 6

static uint64_t calls_of(const struct tap_trace_report *report)
{
	uint64_t calls = 0;

	for (size_t i = 0; i < report->entry_points.count; i++)
		calls += report->entry_points.items[i].calls;
	return calls;
}

static void show_share(const struct tap_page *page, double share)
{
	fprintf(page->out, "%.*f %%", share < 0.0995 && share > 0, share * 100);
}

/* How calls were seen, and what that took of the process's time. */
static void show_how(const struct tap_page *page, const struct tap_trace_report *report)
{
	double overhead = report->overhead_fixed + report->overhead_samples;
	bool probes = !strcmp(report->engine, "probe");
	char size[TAP_SIZE_TEXT];

	if (report->sample_interval_bytes)
		fprintf(page->out, "sampled every %s",
			tap_text_size(size, (int64_t)report->sample_interval_bytes));
	else
		fputs(report->exact ? "every call seen" : "not every call seen", page->out);
	if (!probes)
		fputs(" by breakpoints", page->out);
	if (report->unseen_s > 0)
		fprintf(page->out, ", nothing seen for %s",
			tap_text_duration(size, report->unseen_s));
	if (!isfinite(overhead))
		return;
	fputs(", overhead ", page->out);
	show_share(page, overhead);
	if (!probes)
		return;
	fputs(" (probes ", page->out);
	show_share(page, report->overhead_fixed);
	fputs(", samples ", page->out);
	show_share(page, report->overhead_samples);
	fputc(')', page->out);
}

static void show_head(const struct tap_page *page, const struct tap_trace_report *report)
{
	char duration[TAP_SIZE_TEXT], start[TAP_CLOCK_TEXT];

	tap_page_head(page, "trace", &report->process);
	tap_page_dot(page);
	fputs(tap_text_duration(duration, report->duration_s), page->out);
	tap_page_dot(page);
	show_how(page, report);
	tap_page_dot(page);
	fprintf(page->out, "from %s\n", tap_clock_iso(start, report->start_wall_ns));
}

static void show_end(const struct tap_page *page, const struct tap_trace_report *report)
{
	static const char *const words[] = {
		[TAP_ENDED_DURATION] = NULL,
		[TAP_ENDED_SIGNAL] = "ended by a signal to heaptap",
		[TAP_ENDED_EXIT] = "the process ended",
		[TAP_ENDED_EXEC] = "the process became another program (exec)",
		[TAP_ENDED_BRAKE] =
			"ended early: looking at every call took more than half of the process's "
			"time (--exact goes on all the same)",
		[TAP_ENDED_PROBE_COST] = "ended early: the probes cost too much",
	};
	const char *word = words[report->ended_by];

	if (report->ended_why || word) {
		fputs("note: ", page->out);
		tap_page_text(page, report->ended_why ? report->ended_why : word);
		fputc('\n', page->out);
	}
	if (report->child_exit_code > 128)
		fprintf(page->out, "the command was ended by signal %d\n",
			report->child_exit_code - 128);
	else if (report->child_exit_code >= 0)
		fprintf(page->out, "the command ended with exit code %d\n",
			report->child_exit_code);
}

/* A silence is no proof of health, so it is said loudly where it was listened. */
static bool show_silence(const struct tap_page *page, const struct tap_trace_report *report)
{
	char duration[TAP_SIZE_TEXT];
	const char *module = NULL;
	size_t modules = 0, watched = 0;

	if (calls_of(report) || report->totals.allocated_blocks ||
		report->totals.unseen_freed_blocks)
		return false;
	for (size_t i = 0; i < report->entry_points.count; i++) {
		const struct tap_entry_point *point = &report->entry_points.items[i];

		if (point->how == TAP_ENTRY_NONE)
			continue;
		watched++;
		modules += !module || strcmp(module, point->module);
		module = point->module;
	}
	tap_page_ink(page, TAP_INK_YELLOW);
	fprintf(page->out, "0 allocator calls in %s at the %zu entry point%s",
		tap_text_duration(duration, report->duration_s), watched, watched == 1 ? "" : "s");
	tap_page_ink(page, TAP_INK_PLAIN);
	if (modules == 1) {
		fputs(" of ", page->out);
		tap_page_text(page, tap_page_base(module));
	}
	fputs(": the process allocated nothing, or has an allocator that was not found "
	      "(heaptap info shows which were; --symbol malloc=NAME adds one)\n",
		page->out);
	return true;
}

static void show_site_place(const struct tap_page *page, const struct tap_trace_site *site)
{
	_cleanup_free_ char *place = NULL;

	if (site->file && site->line > 0)
		place = tap_format("%s:%d", site->file, site->line);
	else if (site->file)
		place = tap_strdup(site->file);
	else if (site->module)
		place = tap_format("%s+0x%llx", tap_page_base(site->module),
			(unsigned long long)site->module_offset);
	tap_page_ink(page, TAP_INK_BOLD);
	tap_page_text(page, place);
	tap_page_ink(page, TAP_INK_PLAIN);
	if (site->function) {
		fputs("   ", page->out);
		tap_page_text(page, site->function);
	}
}

static void show_site(const struct tap_page *page, const struct tap_trace_site *site)
{
	char change[TAP_SIZE_TEXT + 1], count[TAP_SIZE_TEXT], size[TAP_SIZE_TEXT];

	show_site_place(page, site);
	fprintf(page->out, "   %s   %s%s block%s", tap_page_change(change, site->growth_bytes),
		site->live_blocks > 0 ? "+" : "", tap_text_count(count, site->live_blocks),
		site->live_blocks == 1 ? "" : "s");
	if (isfinite(site->rss_share) && site->rss_share >= 0.005)
		fprintf(page->out, "   %.0f %% of RSS growth", site->rss_share * 100);
	if (isfinite(site->rss_correlation))
		fprintf(page->out, "   r = %.2f", site->rss_correlation);
	if (site->replaced_bytes)
		fprintf(page->out, "   (%s replaced older blocks)",
			tap_text_size(size, site->replaced_bytes));
	if (site->standard_error_bytes > 0)
		fprintf(page->out, "   +/- %s",
			tap_text_size(size, (int64_t)site->standard_error_bytes));
	fputc('\n', page->out);
}

/* The frames up to the outermost Python frame, all where there is none: how
 * the interpreter was started is the same for every site. */
static size_t frames_worth(const struct tap_frame_list *stack, bool *python_ret)
{
	size_t count = stack->count;

	while (count && stack->items[count - 1].language != TAP_LANGUAGE_PYTHON)
		count--;
	*python_ret = count > 0;
	return count ? count : stack->count;
}

/* How the interpreter goes about it is of no use to who wrote the script; an
 * extension's frames are. */
static bool is_interpreter(const struct tap_frame *frame)
{
	const char *name = frame->module ? tap_page_base(frame->module) : "";

	return !strncmp(name, "libpython", 9) || !strncmp(name, "python", 6);
}

static void show_stack(const struct tap_page *page, const struct tap_frame_list *stack)
{
	bool python;
	size_t count = frames_worth(stack, &python);
	size_t shown = 0, left = 0;

	for (size_t i = 0; i < count; i++) {
		const struct tap_frame *frame = &stack->items[i];

		if (python && is_interpreter(frame))
			continue;
		if (shown == FRAMES_SHOWN) {
			left++;
			continue;
		}
		shown++;
		fputs("    ", page->out);
		tap_page_ink(page, TAP_INK_DIM);
		tap_page_frame(page, frame);
		tap_page_ink(page, TAP_INK_PLAIN);
		fputc('\n', page->out);
	}
	if (left)
		fprintf(page->out, "    ... %zu more frame%s\n", left, left == 1 ? "" : "s");
}

static size_t growing(const struct tap_trace_site_list *sites)
{
	size_t count = 0;

	while (count < sites->count && sites->items[count].growth_bytes > 0)
		count++;
	return count;
}

static void show_sites(const struct tap_page *page, const struct tap_trace_report *report)
{
	size_t limit = page->options->limit;
	size_t count = growing(&report->sites);

	fputc('\n', page->out);
	if (!count)
		fputs("No site grew.\n", page->out);
	for (size_t i = 0; i < count && i < limit; i++) {
		show_site(page, &report->sites.items[i]);
		if (i < STACKS_SHOWN)
			show_stack(page, &report->sites.items[i].stack);
	}
	if (count > limit)
		fprintf(page->out, "and %zu more sites that grew (--limit)\n", count - limit);
}

static void show_curve(const struct tap_page *page, const struct tap_trace_report *report)
{
	size_t count = report->timeline.count;
	_cleanup_free_ double *times = tap_alloc((count + 1) * sizeof(*times));
	_cleanup_free_ double *values = tap_alloc((count + 1) * sizeof(*values));

	if (count < 2)
		return;
	for (size_t i = 0; i < count; i++) {
		const struct tap_trace_point *point = &report->timeline.items[i];

		times[i] = point->t_s;
		values[i] = (double)point->rss_bytes + (double)point->swap_bytes;
	}
	fputs("\nRSS + swap\n", page->out);
	tap_page_curve(page, times, values, count, CURVE_ROWS);
}

static void show_totals(const struct tap_page *page, const struct tap_trace_totals *totals)
{
	char bytes[TAP_SIZE_TEXT + 1], blocks[TAP_SIZE_TEXT];

	fprintf(page->out, "\nAllocated  %s in %s blocks",
		tap_text_size(bytes, (int64_t)totals->allocated_bytes),
		tap_text_count(blocks, (int64_t)totals->allocated_blocks));
	fprintf(page->out, "; freed %s in %s", tap_text_size(bytes, (int64_t)totals->freed_bytes),
		tap_text_count(blocks, (int64_t)totals->freed_blocks));
	fprintf(page->out, "; live %s in %s", tap_page_change(bytes, totals->live_bytes),
		tap_text_count(blocks, totals->live_blocks));
	fprintf(page->out, "; growth %s\n", tap_page_change(bytes, totals->growth_bytes));
	if (totals->unseen_freed_blocks)
		fprintf(page->out, "           %s block%s (%s) from before the start %s freed%s\n",
			tap_text_count(blocks, (int64_t)totals->unseen_freed_blocks),
			totals->unseen_freed_blocks == 1 ? "" : "s",
			tap_text_size(bytes, (int64_t)totals->unseen_freed_bytes),
			totals->unseen_freed_blocks == 1 ? "was" : "were",
			totals->netted ? "" : "; growth is not netted against them");
	else if (!totals->netted)
		fputs("           blocks from before the start were not found: growth is not netted "
		      "against their frees\n",
			page->out);
	if (totals->lost_samples)
		fprintf(page->out, "           %s calls were lost\n",
			tap_text_count(blocks, (int64_t)totals->lost_samples));
}

void tap_view_trace_text(
	FILE *out, const struct tap_trace_report *report, const struct tap_view_options *options)
{
	const struct tap_page page = {out, options};

	show_head(&page, report);
	tap_page_verdict(&page, &report->verdict);
	show_end(&page, report);
	if (!show_silence(&page, report)) {
		show_sites(&page, report);
		show_curve(&page, report);
		show_totals(&page, &report->totals);
	} else {
		show_curve(&page, report);
		fputc('\n', out);
	}
	tap_page_entry_points(&page, 11, "Watched", &report->entry_points);
}
