/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SESSION_RECORDER_H
#define SESSION_RECORDER_H

/*
 * One recording by breakpoints: what the tracer thread works on, and what it
 * tells the main thread. The two share the atomics alone; everything else is
 * the tracer's while it runs and the main thread's after it was joined.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "heaptap/base/error.h"
#include "heaptap/base/map.h"
#include "heaptap/base/strings.h"
#include "heaptap/base/vector.h"
#include "heaptap/ledger/ledger.h"
#include "heaptap/ledger/stacks.h"
#include "heaptap/proc/cgroup.h"
#include "heaptap/proc/process.h"
#include "heaptap/proc/tasks.h"
#include "heaptap/proc/usage.h"
#include "heaptap/python/python.h"
#include "heaptap/session/trace.h"
#include "heaptap/symbol/symbols.h"
#include "heaptap/symbol/unwind.h"
#include "heaptap/target/target.h"
#include "session/entry_points.h"

/* What a breakpoint is there for; its owner in target/. */
enum hook_kind {
	HOOK_ENTRY,  /* an allocator's entry point, or a stub of CPython's tables */
	HOOK_RETURN, /* where such a call comes back to */
	HOOK_LOADER, /* the dynamic linker tells of modules that came or went */
	HOOK_START,  /* a new program's first instruction: its modules are there */
};

struct hook {
	enum hook_kind kind;
	enum tap_entry_kind entry;
	bool table;         /* called as (context, arguments...) */
	bool object_domain; /* mem or obj: small blocks are pymalloc's */
	bool passes_on;     /* a function that frees: by another one, perhaps */
	size_t point;       /* index in recorder.points */
};

/* The block that a realloc was given, until that returns. */
struct old_block {
	bool seen;             /* it came since the start: `block`, taken out meanwhile */
	bool watched;          /* it did not, and was watched as one that was there before */
	uint64_t usable_bytes; /* of one that nobody saw come; 0: not known */
	uint32_t size_class;
	double weight; /* how many blocks it stands for, if it was watched */
	struct tap_ledger_block block;
};

/* A call that has not come back. */
struct pending {
	const struct hook *hook;
	uint64_t sp;              /* the stack pointer after its return */
	uint64_t return_addr;
	uint64_t arguments[4];
	struct old_block old;     /* realloc */
};

/* A free that another one may do the work of: what came last, until anything
 * else is called. */
struct passed_free {
	const struct hook *hook; /* NULL: none */
	uint64_t sp, addr;
};

/* What is kept of each thread. */
struct thread {
	struct recorder *rec;
	uint64_t fs_base; /* as of its last hit */
	TAP_VECTOR(struct pending) pending; /* outermost first */
	struct passed_free last_free;
	uint64_t hits;       /* since the last tick */
};

/* What was when the brake's window began. */
struct brake_window {
	uint64_t since_ns;
	uint64_t stops, stopped_ns;    /* of all */
	pid_t busiest;                 /* 0: none, or its times are not known */
	uint64_t busiest_stops;
	struct tap_task_times thread;  /* the busiest */
	struct tap_task_times tracer;
	uint64_t run_ns;               /* the whole process */
	uint64_t waited_ns, waits;     /* in probes, for answers */
	bool known;                    /* the last two */
	unsigned over; /* windows in a row before it of which stops took more than half */
};

/* Memory that the program mapped for itself, in whole pages. */
struct mapping {
	uint64_t start, end;
};

struct sampler;

struct recorder {
	const struct tap_trace_options *options;
	enum tap_trace_engine engine; /* that is at work: PROBE or BREAKPOINT */
	pid_t pid;
	/* Set before anything runs, the main thread's once `armed`. */
	struct tap_process process;
	struct tap_usage_reader *usage;
	struct tap_cgroup cgroup;
	struct tap_target *target;
	struct tap_memory *memory;
	struct tap_symbols *symbols;
	struct tap_unwinder *unwinder;
	struct tap_python *python;
	bool tables_armed; /* or given up */
	bool tables_seen;  /* every allocation of CPython comes by a table */
	bool glibc; /* blocks of malloc have glibc's headers */
	struct tap_stacks *stacks;
	struct tap_ledger *ledger;
	struct tap_entry_list entries;
	TAP_VECTOR(struct hook *) hooks;
	TAP_VECTOR(struct mapping) mappings; /* by address; each a block of the ledger */
	TAP_VECTOR(pid_t) starting; /* threads whose signal mask is not known yet */
	struct hook return_hook, loader_hook, start_hook;
	bool loader_tells;                 /* of modules that come and go */
	uint64_t looked_ns, looked_hash;   /* when not: the last look at what is mapped */
	struct tap_entry_point_list points; /* strings: tap_symbols' or `strings`' */
	struct tap_strings *strings;
	uint64_t lost_calls; /* that returned into code which is not followed */
	struct brake_window window;
	uint64_t held_ns; /* the target's time that stops took, over all attaches */
	uint64_t hits;
	bool sampled; /* probes: not every call was seen */
	uint64_t unseen_ns; /* for so long none was: an answer had come too late */
	bool old_unknown; /* probes: blocks from before the start were not found, so that their
	                   * frees go unseen */
	uint64_t sample_interval_bytes;
	double overhead_fixed, overhead_samples; /* probes */
	pid_t busiest; /* the thread of nearly all hits, 0 for none */
	char *ended_why;
	char *left_behind;

