/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters are suspended for calls that are injected; not any more, though, once
 * we are killed, and then the thread and the child go on under them.
 */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include "heaptap/arch/cpu.h"
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/proc/tasks.h"
#include "target/ptrace.h"
#include "target/seccomp.h"
#include "target/snapshot_internal.h"

/* More than the kernel takes (kernel/seccomp.c, MAX_INSNS_PER_PATH). */
#define FILTERS_MAX 8192

static uint32_t answer_to(const struct sock_filter *insns, int count, int number)
{
	struct seccomp_call call = {.data = {.nr = number, .arch = tap_cpu_audit_arch}};

	seccomp_forget_pc(&call);
	for (unsigned i = 0; i < 6; i++)
		seccomp_forget_argument(&call, i);
	return seccomp_evaluate(insns, (size_t)count, &call) & SECCOMP_RET_ACTION_FULL;
}

static bool passes(uint32_t answer)
{
	return answer == SECCOMP_RET_ALLOW || answer == SECCOMP_RET_LOG;
}

static bool is_harmless(uint32_t answer)
{
	return passes(answer) || answer == SECCOMP_RET_ERRNO || answer == SECCOMP_RET_TRACE;
}

/* The first call that one filter would not let pass; NULL: none. */
static const char *refused(const struct sock_filter *insns, int count)
{
	if (!passes(answer_to(insns, count, tap_cpu_sigreturn_number)))
		return "rt_sigreturn";
	if (!passes(answer_to(insns, count, SYS_exit_group)))
		return "exit_group";
	if (!is_harmless(answer_to(insns, count, SYS_clone)))
		return "clone";
	if (!is_harmless(answer_to(insns, count, SYS_wait4)))
		return "wait4";
	return NULL;
}

char *snapshot_check_filters(pid_t tid)
{
	_cleanup_free_ struct sock_filter *insns = NULL;
	struct tap_task_seccomp seccomp;
	const char *call = NULL;
	int count = 0, index = 0;

	if (!tap_task_try_seccomp(tid, tid, &seccomp) || seccomp.mode == TAP_SECCOMP_NONE)
		return NULL;
	if (seccomp.mode != TAP_SECCOMP_FILTER)
		return tap_strdup("it is in seccomp's strict mode");
	insns = tap_alloc(BPF_MAXINSNS * sizeof(*insns));
	for (; !call && index < FILTERS_MAX; index++) {
		count = pt_get_seccomp_filter(tid, (unsigned long)index, NULL);
		if (count > 0 && count <= BPF_MAXINSNS)
			count = pt_get_seccomp_filter(tid, (unsigned long)index, insns);
		if (count <= 0 || count > BPF_MAXINSNS)
			break;
		call = refused(insns, count);
	}
	if (call)
		return tap_format("its seccomp filter may not let %s pass", call);
	if (count == -ENOENT && index)
		return NULL;
	return tap_format("it filters its system calls (seccomp), and how is not known: %s",
		strerror(count < 0 ? -count : E2BIG));
}
