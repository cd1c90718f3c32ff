/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/text.h"
#include "heaptap/proc/process.h"
#include "heaptap/proc/root.h"
#include "scan.h"

/*
 * Why ptrace is refused, in the kernel's order (ptrace(2), "Ptrace access
 * mode checking"): users, then the dumpable flag, then security modules,
 * Yama among them. CAP_SYS_PTRACE in the target's user namespace overrides
 * all but the last.
 */

#define NAME_BYTES 64
#define AS_ROOT "run heaptap as root: sudo heaptap ..."
#define AS_OWNER "run heaptap as root or as the user that owns it: sudo heaptap ..."
#define CAP_SYS_PTRACE_BIT 19 /* include/uapi/linux/capability.h */

/* What heaptap itself may do. */
struct self {
	uint64_t uid, euid;
	uint64_t capabilities;
	uint64_t no_new_privs;
	uint64_t seccomp;
};

static void read_self(struct self *ret)
{
	_cleanup_free_ char *status = NULL;
	_cleanup_error_ struct tap_error *err = tap_proc_read(0, "self/status", &status, NULL);
	const char *at;

	*ret = (struct self){.uid = getuid(), .euid = geteuid()};
	if (err)
		return;
	at = tap_scan_find(status, "Uid");
	if (at && tap_scan_decimal(&at, &ret->uid)) {
		tap_scan_blanks(&at);
		tap_scan_decimal(&at, &ret->euid);
	}
	tap_scan_mask(status, "CapEff", &ret->capabilities);
	tap_scan_number(status, "NoNewPrivs", &ret->no_new_privs);
	tap_scan_number(status, "Seccomp", &ret->seccomp);
}

static bool may_trace_all(const struct self *self)
{
	return self->capabilities >> CAP_SYS_PTRACE_BIT & 1;
}

static pid_t tracer_of(pid_t pid)
{
	_cleanup_free_ char *status = NULL;
	_cleanup_error_ struct tap_error *err = tap_proc_read(pid, "status", &status, NULL);
	uint64_t tracer;

	return !err && tap_scan_number(status, "TracerPid", &tracer) && tracer <= INT_MAX ?
		(pid_t)tracer :
		0;
}

/* TracerPid may be a thread of the tracer; its process is what people know. */
static pid_t process_of(pid_t tid)
{
	_cleanup_free_ char *status = NULL;
	_cleanup_error_ struct tap_error *err = tap_proc_read(tid, "status", &status, NULL);
	uint64_t group;

	return !err && tap_scan_number(status, "Tgid", &group) && group && group <= INT_MAX ?
		(pid_t)group :
		tid;
}

static struct tap_error *traced_by(const struct tap_process *process, pid_t tracer)
{
	char name[NAME_BYTES], other[NAME_BYTES], raw[NAME_BYTES] = "?\n";
	pid_t group = process_of(tracer);
	size_t size;

	tap_proc_try_read(group, "comm", raw, sizeof(raw));
	size = strlen(raw);
	if (size && raw[size - 1] == '\n')
		raw[size - 1] = '\0';
	return tap_error_advise(
		tap_error_new(TAP_ERR_BUSY, "process %d (%s) is already traced by process %d (%s)",
			(int)process->pid, tap_process_name(process, name, sizeof(name)),
			(int)group, tap_text_clean(other, sizeof(other), raw)),
		"a process has one tracer at a time: let %d detach or end first", (int)group);
}

static struct tap_error *unreadable(const struct tap_process *process, const char *why)
{
	char name[NAME_BYTES];

	return tap_error_new(TAP_ERR_UNSUPPORTED, "process %d (%s) %s", (int)process->pid,
		tap_process_name(process, name, sizeof(name)), why);
}

static struct tap_error *check_ended(const struct tap_process *process)
{
	char name[NAME_BYTES];

	if (process->state == 'Z' && process->threads > 1)
		return tap_error_advise(
			unreadable(process, "goes on without its main thread, which has ended"),
			"its memory cannot be reached through its process number");
	return tap_error_advise(
		tap_error_new(TAP_ERR_GONE, "process %d (%s) has ended and has no memory left",
			(int)process->pid, tap_process_name(process, name, sizeof(name))),
		"it is a zombie until its parent, %d, waits for it", (int)process->parent);
}

struct tap_error *tap_process_check_traceable(const struct tap_process *process)
{
	if (process->kernel_thread)
		return tap_error_advise(
			unreadable(process, "is a kernel thread and has no memory of its own"),
			"give the number of a program's process");
	if (process->state == 'Z' || process->state == 'X' || process->state == 'x')
		return check_ended(process);
	if (process->pid == getpid())
		return tap_error_advise(unreadable(process, "is heaptap itself"),
			"to look at a heaptap, start a second one");
	if (process->elf32)
		return tap_error_advise(unreadable(process, "is a 32-bit program"),
			"heaptap reads 64-bit x86 programs");
	if (process->tracer && process_of(process->tracer) != getpid())
		return traced_by(process, process->tracer);
	return NULL;
}

static bool other_user_namespace(pid_t pid)
{
	_cleanup_free_ char *own = NULL, *its = NULL;
	_cleanup_error_ struct tap_error *err = tap_proc_readlink(0, "self/ns/user", &own);
	_cleanup_error_ struct tap_error *its_err = tap_proc_readlink(pid, "ns/user", &its);

	return !err && !its_err && strcmp(own, its) != 0;
}

