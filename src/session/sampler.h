/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SESSION_SAMPLER_H
#define SESSION_SAMPLER_H

/*
 * One recording by probes (target/probes.h): a thread of heaptap answers the
 * samples that threads of the target post, without ptrace. Sampling is Poisson
 * in bytes: each byte that is asked for is as likely as any other to be the
 * one that makes its call a sample, so that a sample of `size` bytes stands
 * for 1 / (1 - e^(-size / T)) blocks, T being the interval that its gap was
 * drawn with.
 */

#include <stdbool.h>
#include <stdint.h>
#include "heaptap/base/map.h"
#include "heaptap/target/probes.h"
#include "session/recorder.h"

/* A block whose end is waited for. */
struct cell_info {
	uint64_t addr;
	bool used;
	bool old; /* it was there before the start: its size class, and the blocks it stands for */
	uint32_t size_class;
	uint64_t usable_bytes;
	double weight;
};

/* A moment, on several clocks. */
struct sampler_times {
	uint64_t ns, ticks;
	uint64_t waited_ticks; /* all waits of the target's threads for answers so far */
	uint64_t target_run_ns; /* on a processor */
	uint64_t work_ns;       /* heaptap on one, with answers */
};

struct code_range {
	uint64_t start, end;
};

/* Of the watched blocks that have one index of the filter. */
struct cell_mark {
	uint32_t blocks;
	uint8_t tags; /* all of them, each added by XOR */
};

struct sampler {
	struct recorder *rec;
	struct tap_probes *probes;
	struct tap_probe_shared *shared;
	bool takes_turns;      /* what calls CPython's tables does so; they have one countdown */
	bool modules_changed;  /* and were not searched for entry points yet */
	atomic_bool answering; /* samples may come; from here on symbols are the sampler's alone */
	uint64_t generation;
	uint64_t multiplier;
	double interval_bytes; /* T; 0: every call */
	uint64_t random;
	/* cells.c */
	struct cell_info *cells; /* TAP_PROBE_CELLS of them */
	struct cell_mark *marks; /* for each byte of the filter */
	uint32_t cells_used;
	uint64_t full;         /* blocks for which no cell was free */
	uint64_t codes_generation; /* codes.c: in which frees of code objects are seen; 0: they
	                            * are not */
	/* control.c */
	struct {
		struct sampler_times since;
		double samples, bytes;
	} window;
	bool told_turns; /* that it does not any longer */
	struct { /* the last samples: how many came from one CPU */
		unsigned count, same;
		uint64_t core;
	} cores;
	uint64_t changed_ns;  /* when the interval last was */
	double recent_share;  /* of the time that samples take */
	uint64_t began_ns;
	struct sampler_times began;
	uint64_t work_ns, work_since_ns;
	double pass_ticks;    /* what a pass costs */
	double largest_interval_bytes; /* that any gap was drawn with */
	uint64_t rearms;
	uint64_t checked_ns; /* that the target is there, and has the probes */
	uint64_t out_since_ns; /* since when the target has been out, 0: it is in */
	uint64_t out_ns;       /* how long it was out before that */
	/* reclaim.c: as it was at the last look */
	struct {
		uint64_t since_ns;
		uint64_t words[TAP_PROBE_RECORDS];
		bool out[TAP_PROBE_ALL_SLOTS];
		bool answered[TAP_PROBE_ALL_SLOTS]; /* a sample of its thread, since then */
	} reclaim;
	/* seccomp.c: threads by ascending number, with as many filters as probes were
	 * judged with */
	struct {
		uint64_t next_ns;
		struct tap_probes_filtered_list threads;
	} filtered;
	TAP_VECTOR(double) calls; /* by entry point */
	/* crowding.c */
	struct {
		uint64_t owners[TAP_PROBE_SLOTS]; /* whose sample was the last one from there; 0: none */
		struct tap_map seen; /* fs base -> when its last sample came */
		uint64_t wait_ns, last_ns, next_ns; /* from one choice to the next; the next one's time,
		                            * 0: when two were found */
		bool found;    /* two threads in one slot */
		uint64_t told; /* of shared->crowded, before the last choice */
	} crowding;
	/* placing.c: the code of functions that allocate and have a probe, or a
	 * breakpoint beside those. */
	TAP_VECTOR(struct code_range) allocators;
	/* beside.c */
	struct tap_entry_list unfit;  /* no probe fits, and no breakpoint is there yet */
	const char *no_breakpoints;   /* why there are none (any more); NULL: there may be */
	struct {
		/* the sampler's thread's */
		pthread_t thread;
		bool there; /* to be joined */
		/* the two threads' */
		struct tap_error *(*_Atomic work)(struct sampler *s); /* NULL: it was taken */
		atomic_bool done;         /* and the thread stays: `result` is the sampler's now */
		struct tap_error *result;
		/* the tracer's */
		bool leaves, planted;
		struct tap_error *last; /* of the work that it left with */
	} tracer;
};

