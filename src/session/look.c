/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "session/look.h"

static struct tap_error *explain(const struct tap_process *process, struct tap_error *err)
{
	int errnum;

	if (!err || err->code != TAP_ERR_PERMISSION)
		return err;
	errnum = err->errnum ? err->errnum : EPERM;
	tap_error_free(err);
	return tap_process_explain_denied(process, errnum);
}

struct tap_error *tap_look_open(
	struct tap_process *process, const char *debug_dir, struct tap_look *ret)
{
	struct tap_error *err;

	memset(ret, 0, sizeof(*ret));
	err = tap_maps_read(process->pid, &ret->maps);
	if (!err)
		err = tap_memory_open(process->pid, false, &ret->memory);
	if (!err)
		err = tap_symbols_open(
			process->pid, ret->memory, &ret->maps, debug_dir, &ret->symbols);
	if (!err)
		err = tap_python_open(ret->symbols, ret->memory, &ret->python);
	if (err)
		return explain(process, err);
	if (ret->python && *tap_python_info(ret->python)->version) {
		free(process->python_version);
		process->python_version = tap_strdup(tap_python_info(ret->python)->version);
	}
	return NULL;
}

void tap_look_close(struct tap_look *look)
{
	tap_python_close(look->python);
	tap_symbols_close(look->symbols);
	tap_memory_close(look->memory);
	tap_maps_deinit(&look->maps);
	memset(look, 0, sizeof(*look));
}
