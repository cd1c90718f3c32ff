/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits [--threads N] [--as SPARE] [--fsize] [--fds] [--mdwe]
 *
 * A program that computes by allocations at a limit: with so many bytes of
 * address space to spare, a file size limit of 0, a full table of descriptors,
 * or code that may not become writable nor data executable. It says {"rounds": ...,
 * "wrong": ...} for each line on standard input, and checks all the time that what
 * it has left is what it had.
 */
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include "storm.h"

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

#define THREADS_MAX 256
#define DESCRIPTORS 64
/* What of the spare address space is asked for, again and again. */
#define NEEDED_SHARE 4

static size_t needed_bytes;
static int full;

static void on_file_size(int sig)
{
	(void)sig;
	storm_expect(0);
}

static size_t mapped_bytes(void)
{
	size_t pages = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	if (!file || fscanf(file, "%zu", &pages) != 1)
		exit(2);
	fclose(file);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void limit(int what, rlim_t value)
{
	struct rlimit limit = { value, value };

	if (setrlimit((__rlimit_resource_t)what, &limit))
		exit(2);
}

static void fill_descriptors(void)
{
	limit(RLIMIT_NOFILE, DESCRIPTORS);
	while (dup(STDERR_FILENO) >= 0)
		;
	full = 1;
}

static void check_descriptors(void)
{
	for (int fd = 0; fd < DESCRIPTORS; fd++)
		storm_expect(fcntl(fd, F_GETFD) >= 0);
	storm_expect(dup(STDERR_FILENO) < 0 && errno == EMFILE);
}

static void check_room(void)
{
	void *room = mmap(NULL, needed_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	storm_expect(room != MAP_FAILED);
	munmap(room, needed_bytes);
}

static void *keep_checking(void *context)
{
	while (!atomic_load(&storm.end)) {
		if (full)
			check_descriptors();
		if (needed_bytes)
			check_room();
		storm_sleep_ms(1);
	}
	return context;
}

static void answer_lines(void)
{
	char letter;
	ssize_t n;

	while (!target_stop) {
		n = read(STDIN_FILENO, &letter, 1);
		if (n == 0 || (n < 0 && errno != EINTR))
			return;
		if (n == 1 && letter == '\n')
			say("{\"rounds\": %lu, \"wrong\": %lu}\n", atomic_load(&storm.rounds),
			    atomic_load(&storm.wrong));
	}
}

static int set_limits(int argc, char **argv)
{
	size_t spare = strtoul(option(argc, argv, "--as", "0"), NULL, 0);

	if (has_option(argc, argv, "--fsize")) {
		signal(SIGXFSZ, on_file_size);
		limit(RLIMIT_FSIZE, 0);
	}
	if (has_option(argc, argv, "--fds"))
		fill_descriptors();
	if (spare) {
		needed_bytes = spare / NEEDED_SHARE & ~4095UL;
		limit(RLIMIT_AS, mapped_bytes() + spare);
	}
	return !has_option(argc, argv, "--mdwe") ||
	       !prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0);
}

int main(int argc, char **argv)
{
	int threads = atoi(option(argc, argv, "--threads", "1"));
	pthread_t spinners[THREADS_MAX], checker;
	int able;

	if (threads < 1 || threads > THREADS_MAX) {
		fprintf(stderr,
			"usage: limits [--threads N] [--as SPARE] [--fsize] [--fds] [--mdwe]\n");
		return 2;
	}
	storm_begin();
	for (int i = 1; i < threads; i++)
		pthread_create(&spinners[i], NULL, storm_spin, NULL);
	/* Threads have heaps of their own once they have asked for memory. */
	while (atomic_load(&storm.rounds) < 100UL * (unsigned long)threads)
		storm_sleep_ms(1);
	pthread_create(&checker, NULL, keep_checking, NULL);
	able = set_limits(argc, argv);
	say("{\"ready\": true, \"pid\": %d, \"able\": %d}\n", getpid(), able);
	answer_lines();
	atomic_store(&storm.end, 1);
	for (int i = 1; i < threads; i++)
		pthread_join(spinners[i], NULL);
	pthread_join(checker, NULL);
	return storm_finish();
}
