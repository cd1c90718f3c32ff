/* SPDX-License-Identifier: Apache-2.0 */
#include "heaptap/view/view.h"
#include "view/json.h"

static json_t *timeline(const struct tap_watch_entry *entry)
{
	json_t *array = json_array();

	for (size_t i = 0; i < entry->timeline.count; i++) {
		const struct tap_watch_point *point = &entry->timeline.items[i];
		json_t *object = json_object();

		json_object_set_new(object, "t_s", tap_json_number(point->t_s));
		json_object_set_new(object, "rss_bytes", tap_json_bytes(point->usage.rss_bytes));
		json_object_set_new(object, "pss_bytes", tap_json_bytes(point->usage.pss_bytes));
		json_object_set_new(object, "uss_bytes", tap_json_bytes(point->usage.uss_bytes));
		json_object_set_new(object, "swap_bytes", tap_json_bytes(point->usage.swap_bytes));
		json_object_set_new(object, "fds", tap_json_bytes(point->usage.fds));
		json_array_append_new(array, object);
	}
	return array;
}

void tap_view_watch_json(FILE *out, const struct tap_watch_report *report)
{
	json_t *document = tap_json_document("watch");
	json_t *processes = json_array();

	for (size_t i = 0; i < report->entries.count; i++) {
		const struct tap_watch_entry *entry = &report->entries.items[i];
		json_t *object = json_object();

		json_object_set_new(object, "process", tap_json_process(&entry->process));
		json_object_set_new(object, "verdict", tap_json_verdict(&entry->verdict));
		json_object_set_new(object, "timeline", timeline(entry));
		json_object_set_new(object, "error",
			tap_json_text(entry->error ? entry->error->message : NULL));
		json_array_append_new(processes, object);
	}
	json_object_set_new(document, "processes", processes);
	tap_json_print(out, document);
}
