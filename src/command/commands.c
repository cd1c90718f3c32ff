/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "command/command.h"
#include "heaptap/base/text.h"

const struct tap_command *const tap_commands[] = {
	&tap_command_report,
	&tap_command_trace,
	&tap_command_watch,
	&tap_command_types,
	&tap_command_refs,
	&tap_command_stack,
	&tap_command_info,
	&tap_command_clean,
	NULL,
};

/* Words of later versions, so that they are not taken for mistakes. */
static const char *const later_commands[] = {
	"top", "snap", "diff", "lines", "show", "check", "batch", NULL};

static struct tap_error *refuse_unknown(const char *word)
{
	const char *names[16] = {"help"};
	const char *near;
	struct tap_error *err;

	for (size_t i = 0; tap_commands[i] && i < 14; i++)
		names[i + 1] = tap_commands[i]->name;
	near = tap_nearest_word(word, names);
	err = tap_error_new(TAP_ERR_USAGE, "there is no command '%s'", word);
	if (near)
		return tap_error_advise(err, "did you mean '%s'?", near);
	return tap_error_advise(err,
		"the commands are report, trace, watch, types, refs, stack, info, clean and help; "
		"see heaptap --help");
}

struct tap_error *tap_command_find(const char *word, const struct tap_command **ret)
{
	for (size_t i = 0; tap_commands[i]; i++) {
		if (!strcmp(tap_commands[i]->name, word)) {
			*ret = tap_commands[i];
			return NULL;
		}
	}
	for (size_t i = 0; later_commands[i]; i++)
		if (!strcmp(later_commands[i], word))
			return tap_error_advise(
				tap_error_new(TAP_ERR_USAGE,
					"'%s' is not in this version of heaptap (" HEAPTAP_VERSION
					")",
					word),
				"the commands there are: report, trace, watch, types, refs, stack, info, clean");
	if (*word == '-')
		return tap_error_advise(
			tap_error_new(
				TAP_ERR_USAGE, "there is no option %s in front of a command", word),
			"options follow the command: heaptap COMMAND [OPTION]... PID");
	return refuse_unknown(word);
}

struct tap_error *tap_parse_pid(const char *text, pid_t *ret)
{
	_cleanup_error_ struct tap_error *err = NULL;
	int64_t number = 0;

	err = tap_text_parse_number(text, 1, INT32_MAX, &number);
	if (err || text[strspn(text, "0123456789")])
		return tap_error_advise(tap_error_new(TAP_ERR_USAGE, "'%s' is not a PID", text),
			"a PID is a whole number above 0, as ps shows it");
	*ret = (pid_t)number;
	return NULL;
}

struct tap_error *tap_operand_pid(const struct tap_invocation *invocation, pid_t *ret)
{
	const char *name = invocation->command->name;

	if (invocation->argv)
		return tap_error_advise(
			tap_error_new(TAP_ERR_USAGE, "%s takes no command behind '--'", name),
			"usage: heaptap %s [OPTION]... PID", name);
	if (!invocation->operands.count)
		return tap_error_advise(tap_error_new(TAP_ERR_USAGE, "%s needs a PID", name),
			"usage: heaptap %s [OPTION]... PID", name);
	if (invocation->operands.count > 1)
		return tap_error_advise(tap_error_new(TAP_ERR_USAGE, "%s takes one PID", name),
			"usage: heaptap %s [OPTION]... PID", name);
	return tap_parse_pid(invocation->operands.items[0], ret);
}
