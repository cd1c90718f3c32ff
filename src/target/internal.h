/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TARGET_INTERNAL_H
#define TARGET_INTERNAL_H

/* What the files of this layer share: the state of one target. */

#include <stdbool.h>
#include <stdint.h>
#include "heaptap/arch/insn.h"
#include "heaptap/base/map.h"
#include "heaptap/base/vector.h"
#include "heaptap/proc/tasks.h"
#include "heaptap/target/target.h"
#include "target/restart.h"

enum tracee_state {
	TRACEE_NEW,       /* seized by the kernel for us; its first stop has not been seen */
	TRACEE_RUNNING,
	TRACEE_STOPPED,   /* in a ptrace stop that we have taken notice of */
	TRACEE_LISTENING, /* in a group stop, waiting for SIGCONT */
};

struct tracee {
	struct tap_tracee public; /* first: the two are cast into each other */
	enum tracee_state state;
	bool foreign;             /* another process that shares the memory (vfork) */
	bool copied;              /* a forked child: let go at its first stop */
	bool keeps_area;          /* a forked child that may need our code */
	bool held;                /* stopped by rendezvous() */
	bool in_event;            /* tap_target_next() has given it: it stands until it is to go */
	bool blocks_sigtrap;      /* by its own choice: see sigtrap.c */
	bool interrupted;         /* an interrupt of ours has not been reported yet */
	bool group_stopped;       /* by SIGSTOP or the like: it must get no further */
	bool was_group_stopped;   /* its call ends with EINTR, as without a tracer */
	pid_t vfork_child;        /* as long as that is a tracee, no stop reaches this one */
	int signal;               /* to be delivered when it goes on from the present stop */
	uint64_t stopped_ns;      /* when the present stop was noticed */
	uint64_t continued_ns;    /* when it was last let go */
	struct tap_restart_memo restarted;
	/* The same of calls that the kernel makes again by restart_syscall. */
	struct tap_restart_origin origin;
	/* The call that it was blocked in before we stopped it, and since when. */
	uint64_t blocked_pc;
	uint64_t blocked_since_ns;
	/* A hit that was dealt with before a signal came: on its way back from
	 * the handler it is none. */
	uint64_t again_addr, again_sp;
};

/* A child's first stop that came before its parent told of it. */
struct orphan {
	pid_t tid;
	int status;
};

/* A redirected pointer: an entry of an allocator table. */
struct redirect {
	uint64_t pointer_addr;
	uint64_t original;
	uint64_t stub;
	bool lifted;
};

/* Memory of ours in the target, r-x, filled through /proc/PID/mem: slots for
 * instructions that run out of line, and stubs. It begins with struct
 * area_head. */
struct area {
	uint64_t start;
	uint64_t size_bytes;
	uint64_t used_bytes;
};

/* Names the owner, so that who comes later knows what this is. */
struct area_head {
	char magic[16]; /* AREA_MAGIC */
	uint32_t version;
	int32_t owner_pid;
	uint64_t owner_start_ticks;
	uint64_t owner_pid_namespace;
	uint64_t size_bytes;
};
#define AREA_MAGIC "heaptap area\r\n\032"

struct tap_breakpoint {
	uint64_t addr;
	void *owner;
	struct tap_insn insn;  /* the one it displaces; of a stub: its jump */
	uint64_t slot;         /* the same, to run out of line; 0 where it is emulated */
	uint64_t slot_jump;    /* in the slot: the jump behind the instruction */
	uint64_t leads_to;     /* of a stub: what the pointer held before; else 0 */
	bool planted;
};

/* The kernel's, as rt_sigaction(2) takes it. */
struct kernel_sigaction {
	uint64_t handler, flags, restorer, mask;
};

