/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shares LOG [--equal] [--round BYTES] [--churn N]
 *
 * Twenty sites that leak, each its share of so many bytes a millisecond, in
 * blocks of its own size and by one of seven ways to ask for memory; and a site
 * that frees what it gets, N times a millisecond. After each round a line of the
 * log: "<CLOCK_REALTIME seconds> <blocks asked for> <bytes asked for> <bytes
 * churned> <live bytes of site 0> <of site 1> ...", all of them so far.
 */
#include "target.h"

#define SITES 20
#define PERIOD_NS 1000000L

static const double shares[SITES] = { 30, 12, 9, 7, 6, 5, 4, 4, 3, 3, 3, 2, 2, 2, 2, 2, 1, 1, 1, 1 };
static const size_t sizes[SITES] = { 200, 1000, 32,  400, 64, 500, 2000, 100, 48,  700,
				     24,  300,  150, 80,  90, 600, 120,  24,  350, 1200 };
static unsigned long long live[SITES], blocks, bytes, churned;
static void *volatile last;
static void *volatile nothing; /* which a compiler does not know */

static NOINLINE void *ask_realloc(void *block, size_t size)
{
	blocks++;
	bytes += size;
	return realloc(block, size);
}

/* The same source in functions of their own; the way by the site's number. */
#define SITE(n)                                                                        \
	static NOINLINE void leak_site_##n(size_t size)                                 \
	{                                                                               \
		void *block = NULL;                                                     \
                                                                                       \
		switch ((n) % 5) {                                                      \
		case 0:                                                                 \
			block = malloc(size);                                           \
			break;                                                          \
		case 1:                                                                 \
			block = calloc(2, size / 2);                                    \
			break;                                                          \
		case 2:                                                                 \
			block = (n) % 2 ? reallocarray(nothing, 2, size / 2) :         \
					  realloc(nothing, size);                       \
			break;                                                          \
		case 3:                                                                 \
			if ((n) % 2)                                                    \
				block = aligned_alloc((n) == 13 ? 64 : 16, size);       \
			else if (posix_memalign(&block, 16, size))                      \
				abort();                                                \
			break;                                                          \
		default:                                                                \
			block = malloc(size / 2);                                       \
			blocks++;                                                       \
			bytes += size / 2;                                              \
			__asm__ volatile("" : "+r"(block));                             \
			block = realloc(block, size);                                   \
		}                                                                       \
		blocks++;                                                               \
		bytes += size;                                                          \
		last = block;                                                           \
		live[n] += size;                                                        \
	}

SITE(0)
SITE(1)
SITE(2)
SITE(3)
SITE(4)
SITE(5)
SITE(6)
SITE(7)
SITE(8)
SITE(9)
SITE(10)
SITE(11)
SITE(12)
SITE(13)
SITE(14)
SITE(15)
SITE(16)
SITE(17)
SITE(18)
SITE(19)

static void (*const leak[SITES])(size_t) = {
	leak_site_0,  leak_site_1,  leak_site_2,  leak_site_3,  leak_site_4,
	leak_site_5,  leak_site_6,  leak_site_7,  leak_site_8,  leak_site_9,
	leak_site_10, leak_site_11, leak_site_12, leak_site_13, leak_site_14,
	leak_site_15, leak_site_16, leak_site_17, leak_site_18, leak_site_19,
};

static NOINLINE void churn(unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		size_t size = 16 + i * 37 % 500;
		void *block = malloc(size);

		__asm__ volatile("" : "+r"(block));
		/* through a realloc, one in eight */
		if (i % 8 == 0)
			block = ask_realloc(block, 2 * size);
		free(block);
		blocks++;
		bytes += size;
		churned += size;
	}
}

static void note(int fd)
{
	char line[600];
	struct timespec ts;
	int len;

	clock_gettime(CLOCK_REALTIME, &ts);
	len = snprintf(line, sizeof(line), "%lld.%09ld %llu %llu %llu", (long long)ts.tv_sec,
		       ts.tv_nsec, blocks, bytes, churned);
	for (int i = 0; i < SITES; i++)
		len += snprintf(line + len, sizeof(line) - (size_t)len, " %llu", live[i]);
	line[len++] = '\n';
	write_all(fd, line, (size_t)len);
}

int main(int argc, char **argv)
{
	double round_bytes = atof(option(argc, argv, "--round", "24000"));
	unsigned int churn_count = (unsigned int)atoi(option(argc, argv, "--churn", "100"));
	int equal = has_option(argc, argv, "--equal");
	double due[SITES] = { 0 };
	struct timespec next;
	int fd;

	if (argc < 2 || round_bytes <= 0) {
		fprintf(stderr, "usage: shares LOG [--equal] [--round BYTES] [--churn N]\n");
		return 2;
	}
	fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0) {
		perror(argv[1]);
		return 2;
	}
	catch_terminate();
	say("{\"ready\": true, \"pid\": %d, \"sites\": %d}\n", getpid(), SITES);
	clock_gettime(CLOCK_MONOTONIC, &next);
	do {
		for (int i = 0; i < SITES; i++) {
			due[i] += round_bytes * (equal ? 1.0 / SITES : shares[i] / 100);
			for (; due[i] >= (double)sizes[i]; due[i] -= (double)sizes[i])
				leak[i](sizes[i]);
		}
		churn(churn_count);
		note(fd);
		add_ns(&next, PERIOD_NS);
	} while (wait_until(&next));
	say("{\"done\": true, \"blocks\": %llu, \"bytes\": %llu}\n", blocks, bytes);
	return 0;
}
