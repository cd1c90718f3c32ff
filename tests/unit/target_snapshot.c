/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot is of one moment, and the process goes on as if nothing had been. */
#include "target_trace.h"

#include <dirent.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include "heaptap/base/cleanup.h"
#include "heaptap/proc/root.h"
#include "heaptap/target/left.h"
#include "heaptap/target/snapshot.h"

/* At a process that is held; one that runs has written between any two. */
#define LOOKS 1000
#define WRITERS 4
#define WORDS 4096
#define IDLE_BYTES (32u << 20)
#define PIECE_BYTES (256u << 10)
#define SNAPSHOTS 50

struct shared {
	atomic_ulong rounds[WRITERS];
	atomic_int ready, wrong, waits, go, done;
	long ret;
	int errnum;
};

/* The same addresses in the child, which is a fork. */
static volatile uint64_t counters[WRITERS][WORDS];
static uint8_t *idle;

static struct tap_snapshot *take(pid_t pid, const struct tap_snapshot_options *options)
{
	static const struct tap_snapshot_options none;
	struct tap_snapshot *snapshot = NULL;
	struct tap_process process;

	assert_ok(tap_process_read(pid, &process));
	assert_ok(tap_snapshot_take(&process, options ? options : &none, &snapshot));
	tap_process_deinit(&process);
	return snapshot;
}

static struct tap_snapshot *take_copy(pid_t pid)
{
	struct tap_snapshot *snapshot = take(pid, NULL);

	if (!tap_snapshot_is_copy(snapshot))
		fail_msg("no copy: %s", tap_snapshot_why_in_place(snapshot));
	return snapshot;
}

static unsigned long rounds(struct shared *shared)
{
	unsigned long sum = 0;

	for (int i = 0; i < WRITERS; i++)
		sum += shared->rounds[i];
	return sum;
}

static char state_of(pid_t pid)
{
	struct tap_task task;
	_cleanup_error_ struct tap_error *err = tap_task_read(pid, pid, &task);

	return err ? 'X' : task.state;
}

#define wait_for_rounds(shared)                                                                    \
	do {                                                                                       \
		unsigned long before_ = rounds(shared);                                            \
		wait_until(rounds(shared) > before_ + WRITERS);                                    \
	} while (0)

/* --- a program that rewrites its memory all the time --------------------- */

struct writer {
	struct shared *shared;
	int number;
};

PLAIN static void *rewrite(void *context)
{
	struct writer *writer = context;

	for (;;) {
		for (int i = 0; i < WORDS; i++)
			counters[writer->number][i]++;
		writer->shared->rounds[writer->number]++;
	}
	return NULL;
}

PLAIN static void rewrite_for_ever(void *context)
{
	static struct writer writers[WRITERS];
	struct shared *shared = context;
	struct timespec pause = {0, 100000};
	pthread_t thread;

	for (int i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){shared, i};
		if (pthread_create(&thread, NULL, rewrite, &writers[i]))
			_exit(2);
	}
	for (;; nanosleep(&pause, NULL)) {
		shared->wrong += waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD;
		shared->waits++;
	}
}

static pid_t start(struct shared **shared)
{
	pid_t pid;

	*shared = shared_memory(sizeof(**shared));
	pid = child_start(rewrite_for_ever, *shared);
	for (int i = 0; i < WRITERS; i++)
		wait_until((*shared)->rounds[i] > 2);
	return pid;
}

static void stop(pid_t pid, struct shared *shared)
{
	assert_true(shared->waits > 0);
	assert_int_equal(shared->wrong, 0);
	child_kill(pid);
	munmap(shared, sizeof(*shared));
}

static void read_counters(struct tap_memory *memory, uint64_t (*ret)[WORDS])
{
	assert_true(tap_memory_try_read(memory, (uint64_t)counters, ret, sizeof(counters)));
}

/* Each writer goes through its words in order. */
static void assert_one_moment(uint64_t (*words)[WORDS])
{
	for (int i = 0; i < WRITERS; i++)
		for (int k = 1; k < WORDS; k++) {
			assert_true(words[i][k] <= words[i][k - 1]);
			assert_true(words[i][k] + 1 >= words[i][0]);
		}
}

