/* SPDX-License-Identifier: Apache-2.0 */
#include "heaptap/view/view.h"
#include "view/json.h"

static json_t *thread_object(const struct tap_stack_thread *thread)
{
	const char state[2] = {thread->state};
	json_t *object = json_object();

	json_object_set_new(object, "tid", json_integer(thread->tid));
	json_object_set_new(object, "name", tap_json_text(thread->name));
	json_object_set_new(object, "state", tap_json_text(*state ? state : NULL));
	json_object_set_new(object, "wchan", tap_json_text(thread->wchan));
	json_object_set_new(object, "holds_gil",
		thread->holds_gil < 0 ? json_null() : json_boolean(thread->holds_gil));
	json_object_set_new(object, "stack", tap_json_frames(&thread->frames));
	return object;
}

void tap_view_stack_json(FILE *out, const struct tap_stack_report *report)
{
	json_t *document = tap_json_document("stack");
	json_t *threads = json_array();

	for (size_t i = 0; i < report->threads.count; i++)
		json_array_append_new(threads, thread_object(&report->threads.items[i]));
	json_object_set_new(document, "process", tap_json_process(&report->process));
	json_object_set_new(document, "pause_s", tap_json_number(report->pause_s));
	json_object_set_new(document, "threads", threads);
	tap_json_print(out, document);
}
