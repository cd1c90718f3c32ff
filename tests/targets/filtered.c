/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filtered FILTER [--late] [--stacked N] [--threads | --one-thread | --churn]
 *
 * Computes by allocations under a seccomp filter, and checks what comes out.
 * FILTER is one of the names below, or "strict". It is set at the start; with
 * --late when a line "Filter" is read; "filter" is the same, and nothing is
 * allocated from then on until a line "go".
 *
 *	--stacked N    so many more filters on top, which allow everything
 *	--threads      four more threads compute; the filter is set for all of them
 *	               at once (TSYNC)
 *	--one-thread   one more, and the filter is its alone
 *	--churn        threads come and go
 *
 * Reads no clock, as some filters do not allow it.
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include "target.h"

#define WORKERS 4

#define RET(action) BPF_STMT(BPF_RET | BPF_K, (action))
#define ALLOW RET(SECCOMP_RET_ALLOW)
#define KILL RET(SECCOMP_RET_KILL_PROCESS)
#define LOAD(field) \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define LOAD_ARG(n) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 16 + 8 * (n))
#define LOAD_ARG_HIGH(n) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 20 + 8 * (n))
#define IF(op, k, yes, no) BPF_JUMP(BPF_JMP | BPF_##op | BPF_K, (k), (yes), (no))
/* Everything but one call is allowed; what follows is for that one. */
#define ONLY_FOR(call) LOAD(nr), IF(JEQ, __NR_##call, 1, 0), ALLOW
#define THE(call) IF(JEQ, __NR_##call, 0, 1), ALLOW

static struct sock_filter allow[] = { ALLOW };
static struct sock_filter no_futex[] = { ONLY_FOR(futex), KILL };
/* FUTEX_WAIT, FUTEX_WAKE, FUTEX_WAIT_BITSET, private or not, by either clock. */
static struct sock_filter futex_ops[] = {
	ONLY_FOR(futex),
	LOAD_ARG_HIGH(1),
	IF(JEQ, 0, 0, 5),
	LOAD_ARG(1),
	BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~384u),
	IF(JEQ, 0, 3, 0),
	IF(JEQ, 1, 2, 0),
	IF(JEQ, 9, 1, 0),
	KILL,
	ALLOW,
};
static struct sock_filter futex_old_ops[] = {
	ONLY_FOR(futex), LOAD_ARG(1), BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~128u),
	IF(JGT, 1, 0, 1), KILL, ALLOW,
};
static struct sock_filter futex_low_timeout[] = {
	ONLY_FOR(futex), LOAD_ARG_HIGH(3), IF(JGT, 0x1000, 0, 1), KILL, ALLOW,
};
static struct sock_filter no_clock[] = { ONLY_FOR(clock_gettime), RET(SECCOMP_RET_ERRNO | EPERM) };
static struct sock_filter log_clock[] = { ONLY_FOR(clock_gettime), RET(SECCOMP_RET_LOG) };
static struct sock_filter no_restart[] = { ONLY_FOR(restart_syscall), KILL };
static struct sock_filter no_memfd[] = { ONLY_FOR(memfd_create), KILL };
static struct sock_filter failing_memfd[] = {
	ONLY_FOR(memfd_create), RET(SECCOMP_RET_ERRNO | EPERM),
};
static struct sock_filter own_code[] = {
	ONLY_FOR(futex), BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 12), IF(JEQ, 0, 0, 1), KILL, ALLOW,
};
/* What this program needs, and the calls of a probe exactly as they are. */
static struct sock_filter listed[] = {
	LOAD(arch), IF(JEQ, AUDIT_ARCH_X86_64, 1, 0), KILL,
	LOAD(nr), IF(JGE, 0x40000000, 0, 1), KILL,
	THE(read), THE(write), THE(poll), THE(mmap), THE(munmap), THE(brk), THE(madvise),
	THE(mprotect), THE(exit), THE(exit_group), THE(getpid), THE(rt_sigreturn), THE(close),
	THE(restart_syscall),
	IF(JEQ, __NR_memfd_create, 0, 1), RET(SECCOMP_RET_ERRNO | ENOSYS),
	IF(JEQ, __NR_clock_gettime, 0, 4),
	LOAD_ARG(0), IF(JEQ, CLOCK_MONOTONIC, 0, 1), ALLOW, KILL,
	IF(JEQ, __NR_futex, 1, 0), KILL,
	LOAD_ARG(1), IF(JEQ, 1, 3, 0), IF(JEQ, 9, 0, 1), LOAD_ARG(5), IF(JEQ, 0xffffffff, 3, 2),
	LOAD_ARG(2), IF(JEQ, 1, 1, 0), KILL, ALLOW,
};

#define NAMED(name, insns) { name, { sizeof(insns) / sizeof(*(insns)), insns } }

static const struct named {
	const char *name;
	struct sock_fprog program;
} filters[] = {
	NAMED("allow", allow),
	NAMED("no-futex", no_futex),
	NAMED("futex-ops", futex_ops),
	NAMED("futex-old-ops", futex_old_ops),
	NAMED("futex-low-timeout", futex_low_timeout),
	NAMED("no-clock", no_clock),
	NAMED("log-clock", log_clock),
	NAMED("no-restart", no_restart),
	NAMED("no-memfd", no_memfd),
	NAMED("failing-memfd", failing_memfd),
	NAMED("own-code", own_code),
	NAMED("listed", listed),
};