static void test_memory_stands_still(void **state)
{
	static uint64_t first[WRITERS][WORDS], second[WRITERS][WORDS];
	struct shared *shared;
	pid_t pid = start(&shared);
	struct tap_snapshot *snapshot = take_copy(pid);

	(void)state;
	assert_true(tap_snapshot_pid(snapshot) != pid);
	read_counters(tap_snapshot_memory(snapshot), first);
	assert_one_moment(first);
	wait_for_rounds(shared);
	read_counters(tap_snapshot_memory(snapshot), second);
	assert_memory_equal(first, second, sizeof(first));
	assert_true(tap_snapshot_pause_ns(snapshot) > 0);
	assert_ok(tap_snapshot_release(snapshot));
	wait_for_rounds(shared);
	stop(pid, shared);
}

static bool is_in(const struct tap_maps *maps, uint64_t addr, bool code)
{
	const struct tap_mapping *mapping = tap_maps_find(maps, addr);

	return mapping && (code ? mapping->executable : mapping->writable);
}

static void test_threads_are_all_there(void **state)
{
	const struct tap_snapshot_thread *threads;
	struct tap_snapshot *snapshot;
	struct tap_maps maps = {0};
	struct shared *shared;
	pid_t pid = start(&shared);
	size_t count, writing = 0;

	(void)state;
	snapshot = take_copy(pid);
	threads = tap_snapshot_threads(snapshot, &count);
	assert_int_equal(count, WRITERS + 1);
	assert_ok(tap_maps_read(tap_snapshot_pid(snapshot), &maps));
	for (size_t i = 0; i < count; i++) {
		assert_true(threads[i].stopped && !threads[i].busy && threads[i].name[0]);
		assert_true(is_in(&maps, threads[i].regs.rip, true));
		assert_true(is_in(&maps, threads[i].regs.rsp, false));
		writing += threads[i].regs.rip - (uint64_t)rewrite < 4096;
	}
	assert_int_equal(writing, WRITERS);
	tap_maps_deinit(&maps);
	assert_ok(tap_snapshot_release(snapshot));
	stop(pid, shared);
}

/* --- what is left -------------------------------------------------------- */

static unsigned count_entries(pid_t pid, const char *name)
{
	char path[256];
	_cleanup_closedir_ DIR *dir = opendir(tap_proc_path(path, sizeof(path), pid, name));
	unsigned count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	return count;
}

/* The children of all of its threads, dead or alive. */
static unsigned count_children(pid_t pid)
{
	pid_t *tids;
	size_t count;
	unsigned children = 0;

	assert_ok(tap_tasks_ids(pid, &tids, &count));
	for (size_t i = 0; i < count; i++) {
		_cleanup_free_ char *text = NULL;
		char name[64];

		snprintf(name, sizeof(name), "task/%d/children", tids[i]);
		assert_ok(tap_proc_read(pid, name, &text, NULL));
		for (const char *at = text; (at = strchr(at, ' ')); at++)
			children++;
	}
	free(tids);
	return children;
}

static size_t count_mappings(pid_t pid)
{
	struct tap_maps maps = {0};
	size_t count;

	assert_ok(tap_maps_read(pid, &maps));
	count = maps.count;
	tap_maps_deinit(&maps);
	return count;
}

static void test_nothing_is_left(void **state)
{
	struct shared *shared;
	pid_t pid = start(&shared);
	size_t mappings = count_mappings(pid);
	unsigned files = count_entries(pid, "fd");

	(void)state;
	for (int i = 0; i < SNAPSHOTS; i++) {
		struct tap_snapshot *snapshot = take_copy(pid);

		assert_int_equal(count_children(pid), 1);
		assert_ok(tap_snapshot_release(snapshot));
		assert_int_equal(count_children(pid), 0);
	}
	assert_int_equal(count_mappings(pid), mappings);
	assert_int_equal(count_entries(pid, "fd"), files);
	assert_false(tap_left_has_copies(pid));
	wait_for_rounds(shared);
	stop(pid, shared);
}

