/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_PYTHON_PYTHON_H
#define HEAPTAP_PYTHON_PYTHON_H

/*
 * The CPython runtime of a process, from outside: which version, its thread
 * states, Python frames, and its allocator tables. Layouts are tables made by
 * tools/ from the headers of each version (3.8 to 3.15), chosen by the
 * version found in memory and believed only after what is read through them
 * has been checked (an interpreter whose id is 0, a thread state that points
 * back). From 3.13 on _Py_DebugOffsets is read too and wins where it differs.
 *
 * Nothing runs in the target. Whoever calls the frame functions makes sure
 * that the thread in question stands still.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "heaptap/base/error.h"
#include "heaptap/base/frame.h"
#include "heaptap/base/strings.h"
#include "heaptap/memory/memory.h"
#include "heaptap/symbol/symbols.h"

struct tap_python;

struct tap_python_info {
	char version[32];      /* "3.12.1"; "3.12" where only the minor version is known */
	uint32_t hex;          /* PY_VERSION_HEX, micro and level 0 where unknown */
	bool supported;        /* a layout is there and was believed */
	bool free_threaded;
	char reason[160];      /* why it is not supported; else "" */
	const char *module;    /* path of the module that holds the runtime */
	uint64_t runtime_addr; /* _PyRuntime, 0 where not found */
};

/* Looks for a CPython runtime. *ret is NULL and no error where there is none.
 * One that is found but has no layout (3.7 and older, free-threaded builds,
 * newer ones) is returned with info.supported false, and the functions below
 * find nothing in it. symbols and memory must outlive it. */
struct tap_error *tap_python_open(
	struct tap_symbols *symbols, struct tap_memory *memory, struct tap_python **ret);
void tap_python_close(struct tap_python *python); /* takes NULL */
const struct tap_python_info *tap_python_info(const struct tap_python *python);

/* One frame as it stands in memory. key names code object and instruction for
 * good: code objects are known by address and checked against reuse, so that
 * equal keys mean the same line of the same function. Bit 63 is set, so that
 * keys and native PCs never meet. */
struct tap_python_frame {
	uint64_t key;
	uint64_t addr;      /* of the frame */
	bool entry;         /* the outermost Python frame of its native eval frame */
	uint8_t empty_evals; /* native eval frames further in than this one's, up to the frame
	                      * before it in the list, that run no Python frame: 3.12+, while
	                      * what a frame held is being released */
};
#define TAP_PYTHON_KEY (UINT64_C(1) << 63)

/* The thread state of a native thread: by pthread_self == fs_base, which holds
 * in every version and PID namespace; where fs_base is 0, by native_thread_id
 * (3.11+; the number in the target's own PID namespace). Of several (one per
 * interpreter) the one that runs. 0 for a thread that runs no Python.
 * *holds_gil_ret: 1, 0, or -1 where unknown (may be NULL). */
uint64_t tap_python_thread(
	struct tap_python *python, pid_t tid, uint64_t fs_base, int *holds_gil_ret);

/* Do all threads that run Python take turns? They do so by the GIL, which from
 * 3.12 on each interpreter may have for itself. */
bool tap_python_takes_turns(struct tap_python *python);

/* Every thread state there is, of every interpreter; returns the number,
 * fills at most capacity. tid is 0 where the version does not keep it. */
struct tap_python_thread_state {
	uint64_t addr;
	uint64_t pthread; /* thread_id: pthread_self(), which is fs_base on x86-64 */
	pid_t tid;
	int64_t interpreter;
};
size_t tap_python_threads(
	struct tap_python *python, struct tap_python_thread_state *states, size_t capacity);

/* Innermost first; returns their number, at most capacity. Frames that do not
 * make sense end the list. Several small reads a frame: turn the memory's
 * cache on around it while the thread stands still. From 3.11 on the part of
 * the data stack that the thread's frames took last time is read at once. */
size_t tap_python_frames(struct tap_python *python, uint64_t thread_state,
	struct tap_python_frame *frames, size_t capacity);
/* Both in one, with fewer reads. */
size_t tap_python_thread_frames(struct tap_python *python, pid_t tid, uint64_t fs_base,
	struct tap_python_frame *frames, size_t capacity);

/* Whoever sees every free of CPython's object domain, before it is done, knows
 * whether the code object at an address is the one that it was. Then it is
 * read once, not with each frame. */
struct tap_python_watch {
	/* Of the block that begins at addr and is there now: a number for holds(),
	 * never 0; 0 where it cannot be watched. */
	uint64_t (*begin)(void *context, uint64_t addr);
	/* It was not freed since. */
	bool (*holds)(void *context, uint64_t watch);
	void *context;
};
/* From now on; whatever was watched before is not any longer. NULL: nobody
 * sees them. */
void tap_python_watch(struct tap_python *python, const struct tap_python_watch *watch);

/* Function (co_qualname from 3.11 on, co_name before), file and line of a key
 * that tap_python_frames() gave, also after its code object went away. */
void tap_python_resolve(struct tap_python *python, uint64_t key, struct tap_strings *strings,
	struct tap_frame *ret);

/* Is this native PC inside the interpreter's evaluation function, so that the
 * native frame stands for Python frames up to the next `entry`? */
bool tap_python_is_eval(struct tap_python *python, uint64_t pc);

/* The allocator tables: records {ctx, malloc, calloc, realloc, free} through
 * which every allocation of CPython goes. */
enum tap_python_domain {
	TAP_PYTHON_RAW,
	TAP_PYTHON_MEM,
	TAP_PYTHON_OBJ,
	TAP_PYTHON_DOMAINS,
};

struct tap_python_table {
	enum tap_python_domain domain;
	uint64_t addr; /* of the record in writable data; ctx at +0, malloc +8, calloc +16, realloc
	                * +24, free +32 */
	uint64_t ctx;
	uint64_t functions[4];
};

/* With symbols where there are any, else by scanning the module's writable
 * data for the records. NOT_FOUND with the reason where not all three are
 * certain. */
struct tap_error *tap_python_tables(
	struct tap_python *python, struct tap_python_table tables[TAP_PYTHON_DOMAINS]);

/* The size class of a block that pymalloc handed out, from its pool's header:
 * bytes of the class, 16 to 512; 0 where addr lies in no pool. */
uint32_t tap_python_pool_block_size(struct tap_python *python, uint64_t addr);

#endif
