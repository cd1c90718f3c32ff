/* SPDX-License-Identifier: Apache-2.0 */
/*
 * May threads of the target make the system calls of a probe? What their
 * seccomp filters answer is computed, before anything is placed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include "heaptap/arch/cpu.h"
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/base/text.h"
#include "target/probes_internal.h"
#include "target/ptrace.h"
#include "target/seccomp.h"

#define READ_BOUND_NS UINT64_C(500000000)
#define STOP_BOUND_NS UINT64_C(20000000)
#define PAUSE_NS 1000000
/* More than the kernel takes (kernel/seccomp.c, MAX_INSNS_PER_PATH). */
#define FILTERS_MAX 8192

/* What a filter may answer to a call. */
enum need {
	NEED_PASS,    /* the probe's own: nothing else, not even a line in a log each time */
	NEED_SUCCESS, /* injected, and there is no way back */
	NEED_NO_HARM, /* injected: where it fails, the thread goes on as if it had not been */
};

struct checked {
	const char *name;
	enum need need;
	struct seccomp_call call;
};

/* Filters are suspended for calls that are injected; not any more, though, where
 * we are killed between the moment when a thread is set to make one and the
 * moment when it does. */
static const struct injected {
	const char *name;
	int number;
} injected[] = {
	{"mmap", SYS_mmap},
	{"munmap", SYS_munmap},
	{"madvise", SYS_madvise},
	{"memfd_create", SYS_memfd_create},
	{"close", SYS_close},
};
#define INJECTED (sizeof(injected) / sizeof(*injected))
#define CHECKED (TAP_PROBE_CALLS + INJECTED + 1)

/* One look at all threads. */
struct look {
	struct tap_target *target;
	struct checked checked[CHECKED];
	struct sock_filter *insns; /* BPF_MAXINSNS of them */
	struct tap_map filters;    /* tid -> number of its filters, of those that were looked at */
	int least;                 /* of those numbers */
	pid_t left;                /* one that was not looked at, 0: none */
	pid_t child;               /* that shares the memory: the one with most filters, 0: none */
	int child_filters;
	bool may_restart;          /* the last one's filters let it call restart_syscall */
};

static struct checked injected_call(const char *name, int number, enum need need)
{
	struct checked checked = {.name = name, .need = need};

	checked.call.data.nr = number;
	checked.call.data.arch = tap_cpu_audit_arch;
	seccomp_forget_pc(&checked.call);
	for (unsigned i = 0; i < 6; i++)
		seccomp_forget_argument(&checked.call, i);
	return checked;
}

static struct checked probe_call(const struct tap_probe_call *of_probe)
{
	struct checked checked = {.name = of_probe->name, .need = NEED_PASS};

	checked.call.data.nr = of_probe->number;
	checked.call.data.arch = tap_cpu_audit_arch;
	seccomp_forget_pc(&checked.call);
	for (unsigned i = 0; i < 6; i++) {
		checked.call.data.args[i] = of_probe->arguments[i];
		if (of_probe->unknown >> i & 1)
			seccomp_forget_argument(&checked.call, i);
	}
	return checked;
}

static void list_calls(struct checked *checked)
{
	for (unsigned i = 0; i < TAP_PROBE_CALLS; i++)
		*checked++ = probe_call(&tap_probe_calls[i]);
	for (unsigned i = 0; i < INJECTED; i++)
		*checked++ = injected_call(injected[i].name, injected[i].number, NEED_NO_HARM);
	*checked = injected_call("rt_sigreturn", tap_cpu_sigreturn_number, NEED_SUCCESS);
}

static bool is_good(uint32_t answer, enum need need)
{
	switch (answer & SECCOMP_RET_ACTION_FULL) {
	case SECCOMP_RET_ALLOW:
		return true;
	case SECCOMP_RET_LOG:
		return need != NEED_PASS;
	case SECCOMP_RET_ERRNO:
	case SECCOMP_RET_TRACE: /* ENOSYS where there is no tracer */
		return need == NEED_NO_HARM;
	default:
		return false;
	}
}

