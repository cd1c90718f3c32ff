/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include "command/command.h"
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/text.h"

#define COMMON(member) offsetof(struct tap_common, member)

const struct tap_option tap_common_options[] = {
	{"json", 0, NULL, TAP_OPTION_FLAG, COMMON(json), "Print one JSON object"},
	{"output", 'o', "FILE", TAP_OPTION_TEXT, COMMON(output),
		"Write the answer to FILE instead of standard output"},
	{"color", 0, "auto|always|never", TAP_OPTION_CHOICE, COMMON(color),
		"Colour the text: auto, always or never (default: auto)"},
	{"quiet", 'q', NULL, TAP_OPTION_FLAG, COMMON(quiet), "No progress and no warnings"},
	{"verbose", 'v', NULL, TAP_OPTION_FLAG, COMMON(verbose), "Also say what could not be seen, and why"},
	{"limit", 0, "N", TAP_OPTION_NUMBER, COMMON(limit), "Rows of a ranking (default: 10)"},
	{"debug-dir", 0, "DIR", TAP_OPTION_TEXT, COMMON(debug_dir),
		"Look for separate debug files below DIR too"},
	{"help", 'h', NULL, TAP_OPTION_HELP, 0, "Show this help"},
	{"version", 'V', NULL, TAP_OPTION_VERSION, 0, "Show the version"},
	{NULL},
};

/* One command line being parsed. */
struct parser {
	struct tap_invocation *invocation;
	struct option *long_options; /* getopt's form of rows[] */
	const struct tap_option **rows;
	size_t count;
	char *letters;
};

static void parser_init(struct parser *parser, struct tap_invocation *invocation)
{
	const struct tap_option *const tables[] = {
		invocation->command->options, tap_common_options};
	struct tap_text letters = {0};

	memset(parser, 0, sizeof(*parser));
	parser->invocation = invocation;
	/* '-': operands are handed out where they stand; ':': so is a missing argument. */
	tap_text_add(&letters, "-:");
	for (size_t t = 0; t < 2; t++) {
		for (const struct tap_option *row = tables[t]; row && row->name; row++) {
			size_t i = parser->count++;

			parser->rows =
				tap_realloc(parser->rows, parser->count * sizeof(parser->rows[0]));
			parser->long_options = tap_realloc(parser->long_options,
				(parser->count + 1) * sizeof(parser->long_options[0]));
			parser->rows[i] = row;
			parser->long_options[i] = (struct option){.name = row->name,
				.has_arg = row->argument ? required_argument : no_argument,
				.val = 0x100 + (int)i};
			if (row->letter)
				tap_text_add(
					&letters, "%c%s", row->letter, row->argument ? ":" : "");
		}
	}
	memset(&parser->long_options[parser->count], 0, sizeof(parser->long_options[0]));
	parser->letters = letters.data;
}

static void parser_deinit(struct parser *parser)
{
	free(parser->rows);
	free(parser->long_options);
	free(parser->letters);
}

static size_t find_row(const struct parser *parser, int value)
{
	size_t i;

	if (value >= 0x100)
		return (size_t)value - 0x100;
	for (i = 0; i < parser->count; i++)
		if (parser->rows[i]->letter == value)
			break;
	return i;
}

static struct tap_error *refuse_later(const struct tap_option *row)
{
	return tap_error_advise(
		tap_error_new(TAP_ERR_USAGE,
			"--%s is not in this version of heaptap (" HEAPTAP_VERSION ")", row->name),
		"it belongs to a later version; without it the command works");
}

static struct tap_error *take_choice(
	const struct tap_option *row, const char *argument, const char **ret)
{
	size_t length = strlen(argument);

	for (const char *word = row->argument; *word;) {
		size_t n = strcspn(word, "|");

		if (n == length && !strncmp(word, argument, n)) {
			*ret = argument;
			return NULL;
		}
		word += n + (word[n] == '|');
	}
	return tap_error_advise(tap_error_new(TAP_ERR_USAGE, "--%s does not take '%s'", row->name,
					argument),
		"it takes one of %s", row->argument);
}

static struct tap_error *take_number(
	const struct tap_option *row, const char *argument, int64_t *ret)
{
	return tap_error_wrap(
		tap_text_parse_number(argument, 1, 1000000000, ret), "--%s", row->name);
}

static struct tap_error *take(
	struct parser *parser, const struct tap_option *row, const char *argument)
{
	struct tap_invocation *invocation = parser->invocation;
	bool common = row >= tap_common_options &&
		      row < tap_common_options + sizeof(tap_common_options) / sizeof(*row);
	char *base = common ? (char *)&invocation->common : invocation->values;
	void *member = base ? base + row->offset : NULL;