	/* Breakpoints beside probes: two threads of heaptap see calls. Both hold the
	 * lock while they deal with one: the ledger, the cells, symbols, the unwinder,
	 * Python's reader and the target's memory are for one at a time. No thread of
	 * the target is waited for meanwhile. */
	pthread_mutex_t lock;
	struct sampler *beside;     /* whose probes; NULL: there are no breakpoints, or nothing else */
	struct tap_map by_fs_base;  /* then: struct thread * */
	bool missed; /* not every call was seen, and not for sampling */

	pthread_t tracer;
	/* From the main thread. */
	atomic_bool end_wanted;
	atomic_bool suspend_wanted;
	atomic_uint tick;
	/* From the tracer. */
	atomic_bool armed, done;
	atomic_int kickable;         /* the thread that waits for ptrace's events; 0: none */
	atomic_int ended_by;
	atomic_int child_exit_code;
	_Atomic uint64_t start_ns;   /* the last entry point was armed */
	_Atomic uint64_t end_ns;     /* the first was lifted */
	_Atomic uint64_t start_wall_ns;
	_Atomic uint64_t calls;
	_Atomic int64_t net_bytes;
	struct tap_error *error;     /* valid once done */
};

/* recorder.c: the tracer thread's life; joined by whoever made it. */
void *recorder_run(void *recorder);
void recorder_init(struct recorder *rec, const struct tap_trace_options *options);
void recorder_deinit(struct recorder *rec);
struct thread *recorder_thread(struct recorder *rec, struct tap_tracee *tracee);
/* Attaches, or starts the command, on the calling thread. */
struct tap_error *recorder_attach(struct recorder *rec);
/* A breakpoint at the program's first instruction, behind its dynamic linker's
 * work: start_hook's. */
void recorder_plant_start(struct recorder *rec);
/* What comes from the target, until somebody wants the end, or it is gone. */
struct tap_error *recorder_serve(struct recorder *rec);
/* What is attached to is recorded by breakpoints to the end, and released.
 * pending: an event whose tracee is held until they are there, or NULL. */
struct tap_error *recorder_run_breakpoints(struct recorder *rec, const struct tap_event *pending);
/* Recording begins now. */
void recorder_note_start(struct recorder *rec);
/* From either thread: asks for the end; the first reason given is kept. */
void recorder_end(struct recorder *rec, enum tap_ended_by ended_by);
/* The same with the reason in words, for the person who expected more; takes
 * over why. */
void recorder_end_early(struct recorder *rec, enum tap_ended_by ended_by, char *why);

/* arming.c: puts a hook on whatever entry point has none yet. */
struct tap_error *arming_update(struct recorder *rec);
/* CPython's allocator tables, once the interpreter is up; tried again on
 * every tick until then. */
void arming_try_tables(struct recorder *rec);
/* Where the loader does not tell of modules that come: looks for them, at most
 * once a second. */
void arming_look(struct recorder *rec);
/* Are other modules mapped than at the last look? False also where that was
 * less than a second ago. */
bool arming_modules_changed(struct recorder *rec);
/* At the end: a row for each --symbol that never was anywhere. */
void arming_note_missing(struct recorder *rec);
/* Parts of it, for an engine that places by other means. */
struct tap_error *arming_read_modules(struct recorder *rec);
struct tap_error *arming_add_named(struct recorder *rec);
void arming_note_allocators(struct recorder *rec);
void arming_open_python(struct recorder *rec);
struct hook *arming_new_hook(struct recorder *rec);
void arming_plant_entry(struct recorder *rec, const struct tap_entry *entry);
/* Those in modules that are not mapped any more. By the tracer. */
void arming_forget_breakpoints(struct recorder *rec);
/* The row of an entry point; made where there is none. */
size_t arming_find_point(
	struct recorder *rec, const char *module, const char *symbol, uint64_t addr);
