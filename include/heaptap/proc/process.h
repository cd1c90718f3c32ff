/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_PROC_PROCESS_H
#define HEAPTAP_PROC_PROCESS_H

/*
 * Who a process is: the identity that the head of each report shows, and what
 * decides whether heaptap may and can attach. Read once; nothing is kept
 * open. From /proc/PID/{stat,status,cmdline,exe,cgroup}.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "heaptap/base/error.h"

struct tap_process {
	pid_t pid;
	pid_t parent;
	char *comm;            /* raw */
	char *exe;             /* path of the executable, NULL where not readable */
	bool exe_deleted;
	char **cmdline;        /* raw arguments */
	size_t cmdline_count;
	char state;            /* R S D T t Z X I ... */
	bool kernel_thread;
	bool elf32;            /* a 32-bit process: by the executable's ELF class, or by code segment */
	pid_t tracer;          /* who traces it already, 0 for nobody */
	uid_t uid, euid;
	int threads;
	int seccomp;           /* 0 none, 1 strict, 2 filter */
	bool shadow_stack;     /* x86_Thread_features names shstk */
	uint64_t start_ticks;  /* field 22 of stat: with pid, the identity of the process */
	uint64_t start_wall_ns;/* the same as wall-clock time */
	char *python_version;  /* "3.12.1": filled by whoever has looked at its memory, else NULL */
	char *cgroup;          /* path in the memory hierarchy, else in the unified one; NULL: none */
};

/* GONE where there is no such process, or no /proc (advice says which). A
 * zombie or kernel thread is read as far as it goes: no error. */
struct tap_error *tap_process_read(pid_t pid, struct tap_process *ret);
void tap_process_deinit(struct tap_process *process);
void tap_process_copy(const struct tap_process *from, struct tap_process *to);

/* The same process still, not another of the same number? */
bool tap_process_is_same(const struct tap_process *process);

/* What a command needs before ptrace is tried: refuses kernel threads, 32-bit
 * processes and heaptap itself (UNSUPPORTED), zombies (GONE), processes that
 * another traces (BUSY, naming the tracer), each with what to do. */
struct tap_error *tap_process_check_traceable(const struct tap_process *process);

/* Turns a refusal of ptrace or /proc/PID/mem into words: who owns it, what
 * kernel.yama.ptrace_scope says, capabilities, namespaces; and what to do. */
struct tap_error *tap_process_explain_denied(const struct tap_process *process, int errnum);

/* The name for messages: comm, cleaned, into buf; returned. */
char *tap_process_name(const struct tap_process *process, char *buf, size_t capacity);

#endif
