/* SPDX-License-Identifier: Apache-2.0 */
#include "heaptap/view/view.h"
#include "view/json.h"

void tap_view_error_json(FILE *out, const struct tap_error *err)
{
	json_t *document = tap_json_document("error");

	json_object_set_new(document, "code", json_string(tap_error_code_name(err->code)));
	json_object_set_new(document, "message", tap_json_text(err->message));
	json_object_set_new(document, "advice", tap_json_text(err->advice));
	tap_json_print(out, document);
}