/* "thread 7 (name) of process 5" */
static char *words_for(const struct look *look, pid_t tid)
{
	struct tap_task task = {.name = "?"};
	char name[sizeof(task.name)];

	tap_error_free(tap_task_read(tid, tid, &task));
	tap_text_clean(name, sizeof(name), task.name);
	return tap_format("thread %d (%s) of process %d", tid, name, look->target->pid);
}

static struct tap_error *unreadable(const struct look *look, pid_t tid, const char *why)
{
	_cleanup_free_ char *thread = words_for(look, tid);

	return tap_error_new(TAP_ERR_UNSUPPORTED,
		"%s filters its system calls (seccomp), and whether those of a probe would pass "
		"is not known: %s",
		thread, why);
}

static struct tap_error *not_read(const struct look *look, pid_t tid, int errnum)
{
	struct tap_error *err = unreadable(look, tid, strerror(errnum));

	if (errnum != EACCES)
		return err;
	return tap_error_advise(err,
		"run heaptap with CAP_SYS_ADMIN in the initial user namespace, and under no filter "
		"of its own; or leave out --engine probe");
}

/* One filter is enough that refuses. */
static struct tap_error *check_filter(const struct look *look, pid_t tid, size_t count)
{
	for (unsigned i = 0; i < CHECKED; i++) {
		const struct checked *checked = &look->checked[i];
		uint32_t answer = seccomp_evaluate(look->insns, count, &checked->call);
		_cleanup_free_ char *thread = NULL;

		if (is_good(answer, checked->need))
			continue;
		thread = words_for(look, tid);
		return tap_error_new(TAP_ERR_UNSUPPORTED,
			"%s may not call %s: its seccomp filter %s", thread, checked->name,
			seccomp_action_text(answer));
	}
	return NULL;
}

/* Of a stopped thread: the instructions of one filter. A negative errno where
 * there is none, or where it cannot be read. */
static int read_filter(const struct look *look, pid_t tid, int index)
{
	int count = pt_get_seccomp_filter(tid, (unsigned long)index, NULL);

	if (count > 0 && count <= BPF_MAXINSNS)
		count = pt_get_seccomp_filter(tid, (unsigned long)index, look->insns);
	if (count == -ENOENT && index)
		return count;
	return count <= 0 || count > BPF_MAXINSNS ? (count < 0 ? count : -EINVAL) : count;
}

/* All of them, also behind the first that refuses something. */
static struct tap_error *check_filters(struct look *look, pid_t tid, int *filters_ret)
{
	struct checked restart =
		injected_call("restart_syscall", SYS_restart_syscall, NEED_SUCCESS);
	struct tap_error *first = NULL;
	bool may_restart = true;
	int count = 0;

	look->may_restart = false;
	for (*filters_ret = 0; *filters_ret < FILTERS_MAX; ++*filters_ret) {
		count = read_filter(look, tid, *filters_ret);
		if (count < 0)
			break;
		may_restart &= is_good(
			seccomp_evaluate(look->insns, (size_t)count, &restart.call), restart.need);
		if (!first)
			first = check_filter(look, tid, (size_t)count);
	}
	if (count == -ENOENT && *filters_ret)
		look->may_restart = may_restart;
	else if (!first)
		first = not_read(look, tid, count < 0 ? -count : E2BIG);
	return first;
}

static void note(struct look *look, pid_t tid, int filters)
{
	*tap_map_put(&look->filters, (uint64_t)tid, NULL) = (uint64_t)filters;
	if (filters < look->least)
		look->least = filters;
}

static struct tap_error *check_stopped(struct look *look, struct tracee *tracee)
{
	int filters = 0;
	bool was_running;
	struct tap_error *err;
	int result = tracee_borrow(
		look->target, tracee, tap_clock_ns() + STOP_BOUND_NS, &was_running);