/* The kernel gives the files of a process that must not be dumped to root;
 * who owns files below another root says nothing. */
static bool is_undumpable(const struct tap_process *process)
{
	char path[PATH_MAX];
	struct stat st;

	return process->euid && !*tap_proc_root() &&
	       !stat(tap_proc_path(path, sizeof(path), process->pid, "stat"), &st) &&
	       !st.st_uid;
}

/* kernel.yama.ptrace_scope; -1 where Yama is not there. */
static int yama_scope(void)
{
	char text[16];
	const char *at = text;
	uint64_t scope;

	if (!tap_proc_try_read(0, "sys/kernel/yama/ptrace_scope", text, sizeof(text)) ||
		!tap_scan_decimal(&at, &scope) || scope > 3)
		return -1;
	return (int)scope;
}

/* Both texts are malloc()ed. */
struct reason {
	char *why;
	char *advice;
};

static struct reason because(char *why, const char *advice)
{
	return (struct reason){why, tap_strdup(advice)};
}

static struct reason explain_user(const struct tap_process *process, const struct self *self)
{
	if (!self->euid)
		return because(
			tap_format("it belongs to user %u, and heaptap is root without CAP_SYS_PTRACE",
				(unsigned)process->euid),
			"in a container, give it the capability: --cap-add=SYS_PTRACE");
	return because(tap_format("it belongs to user %u, and heaptap runs as user %llu",
			       (unsigned)process->euid, (unsigned long long)self->euid),
		AS_OWNER);
}

static struct reason explain_yama(int scope, const struct self *self)
{
	if (scope == 3)
		return because(tap_strdup("kernel.yama.ptrace_scope is 3: nobody may trace"),
			"boot with a lower kernel.yama.ptrace_scope; it cannot be lowered while "
			"the system runs");
	if (!self->euid)
		return because(tap_format("kernel.yama.ptrace_scope is %d, and heaptap is root "
					  "without CAP_SYS_PTRACE",
				       scope),
			"in a container, give it the capability: --cap-add=SYS_PTRACE");
	if (scope == 2)
		return because(
			tap_strdup("kernel.yama.ptrace_scope is 2: only root may trace"), AS_ROOT);
	return because(tap_strdup("kernel.yama.ptrace_scope is 1: only a parent may trace"),
		AS_ROOT ", or allow it until the next boot: "
			"sudo sysctl kernel.yama.ptrace_scope=0");
}

static struct reason explain_unprivileged(const struct tap_process *process, const struct self *self)
{
	int scope = yama_scope();

	if (scope == 3)
		return explain_yama(scope, self);
	if (self->uid != process->uid || self->uid != process->euid)
		return explain_user(process, self);
	if (other_user_namespace(process->pid))
		return because(tap_strdup("it is in another user namespace"),
			"run heaptap as root outside of it: sudo heaptap ...");
	if (is_undumpable(process))
		return because(tap_strdup("it must not be dumped (set-user-ID, file capabilities, or "
					  "prctl(PR_SET_DUMPABLE))"),
			AS_ROOT);
	if (scope > 0)
		return explain_yama(scope, self);
	return because(tap_strdup("a security module or a seccomp filter does not allow it"),
		AS_ROOT "; in a container: --cap-add=SYS_PTRACE");
}

static struct reason explain_privileged(const struct tap_process *process, const struct self *self)
{
	if (yama_scope() == 3)
		return explain_yama(3, self);
	if (other_user_namespace(process->pid))
		return because(tap_strdup("it is in another user namespace, in which heaptap has no "
					  "rights"),
			"run heaptap as root outside of all containers, or inside of its own");
	if (self->seccomp)
		return because(tap_strdup("heaptap itself runs under a seccomp filter"),
			"in a container: --security-opt seccomp=unconfined --cap-add=SYS_PTRACE");
	return because(
		tap_strdup("a security module (SELinux, AppArmor, Landlock) does not allow it, or a "
			   "tracer outside of this PID namespace holds it"),
		"look for a denial in the audit log: journalctl -k | grep -i denied");
}

struct tap_error *tap_process_explain_denied(const struct tap_process *process, int errnum)
{
	char name[NAME_BYTES];
	struct self self;
	struct reason reason;
	struct tap_error *err;
	pid_t tracer;

	tap_process_name(process, name, sizeof(name));
	if (errnum != EPERM && errnum != EACCES)
		return tap_error_errno(
			errnum, "cannot attach to %d (%s)", (int)process->pid, name);
	tracer = tracer_of(process->pid);
	if (tracer && process_of(tracer) != getpid())
		return traced_by(process, tracer);
	read_self(&self);
	reason = may_trace_all(&self) ? explain_privileged(process, &self) :
					explain_unprivileged(process, &self);
	err = tap_error_new(TAP_ERR_PERMISSION, "cannot attach to %d (%s): not permitted: %s",
		(int)process->pid, name, reason.why);
	err->errnum = errnum;
	if (self.no_new_privs && self.euid)
		err = tap_error_advise(err,
			"%s (from another shell: this one has no_new_privs, under which sudo "
			"gives no rights)",
			reason.advice);
	else
		err = tap_error_advise(err, "%s", reason.advice);
	free(reason.why);
	free(reason.advice);
	return err;
}