static uint64_t smaps_kib(pid_t pid, const char *key)
{
	_cleanup_free_ char *text = NULL;
	uint64_t sum = 0;

	assert_ok(tap_proc_read(pid, "smaps_rollup", &text, NULL));
	for (const char *at = text; (at = strstr(at, key)); at += strlen(key))
		sum += strtoull(at + strcspn(at, ":") + 1, NULL, 10);
	return sum;
}

static void test_reading_keeps_pages_shared(void **state)
{
	_cleanup_free_ uint8_t *piece = malloc(PIECE_BYTES);
	struct tap_snapshot *snapshot;
	struct shared *shared;
	pid_t pid, child;

	(void)state;
	idle = mmap(NULL, IDLE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(idle, MAP_FAILED);
	memset(idle, 0x5a, IDLE_BYTES);
	pid = start(&shared);
	munmap(idle, IDLE_BYTES);
	snapshot = take_copy(pid);
	child = tap_snapshot_pid(snapshot);
	for (uint32_t at = 0; at < IDLE_BYTES; at += PIECE_BYTES) {
		assert_true(tap_memory_try_read(tap_snapshot_memory(snapshot),
			(uint64_t)(idle + at), piece, PIECE_BYTES));
		for (uint32_t i = 0; i < PIECE_BYTES; i++)
			assert_true(piece[i] == 0x5a);
	}
	assert_true(smaps_kib(child, "\nRss:") > IDLE_BYTES >> 10);
	assert_true(smaps_kib(child, "\nPrivate_") < smaps_kib(child, "\nRss:") / 4);
	assert_ok(tap_snapshot_release(snapshot));
	stop(pid, shared);
}

/* --- what ends meanwhile ------------------------------------------------- */

static void test_the_copy_may_be_killed(void **state)
{
	struct shared *shared;
	pid_t pid = start(&shared);
	struct tap_snapshot *snapshot = take_copy(pid);
	_cleanup_free_ char *score = NULL;
	uint64_t word;

	(void)state;
	assert_ok(tap_proc_read(tap_snapshot_pid(snapshot), "oom_score_adj", &score, NULL));
	assert_string_equal(score, "1000\n");
	kill(tap_snapshot_pid(snapshot), SIGKILL);
	wait_until(!tap_memory_try_u64(
		tap_snapshot_memory(snapshot), (uint64_t)counters, &word));
	wait_for_rounds(shared);
	assert_ok(tap_snapshot_release(snapshot));
	assert_int_equal(count_children(pid), 0);
	stop(pid, shared);
}

static void test_the_process_may_end(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		const struct tap_snapshot_options options = {.in_place = i};
		struct shared *shared;
		pid_t pid = start(&shared), child;
		struct tap_snapshot *snapshot = take(pid, &options);
		uint64_t word;

		child = tap_snapshot_pid(snapshot);
		kill(pid, SIGKILL);
		/* A tracer that is a thread of the parent reaps for it. */
		wait_until(waitpid(pid, NULL, WNOHANG) == pid || errno == ECHILD);
		assert_true(tap_memory_try_u64(tap_snapshot_memory(snapshot), (uint64_t)counters,
				    &word) == !options.in_place);
		assert_ok(tap_snapshot_release(snapshot));
		if (!options.in_place)
			wait_until(state_of(child) == 'X' || state_of(child) == 'Z');
		munmap(shared, sizeof(*shared));
	}
}

/* --- options ------------------------------------------------------------- */

static void test_in_place_is_held(void **state)
{
	static uint64_t first[WRITERS][WORDS], second[WRITERS][WORDS];
	const struct tap_snapshot_options options = {.in_place = true};
	struct tap_snapshot *snapshot;
	struct shared *shared;
	pid_t pid = start(&shared);
	unsigned long before;

	(void)state;
	snapshot = take(pid, &options);
	before = rounds(shared);
	assert_false(tap_snapshot_is_copy(snapshot));
	assert_string_equal(tap_snapshot_why_in_place(snapshot), "it was asked for");
	assert_int_equal(tap_snapshot_pid(snapshot), pid);
	assert_int_equal(count_children(pid), 0);
	read_counters(tap_snapshot_memory(snapshot), first);
	assert_one_moment(first);
	for (int i = 0; i < LOOKS; i++) {
		read_counters(tap_snapshot_memory(snapshot), second);
		assert_memory_equal(first, second, sizeof(first));
	}
	assert_int_equal(rounds(shared), before);
	assert_ok(tap_snapshot_release(snapshot));
	wait_for_rounds(shared);
	stop(pid, shared);
}