	if (result == 0)
		look->left = tracee->public.tid;
	if (result != 1)
		return NULL;
	err = check_filters(look, tracee->public.tid, &filters);
	if (was_running) {
		if (!look->may_restart)
			tracee_begin_call_anew(tracee);
		tracee_restart_call(look->target, tracee);
		tracee_continue(look->target, tracee, 0);
	}
	if (!err)
		note(look, tracee->public.tid, filters);
	return err;
}

static struct tap_error *check_tracee(struct look *look, struct tracee *tracee)
{
	pid_t tid = tracee->public.tid;
	struct tap_task_seccomp seccomp;
	_cleanup_free_ char *thread = NULL;

	if (!tap_task_try_seccomp(tid, tid, &seccomp))
		return NULL;
	if (seccomp.mode == TAP_SECCOMP_NONE) {
		note(look, tid, 0);
		return NULL;
	}
	if (seccomp.mode == TAP_SECCOMP_STRICT) {
		thread = words_for(look, tid);
		return tap_error_new(TAP_ERR_UNSUPPORTED,
			"%s may not call futex: it is in seccomp's strict mode", thread);
	}
	if (seccomp.filters < 0)
		return unreadable(look, tid,
			"this kernel does not tell when another filter is added");
	if (!tracee->foreign)
		return check_stopped(look, tracee);
	if (seccomp.filters > look->child_filters) {
		look->child_filters = seccomp.filters;
		look->child = tid;
	}
	return NULL;
}

/* look->left is set where one could not be stopped just now. */
static struct tap_error *check_all(struct look *look)
{
	struct tap_map seen = {0};
	struct tap_map_slot *slot;
	struct tap_error *err = NULL;

	look->left = look->child = 0;
	look->child_filters = 0;
	for (size_t i = 0; !err && tap_map_next(&look->target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;

		if (tap_map_find(&seen, slot->key) || tap_map_find(&look->filters, slot->key))
			continue;
		tap_map_put(&seen, slot->key, NULL);
		err = check_tracee(look, tracee);
		i = 0; /* stopping one may have brought or taken others */
	}
	tap_map_deinit(&seen);
	/* A child has its filters from a thread, each of which has so many at
	 * least: then it has set none for itself. */
	if (!look->left && look->child_filters > look->least)
		look->left = look->child;
	events_serve(look->target);
	probes_continue(look->target);
	return err;
}

static int by_tid(const void *a, const void *b)
{
	const struct tap_probes_filtered *x = a, *y = b;

	return (x->tid > y->tid) - (x->tid < y->tid);
}

static void hand_over(const struct look *look, struct tap_probes_filtered_list *ret)
{
	struct tap_map_slot *slot;

	for (size_t i = 0; tap_map_next(&look->filters, &i, &slot);)
		tap_vector_push(ret,
			((struct tap_probes_filtered){(pid_t)slot->key, (int)slot->value}));
	if (ret->count)
		qsort(ret->items, ret->count, sizeof(*ret->items), by_tid);
}

struct tap_error *tap_probes_check_filters(
	struct tap_target *target, struct tap_probes_filtered_list *ret)
{
	_cleanup_free_ struct sock_filter *insns = tap_alloc(BPF_MAXINSNS * sizeof(*insns));
	struct look look = {.target = target, .insns = insns, .least = FILTERS_MAX};
	uint64_t deadline = tap_clock_ns() + READ_BOUND_NS;
	struct timespec pause = {0, PAUSE_NS};
	struct tap_error *err;

	*ret = (struct tap_probes_filtered_list){0};
	list_calls(look.checked);
	while (!(err = check_all(&look)) && look.left && tap_clock_ns() < deadline)
		nanosleep(&pause, NULL);
	if (!err && look.left)
		err = unreadable(&look, look.left,
			"a stop would end the system call early that it is in");
	if (!err)
		hand_over(&look, ret);
	tap_map_deinit(&look.filters);
	return err;
}
