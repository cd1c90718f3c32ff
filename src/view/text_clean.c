/* SPDX-License-Identifier: Apache-2.0 */
#include "view/text.h"

void tap_view_clean_text(
	FILE *out, const struct tap_clean_report *report, const struct tap_view_options *options)
{
	struct tap_page page = {.out = out, .options = options};

	if (!report->found) {
		fputs("Nothing of heaptap is in this process.\n", out);
		return;
	}
	if (report->removed) {
		fputs("Taken out; the process is as it was.\n", out);
		return;
	}
	tap_page_text(&page, report->reason);
	fputc('\n', out);
	if (report->advice) {
		tap_page_text(&page, report->advice);
		fputc('\n', out);
	}
}
