/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_COMMAND_COMMAND_H
#define HEAPTAP_COMMAND_COMMAND_H

/*
 * A subcommand is one const object: its words, a table of its options, and
 * what it does. Options are parsed by the table into a struct of the
 * command's own; help, completions and the man pages' lint read the same
 * table.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "output.h"
#include "heaptap/base/error.h"
#include "heaptap/base/vector.h"
#include "heaptap/view/view.h"

/* What an option's argument is, and the type of the member it goes to. */
enum tap_option_kind {
	TAP_OPTION_FLAG,     /* bool */
	TAP_OPTION_TEXT,     /* const char * */
	TAP_OPTION_DURATION, /* double, seconds */
	TAP_OPTION_SIZE,     /* uint64_t, bytes */
	TAP_OPTION_PERCENT,  /* double, 0 to 100 */
	TAP_OPTION_NUMBER,   /* int64_t, from 1 on */
	TAP_OPTION_CHOICE,   /* const char *, one of the words in argument, "a|b|c" */
	TAP_OPTION_LIST,     /* struct tap_option_list: can be given several times */
	TAP_OPTION_HELP,     /* shows the help */
	TAP_OPTION_VERSION,  /* shows the version */
	TAP_OPTION_LATER,    /* belongs to a later version: refused by name */
};

TAP_VECTOR_TYPE(tap_option_list, const char *);

/* Tables end with a row without a name. */
struct tap_option {
	const char *name;     /* long, without the dashes */
	char letter;          /* short, 0 for none */
	const char *argument; /* as the help names it, NULL where it takes none */
	enum tap_option_kind kind;
	size_t offset; /* of the member it goes to */
	const char *help;
};

/* What every command takes. */
struct tap_common {
	bool json;
	bool quiet;
	bool verbose;
	const char *output; /* NULL: standard output */
	const char *color;  /* "auto", "always", "never" */
	const char *debug_dir;
	int64_t limit;
};

extern const struct tap_option tap_common_options[];

/* The command line of one run. Strings are argv's. */
struct tap_invocation {
	const struct tap_command *command;
	struct tap_common common;
	void *values; /* the command's own struct, freed with the invocation */
	TAP_VECTOR(const char *) operands;
	char *const *argv; /* what follows "--", NULL-terminated; NULL without "--" */
	bool wants_help, wants_version;
};

struct tap_command {
	const char *name;
	const char *summary;     /* one line, for the list of commands */
	const char *usage;       /* what follows the options: "PID" */
	const char *other_usage; /* a second form, or NULL */
	const char *description; /* paragraphs of the help */
	const struct tap_option *options;
	size_t values_size;
	const void *defaults; /* values_size bytes, NULL for zeroes */
	/* exit_ret is 0 before. */
	struct tap_error *(*run)(const struct tap_invocation *invocation, int *exit_ret);
};

extern const struct tap_command tap_command_clean;
extern const struct tap_command tap_command_info;
extern const struct tap_command tap_command_refs;
extern const struct tap_command tap_command_report;
extern const struct tap_command tap_command_stack;
extern const struct tap_command tap_command_trace;
extern const struct tap_command tap_command_types;
extern const struct tap_command tap_command_watch;

/* Ends with NULL. */
extern const struct tap_command *const tap_commands[];

/* The command by its name. USAGE for words that are none, for those of later
 * versions, and for a bare PID, each with what there is instead. */
struct tap_error *tap_command_find(const char *word, const struct tap_command **ret);

/* Parses argv[1] on (argv[0] is the command's name) into *ret, which is to be
 * freed also after an error. */
struct tap_error *tap_options_parse(
	const struct tap_command *command, int argc, char **argv, struct tap_invocation *ret);
void tap_invocation_deinit(struct tap_invocation *invocation);

/* Is --json among the arguments, however wrong the rest may be? */
bool tap_options_want_json(int argc, char **argv);

/* "did you mean '...'?" out of words that end with NULL; NULL where none is
 * near. */
const char *tap_nearest_word(const char *word, const char *const *words);

/* USAGE unless the command line has one PID and nothing else. */
struct tap_error *tap_operand_pid(const struct tap_invocation *invocation, pid_t *ret);
struct tap_error *tap_parse_pid(const char *text, pid_t *ret);

/* The process's own help, by command or of the whole program. */
void tap_help_program(FILE *out);
void tap_help_command(FILE *out, const struct tap_command *command);
/* Every command and option in lines of tab-separated fields. */
void tap_help_list_options(FILE *out);

/* How the answer is to look: colour where fd shows it, the terminal's width. */
struct tap_view_options tap_view_options(const struct tap_common *common, int fd);

#endif
