/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into heaptap: kills it with SIGKILL at its KILL_AT-th call of
 * ptrace, or of a write to or read of another process's memory; before the
 * call, which then never happens. Without KILL_AT the calls are counted, and
 * told on the descriptor KILL_COUNT_FD when heaptap ends.
 */
#undef _FILE_OFFSET_BITS /* pread and pread64 are two functions here */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_long calls;
static long kill_at = -1;

__attribute__((constructor)) static void begin(void)
{
	const char *at = getenv("KILL_AT");

	if (at)
		kill_at = atol(at);
}

__attribute__((destructor)) static void end(void)
{
	const char *fd = getenv("KILL_COUNT_FD");

	if (fd)
		dprintf(atoi(fd), "%ld\n", atomic_load(&calls));
}

static void step(void)
{
	if (atomic_fetch_add(&calls, 1) + 1 == kill_at)
		kill(getpid(), SIGKILL);
}

static int is_memory(int fd)
{
	char path[32], link[64];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	len = readlink(path, link, sizeof(link) - 1);
	if (len < 10)
		return 0;
	link[len] = 0;
	return !strncmp(link, "/proc/", 6) && !strcmp(link + len - 4, "/mem");
}

long ptrace(enum __ptrace_request request, ...)
{
	long (*next)(enum __ptrace_request, ...) = dlsym(RTLD_NEXT, "ptrace");
	va_list args;
	pid_t pid;
	void *addr, *data;

	va_start(args, request);
	pid = va_arg(args, pid_t);
	addr = va_arg(args, void *);
	data = va_arg(args, void *);
	va_end(args);
	step();
	return next(request, pid, addr, data);
}

ssize_t pread64(int fd, void *buf, size_t size, off64_t at)
{
	if (is_memory(fd))
		step();
	return syscall(SYS_pread64, fd, buf, size, at);
}

ssize_t pread(int fd, void *buf, size_t size, off_t at)
{
	return pread64(fd, buf, size, at);
}

ssize_t pwrite64(int fd, const void *buf, size_t size, off64_t at)
{
	if (is_memory(fd))
		step();
	return syscall(SYS_pwrite64, fd, buf, size, at);
}

ssize_t pwrite(int fd, const void *buf, size_t size, off_t at)
{
	return pwrite64(fd, buf, size, at);
}
