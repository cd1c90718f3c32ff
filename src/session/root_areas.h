/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_SESSION_ROOT_AREAS_H
#define HEAPTAP_SESSION_ROOT_AREAS_H

/* Memory outside of the heaps that are walked, which may refer to them: what
 * points into a heap from there holds what it points to. */

#include <stdint.h>
#include <sys/types.h>
#include "heaptap/arch/regs.h"
#include "heaptap/base/error.h"
#include "heaptap/base/vector.h"
#include "heaptap/heap/glibc.h"
#include "session/look.h"

enum root_area_kind {
	ROOT_AREA_MODULE, /* writable data of a module, its .bss included */
	ROOT_AREA_STACK,  /* from a thread's stack pointer, less the red zone, to the end */
	ROOT_AREA_OTHER,  /* any other writable mapping that no walker understands */
};

struct root_area {
	uint64_t start, end;
	enum root_area_kind kind;
	const char *name; /* the module's path, "stack of thread 42", or the mapping's name; lives as
	                   * long as the list */
	const struct tap_module *module; /* of MODULE, else NULL */
};

struct root_area_list {
	struct root_area *items;
	size_t count, capacity;
	struct tap_strings *strings;
};

struct root_thread {
	pid_t tid;
	struct tap_regs regs;
};

/* look: of the process, or of its copy, whose number is pid. glibc may be NULL.
 * In address order, none twice. */
struct tap_error *root_areas_find(const struct tap_look *look, pid_t pid,
	struct tap_glibc *glibc, const struct root_thread *threads, size_t thread_count,
	struct root_area_list *ret);
void root_areas_deinit(struct root_area_list *areas);

#endif