struct tap_target {
	pid_t pid;
	struct tap_process process;
	struct tap_memory *memory;
	struct tap_map tracees;     /* tid -> struct tracee * */
	struct tap_map spared;      /* tids that target_seize() leaves alone */
	struct tap_map breakpoints; /* address -> struct tap_breakpoint * */
	TAP_VECTOR(struct orphan) orphans;
	TAP_VECTOR(struct tap_event) queue; /* events that came while another was waited for */
	TAP_VECTOR(struct redirect) redirects; /* kept when lifted: a child may have a copy */
	TAP_VECTOR(struct area) areas;
	TAP_VECTOR(struct tap_breakpoint *) forgotten; /* their memory is gone; freed at the end */
	TAP_VECTOR(struct tracee *) gone; /* freed when the next event is asked for */
	uint64_t syscall_ret, sigreturn;  /* code in the target that injected calls use */
	void (*free_data)(void *data);
	void (*deal)(void *context, const struct tap_event *event); /* see tap_target_on_event() */
	void *deal_context;
	bool pointer_moved;         /* somebody else has written to a redirected pointer */
	bool exited;
	int exit_code;            /* once it has; -1: not known */
	bool executed;              /* it runs another program: nothing of ours is left */
	bool keeps_sigtrap;               /* the program's SIGTRAP is put back */
	struct kernel_sigaction sigtrap_action;
	struct tap_target_stats stats;
};

/* attach.c */
bool target_take_kick(void); /* was the calling thread kicked since the last time? */
/* No thread of it is a tracee yet. */
struct tap_error *target_create(const struct tap_process *process, struct tap_target **ret);
/* Every thread becomes a tracee, and is not stopped for that. */
struct tap_error *target_seize(struct tap_target *target);
/* Those that came since; *count_ret: how many. */
struct tap_error *target_seize_new(struct tap_target *target, size_t *count_ret);
void target_destroy(struct tap_target *target);

/* tracees.c */
struct tracee *tracee_find(struct tap_target *target, pid_t tid);
struct tracee *tracee_add(struct tap_target *target, pid_t tid, enum tracee_state state);
void tracee_remove(struct tap_target *target, struct tracee *tracee);
void tracee_destroy(struct tap_target *target, struct tracee *tracee);
void tracee_continue(struct tap_target *target, struct tracee *tracee, int signal);
/* Brings one to a stop within the bound, dealing with whatever it reports
 * first; 1: it stands and public.regs are loaded; 0: not in time; < 0: gone. */
int tracee_stop(struct tap_target *target, struct tracee *tracee, uint64_t deadline_ns);
/* Is this the call that the parent of a vfork is in until its child has gone
 * on to a program of its own? */
bool tracee_is_vfork(const struct tap_task_syscall *call);
/* The same, but 0 at once where a call of the tracee's own would end early by
 * it. To be continued afterwards, and its call restarted, if *was_running_ret. */
int tracee_borrow(struct tap_target *target, struct tracee *tracee, uint64_t deadline_ns,
	bool *was_running_ret);
/* A stopped tracee that calls can be injected into: one that stands already,
 * else the one that a stop disturbs least. It is to be continued afterwards
 * if *was_running_ret. NULL where there is none now. */
struct tracee *tracee_pick(struct tap_target *target, bool *was_running_ret);
/* Before a stop: when the call began that it is blocked in, for the time that it
 * has left. */
void tracee_note_call(struct tap_target *target, struct tracee *tracee);
/* An EINTR that only our stop caused: public.regs make the call again. */
void tracee_restart_call(struct tap_target *target, struct tracee *tracee);
/* A call that the kernel counts the time of, and would go on with by another
 * one, restart_syscall, begins anew: a filter of the thread's system calls may
 * let the one pass and not the other. */
void tracee_begin_call_anew(struct tracee *tracee);
/* Waits for its child's exec or exit. */
bool tracee_is_vforking(struct tap_target *target, const struct tracee *tracee);
/* /proc/TID is there for every thread: for those of other processes, too. */
struct tap_error *tracee_read(const struct tracee *tracee, struct tap_task *ret);

/* rendezvous.c: every thread that runs is brought to a stop, and held. What is
 * blocked in a system call other than fork is left alone. The error names one
 * that neither stopped nor sleeps there. */
struct tap_error *rendezvous(struct tap_target *target);
/* The same error of one tracee. */
struct tap_error *rendezvous_error(const struct tap_target *target, const struct tracee *tracee);
/* Those that it stopped go on. */
void rendezvous_end(struct tap_target *target);

/* events.c: deals with one stop; true where an event came of it. */
bool event_dispatch(struct tap_target *target, struct tracee *tracee, int status,
	struct tap_event *ret);
/* Deals with every stop that has come, and lets the thread go on; for the time
 * in which nobody asks for events. */
void events_serve(struct tap_target *target);
/* Undoes a breakpoint's hit that is not to be dealt with now: the PC goes
 * back to the breakpoint. True: it was one of ours. */
