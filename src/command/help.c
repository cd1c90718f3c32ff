/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include "command/command.h"

static const char *placeholder(const struct tap_option *row)
{
	return row->argument && strchr(row->argument, '|') ? "WHEN" : row->argument;
}

static void show_option(FILE *out, const struct tap_option *row)
{
	char left[64];
	const char *argument = row->kind == TAP_OPTION_CHOICE && strcmp(row->name, "color")
				       ? row->argument
				       : placeholder(row);

	snprintf(left, sizeof(left), "%c%c%s --%s%s%s", row->letter ? '-' : ' ',
		row->letter ? row->letter : ' ', row->letter ? "," : " ", row->name,
		argument ? " " : "", argument ? argument : "");
	if (strlen(left) > 27)
		fprintf(out, "  %s\n  %27s %s\n", left, "", row->help);
	else
		fprintf(out, "  %-27s %s\n", left, row->help);
}

static void show_options(FILE *out, const char *title, const struct tap_option *rows)
{
	bool any = false;

	for (; rows && rows->name; rows++) {
		if (rows->kind == TAP_OPTION_LATER)
			continue;
		if (!any)
			fprintf(out, "\n%s:\n", title);
		any = true;
		show_option(out, rows);
	}
}

static bool takes_duration(const struct tap_command *command)
{
	for (const struct tap_option *row = command->options; row && row->name; row++)
		if (row->kind == TAP_OPTION_DURATION)
			return true;
	return false;
}

void tap_help_command(FILE *out, const struct tap_command *command)
{
	fprintf(out, "Usage: heaptap %s [OPTION]... %s\n", command->name, command->usage);
	if (command->other_usage)
		fprintf(out, "       heaptap %s [OPTION]... %s\n", command->name,
			command->other_usage);
	fprintf(out, "\n%s\n", command->description);
	show_options(out, "Options", command->options);
	show_options(out, "Common options", tap_common_options);
	fputc('\n', out);
	if (takes_duration(command))
		fputs("Durations: 500ms, 10s, 5m, 1h or plain seconds. ", out);
	fprintf(out, "See heaptap-%s(1).\n", command->name);
}

void tap_help_program(FILE *out)
{
	fputs("Usage: heaptap COMMAND [OPTION]... PID\n"
	      "       heaptap trace [OPTION]... -- COMMAND [ARGUMENT]...\n"
	      "\n"
	      "Looks at the memory of a process that is running, from outside: nothing is\n"
	      "restarted, no code is changed, nothing runs in its interpreter.\n"
	      "\nCommands:\n",
		out);
	for (size_t i = 0; tap_commands[i]; i++)
		fprintf(out, "  %-8s %s\n", tap_commands[i]->name, tap_commands[i]->summary);
	fprintf(out, "  %-8s %s\n", "help", "Show the help of a command: heaptap help trace");
	fputs("\nheaptap COMMAND --help shows the options of a command.\n"
	      "\nExit codes: 0 done; 1 a leak, where --fail-on-leak asked; 2 usage; 3 no such\n"
	      "process, or not permitted; 4 a kind of process that is not supported; 5 a file\n"
	      "could not be read or written.\n",
		out);
}

static void list_rows(
	FILE *out, const char *command, const struct tap_option *rows, const char *when)
{
	for (; rows && rows->name; rows++)
		fprintf(out, "option\t%s\t--%s\t%c\t%s\t%s\t%s\n", command, rows->name,
			rows->letter ? rows->letter : '-', rows->argument ? rows->argument : "-",
			rows->kind == TAP_OPTION_LATER ? "later" : when, rows->help);
}

void tap_help_list_options(FILE *out)
{
	for (size_t i = 0; tap_commands[i]; i++) {
		fprintf(out, "command\t%s\t%s\n", tap_commands[i]->name, tap_commands[i]->summary);
		list_rows(out, tap_commands[i]->name, tap_commands[i]->options, "now");
		list_rows(out, tap_commands[i]->name, tap_common_options, "common");
	}
}
