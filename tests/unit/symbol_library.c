/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library with known functions, lines and frames, compiled with -O2 -g and
 * without frame pointers, for the tests of the symbol layer.
 */
#include <alloca.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

int tap_lib_counter = 7;
static int hidden_counter;

int tap_lib_wait(int fd);
int tap_lib_plain(int fd);
int tap_lib_alloca(int fd, int size);
int tap_lib_recursive(int fd, int depth);
int tap_lib_inlines(int fd);
int tap_lib_signal(int fd);
void *tap_lib_marks(int which);

__attribute__((noinline)) int tap_lib_wait(int fd)
{
	char byte = 0;
	ssize_t n = read(fd, &byte, 1);

	hidden_counter += (int)n;
	return hidden_counter + byte;
}

__attribute__((noinline)) int tap_lib_plain(int fd)
{
	return tap_lib_wait(fd) + 1;
}

/* A frame of unknown size is reached through rbp. */
__attribute__((noinline)) int tap_lib_alloca(int fd, int size)
{
	char *room = alloca((size_t)size);

	memset(room, size, (size_t)size);
	return tap_lib_plain(fd) + room[size / 2];
}

__attribute__((noinline)) int tap_lib_recursive(int fd, int depth)
{
	if (!depth)
		return tap_lib_alloca(fd, 100) + 1;
	return tap_lib_recursive(fd, depth - 1) + depth * hidden_counter;
}

static inline __attribute__((always_inline)) int innermost(int fd)
{
	return tap_lib_wait(fd) * 3; /* line: innermost */
}

static inline __attribute__((always_inline)) int middle(int fd)
{
	return innermost(fd) + 5; /* line: middle */
}

__attribute__((noinline)) int tap_lib_inlines(int fd)
{
	return middle(fd) + 2; /* line: outer */
}

static int signal_fd;

__attribute__((noinline)) static void handler(int number)
{
	hidden_counter += tap_lib_wait(signal_fd) + number;
}

__attribute__((noinline)) int tap_lib_signal(int fd)
{
	signal_fd = fd;
	signal(SIGUSR1, handler);
	raise(SIGUSR1);
	return hidden_counter;
}

/* Addresses of what has no exported name. */
void *tap_lib_marks(int which)
{
	return which ? (void *)handler : (void *)&hidden_counter;
}
