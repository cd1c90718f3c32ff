/* SPDX-License-Identifier: Apache-2.0 */
#include "view/text.h"

static const char *state_words(char state)
{
	switch (state) {
	case 'R':
		return "running";
	case 'S':
		return "sleeping";
	case 'D':
		return "uninterruptible";
	case 'T':
		return "stopped";
	case 't':
		return "held by a debugger";
	case 'Z':
	case 'X':
		return "ended";
	case 'I':
		return "idle";
	default:
		return "state unknown";
	}
}

static void show_thread(const struct tap_page *page, const struct tap_stack_thread *thread)
{
	tap_page_ink(page, TAP_INK_BOLD);
	fprintf(page->out, "\nThread %d \"", (int)thread->tid);
	tap_page_text(page, thread->name);
	fputc('"', page->out);
	tap_page_ink(page, TAP_INK_PLAIN);
	fprintf(page->out, " %s", state_words(thread->state));
	if (thread->wchan) {
		fputs(", waits in ", page->out);
		tap_page_text(page, thread->wchan);
	}
	if (thread->holds_gil == 1)
		fputs(", holds the GIL", page->out);
	fputc('\n', page->out);
	if (thread->note) {
		fputs("  (", page->out);
		tap_page_text(page, thread->note);
		fputs(")\n", page->out);
	}
	for (size_t i = 0; i < thread->frames.count; i++) {
		fputs("  ", page->out);
		tap_page_frame(page, &thread->frames.items[i]);
		fputc('\n', page->out);
	}
}

void tap_view_stack_text(
	FILE *out, const struct tap_stack_report *report, const struct tap_view_options *options)
{
	const struct tap_page page = {out, options};
	char pause[TAP_SIZE_TEXT];

	tap_page_head(&page, "stack", &report->process);
	tap_page_dot(&page);
	fprintf(out, "%zu thread%s", report->threads.count, report->threads.count == 1 ? "" : "s");
	tap_page_dot(&page);
	if (report->pause_s <= 0)
		fputs("no thread was held\n", out);
	else if (report->pause_s < 1e-3)
		fprintf(out, "held for %.1f ms at most\n", report->pause_s * 1e3);
	else
		fprintf(out, "held for %s at most\n", tap_text_duration(pause, report->pause_s));
	if (report->note) {
		tap_page_text(&page, report->note);
		fputc('\n', out);
	}
	for (size_t i = 0; i < report->threads.count; i++)
		show_thread(&page, &report->threads.items[i]);
}
