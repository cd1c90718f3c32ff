/* SPDX-License-Identifier: Apache-2.0 */
#include "heaptap/view/view.h"

void tap_view_watch_csv_head(struct tap_text *line)
{
	tap_text_add(line, "t_s,pid,rss_bytes,pss_bytes,uss_bytes,swap_bytes,fds\n");
}

static void add_number(struct tap_text *line, uint64_t number, char after)
{
	if (number == TAP_USAGE_UNKNOWN)
		tap_text_add(line, "%c", after);
	else
		tap_text_add(line, "%llu%c", (unsigned long long)number, after);
}

void tap_view_watch_csv_line(struct tap_text *line, pid_t pid, const struct tap_watch_point *point)
{
	tap_text_add(line, "%.3f,%d,", point->t_s, (int)pid);
	add_number(line, point->usage.rss_bytes, ',');
	add_number(line, point->usage.pss_bytes, ',');
	add_number(line, point->usage.uss_bytes, ',');
	add_number(line, point->usage.swap_bytes, ',');
	add_number(line, point->usage.fds, '\n');
}
