/* SPDX-License-Identifier: Apache-2.0 */
#include "heaptap/view/view.h"
#include "view/json.h"

static json_t *type_counts(const struct tap_type_count_list *list)
{
	json_t *array = json_array();

	for (size_t i = 0; i < list->count; i++) {
		json_t *object = json_object();

		json_object_set_new(object, "type", tap_json_text(list->items[i].type));
		json_object_set_new(object, "count", tap_json_bytes(list->items[i].count));
		json_array_append_new(array, object);
	}
	return array;
}

static json_t *address(uint64_t addr)
{
	char text[32];

	if (!addr)
		return json_null();
	snprintf(text, sizeof(text), "0x%llx", (unsigned long long)addr);
	return json_string(text);
}

static json_t *suspect_object(const struct tap_suspect *suspect)
{
	json_t *object = json_object(), *path = json_array();

	for (size_t i = 0; i < suspect->path.count; i++)
		json_array_append_new(path, tap_json_text(suspect->path.items[i]));
	json_object_set_new(object, "name", tap_json_text(suspect->name));
	json_object_set_new(object, "kind", tap_json_text(suspect->kind));
	json_object_set_new(object, "type", tap_json_text(suspect->type));
	json_object_set_new(object, "address", address(suspect->address));
	json_object_set_new(object, "path", path);
	json_object_set_new(object, "retained_bytes", tap_json_bytes(suspect->retained_bytes));
	json_object_set_new(object, "own_bytes", tap_json_bytes(suspect->own_bytes));
	json_object_set_new(object, "share", tap_json_number(suspect->share));
	json_object_set_new(object, "items",
		suspect->items >= 0 ? json_integer(suspect->items) : json_null());
	json_object_set_new(object, "item_types", type_counts(&suspect->item_types));
	json_object_set_new(object, "note", tap_json_text(suspect->note));
	return object;
}

static json_t *memory_object(const struct tap_memory_table *memory)
{
	json_t *object = json_object();

	json_object_set_new(object, "rss_bytes", tap_json_bytes(memory->rss_bytes));
	json_object_set_new(object, "python_live_bytes", tap_json_bytes(memory->python_live_bytes));
	json_object_set_new(object, "python_free_bytes", tap_json_bytes(memory->python_free_bytes));
	json_object_set_new(object, "c_live_bytes", tap_json_bytes(memory->c_live_bytes));
	json_object_set_new(object, "c_free_bytes", tap_json_bytes(memory->c_free_bytes));
	json_object_set_new(object, "code_bytes", tap_json_bytes(memory->code_bytes));
	json_object_set_new(object, "stack_bytes", tap_json_bytes(memory->stack_bytes));
	json_object_set_new(object, "other_bytes", tap_json_bytes(memory->other_bytes));
	json_object_set_new(object, "reserved_not_resident_bytes",
		tap_json_bytes(memory->reserved_not_resident_bytes));
	json_object_set_new(object, "swapped_bytes", tap_json_bytes(memory->swapped_bytes));
	json_object_set_new(object, "trimmable_bytes", tap_json_bytes(memory->trimmable_bytes));
	return object;
}

static json_t *unreachable_object(const struct tap_unreachable *lost, size_t limit)
{
	json_t *object = json_object(), *groups = json_array();

	for (size_t i = 0; i < lost->groups.count && i < limit; i++) {
		const struct tap_lost_group *group = &lost->groups.items[i];
		json_t *row = json_object();

		json_object_set_new(row, "size_bytes", tap_json_bytes(group->size_bytes));
		json_object_set_new(row, "count", tap_json_bytes(group->count));
		json_object_set_new(row, "bytes", tap_json_bytes(group->bytes));
		json_object_set_new(row, "preview", tap_json_text(group->preview));
		json_array_append_new(groups, row);
	}
	json_object_set_new(object, "c_blocks", tap_json_bytes(lost->c_blocks));
	json_object_set_new(object, "c_bytes", tap_json_bytes(lost->c_bytes));
	json_object_set_new(object, "interior_blocks", tap_json_bytes(lost->interior_blocks));
	json_object_set_new(object, "groups", groups);
	json_object_set_new(object, "python_objects", tap_json_bytes(lost->python_objects));
	json_object_set_new(object, "python_bytes", tap_json_bytes(lost->python_bytes));
	json_object_set_new(object, "python_types", type_counts(&lost->python_types));
	return object;
}