/* A weight of less is that of a block which stands for itself. */
#define SAME_BLOCK_WEIGHT 1.01

/* cells.c */
void cells_init(struct sampler *s);
void cells_deinit(struct sampler *s);
/* A block to be watched; false where its neighbourhood is full. Before the
 * thread that has it goes on. */
bool cells_add(struct sampler *s, const struct cell_info *info);
/* The cell of what is watched at this address, freed or not. */
bool cells_find(const struct sampler *s, uint64_t addr, uint32_t *index_ret);
/* Takes that out. */
bool cells_take(struct sampler *s, uint64_t addr, struct cell_info *ret);
/* Tells the ledger of every watched block that was freed; takes as long as there
 * are some. */
void cells_sweep(struct sampler *s);

/* codes.c: code objects are watched where the probes see each free of one; looks
 * whether they do, on every tick and before samples that follow a time in
 * which the probes were not armed. */
void codes_watch(struct sampler *s);
void codes_forget(struct sampler *s);

/* samples.c: one posted record, and its answer. */
void samples_answer(struct sampler *s, struct tap_probe_record *record);
/* How many blocks a sampled one of this size stands for. */
double samples_weight(double interval_bytes, uint64_t size_bytes);
/* What is watched at this address is gone: the ledger is told. False: nothing is. */
bool samples_freed(struct sampler *s, uint64_t addr);
/* A call that an allocator makes of itself (realloc's of malloc) was counted where
 * the program called. */
bool samples_is_nested(const struct sampler *s, uint64_t return_addr);
/* Is the thread with this fs base inside a call that its probe has chosen as a
 * sample? */
bool samples_is_counting(struct sampler *s, uint64_t fs_base);

/* crowding.c: a sample came from the thread with this fs base. */
void crowding_note(struct sampler *s, uint64_t fs_base);
/* Where two threads were found to go to one slot, they do so no longer. */
void crowding_part(struct sampler *s);
/* A multiplier of the slots' hash that sends these fs bases to as many slots,
 * none of which is `out`; or, of those that were tried, to the most. *shared_ret:
 * how many of them do not have one to themselves. */
uint64_t crowding_choose(const uint64_t *fs_bases, size_t count, const bool *out,
	uint64_t *random, size_t *shared_ret);
/* How it is in the end, for who wants to know. */
void crowding_tell(struct sampler *s);
void crowding_deinit(struct sampler *s);

/* control.c */
void control_begin(struct sampler *s);
/* Around answers. */
void control_begin_work(struct sampler *s);
void control_end_work(struct sampler *s);
/* The interval rises where samples cost more than they may. */
void control_adjust(struct sampler *s);
/* A gap, in bytes, of the exponential distribution with this mean. */
int64_t control_draw(uint64_t *random, double interval_bytes);
uint64_t control_random(uint64_t *random);
/* All waits of the target's threads in probes since the start. Any thread. */
uint64_t control_waited_ns(const struct sampler *s);
/* Shares of the target's time since the start: passes through the probes, and
 * samples. */
void control_overhead(const struct sampler *s, double *fixed_ret, double *samples_ret);

/* seeding.c: blocks from before the start, so that their frees are seen with
 * the same error as those of new ones. */
