/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_SESSION_LOOK_H
#define HEAPTAP_SESSION_LOOK_H

/* A process opened for reading: its maps, memory, modules and, where it has
 * one, its CPython runtime. Nothing is stopped and nothing written. */

#include <sys/types.h>
#include "heaptap/base/error.h"
#include "heaptap/memory/memory.h"
#include "heaptap/proc/maps.h"
#include "heaptap/proc/process.h"
#include "heaptap/python/python.h"
#include "heaptap/symbol/symbols.h"

struct tap_look {
	struct tap_maps maps;
	struct tap_memory *memory;
	struct tap_symbols *symbols;
	struct tap_python *python; /* NULL: no CPython */
};

/* Also sets process->python_version. PERMISSION is explained. To be closed
 * after an error too. */
struct tap_error *tap_look_open(
	struct tap_process *process, const char *debug_dir, struct tap_look *ret);
void tap_look_close(struct tap_look *look);

#define _cleanup_look_ __attribute__((cleanup(tap_look_close)))

#endif