static json_t *types_array(const struct tap_heap_report *report, size_t limit, bool changes)
{
	json_t *array = json_array();

	for (size_t i = 0; i < report->types.count && i < limit; i++) {
		const struct tap_heap_type *type = &report->types.items[i];
		json_t *row = json_object();

		json_object_set_new(row, "type", tap_json_text(type->type));
		json_object_set_new(row, "count", tap_json_bytes(type->count));
		json_object_set_new(row, "own_bytes", tap_json_bytes(type->own_bytes));
		json_object_set_new(row, "retained_bytes", tap_json_bytes(type->retained_bytes));
		if (changes) {
			json_object_set_new(row, "count_change",
				report->growth ? json_integer(type->count_change) : json_null());
			json_object_set_new(row, "own_change",
				report->growth ? json_integer(type->own_change) : json_null());
		}
		json_array_append_new(array, row);
	}
	return array;
}

static json_t *fds_object(const struct tap_fds *fds, size_t limit)
{
	json_t *object = json_object(), *groups = json_array();

	for (size_t i = 0; i < fds->groups.count && i < limit; i++) {
		json_t *row = json_object();

		json_object_set_new(row, "target", tap_json_text(fds->groups.items[i].target));
		json_object_set_new(row, "count", tap_json_bytes(fds->groups.items[i].count));
		json_array_append_new(groups, row);
	}
	json_object_set_new(object, "count", tap_json_bytes(fds->count));
	json_object_set_new(object, "limit", tap_json_bytes(fds->limit));
	json_object_set_new(object, "groups", groups);
	return object;
}

static json_t *threads_array(const struct tap_heap_report *report)
{
	json_t *array = json_array();

	for (size_t i = 0; i < report->stacks.threads.count; i++) {
		const struct tap_stack_thread *thread = &report->stacks.threads.items[i];
		const char state[2] = {thread->state};
		json_t *row = json_object();

		json_object_set_new(row, "tid", json_integer(thread->tid));
		json_object_set_new(row, "name", tap_json_text(thread->name));
		json_object_set_new(row, "state", tap_json_text(*state ? state : NULL));
		json_object_set_new(row, "stack", tap_json_frames(&thread->frames));
		json_array_append_new(array, row);
	}
	return array;
}

static json_t *walk_object(const struct tap_heap_walk_result *walk)
{
	json_t *object = json_object();

	json_object_set_new(object, "complete", json_boolean(walk->complete));
	json_object_set_new(object, "blocks", tap_json_bytes(walk->blocks));
	json_object_set_new(object, "objects", tap_json_bytes(walk->objects));
	json_object_set_new(object, "seconds", tap_json_number(walk->seconds));
	json_object_set_new(object, "stopped_by", tap_json_text(walk->stopped_by));
	return object;
}

void tap_view_report_json(FILE *out, const struct tap_heap_report *report, size_t limit)
{
	json_t *document = tap_json_document("report"), *suspects = json_array();

	for (size_t i = 0; i < report->suspects.count && i < limit; i++)
		json_array_append_new(suspects, suspect_object(&report->suspects.items[i]));
	json_object_set_new(document, "process", tap_json_process(&report->process));
	json_object_set_new(document, "pause_s", tap_json_number(report->pause_s));
	json_object_set_new(document, "verdict", tap_json_verdict(&report->verdict));
	json_object_set_new(document, "memory", memory_object(&report->memory));
	json_object_set_new(document, "suspects", suspects);
	json_object_set_new(
		document, "unreachable", unreachable_object(&report->unreachable, limit));
	json_object_set_new(document, "types", types_array(report, limit, false));
	json_object_set_new(document, "fds", fds_object(&report->fds, limit));
	json_object_set_new(document, "threads", threads_array(report));
	json_object_set_new(document, "walk", walk_object(&report->walk));
	tap_json_print(out, document);
}

void tap_view_types_json(FILE *out, const struct tap_heap_report *report, size_t limit)
{
	json_t *document = tap_json_document("types");

	json_object_set_new(document, "process", tap_json_process(&report->process));
	json_object_set_new(document, "pause_s", tap_json_number(report->pause_s));
	json_object_set_new(document, "types", types_array(report, limit, true));
	tap_json_print(out, document);
}
