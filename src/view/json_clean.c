/* SPDX-License-Identifier: Apache-2.0 */
#include "heaptap/view/view.h"
#include "view/json.h"

void tap_view_clean_json(FILE *out, const struct tap_clean_report *report)
{
	json_t *document = tap_json_document("clean");

	json_object_set_new(document, "process", tap_json_process(&report->process));
	json_object_set_new(document, "found", json_boolean(report->found));
	json_object_set_new(document, "removed", json_boolean(report->removed));
	json_object_set_new(document, "reason", tap_json_text(report->reason));
	tap_json_print(out, document);
}
