/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/cleanup.h"
#include "heaptap/base/text.h"
#include "view/text.h"

void tap_page_text(const struct tap_page *page, const char *text)
{
	_cleanup_free_ char *clean = tap_text_clean_copy(text ? text : "?");

	fputs(clean, page->out);
}

/* How many bytes of cleaned text fit into so many cells. */
static size_t fitting(const char *text, size_t width)
{
	size_t size = strlen(text);
	_cleanup_free_ char *part = tap_strdup(text);

	while (size && tap_text_width(part) > width) {
		do
			size--;
		while (size && ((unsigned char)part[size] & 0xc0) == 0x80);
		part[size] = '\0';
	}
	return size;
}

void tap_page_cell(const struct tap_page *page, const char *text, size_t width)
{
	_cleanup_free_ char *clean = tap_text_clean_copy(text ? text : "?");
	size_t cells;

	clean[fitting(clean, width)] = '\0';
	cells = tap_text_width(clean);
	fprintf(page->out, "%s%*s", clean, (int)(width - cells), "");
}

void tap_page_ink(const struct tap_page *page, enum tap_ink ink)
{
	static const char *const codes[] = {
		[TAP_INK_PLAIN] = "0",
		[TAP_INK_BOLD] = "1",
		[TAP_INK_DIM] = "2",
		[TAP_INK_RED] = "1;31",
		[TAP_INK_YELLOW] = "1;33",
		[TAP_INK_GREEN] = "32",
	};

	if (page->options->color)
		fprintf(page->out, "\033[%sm", codes[ink]);
}

void tap_page_dot(const struct tap_page *page)
{
	fputs(page->options->utf8 ? " \xc2\xb7 " : " | ", page->out);
}

/* What somebody would call the program: a script rather than its interpreter. */
static void show_program(const struct tap_page *page, const struct tap_process *process)
{
	for (size_t i = 1; process->python_version && i < process->cmdline_count; i++) {
		const char *argument = process->cmdline[i];

		if (!strcmp(argument, "-c"))
			break;
		if (!strcmp(argument, "-m") && i + 1 < process->cmdline_count) {
			fputs("-m ", page->out);
			tap_page_text(page, process->cmdline[i + 1]);
			return;
		}
		/* -W and -X take the argument that follows. */
		if (!strcmp(argument, "-W") || !strcmp(argument, "-X"))
			i++;
		else if (*argument != '-') {
			tap_page_text(page, argument);
			return;
		}
	}
	tap_page_text(page, process->exe ? process->exe : process->comm);
}

void tap_page_head(
	const struct tap_page *page, const char *command, const struct tap_process *process)
{
	fprintf(page->out, "heaptap %s %d", command, (int)process->pid);
	if (process->python_version) {
		tap_page_dot(page);
		fputs("python ", page->out);
		tap_page_text(page, process->python_version);
	}
	tap_page_dot(page);
	show_program(page, process);
}

char *tap_page_change(char buf[TAP_SIZE_TEXT + 1], int64_t bytes)
{
	buf[0] = '+';
	tap_text_size(buf + (bytes > 0), bytes);
	return buf;
}

char *tap_page_rate(char buf[TAP_SIZE_TEXT + 8], double bytes_per_s)
{
	static const struct {
		const char *name;
		double seconds;
	} units[] = {{"s", 1}, {"min", 60}, {"h", 3600}};
	double most = 9e18;
	unsigned unit = 0;
	double bytes;

	/* The smallest unit of time in which the figure is no fraction of a MiB. */
	while (unit < 2 && fabs(bytes_per_s) * units[unit].seconds < 0x1p20)
		unit++;
	bytes = fmin(fmax(bytes_per_s * units[unit].seconds, -most), most);
	tap_page_change(buf, (int64_t)bytes);
	strcat(buf, "/");
	strcat(buf, units[unit].name);
	return buf;
}

static enum tap_ink verdict_ink(enum tap_verdict_state state)
{
	switch (state) {
	case TAP_VERDICT_LEAK:
		return TAP_INK_RED;
	case TAP_VERDICT_WARMING:
		return TAP_INK_YELLOW;
	case TAP_VERDICT_FLAT:
		return TAP_INK_GREEN;
	default:
		return TAP_INK_BOLD;
	}
}

void tap_page_verdict(const struct tap_page *page, const struct tap_verdict *verdict)
{
	static const char *const words[] = {
		[TAP_VERDICT_UNKNOWN] = "UNKNOWN",
		[TAP_VERDICT_FLAT] = "FLAT",
		[TAP_VERDICT_WARMING] = "WARMING UP",
		[TAP_VERDICT_LEAK] = "LEAK",
	};
	char rate[TAP_SIZE_TEXT + 8], size[TAP_SIZE_TEXT], when[TAP_SIZE_TEXT];

	tap_page_ink(page, verdict_ink(verdict->state));
	fputs(words[verdict->state], page->out);
	tap_page_ink(page, TAP_INK_PLAIN);
	fputs("  ", page->out);
	if (verdict->growth_known &&
		(verdict->state == TAP_VERDICT_LEAK || verdict->state == TAP_VERDICT_WARMING))
		fprintf(page->out, "%s; ", tap_page_rate(rate, verdict->growth_bytes_per_s));
	tap_page_text(page, verdict->reason);
	if (verdict->limit_kind != TAP_LIMIT_NONE && verdict->time_to_limit_s >= 0)
		fprintf(page->out, "; the %s (%s) is reached in about %s",
			verdict->limit_kind == TAP_LIMIT_CGROUP ? "cgroup limit"
								: "machine's memory",
			tap_text_size(size, (int64_t)verdict->limit_bytes),
			tap_text_duration(when, verdict->time_to_limit_s));
	fputc('\n', page->out);
}

const char *tap_page_base(const char *path)
{
	const char *slash = path ? strrchr(path, '/') : NULL;

	return slash && slash[1] ? slash + 1 : path;
}

static void show_place(const struct tap_page *page, const struct tap_frame *frame)
{
	if (frame->file) {
		tap_page_text(page, tap_page_base(frame->file));
		if (frame->line > 0)
			fprintf(page->out, ":%d", frame->line);
		fputc(' ', page->out);
	}
}

void tap_page_frame(const struct tap_page *page, const struct tap_frame *frame)
{
	show_place(page, frame);
	if (frame->function)
		tap_page_text(page, frame->function);
	else if (frame->module)
		fputs("?", page->out);
	else
		fprintf(page->out, "0x%llx", (unsigned long long)frame->pc);
	if (frame->module && !frame->file) {
		fputs("  ", page->out);
		tap_page_text(page, tap_page_base(frame->module));
		fprintf(page->out, "+0x%llx", (unsigned long long)frame->offset);
	}
	if (frame->file && frame->language != TAP_LANGUAGE_PYTHON)
		fprintf(page->out, " (%s)",
			frame->language == TAP_LANGUAGE_UNKNOWN
				? "native"
				: tap_language_name(frame->language));
	if (frame->inlined)
		fputs(" (inlined)", page->out);
	if (frame->trust == TAP_FRAME_GUESSED)
		fputs(" (guessed)", page->out);
}