	switch (row->kind) {
	case TAP_OPTION_FLAG:
		*(bool *)member = true;
		return NULL;
	case TAP_OPTION_TEXT:
		*(const char **)member = argument;
		return NULL;
	case TAP_OPTION_DURATION:
		return tap_error_wrap(tap_text_parse_duration(argument, member), "--%s", row->name);
	case TAP_OPTION_SIZE:
		return tap_error_wrap(tap_text_parse_size(argument, member), "--%s", row->name);
	case TAP_OPTION_PERCENT:
		return tap_error_wrap(tap_text_parse_percent(argument, member), "--%s", row->name);
	case TAP_OPTION_NUMBER:
		return take_number(row, argument, member);
	case TAP_OPTION_CHOICE:
		return take_choice(row, argument, member);
	case TAP_OPTION_LIST:
		tap_vector_push((struct tap_option_list *)member, argument);
		return NULL;
	case TAP_OPTION_HELP:
		invocation->wants_help = true;
		return NULL;
	case TAP_OPTION_VERSION:
		invocation->wants_version = true;
		return NULL;
	case TAP_OPTION_LATER:
		return refuse_later(row);
	}
	return NULL;
}

static struct tap_error *unknown_long(const struct parser *parser, const char *word)
{
	_cleanup_free_ const char **names = tap_alloc((parser->count + 1) * sizeof(*names));
	_cleanup_free_ char *name = tap_strndup(word, strcspn(word, "="));
	struct tap_error *err;
	const char *near;

	for (size_t i = 0; i < parser->count; i++)
		names[i] = parser->rows[i]->name;
	near = tap_nearest_word(name, names);
	err = tap_error_new(TAP_ERR_USAGE, "there is no option --%s", name);
	if (near)
		return tap_error_advise(err, "did you mean --%s?", near);
	return tap_error_advise(
		err, "heaptap %s --help lists those there are", parser->invocation->command->name);
}

static struct tap_error *unknown(const struct parser *parser, char **argv)
{
	const char *word = argv[optind - 1];

	if (optopt >= 0x100)
		return tap_error_new(TAP_ERR_USAGE, "--%s takes no argument",
			parser->rows[optopt - 0x100]->name);
	if (optopt)
		return tap_error_advise(
			tap_error_new(TAP_ERR_USAGE, "there is no option -%c", optopt),
			"heaptap %s --help lists those there are",
			parser->invocation->command->name);
	return unknown_long(parser, word + 2);
}

static struct tap_error *take_next(struct parser *parser, int value, char **argv)
{
	size_t row;

	if (value == 1) {
		tap_vector_push(&parser->invocation->operands, optarg);
		return NULL;
	}
	if (value == '?')
		return unknown(parser, argv);
	row = find_row(parser, value == ':' ? optopt : value);
	if (value == ':' && parser->rows[row]->kind != TAP_OPTION_LATER)
		return tap_error_new(TAP_ERR_USAGE, "--%s needs %s", parser->rows[row]->name,
			parser->rows[row]->argument);
	return take(parser, parser->rows[row], optarg);
}

static void invocation_init(struct tap_invocation *invocation, const struct tap_command *command)
{
	memset(invocation, 0, sizeof(*invocation));
	invocation->command = command;
	invocation->common.color = "auto";
	invocation->common.limit = 10;
	if (!command->values_size)
		return;
	invocation->values = tap_alloc(command->values_size);
	if (command->defaults)
		memcpy(invocation->values, command->defaults, command->values_size);
}

struct tap_error *tap_options_parse(
	const struct tap_command *command, int argc, char **argv, struct tap_invocation *ret)
{
	struct tap_error *err = NULL;
	struct parser parser;

	invocation_init(ret, command);
	parser_init(&parser, ret);
	opterr = 0;
	optind = 0; /* glibc and musl: forget an earlier parse */
	while (!err) {
		int before = optind;
		int value;

		optopt = 0;
		value = getopt_long(argc, argv, parser.letters, parser.long_options, NULL);
		if (value == -1) {
			/* It ends at "--" too, and only then moves on. */
			if (optind > before && optind > 1 && !strcmp(argv[optind - 1], "--"))
				ret->argv = argv + optind;
			break;
		}
		err = take_next(&parser, value, argv);
	}
	parser_deinit(&parser);
	return err;
}

void tap_invocation_deinit(struct tap_invocation *invocation)
{
	const struct tap_command *command = invocation->command;

	for (const struct tap_option *row = command ? command->options : NULL; row && row->name;
		row++)
		if (row->kind == TAP_OPTION_LIST)
			tap_vector_free((struct tap_option_list *)((char *)invocation->values +
								   row->offset));
	tap_vector_free(&invocation->operands);
	free(invocation->values);
	invocation->values = NULL;
}

bool tap_options_want_json(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
		if (!strcmp(argv[i], "--json"))
			return true;
	return false;
}