bool event_rewind(struct tap_target *target, struct tracee *tracee);

/* children.c: a new thread or process that parent's PTRACE_EVENT_CLONE, FORK
 * or VFORK told of; true where an event came of it. */
bool children_adopt(
	struct tap_target *target, struct tracee *parent, int event, struct tap_event *ret);
/* Once all threads are seized: processes that share the memory already. */
void children_adopt_earlier(struct tap_target *target);
/* Is this the number of a system call that makes threads or processes? */
bool children_made_by(int64_t number);
void children_handle_orphan(struct tap_target *target, pid_t tid, int status);
/* The first stop of a tracee that is `copied`. */
void children_let_go(struct tap_target *target, struct tracee *tracee);

/* remote.c: finds what calls are injected with, before anybody is held for it. An
 * error comes again when one is. */
void remote_prepare(struct tap_target *target);
/* One system call in a stopped thread, which afterwards has the
 * registers `stopped` again, with the system call that was interrupted about
 * to be made again. Safe at every instruction if we are killed.
 * *result_ret is what the call returned: a negative errno is no error here. */
struct tap_error *remote_call(struct tap_target *target, pid_t tid, struct tap_memory *memory,
	const struct tap_regs *stopped, long number, const uint64_t arguments[6],
	int64_t *result_ret);
/* The same in one that was brought to a stop by tracee_borrow(), and goes on in
 * what it was in. */
struct tap_error *remote_call_in(struct tap_target *target, struct tracee *tracee, long number,
	const uint64_t arguments[6], int64_t *result_ret);
/* The same in whichever thread it disturbs least. */
struct tap_error *remote_call_anywhere(
	struct tap_target *target, long number, const uint64_t arguments[6], int64_t *result_ret);
/* clone(2) of a process: the child has a stack of its own below the thread's,
 * and does not run as long as we live; where it does, it exits with exit_code.
 * It is a tracee of ours whose first stop is still to come. *child_ret: its
 * number as we see it, 0 where there is none; *result_ret: as the process sees
 * it, or a negative errno. */
struct tap_error *remote_clone(struct tap_target *target, pid_t tid, const struct tap_regs *stopped,
	uint64_t flags, int exit_code, pid_t *child_ret, int64_t *result_ret);

/* sigtrap.c: at a hit, the thread's regs are loaded. */
void sigtrap_put_back(struct tap_target *target, struct tracee *tracee);
/* Before the hit at hand it was: one that the program sends itself is none. */
bool sigtrap_is_ignored(const struct tap_target *target);

/* rseq.c: a restartable sequence (rseq(2)) that a stopped thread is in the
 * middle of. The stop has moved the thread off its CPU, so the kernel would
 * send it to the section's abort handler; with other registers in between it
 * would forget to. public.regs are set as the kernel would have. */
void leave_critical_section(struct tap_target *target, struct tracee *tracee);

/* areas.c */
struct tap_error *area_find_hole(
	struct tap_target *target, uint64_t near, uint64_t size_bytes, uint64_t *addr_ret);
struct tap_error *area_fill_head(struct area_head *head, uint64_t size_bytes);
struct tap_error *area_reserve(
	struct tap_target *target, uint64_t near, size_t size_bytes, uint64_t *addr_ret);
bool area_holds(const struct tap_target *target, uint64_t addr);
/* A word in the data of any module that leads to a stub: somebody has copied a
 * redirected pointer. 0: none. */
uint64_t area_find_copy(struct tap_target *target, pid_t pid, struct tap_memory *memory);
/* Where a thread with its PC in an area is to go on instead; 0: nowhere. */
uint64_t area_way_out(const struct tap_target *target, uint64_t pc);
/* They are remembered: a child may have them still. */
struct tap_error *area_unmap_all(struct tap_target *target);
struct tap_error *area_unmap_in_child(struct tap_target *target, pid_t tid,
	struct tap_memory *memory);

/* breakpoints.c */
void breakpoint_step_over(struct tap_target *target, struct tracee *tracee,
	struct tap_breakpoint *breakpoint);
/* Takes everything out of a forked copy of the target's memory. The copy is
 * of some moment before: what has been lifted meanwhile is in it, too. False:
 * somebody may have a copy of a stub's address. */
bool breakpoints_disinfect(struct tap_target *target, struct tap_memory *memory);

#endif