/* Where a call comes back to. False: not in code that belongs to a file. */
bool arming_follow_return(struct recorder *rec, uint64_t addr);

/* traps.c: UNSUPPORTED where a breakpoint would cost a thread its SIGTRAP. */
struct tap_error *traps_check(struct recorder *rec);
/* Before the first one: the same, unless that is wanted; then it is seen to. */
struct tap_error *traps_mind(struct recorder *rec);
/* Of a new thread, and on every tick of those that are still being made: who blocks
 * it makes an end of the breakpoints. */
void traps_check_new(struct recorder *rec, pid_t tid);
void traps_check_starting(struct recorder *rec);

/* hits.c */
void hits_entry(struct recorder *rec, struct tap_tracee *tracee, const struct hook *hook);
void hits_return(struct recorder *rec, struct tap_tracee *tracee);
/* Of a call that never comes back. */
void hits_abandon(struct recorder *rec, const struct pending *pending);
/* Is the thread with this fs base inside a call that a breakpoint saw? sp: at the
 * entry of a call that it makes. */
bool hits_is_inside(struct recorder *rec, uint64_t fs_base, uint64_t sp);

/* blocks.c: blocks that breakpoints see, in the ledger and, beside probes, among
 * those that these watch. Of a block from before the start that is not watched
 * nobody knows, beside probes, whether it is one: it may as well be newer, and not
 * in the sample. */
void blocks_add(struct recorder *rec, uint64_t addr, const struct tap_ledger_block *block);
/* It goes. False: it was not seen to come. */
bool blocks_try_free(struct recorder *rec, uint64_t addr);
/* For the time of a realloc: another thread may be given its address before we
 * see that it returns. False: not known. */
bool blocks_try_take(struct recorder *rec, uint64_t addr, struct old_block *ret);
void blocks_put_back(struct recorder *rec, uint64_t addr, const struct old_block *old);

/* mappings.c: a block of the ledger that is about to be added, at start, is a
 * mapping; one moved away (its block was taken); a range is unmapped, which
 * may be a part of one or several: what is left stays in the ledger. False: no
 * part of any. */
void mappings_add(struct recorder *rec, uint64_t start, uint64_t size_bytes);
void mappings_forget(struct recorder *rec, uint64_t start);
bool mappings_unmap(struct recorder *rec, uint64_t start, uint64_t size_bytes);
/* What a call asked for and gave, for whoever sees calls otherwise. */
uint64_t hits_requested(const struct pending *pending);
uint64_t hits_result(
	struct recorder *rec, const struct pending *pending, const struct tap_regs *regs);
bool hits_reallocates(enum tap_entry_kind entry);
/* Mappings that are memory; calls of mmap that the allocator makes for itself. */
bool hits_is_memory(const struct pending *pending);
bool hits_is_allocators_own(struct recorder *rec, uint64_t return_addr);

/* capture.c: the stack of a stopped thread, Python frames in their places. */
uint32_t capture_stack(struct recorder *rec, struct tap_tracee *tracee);

/* block_class.c: what the allocator's own header says of a block. False: no
 * header that makes sense. The class is never TAP_LEDGER_NO_CLASS then. */
bool block_class(struct recorder *rec, uint64_t addr, bool object_domain, uint32_t *class_ret,
	uint64_t *usable_ret);
uint32_t block_class_of_mapping(uint64_t size_bytes);
uint32_t block_class_of_pool(uint32_t size_bytes);
uint32_t block_class_of_chunk(uint64_t usable_bytes);

/* brake.c: whether stops have taken more than half of the target's time for
 * more than a second; held_ns is kept on the way. By the tracer. */
void brake_begin(struct recorder *rec);
/* At a hit. */
bool brake_is_due(struct recorder *rec, const struct tap_tracee *tracee);
void brake_end(struct recorder *rec);
/* core.c: the calling thread runs on this CPU alone from now on, a negative one:
 * on any that it may. False where it may not run there, or on any. A stop by a
 * tracer on the same core costs a fifth, an answered sample a tenth. */
bool core_follow(int core);

/* sites.c: the ledger as the report's totals and sites, ranked. memory_bytes:
 * RSS + swap at each tick. */
void sites_build(struct recorder *rec, struct tap_trace_report *report,
	const double *memory_bytes, size_t ticks);

#endif
