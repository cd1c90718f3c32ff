/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/base/text.h"
#include "view/json.h"

json_t *tap_json_text(const char *text)
{
	_cleanup_free_ char *clean = NULL;

	if (!text)
		return json_null();
	clean = tap_text_utf8_copy(text);
	return json_string(clean);
}

json_t *tap_json_bytes(uint64_t number)
{
	return number > INT64_MAX ? json_null() : json_integer((json_int_t)number);
}

json_t *tap_json_number(double number)
{
	double rounded = round(number * 1e6) / 1e6;

	if (!isfinite(number))
		return json_null();
	return json_real(isfinite(rounded) ? rounded : number);
}

json_t *tap_json_time(uint64_t wall_ns)
{
	char text[TAP_CLOCK_TEXT];

	return wall_ns ? json_string(tap_clock_iso(text, wall_ns)) : json_null();
}

json_t *tap_json_process(const struct tap_process *process)
{
	json_t *object = json_object();
	json_t *cmdline = json_array();

	for (size_t i = 0; i < process->cmdline_count; i++)
		json_array_append_new(cmdline, tap_json_text(process->cmdline[i]));
	json_object_set_new(object, "pid", json_integer(process->pid));
	json_object_set_new(object, "exe", tap_json_text(process->exe));
	json_object_set_new(object, "cmdline", cmdline);
	json_object_set_new(object, "python", tap_json_text(process->python_version));
	json_object_set_new(object, "threads",
		process->threads > 0 ? json_integer(process->threads) : json_null());
	json_object_set_new(object, "start_time", tap_json_time(process->start_wall_ns));
	json_object_set_new(object, "cgroup", tap_json_text(process->cgroup));
	return object;
}

json_t *tap_json_verdict(const struct tap_verdict *verdict)
{
	bool limited = verdict->limit_kind != TAP_LIMIT_NONE;
	json_t *object = json_object();

	json_object_set_new(object, "state", json_string(tap_verdict_state_name(verdict->state)));
	json_object_set_new(object, "reason", tap_json_text(verdict->reason));
	json_object_set_new(
		object, "signal", tap_json_text(tap_verdict_signal_name(verdict->signal)));
	json_object_set_new(object, "growth_bytes_per_s",
		verdict->growth_known ? tap_json_number(verdict->growth_bytes_per_s) : json_null());
	json_object_set_new(object, "limit_bytes",
		limited ? tap_json_bytes(verdict->limit_bytes) : json_null());
	json_object_set_new(
		object, "limit_kind", tap_json_text(tap_limit_kind_name(verdict->limit_kind)));
	json_object_set_new(object, "time_to_limit_s",
		limited && verdict->time_to_limit_s >= 0 ? tap_json_number(verdict->time_to_limit_s)
							 : json_null());
	return object;
}

json_t *tap_json_frames(const struct tap_frame_list *frames)
{
	json_t *array = json_array();

	for (size_t i = 0; i < frames->count; i++) {
		const struct tap_frame *frame = &frames->items[i];
		json_t *object = json_object();

		json_object_set_new(object, "function", tap_json_text(frame->function));
		json_object_set_new(object, "file", tap_json_text(frame->file));
		json_object_set_new(
			object, "line", frame->line > 0 ? json_integer(frame->line) : json_null());
		json_object_set_new(object, "module", tap_json_text(frame->module));
		json_object_set_new(
			object, "language", json_string(tap_language_name(frame->language)));
		json_object_set_new(object, "inlined", json_boolean(frame->inlined));
		json_array_append_new(array, object);
	}
	return array;
}

json_t *tap_json_document(const char *command)
{
	_cleanup_free_ char *schema = tap_format("heaptap.%s/1", command);
	json_t *document = json_object();

	json_object_set_new(document, "schema", json_string(schema));
	return document;
}

void tap_json_print(FILE *out, json_t *document)
{
	json_dumpf(document, out, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
	fputc('\n', out);
	json_decref(document);
}
