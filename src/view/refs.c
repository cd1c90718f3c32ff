/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "view/json.h"
#include "view/text.h"

/* --- text: a tree, each node once ------------------------------------------------- */

struct tree {
	const struct tap_page *page;
	const struct tap_refs_report *report;
	bool *shown;
};

static void show_node(const struct tree *tree, size_t at, const char *edge, unsigned indent)
{
	const struct tap_ref_node *node = &tree->report->nodes.items[at];
	const struct tap_page *page = tree->page;
	char size[TAP_SIZE_TEXT];

	fprintf(page->out, "%*s", (int)indent * 2, "");
	if (indent)
		fputs(tree->report->forward ? "-> " : "<- ", page->out);
	tap_page_ink(page, TAP_INK_BOLD);
	tap_page_text(page, node->label);
	tap_page_ink(page, TAP_INK_PLAIN);
	if (node->type) {
		fputs("   ", page->out);
		tap_page_text(page, node->type);
	}
	fprintf(page->out, "   %s", tap_text_size(size, (int64_t)node->own_bytes));
	if (edge && *edge) {
		fputs("   by ", page->out);
		tap_page_text(page, edge);
	}
	if (node->root)
		fputs("   (root)", page->out);
	if (tree->shown[at])
		fputs("   (see above)", page->out);
	fputc('\n', page->out);
}

static void show_below(struct tree *tree, size_t at, const char *edge, unsigned indent)
{
	const struct tap_refs_report *report = tree->report;
	char count[TAP_SIZE_TEXT];
	bool again = tree->shown[at];

	show_node(tree, at, edge, indent);
	if (again)
		return;
	tree->shown[at] = true;
	for (size_t i = 0; i < report->edges.count; i++) {
		const struct tap_ref_edge *next = &report->edges.items[i];
		size_t near = report->forward ? next->from : next->to;

		if (near == at)
			show_below(tree, report->forward ? next->to : next->from, next->label,
				indent + 1);
	}
	if (report->nodes.items[at].folded)
		fprintf(tree->page->out, "%*s... %s more\n", (int)indent * 2 + 2, "",
			tap_text_count(count, (int64_t)report->nodes.items[at].folded));
}

void tap_view_refs_text(
	FILE *out, const struct tap_refs_report *report, const struct tap_view_options *options)
{
	const struct tap_page page = {out, options};
	_cleanup_free_ bool *shown = tap_alloc(report->nodes.count + 1);
	struct tree tree = {&page, report, shown};
	char count[TAP_SIZE_TEXT];

	tap_page_head(&page, "refs", &report->process);
	if (report->matching > 1) {
		tap_page_dot(&page);
		fprintf(out, "one of %s", tap_text_count(count, (int64_t)report->matching));
	}
	fputs("\n\n", out);
	if (report->nodes.count)
		show_below(&tree, 0, NULL, 0);
}

/* --- DOT, the language of Graphviz --------------------------------------------------- */

/* A quoted string: of what is special there only quotes and backslashes are left
 * once text was cleaned. */
static void put_quoted(FILE *out, const char *text)
{
	_cleanup_free_ char *clean = tap_text_clean_copy(text ? text : "");

	fputc('"', out);
	for (const char *c = clean; *c; c++) {
		if (*c == '"' || *c == '\\')
			fputc('\\', out);
		fputc(*c, out);
	}
	fputc('"', out);
}

void tap_view_refs_dot(FILE *out, const struct tap_refs_report *report)
{
	fputs("digraph refs {\n\tnode [shape=box, fontsize=10];\n\tedge [fontsize=9];\n", out);
	for (size_t i = 0; i < report->nodes.count; i++) {
		const struct tap_ref_node *node = &report->nodes.items[i];
		_cleanup_free_ char *label = tap_format("%s (%s, %" PRIu64 " B)", node->label,
			node->type ? node->type : "block", node->own_bytes);

		fprintf(out, "\tn%zu [label=", i);
		put_quoted(out, label);
		fputs(i ? node->root ? ", peripheries=2" : "" : ", style=filled", out);
		fputs("];\n", out);
		if (node->folded)
			fprintf(out,
				"\tm%zu [label=\"%" PRIu64 " more\", style=dashed];\n\t%c%zu -> %c%zu;\n",
				i, node->folded, report->forward ? 'n' : 'm', i,
				report->forward ? 'm' : 'n', i);
	}
	for (size_t i = 0; i < report->edges.count; i++) {
		const struct tap_ref_edge *edge = &report->edges.items[i];

		fprintf(out, "\tn%zu -> n%zu [label=", edge->from, edge->to);
		put_quoted(out, edge->label);
		fputs("];\n", out);
	}
	fputs("}\n", out);
}

/* --- JSON ------------------------------------------------------------------------- */

static json_t *node_object(const struct tap_ref_node *node, size_t id)
{
	json_t *object = json_object();
	char address[32];

	snprintf(address, sizeof(address), "0x%" PRIx64, node->addr);
	json_object_set_new(object, "id", json_integer((json_int_t)id));
	json_object_set_new(object, "type", tap_json_text(node->type));
	json_object_set_new(object, "label", tap_json_text(node->label));
	json_object_set_new(object, "address", json_string(address));
	json_object_set_new(object, "own_bytes", tap_json_bytes(node->own_bytes));
	json_object_set_new(object, "root", json_boolean(node->root));
	json_object_set_new(object, "folded", tap_json_bytes(node->folded));
	return object;
}

void tap_view_refs_json(FILE *out, const struct tap_refs_report *report)
{
	json_t *document = tap_json_document("refs");
	json_t *nodes = json_array(), *edges = json_array();

	for (size_t i = 0; i < report->nodes.count; i++)
		json_array_append_new(nodes, node_object(&report->nodes.items[i], i));
	for (size_t i = 0; i < report->edges.count; i++) {
		const struct tap_ref_edge *edge = &report->edges.items[i];
		json_t *object = json_object();

		json_object_set_new(object, "from", json_integer((json_int_t)edge->from));
		json_object_set_new(object, "to", json_integer((json_int_t)edge->to));
		json_object_set_new(object, "label", tap_json_text(edge->label));
		json_array_append_new(edges, object);
	}
	json_object_set_new(document, "process", tap_json_process(&report->process));
	json_object_set_new(document, "pause_s", tap_json_number(report->pause_s));
	json_object_set_new(document, "nodes", nodes);
	json_object_set_new(document, "edges", edges);
	tap_json_print(out, document);
}