static void test_a_long_pause_is_refused(void **state)
{
	struct tap_snapshot_options options = {.max_pause_ns = 1};
	struct tap_snapshot *snapshot;
	struct tap_process process;
	struct tap_error *err;
	struct shared *shared;
	pid_t pid = start(&shared);

	(void)state;
	assert_ok(tap_process_read(pid, &process));
	err = tap_snapshot_take(&process, &options, &snapshot);
	assert_non_null(err);
	assert_int_equal(err->code, TAP_ERR_TIMEOUT);
	assert_non_null(strstr(err->message, "threads: 5"));
	assert_non_null(strstr(err->advice, "--force"));
	tap_error_free(err);
	tap_process_deinit(&process);
	options.force = true;
	snapshot = take(pid, &options);
	assert_true(tap_snapshot_is_copy(snapshot));
	assert_ok(tap_snapshot_release(snapshot));
	stop(pid, shared);
}

struct busy {
	int left, asked;
};

static bool is_busy(void *context, const struct tap_regs *regs)
{
	struct busy *busy = context;

	busy->asked++;
	return regs->rip - (uint64_t)rewrite < 4096 && busy->left-- > 0;
}

static unsigned count_busy(pid_t pid, int times)
{
	struct busy busy = {.left = times};
	const struct tap_snapshot_options options = {.is_busy = is_busy, .context = &busy};
	struct tap_snapshot *snapshot = take(pid, &options);
	const struct tap_snapshot_thread *threads;
	unsigned found = 0;
	size_t count;

	assert_true(tap_snapshot_is_copy(snapshot));
	assert_true(busy.asked > WRITERS);
	threads = tap_snapshot_threads(snapshot, &count);
	for (size_t i = 0; i < count; i++)
		found += threads[i].busy;
	assert_ok(tap_snapshot_release(snapshot));
	return found;
}

static void test_busy_threads_get_a_moment(void **state)
{
	struct shared *shared;
	pid_t pid = start(&shared);

	(void)state;
	assert_int_equal(count_busy(pid, 1), 0);
	assert_int_equal(count_busy(pid, INT32_MAX), WRITERS);
	wait_for_rounds(shared);
	stop(pid, shared);
}

/* One that is killed before the release. */
struct killed {
	pid_t pid;
	bool in_place;
};

static void take_and_die(void *context)
{
	const struct killed *killed = context;
	const struct tap_snapshot_options options = {.in_place = killed->in_place};
	struct tap_snapshot *snapshot;
	struct tap_process process;

	if (tap_process_read(killed->pid, &process) ||
		tap_snapshot_take(&process, &options, &snapshot) ||
		tap_snapshot_is_copy(snapshot) == killed->in_place)
		_exit(2);
	kill(getpid(), SIGKILL);
}

static void be_killed(pid_t pid, bool in_place)
{
	struct killed killed = {pid, in_place};

	assert_int_equal(child_end(child_start(take_and_die, &killed)), 128 + SIGKILL);
}

/* --- system calls -------------------------------------------------------- */

#define BLOCKED_MS 1000

static long blocked_nanosleep(void)
{
	struct timespec left = {BLOCKED_MS / 1000, BLOCKED_MS % 1000 * 1000000L};

	return nanosleep(&left, NULL);
}

static long blocked_epoll_wait(void)
{
	struct epoll_event event;

	return epoll_wait(epoll_create1(0), &event, 1, BLOCKED_MS);
}

static long blocked_poll(void)
{
	return poll(NULL, 0, BLOCKED_MS);
}

static long blocked_read(void)
{
	int ends[2];
	char byte;

	if (pipe(ends))
		return -1;
	if (!fork()) {
		blocked_poll();
		_exit(write(ends[1], "x", 1) != 1);
	}
	return read(ends[0], &byte, 1) - 1;
}

