/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long each sample of a recording by probes held its thread, looked at from
 * outside: bench_waits PID SECONDS
 *
 * Reads the page that heaptap shares with the process (heaptap/arch/probe.h)
 * through /proc, ten thousand times a second at most, and takes what the sum of
 * all waits grew by from one look to another, over the samples between them. Prints
 * one JSON object: "looks" in which there was a sample, "samples", "median_us",
 * "mean_us", "p95_us", and "histogram", of powers of two of microseconds.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>
#include "heaptap/arch/probe.h"
#include "heaptap/base/clock.h"

#define LOOKS_MAX 2000000
#define PAUSE_NS 50000
#define BINS 20
#define NAME "/memfd:heaptap-probes"

/* Of the recording so far. */
struct sums {
	uint64_t samples, ticks;
};

static double waits_us[LOOKS_MAX];

static struct sums look(const struct tap_probe_shared *shared)
{
	return (struct sums){atomic_load(&shared->samples), atomic_load(&shared->waited_ticks)};
}

static int open_shared(int pid)
{
	char path[64], line[512];
	unsigned long start, end;
	FILE *maps;
	int fd = -1;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "r");
	while (maps && fd < 0 && fgets(line, sizeof(line), maps)) {
		if (!strstr(line, NAME) || sscanf(line, "%lx-%lx", &start, &end) != 2)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/map_files/%lx-%lx", pid, start, end);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	if (maps)
		fclose(maps);
	return fd;
}

static double ticks_per_us(void)
{
	struct timespec pause = {0, 50000000};
	uint64_t since_ns = tap_clock_ns(), ticks = __rdtsc();

	nanosleep(&pause, NULL);
	return (double)(__rdtsc() - ticks) / ((double)(tap_clock_ns() - since_ns) * 1e-3);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void report(size_t looks, uint64_t samples, double sum_us)
{
	unsigned long bins[BINS] = {0};

	qsort(waits_us, looks, sizeof(waits_us[0]), by_size);
	for (size_t i = 0; i < looks; i++) {
		unsigned bin = 0;

		while (bin + 1 < BINS && waits_us[i] >= (double)(1ul << (bin + 1)))
			bin++;
		bins[bin]++;
	}
	printf("{\"looks\": %zu, \"samples\": %lu, \"median_us\": %.2f, \"mean_us\": %.2f, "
	       "\"p95_us\": %.2f, \"histogram\": [",
		looks, samples, waits_us[looks / 2], sum_us / (double)samples,
		waits_us[looks - 1 - looks / 20]);
	for (unsigned i = 0; i < BINS; i++)
		printf("%s%lu", i ? ", " : "", bins[i]);
	puts("]}");
}

int main(int argc, char **argv)
{
	struct timespec pause = {0, PAUSE_NS};
	const struct tap_probe_shared *shared;
	struct sums done, last, now;
	uint64_t end, samples = 0;
	double per_us = ticks_per_us(), sum_us = 0;
	size_t looks = 0;
	int fd = argc == 3 ? open_shared(atoi(argv[1])) : -1;

	if (fd < 0) {
		fputs("usage: bench_waits PID SECONDS, of a process with heaptap's probes\n",
			stderr);
		return 2;
	}
	shared = mmap(NULL, sizeof(*shared), PROT_READ, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED) {
		perror("bench_waits");
		return 1;
	}
	done = last = look(shared);
	end = tap_clock_ns() + (uint64_t)(atof(argv[2]) * 1e9);
	while (tap_clock_ns() < end && looks < LOOKS_MAX) {
		double us;

		nanosleep(&pause, NULL);
		now = look(shared);
		/* Where nothing has moved, nobody waits now, or has for long. */
		if (now.samples == last.samples && now.ticks == last.ticks &&
			now.samples != done.samples && now.ticks != done.ticks) {
			us = (double)(now.ticks - done.ticks) / per_us;
			sum_us += us;
			samples += now.samples - done.samples;
			waits_us[looks++] = us / (double)(now.samples - done.samples);
			done = now;
		}
		last = now;
	}
	if (!looks) {
		fputs("bench_waits: no sample\n", stderr);
		return 1;
	}
	report(looks, samples, sum_us);
	return 0;
}
