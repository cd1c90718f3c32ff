/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_TESTS_PYTHON_TARGET_H
#define HEAPTAP_TESTS_PYTHON_TARGET_H

/* An interpreter that runs a script of tests/fixtures/python, and is looked at
 * from outside. */

#include <sys/wait.h>
#include "python_interpreters.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/proc/maps.h"
#include "heaptap/python/python.h"

struct python_target {
	pid_t pid;
	FILE *told; /* its standard output */
	int input;
	struct tap_memory *memory;
	struct tap_maps maps;
	struct tap_symbols *symbols;
	struct tap_python *python;
};

/* Versions that are not read only say that they are there: a line with an E. */
static inline void python_target_start(
	struct python_target *target, const struct interpreter *interpreter, const char *script)
{
	int in[2], out[2];
	char code[512];

	snprintf(code, sizeof(code),
		"import io, os, sys; "
		"sys.version_info < (3, 8) and (os.write(1, b'E\\n'), os.read(0, 1)) or "
		"eval(compile(io.open(3, encoding='utf-8').read(), '%s', 'exec'))",
		script);
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	target->pid = fork();
	assert_true(target->pid >= 0);
	if (!target->pid)
		run_interpreter(interpreter, script, code, in[0], out[1]);
	close(in[0]);
	close(out[1]);
	target->input = in[1];
	target->told = fdopen(out[0], "r");
}

/* The last thing that its main thread does is to read its standard input. */
static inline void python_target_wait_parked(const struct python_target *target)
{
	char path[64], text[256];

	snprintf(path, sizeof(path), "/proc/%d/syscall", target->pid);
	for (int tries = 0; tries < 20000; tries++) {
		_cleanup_fclose_ FILE *f = fopen(path, "r");

		assert_non_null(f);
		if (fgets(text, sizeof(text), f) && strncmp(text, "0 0x0 ", 6) == 0)
			return;
		usleep(1000);
	}
	fail_msg("the target does not come to rest: %s", text);
}

static inline void python_target_look(struct python_target *target)
{
	assert_ok(tap_memory_open(target->pid, false, &target->memory));
	assert_ok(tap_maps_read(target->pid, &target->maps));
	assert_ok(tap_symbols_open(
		target->pid, target->memory, &target->maps, NULL, &target->symbols));
	assert_ok(tap_python_open(target->symbols, target->memory, &target->python));
	assert_non_null(target->python);
}

static inline void python_target_stop(struct python_target *target)
{
	tap_python_close(target->python);
	tap_symbols_close(target->symbols);
	tap_maps_deinit(&target->maps);
	tap_memory_close(target->memory);
	close(target->input);
	fclose(target->told);
	kill(target->pid, SIGKILL);
	waitpid(target->pid, NULL, 0);
}

#endif
