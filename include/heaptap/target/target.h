/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_TARGET_TARGET_H
#define HEAPTAP_TARGET_TARGET_H

/*
 * A process under ptrace. All calls come from one thread, the tracer: ptrace
 * knows no other owner.
 *
 * Attaching seizes every thread and stops, once, those that run. Detaching
 * does the same; those that are blocked in a system call are released untouched
 * when the tracer thread ends (the kernel unlinks what a tracer that exits
 * still holds), so that not one of their calls returns early. The tracer
 * thread must therefore end soon after tap_target_release().
 *
 * The loop is tap_target_next() and, once the event was dealt with,
 * tap_target_go().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "heaptap/arch/regs.h"
#include "heaptap/base/error.h"
#include "heaptap/memory/memory.h"
#include "heaptap/proc/process.h"

struct tap_target;
struct tap_breakpoint;

/* A thread of the target, or a child that shares its memory (vfork). */
struct tap_tracee {
	pid_t tid;
	struct tap_regs regs; /* valid during an event of this tracee; changed ones are written
	                       * back by tap_target_go() */
	bool regs_changed;
	uint64_t stops;       /* every ptrace stop dealt with */
	void *data;           /* of whoever records; see tap_target_on_gone() */
};

enum tap_event_kind {
	TAP_EVENT_TICK,        /* tap_target_kick() was called; no tracee */
	TAP_EVENT_BREAKPOINT,  /* a tracee stands at a breakpoint: regs.rip is its address */
	TAP_EVENT_THREAD_NEW,  /* a tracee came; it runs only after tap_target_go() */
	TAP_EVENT_THREAD_EXIT, /* a tracee went; the pointer is valid during the event */
	TAP_EVENT_EXEC,        /* the process runs another program now: nothing of ours is in it */
	TAP_EVENT_EXIT,        /* the process ended: exit_code is set; the last event */
};

struct tap_event {
	enum tap_event_kind kind;
	struct tap_tracee *tracee;
	struct tap_breakpoint *breakpoint;
	int exit_code; /* 0 to 255, 128 + n for a signal; of EXIT */
};

struct tap_target_stats {
	uint64_t stops;         /* every ptrace stop dealt with */
	uint64_t stopped_ns;    /* time that tracees were held as far as the tracer sees: from its
	                         * notice of a stop until it lets go, summed over all stops */
	uint64_t least_away_ns; /* the shortest time from there to the same tracee's next stop, since
	                         * this was last set to UINT64_MAX: what two switches cost */
	uint64_t left_blocked;  /* tracees released without a stop */
};

/* PERMISSION (errnum set), BUSY, GONE. Where a thread that exists cannot be
 * seized, the ones that were are let go. */
struct tap_error *tap_target_attach(const struct tap_process *process, struct tap_target **ret);

/* Starts argv[0] (looked up in PATH) as a child of the tracer thread, stopped
 * at its first instruction. GONE with errno's words where it cannot run. */
struct tap_error *tap_target_spawn(char *const argv[], struct tap_target **ret);

/* Waits for the next event, without a bound unless kicked. */
struct tap_error *tap_target_next(struct tap_target *target, struct tap_event *ret);

/* Lets the tracee of the event go on: out of a breakpoint by emulating the
 * instruction that it displaced, or by running it out of line. One call for
 * each event with a tracee that lives; nothing where it was let go since. */
void tap_target_go(struct tap_target *target, const struct tap_event *event);

/* From any thread: makes tap_target_next() in the tracer thread, by its number,
 * return with a TICK soon. Only once that has attached. */
void tap_target_kick(pid_t tracer);

/* Called, with events of tracees, where they come while the tracer thread is in
 * another function than tap_target_next(), which lets the target run: probes are
 * placed and removed in several tries. tap_target_go() follows by itself. */
void tap_target_on_event(struct tap_target *target,
	void (*deal)(void *context, const struct tap_event *event), void *context);

/* Called with the data of each tracee that had some, once it is gone. */
void tap_target_on_gone(struct tap_target *target, void (*free_data)(void *data));

pid_t tap_target_pid(const struct tap_target *target);
struct tap_memory *tap_target_memory(struct tap_target *target);
/* What it counts may be reset by the caller. */
struct tap_target_stats *tap_target_stats(struct tap_target *target);

/* The program ignores SIGTRAP, or blocks it in a thread: both are put
 * back at each hit. Before anything is planted. */
struct tap_error *tap_target_keep_sigtrap(struct tap_target *target);

/* --- breakpoints ------------------------------------------------------- */

/* Plants one at addr, the start of an instruction. expected: what the mapped
 * file has there, at least one instruction long; memory that differs is left
 * alone (BAD_DATA). Of two at one address the first is given back again, with
 * the owner of the first. UNSUPPORTED with the reason where the instruction
 * could not be stepped over (a system call, or neither emulated nor
 * relocated). */
struct tap_error *tap_target_plant(struct tap_target *target, uint64_t addr,
	const uint8_t *expected, size_t expected_size, void *owner, struct tap_breakpoint **ret);
void *tap_breakpoint_owner(const struct tap_breakpoint *breakpoint);
uint64_t tap_breakpoint_addr(const struct tap_breakpoint *breakpoint);
void tap_breakpoint_set_owner(struct tap_breakpoint *breakpoint, void *owner);
struct tap_breakpoint *tap_target_breakpoint_at(const struct tap_target *target, uint64_t addr);
/* Forgets those in [start, end), whose memory is not mapped any more. */
void tap_target_forget(struct tap_target *target, uint64_t start, uint64_t end);

/* A pointer in writable data that is made to lead to a breakpoint in front of
 * what it pointed to: an entry of CPython's allocator tables. */
struct tap_error *tap_target_redirect(struct tap_target *target, uint64_t pointer_addr,
	uint64_t expected, void *owner, struct tap_breakpoint **ret);

/* Takes all of the above out again; afterwards no new hit can begin. What is
 * not ours any more (the bytes differ) is left as it is and named in the
 * error; everything else is restored all the same. Threads may still stand in
 * a hit: tap_target_release() sees to them. */
struct tap_error *tap_target_lift(struct tap_target *target);

/* Lifts what is left, takes our memory out, lets every thread go and frees
 * target. The error says what could not be taken out. *exit_code_ret: as of the
 * event, where the process has ended; else left alone. NULL: not wanted. */
struct tap_error *tap_target_release(struct tap_target *target, int *exit_code_ret);

#endif
