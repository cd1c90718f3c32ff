/* SPDX-License-Identifier: Apache-2.0 */
#include "heaptap/view/view.h"
#include "view/json.h"

static json_t *entry_points(const struct tap_trace_report *report)
{
	json_t *array = json_array();

	for (size_t i = 0; i < report->entry_points.count; i++) {
		const struct tap_entry_point *point = &report->entry_points.items[i];
		json_t *object = json_object();

		json_object_set_new(object, "module", tap_json_text(point->module));
		json_object_set_new(object, "symbol", tap_json_text(point->symbol));
		json_object_set_new(object, "how", tap_json_text(tap_entry_how_name(point->how)));
		json_object_set_new(object, "reason", tap_json_text(point->reason));
		json_object_set_new(object, "calls",
			point->how == TAP_ENTRY_NONE && !point->calls ?
				json_null() :
				tap_json_bytes(point->calls));
		json_array_append_new(array, object);
	}
	return array;
}

static json_t *timeline(const struct tap_trace_report *report)
{
	json_t *array = json_array();

	for (size_t i = 0; i < report->timeline.count; i++) {
		const struct tap_trace_point *point = &report->timeline.items[i];
		json_t *object = json_object();

		json_object_set_new(object, "t_s", tap_json_number(point->t_s));
		json_object_set_new(object, "rss_bytes", tap_json_bytes(point->rss_bytes));
		json_object_set_new(object, "swap_bytes", tap_json_bytes(point->swap_bytes));
		json_object_set_new(object, "live_bytes", json_integer(point->live_bytes));
		json_array_append_new(array, object);
	}
	return array;
}

static json_t *totals(const struct tap_trace_totals *totals)
{
	json_t *object = json_object();

	json_object_set_new(object, "allocated_bytes", tap_json_bytes(totals->allocated_bytes));
	json_object_set_new(object, "allocated_blocks", tap_json_bytes(totals->allocated_blocks));
	json_object_set_new(object, "freed_bytes", tap_json_bytes(totals->freed_bytes));
	json_object_set_new(object, "freed_blocks", tap_json_bytes(totals->freed_blocks));
	json_object_set_new(object, "live_bytes", json_integer(totals->live_bytes));
	json_object_set_new(object, "live_blocks", json_integer(totals->live_blocks));
	json_object_set_new(object, "growth_bytes", json_integer(totals->growth_bytes));
	json_object_set_new(
		object, "unseen_freed_blocks", tap_json_bytes(totals->unseen_freed_blocks));
	json_object_set_new(
		object, "unseen_freed_bytes", tap_json_bytes(totals->unseen_freed_bytes));
	json_object_set_new(object, "netted", json_boolean(totals->netted));
	json_object_set_new(object, "lost_samples", tap_json_bytes(totals->lost_samples));
	return object;
}

static json_t *site_object(const struct tap_trace_site *site)
{
	json_t *object = json_object();

	json_object_set_new(object, "file", tap_json_text(site->file));
	json_object_set_new(
		object, "line", site->line > 0 ? json_integer(site->line) : json_null());
	json_object_set_new(object, "function", tap_json_text(site->function));
	json_object_set_new(object, "language", json_string(tap_language_name(site->language)));
	json_object_set_new(object, "growth_bytes", json_integer(site->growth_bytes));
	json_object_set_new(object, "live_bytes", json_integer(site->live_bytes));
	json_object_set_new(object, "live_blocks", json_integer(site->live_blocks));
	json_object_set_new(object, "replaced_bytes", json_integer(site->replaced_bytes));
	json_object_set_new(object, "allocated_bytes", tap_json_bytes(site->allocated_bytes));
	json_object_set_new(object, "allocated_blocks", tap_json_bytes(site->allocated_blocks));
	json_object_set_new(object, "freed_bytes", tap_json_bytes(site->freed_bytes));
	json_object_set_new(
		object, "growth_bytes_per_s", tap_json_number(site->growth_bytes_per_s));
	json_object_set_new(
		object, "standard_error_bytes", tap_json_number(site->standard_error_bytes));
	json_object_set_new(object, "rss_correlation", tap_json_number(site->rss_correlation));
	json_object_set_new(object, "rss_share", tap_json_number(site->rss_share));
	json_object_set_new(object, "stack", tap_json_frames(&site->stack));
	return object;
}

static json_t *overhead(const struct tap_trace_report *report)
{
	json_t *object = json_object();

	json_object_set_new(object, "fixed", tap_json_number(report->overhead_fixed));
	json_object_set_new(object, "samples", tap_json_number(report->overhead_samples));
	return object;
}

void tap_view_trace_json(FILE *out, const struct tap_trace_report *report, size_t limit)
{
	json_t *document = tap_json_document("trace");
	json_t *sites = json_array();

	for (size_t i = 0; i < report->sites.count && i < limit; i++)
		json_array_append_new(sites, site_object(&report->sites.items[i]));
	json_object_set_new(document, "process", tap_json_process(&report->process));
	json_object_set_new(document, "start", tap_json_time(report->start_wall_ns));
	json_object_set_new(document, "duration_s", tap_json_number(report->duration_s));
	json_object_set_new(document, "engine", tap_json_text(report->engine));
	json_object_set_new(document, "exact", json_boolean(report->exact));
	json_object_set_new(document, "unseen_s", tap_json_number(report->unseen_s));
	json_object_set_new(
		document, "sample_interval_bytes", tap_json_bytes(report->sample_interval_bytes));
	json_object_set_new(document, "overhead", overhead(report));
	json_object_set_new(document, "verdict", tap_json_verdict(&report->verdict));
	json_object_set_new(document, "ended_by", json_string(tap_ended_by_name(report->ended_by)));
	json_object_set_new(document, "entry_points", entry_points(report));
	json_object_set_new(document, "child_exit_code",
		report->child_exit_code < 0 ? json_null() : json_integer(report->child_exit_code));
	json_object_set_new(document, "timeline", timeline(report));
	json_object_set_new(document, "totals", totals(&report->totals));
	json_object_set_new(document, "sites", sites);
	tap_json_print(out, document);
}