void seeding_watch_old_blocks(struct sampler *s);

/* reclaim.c: records and slots of threads that did not come back; looks every
 * quarter of a second. */
void reclaim_lost(struct sampler *s);

/* seccomp.c: a probe's system calls and the target's filters. Before anything is
 * placed: UNSUPPORTED where they would not pass, or where that is not known. */
struct tap_error *seccomp_judge(struct sampler *s);
/* Afterwards: whether a filter has come that was not judged; the probes are
 * disarmed and the recording ends then. Looks every 50 ms. */
bool seccomp_has_changed(struct sampler *s);
/* passing.c: does the function at `from`, up to `end`, end in a jump to the one
 * at `to`, also by a linkage table of its module or by another function? The
 * program is the caller of both then: their stacks look the same. */
bool passing_jumps(struct recorder *rec, uint64_t from, uint64_t end, uint64_t to);

/* beside.c: has `work` done by the thread that is attached to the target, or if
 * there is none by one of its own, `run`; samples are answered meanwhile. What
 * that one attached to is let go when it ends: after the work, unless breakpoints
 * are wanted; and by itself where they were given up. */
struct tap_error *beside_do(struct sampler *s, void *(*run)(void *sampler),
	struct tap_error *(*work)(struct sampler *s));
/* Does the thread stay? */
bool beside_is_there(struct sampler *s);
/* The thread's: attaches first. */
void *beside_run(void *sampler);
/* The last thing that it does: it stays as long as it is to, then lets go. */
struct tap_error *beside_end(struct sampler *s, struct tap_error *err);
/* In it: does what is wanted of it, if anything is. */
void beside_work(struct sampler *s);
/* The target has ended. */
void beside_wait_for_end(struct sampler *s);
/* An entry point that no probe fits: its row has the reason. */
void beside_want(struct sampler *s, const struct tap_entry *entry);
bool beside_is_wanted(const struct sampler *s, const struct tap_entry *entry);
/* UNSUPPORTED where one of those takes blocks back (they would look leaked) and
 * may have no breakpoint for a thread's SIGTRAP. */
struct tap_error *beside_check(struct sampler *s);
/* Work: breakpoints for all of them. One that cannot be had is unseen. */
struct tap_error *beside_plant(struct sampler *s);
/* Work: everything is taken out, and the thread leaves. */
struct tap_error *beside_take_out(struct sampler *s);
/* In the tracer, without the lock: breakpoints are lifted, now and for good, and
 * the probes go on alone; where what they saw took blocks back, the recording
 * ends. */
void beside_give_up(struct sampler *s, const char *why);

/* placing.c */
void placing_note_allocator(struct sampler *s, const struct tap_entry *entry);
/* Attaches, or starts the command, and places the probes; `probes` is NULL where
 * a command ended before. Where none can be placed and the engine is to be
 * chosen, records by breakpoints to the end: the recorder's engine says so. */
struct tap_error *placing_place(struct sampler *s);
/* Breakpoints beside the probes, where they are wanted. */
struct tap_error *placing_plant(struct sampler *s);
/* Probes for modules that were loaded, and for a CPython that has begun. Takes the
 * lock. */
void placing_look(struct sampler *s);
/* Where other modules are mapped than before: so that stacks can be unwound. At
 * most once a second. Under the lock. */
void placing_read_modules(struct sampler *s);
struct tap_error *placing_remove(struct sampler *s);

/* sampler.c: while threads of the target wait for us we do not stand in line
 * behind the others. Of the calling thread; without the right to, nothing. */
void sampler_hurry(void);
/* The whole of it, on the recorder's thread. */
struct tap_error *sampler_run(struct recorder *rec);
/* Before anything leads to the probes. */
struct tap_error *sampler_arm(struct sampler *s);
/* Answers what is posted, until nothing was for a moment (5 ms); for 20 ms at
 * most. */
void sampler_serve(struct sampler *s);
/* Answers every posted record; true where there was one. Now and then in what
 * takes longer. */
bool sampler_answer_all(struct sampler *s);

#endif