static long (*const blocked_calls[])(void) = {
	blocked_nanosleep, blocked_epoll_wait, blocked_poll, blocked_read};
#define BLOCKED_CALLS (sizeof(blocked_calls) / sizeof(*blocked_calls))

struct job {
	struct shared *shared;
	long (*call)(void);
};

static void block_once(void *context)
{
	struct job *job = context;
	uint64_t begin = tap_clock_ns();

	job->shared->ready = 1;
	errno = 0;
	job->shared->ret = job->call();
	job->shared->errnum = errno;
	job->shared->wrong += tap_clock_ns() - begin < BLOCKED_MS * UINT64_C(1000000) - 1000000;
	job->shared->done = 1;
}

static bool is_blocked(pid_t pid)
{
	struct tap_task_syscall call;

	return tap_task_try_syscall(pid, pid, &call) && call.blocked && call.number >= 0;
}

static void take_several(pid_t pid, bool in_place)
{
	const struct tap_snapshot_options options = {.in_place = in_place};

	for (int i = 0; i < 3; i++) {
		struct tap_snapshot *snapshot = take(pid, &options);
		const struct tap_snapshot_thread *threads;
		size_t count;

		threads = tap_snapshot_threads(snapshot, &count);
		assert_int_equal(count, 1);
		assert_true(threads[0].stopped);
		assert_true(tap_snapshot_is_copy(snapshot) == !in_place);
		assert_ok(tap_snapshot_release(snapshot));
	}
}

static void copy(pid_t pid)
{
	take_several(pid, false);
}

static void hold(pid_t pid)
{
	take_several(pid, true);
}

static void copy_and_be_killed(pid_t pid)
{
	be_killed(pid, false);
}

static void hold_and_be_killed(pid_t pid)
{
	be_killed(pid, true);
}

static void (*const ways[])(pid_t pid) = {copy, hold, copy_and_be_killed, hold_and_be_killed};
#define WAYS (sizeof(ways) / sizeof(*ways))

static void test_blocked_calls_go_on(void **state)
{
	struct job jobs[BLOCKED_CALLS][WAYS];
	pid_t pids[BLOCKED_CALLS][WAYS];

	(void)state;
	for (size_t i = 0; i < BLOCKED_CALLS; i++)
		for (size_t k = 0; k < WAYS; k++) {
			jobs[i][k] = (struct job){
				shared_memory(sizeof(struct shared)), blocked_calls[i]};
			pids[i][k] = child_start(block_once, &jobs[i][k]);
			wait_until(jobs[i][k].shared->ready && is_blocked(pids[i][k]));
			ways[k](pids[i][k]);
		}
	for (size_t i = 0; i < BLOCKED_CALLS; i++)
		for (size_t k = 0; k < WAYS; k++) {
			struct shared *shared = jobs[i][k].shared;

			assert_int_equal(child_end(pids[i][k]), 0);
			if (!shared->done || shared->ret || shared->wrong)
				fail_msg("call %zu, way %zu: %ld (%s), %d wrong", i, k, shared->ret,
					strerror(shared->errnum), shared->wrong);
			munmap(shared, sizeof(*shared));
		}
}

static void test_a_stopped_process_stays_stopped(void **state)
{
	struct shared *shared;
	pid_t pid = start(&shared);

	(void)state;
	kill(pid, SIGSTOP);
	wait_until(state_of(pid) == 'T');
	for (int i = 0; i < 4; i++) {
		const struct tap_snapshot_options options = {.in_place = i % 2};
		unsigned long before = rounds(shared);
		struct tap_snapshot *snapshot = take(pid, &options);

		assert_true(tap_snapshot_is_copy(snapshot) == !options.in_place);
		assert_ok(tap_snapshot_release(snapshot));
		wait_until(state_of(pid) == 'T');
		assert_true(rounds(shared) <= before + WRITERS);
	}
	kill(pid, SIGCONT);
	wait_for_rounds(shared);
	stop(pid, shared);
}

/* --- files --------------------------------------------------------------- */

struct pipe_job {
	struct shared *shared;
	int ends[2];
};

