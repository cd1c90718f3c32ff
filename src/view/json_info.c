/* SPDX-License-Identifier: Apache-2.0 */
#include "heaptap/view/view.h"
#include "view/json.h"

static json_t *attach(const struct tap_info_report *report)
{
	json_t *object = json_object();

	json_object_set_new(object, "allowed", json_boolean(report->attach.allowed));
	json_object_set_new(object, "reason", tap_json_text(report->attach.reason));
	json_object_set_new(object, "advice", tap_json_text(report->attach.advice));
	return object;
}

static json_t *runtime(const struct tap_info_report *report)
{
	json_t *object = json_object();

	json_object_set_new(
		object, "kind", json_string(tap_runtime_kind_name(report->runtime.kind)));
	json_object_set_new(object, "version", tap_json_text(report->runtime.version));
	json_object_set_new(object, "supported", json_boolean(report->runtime.supported));
	json_object_set_new(object, "reason", tap_json_text(report->runtime.reason));
	return object;
}

static json_t *allocators(const struct tap_info_report *report)
{
	json_t *array = json_array();

	for (size_t i = 0; i < report->allocators.count; i++) {
		const struct tap_info_allocator *allocator = &report->allocators.items[i];
		json_t *object = json_object();
		json_t *symbols = json_array();

		for (size_t j = 0; j < allocator->symbols.count; j++)
			json_array_append_new(symbols, tap_json_text(allocator->symbols.items[j]));
		json_object_set_new(object, "module", tap_json_text(allocator->module));
		json_object_set_new(object, "kind", tap_json_text(allocator->kind));
		json_object_set_new(object, "symbols", symbols);
		json_array_append_new(array, object);
	}
	return array;
}

static json_t *entry_points(const struct tap_info_report *report)
{
	json_t *array = json_array();

	for (size_t i = 0; i < report->entry_points.count; i++) {
		const struct tap_entry_point *point = &report->entry_points.items[i];
		json_t *object = json_object();

		json_object_set_new(object, "module", tap_json_text(point->module));
		json_object_set_new(object, "symbol", tap_json_text(point->symbol));
		json_object_set_new(object, "how", tap_json_text(tap_entry_how_name(point->how)));
		json_object_set_new(object, "reason", tap_json_text(point->reason));
		json_array_append_new(array, object);
	}
	return array;
}

static json_t *symbols(const struct tap_info_report *report)
{
	json_t *array = json_array();

	for (size_t i = 0; i < report->symbols.count; i++) {
		const struct tap_info_symbols *module = &report->symbols.items[i];
		json_t *object = json_object();

		json_object_set_new(object, "module", tap_json_text(module->module));
		json_object_set_new(object, "build_id", tap_json_text(module->build_id));
		json_object_set_new(object, "debug", tap_json_text(module->debug));
		json_array_append_new(array, object);
	}
	return array;
}

static json_t *cgroup(const struct tap_info_report *report)
{
	json_t *object = json_object();

	json_object_set_new(object, "path", tap_json_text(report->cgroup.path));
	json_object_set_new(object, "version",
		report->cgroup.version ? json_integer(report->cgroup.version) : json_null());
	json_object_set_new(object, "limit_bytes", tap_json_bytes(report->cgroup.limit_bytes));
	return object;
}

static const char *seccomp_name(int mode)
{
	static const char *const names[] = {"none", "strict", "filter"};

	return mode >= 0 && mode <= 2 ? names[mode] : NULL;
}

void tap_view_info_json(FILE *out, const struct tap_info_report *report)
{
	json_t *document = tap_json_document("info");

	json_object_set_new(document, "process", tap_json_process(&report->process));
	json_object_set_new(document, "attach", attach(report));
	json_object_set_new(document, "runtime", runtime(report));
	json_object_set_new(document, "allocators", allocators(report));
	json_object_set_new(document, "entry_points", entry_points(report));
	json_object_set_new(document, "symbols", symbols(report));
	json_object_set_new(
		document, "seccomp", tap_json_text(seccomp_name(report->process.seccomp)));
	json_object_set_new(document, "cgroup", cgroup(report));
	json_object_set_new(document, "left_behind", tap_json_text(report->left_behind));
	tap_json_print(out, document);
}