static const char *filter_name;
static int stacked, all_threads;
static atomic_ulong rounds, wrong;
static atomic_int end, wants_filter, has_filter, quiet;
static unsigned int right;

static void fail(const char *what)
{
	perror(what);
	exit(2);
}

static void set_one(const struct sock_fprog *program)
{
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		    all_threads ? SECCOMP_FILTER_FLAG_TSYNC : 0, program))
		fail("seccomp");
}

static void set_filter(void)
{
	static const struct sock_fprog on_top = { 1, allow };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		fail("prctl");
	if (!strcmp(filter_name, "strict")) {
		if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
			fail("prctl");
		return;
	}
	for (size_t i = 0; i < sizeof(filters) / sizeof(*filters); i++)
		if (!strcmp(filters[i].name, filter_name)) {
			set_one(&filters[i].program);
			for (int k = 0; k < stacked; k++)
				set_one(&on_top);
			return;
		}
	errno = EINVAL;
	fail(filter_name);
}

static NOINLINE unsigned int compute(void)
{
	unsigned int *blocks[16], sum = 1;

	for (unsigned int i = 0; i < 16; i++) {
		blocks[i] = i % 3 ? malloc(64 + 16 * i) : calloc(4 + i, 16);
		for (unsigned int k = 0; k < 16; k++)
			blocks[i][k] = sum + i * k;
		if (i % 4 == 0)
			blocks[i] = realloc(blocks[i], 512);
		sum = sum * 16777619u ^ blocks[i][i];
	}
	for (unsigned int i = 0; i < 16; i++) {
		for (unsigned int k = 0; k < 16; k++)
			sum = sum * 16777619u ^ blocks[i][k];
		free(blocks[i]);
	}
	return sum;
}

static void check(void)
{
	if (quiet)
		return;
	rounds++;
	wrong += compute() != right;
}

static void pause_ms(int ms)
{
	poll(NULL, 0, ms);
}

/* With --one-thread the filter is this one's. */
static void *work(void *context)
{
	while (!end) {
		if (context && wants_filter && !has_filter) {
			set_filter();
			has_filter = 1;
		}
		check();
		pause_ms(1);
	}
	return NULL;
}

static void *come_and_go(void *context)
{
	for (int i = 0; i < 20; i++)
		check();
	return context;
}

/* Strict mode has read, write, exit and nothing else. */
static void obey_strictly(void)
{
	char line[64];

	while (read(STDIN_FILENO, line, sizeof(line)) > 0) {
		quiet = 0;
		for (int i = 0; i < 50; i++)
			check();
		say("{\"went\": true}\n");
	}
}

/* A line at a time, as the tests write them. False: no more. */
static int obey(int in_thread)
{
	struct pollfd in = { STDIN_FILENO, POLLIN, 0 };
	char line[64];

	if (poll(&in, 1, 1) <= 0)
		return 1;
	if (read(STDIN_FILENO, line, sizeof(line)) <= 0)
		return 0;
	quiet = line[0] == 'f';
	if (line[0] == 'f' || line[0] == 'F') {
		wants_filter = 1;
		if (!in_thread)
			set_filter();
		while (in_thread && !has_filter)
			pause_ms(1);
		say("{\"filtered\": true}\n");
		if (!strcmp(filter_name, "strict")) {
			obey_strictly();
			return 0;
		}
	} else {
		say("{\"went\": true}\n");
	}
	return 1;
}

int main(int argc, char **argv)
{
	int one_thread = has_option(argc, argv, "--one-thread");
	int churn = has_option(argc, argv, "--churn");
	int late = has_option(argc, argv, "--late");
	pthread_t workers[WORKERS], brief;
	int count;

	filter_name = argc > 1 ? argv[1] : "allow";
	stacked = atoi(option(argc, argv, "--stacked", "0"));
	all_threads = has_option(argc, argv, "--threads");
	count = all_threads ? WORKERS : one_thread;
	right = compute();
	wants_filter = !late;
	for (int i = 0; i < count; i++)
		pthread_create(&workers[i], NULL, work, one_thread ? argv : NULL);
	while (one_thread && !late && !has_filter)
		pause_ms(1);
	if (!one_thread && !late)
		set_filter();
	say("{\"ready\": true, \"pid\": %d}\n", getpid());
	while (obey(one_thread)) {
		for (int i = 0; i < 4; i++)
			check();
		if (churn && !pthread_create(&brief, NULL, come_and_go, NULL))
			pthread_join(brief, NULL);
	}
	end = 1;
	for (int i = 0; i < count; i++)
		pthread_join(workers[i], NULL);
	say("{\"done\": true, \"digest\": %u, \"rounds\": %lu, \"wrong\": %lu}\n", right,
	    atomic_load(&rounds), atomic_load(&wrong));
	/* Not exit_group(2), which strict mode does not have. */
	syscall(SYS_exit, wrong != 0);
	return 0;
}