static void close_when_told(void *context)
{
	struct pipe_job *job = context;

	job->shared->ready = 1;
	wait_until(job->shared->go);
	close(job->ends[1]);
	job->shared->done = 1;
	wait_until(job->shared->go == 2);
}

static void test_what_the_process_closes_is_closed(void **state)
{
	struct pipe_job job = {.shared = shared_memory(sizeof(struct shared))};
	struct pollfd end = {.events = POLLIN};
	struct tap_snapshot *snapshot;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(job.ends), 0);
	pid = child_start(close_when_told, &job);
	close(job.ends[1]);
	wait_until(job.shared->ready);
	snapshot = take_copy(pid);
	job.shared->go = 1;
	wait_until(job.shared->done);
	end.fd = job.ends[0];
	assert_int_equal(poll(&end, 1, 0), 1);
	assert_true(end.revents & POLLHUP);
	assert_ok(tap_snapshot_release(snapshot));
	job.shared->go = 2;
	assert_int_equal(child_end(pid), 0);
	close(job.ends[0]);
	munmap(job.shared, sizeof(*job.shared));
}

/* --- one that is killed -------------------------------------------------- */

static void *reap(void *context)
{
	struct tap_target *target;
	struct tap_process process;
	struct tap_error *err = tap_process_read(*(pid_t *)context, &process);

	if (!err)
		err = tap_target_attach(&process, &target);
	if (!err)
		err = tap_left_reap_copies(target);
	if (!err)
		err = tap_target_release(target, NULL);
	tap_process_deinit(&process);
	return err;
}

static void test_what_a_killed_one_left_is_found(void **state)
{
	struct shared *shared;
	pid_t pid = start(&shared);
	pthread_t thread;
	void *err;

	(void)state;
	be_killed(pid, false);
	wait_until(tap_left_has_copies(pid));
	wait_for_rounds(shared);
	pthread_create(&thread, NULL, reap, &pid);
	pthread_join(thread, &err);
	assert_ok((struct tap_error *)err);
	assert_int_equal(count_children(pid), 0);
	stop(pid, shared);
}

/* A child of the same kind, but the program's own. */
static void make_own_child(void *context)
{
	struct shared *shared = context;

	if (!syscall(SYS_clone, 0, NULL, NULL, NULL, 0))
		_exit(0);
	shared->ready = 1;
	wait_until(shared->go);
	shared->ret = waitpid(-1, NULL, __WCLONE);
}

static bool is_zombie(pid_t pid)
{
	_cleanup_free_ char *text = NULL;
	char name[64];
	long child;

	snprintf(name, sizeof(name), "task/%d/children", pid);
	assert_ok(tap_proc_read(pid, name, &text, NULL));
	child = strtol(text, NULL, 10);
	return child > 0 && state_of((pid_t)child) == 'Z';
}

static void test_the_programs_own_children_are_its_own(void **state)
{
	struct shared *shared = shared_memory(sizeof(*shared));
	pid_t pid = child_start(make_own_child, shared);

	(void)state;
	wait_until(shared->ready && is_zombie(pid));
	assert_false(tap_left_has_copies(pid));
	assert_ok(tap_snapshot_release(take_copy(pid)));
	shared->go = 1;
	assert_int_equal(child_end(pid), 0);
	assert_true(shared->ret > 0);
	munmap(shared, sizeof(*shared));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_stands_still),
		cmocka_unit_test(test_threads_are_all_there),
		cmocka_unit_test(test_nothing_is_left),
		cmocka_unit_test(test_reading_keeps_pages_shared),
		cmocka_unit_test(test_the_copy_may_be_killed),
		cmocka_unit_test(test_the_process_may_end),
		cmocka_unit_test(test_in_place_is_held),
		cmocka_unit_test(test_a_long_pause_is_refused),
		cmocka_unit_test(test_busy_threads_get_a_moment),
		cmocka_unit_test(test_blocked_calls_go_on),
		cmocka_unit_test(test_a_stopped_process_stays_stopped),
		cmocka_unit_test(test_what_the_process_closes_is_closed),
		cmocka_unit_test(test_what_a_killed_one_left_is_found),
		cmocka_unit_test(test_the_programs_own_children_are_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
