/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/symbol/unwind.h"

#define FRAMES_MAX 64

/* A child that waits in read() of a pipe, below functions that are known. */
struct target {
	pid_t pid;
	int pipe[2];
	struct tap_memory *memory;
	struct tap_maps maps;
	struct tap_symbols *symbols;
	struct tap_unwinder *unwinder;
	struct tap_native_frame frames[FRAMES_MAX];
	size_t count;
};

static const char *library(void)
{
	const char *path = getenv("TAP_SYMBOL_LIBRARY");

	if (!path)
		skip();
	return path;
}

/* Waits until the child is blocked in read(); its stack and program counter
 * are what the kernel tells of it. */
static void await_read(pid_t pid, struct tap_regs *regs)
{
	char path[64], text[256];
	unsigned long long sp, pc;

	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)pid);
	for (;;) {
		_cleanup_fclose_ FILE *file = fopen(path, "r");

		if (!file)
			skip(); /* not permitted here */
		if (fgets(text, sizeof(text), file) && !strncmp(text, "0 ", 2) &&
			sscanf(text, "0 %*s %*s %*s %*s %*s %*s %llx %llx", &sp, &pc) == 2)
			break;
		assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
		sched_yield();
	}
	regs->rsp = sp;
	regs->rip = pc;
}

__attribute__((noinline)) static void call(const char *path, const char *name, int fd)
{
	void *handle = dlopen(path, RTLD_NOW);
	int (*with_one)(int) = (int (*)(int))dlsym(handle, name);
	int (*with_two)(int, int) = (int (*)(int, int))dlsym(handle, name);
	bool two = !strcmp(name, "tap_lib_recursive") || !strcmp(name, "tap_lib_alloca");

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	_exit(two ? with_two(fd, 4) : with_one(fd));
}

static void start(struct target *target, const char *name, struct tap_regs *regs)
{
	const char *path = library();

	memset(target, 0, sizeof(*target));
	assert_int_equal(pipe(target->pipe), 0);
	target->pid = fork();
	if (!target->pid)
		call(path, name, target->pipe[0]);
	await_read(target->pid, regs);
	assert_ok(tap_memory_open(target->pid, false, &target->memory));
	assert_ok(tap_maps_read(target->pid, &target->maps));
	assert_ok(tap_symbols_open(
		target->pid, target->memory, &target->maps, NULL, &target->symbols));
	target->unwinder = tap_unwinder_create(target->symbols);
}

static void stop(struct target *target)
{
	tap_unwinder_destroy(target->unwinder);
	tap_symbols_close(target->symbols);
	tap_maps_deinit(&target->maps);
	tap_memory_close(target->memory);
	kill(target->pid, SIGKILL);
	waitpid(target->pid, NULL, 0);
	close(target->pipe[0]);
	close(target->pipe[1]);
}

static void stop_with_registers(struct target *target, struct tap_regs *regs)
{
	int status;

	assert_int_equal(sizeof(*regs), sizeof(struct user_regs_struct));
	if (ptrace(PTRACE_SEIZE, target->pid, NULL, NULL)) {
		print_message("SKIP: ptrace is not permitted here\n");
		stop(target);
		skip();
	}
	assert_int_equal(ptrace(PTRACE_INTERRUPT, target->pid, NULL, NULL), 0);
	assert_int_equal(waitpid(target->pid, &status, 0), target->pid);
	assert_int_equal(ptrace(PTRACE_GETREGS, target->pid, NULL, regs), 0);
}

static void unwind(struct target *target, const struct tap_regs *regs, uint32_t known)
{
	target->count = tap_unwind(target->unwinder, target->memory, regs, known, target->frames,
		FRAMES_MAX);
	assert_in_range(target->count, 1, FRAMES_MAX - 1);
}

static const char *name_of(struct target *target, size_t index)
{
	struct tap_native_frame *frame = &target->frames[index];
	struct tap_symbol symbol;

	if (!tap_symbols_try_name(target->symbols, frame->pc - frame->is_call, &symbol))
		return "?";
	return symbol.name;
}

static void dump(struct target *target)
{
	for (size_t i = 0; i < target->count; i++)
		print_message("#%zu %llx %s trust %d\n", i,
			(unsigned long long)target->frames[i].pc, name_of(target, i),
			target->frames[i].trust);
}

/* The names that are listed follow one another, beginning at the first frame
 * of that name. Returns the index behind them. */
static size_t assert_chain(struct target *target, const char *const *names)
{
	size_t at = 0;

	while (at < target->count && strcmp(name_of(target, at), names[0]))
		at++;
	for (size_t i = 0; names[i]; i++, at++) {
		if (at >= target->count || strcmp(name_of(target, at), names[i])) {
			dump(target);
			fail_msg("frame %zu is not %s", at, names[i]);
		}
	}
	return at;
}

static void assert_all_exact(struct target *target, size_t count)
{
	uint64_t cfa = 0;

	for (size_t i = 0; i < count; i++) {
		assert_int_equal(target->frames[i].trust, TAP_FRAME_EXACT);
		assert_true(target->frames[i].cfa > cfa);
		cfa = target->frames[i].cfa;
	}
}

static const char *const deep[] = {"tap_lib_wait", "tap_lib_plain", "tap_lib_alloca",
	"tap_lib_recursive", "tap_lib_recursive", "tap_lib_recursive", "tap_lib_recursive",
	"tap_lib_recursive", "call", NULL};

static void a_stopped_thread_is_unwound_exactly(void **state)
{
	struct tap_regs regs = {0};
	struct target target;

	(void)state;
	start(&target, "tap_lib_recursive", &regs);
	stop_with_registers(&target, &regs);
	unwind(&target, &regs, TAP_UNWIND_ALL);
	assert_all_exact(&target, assert_chain(&target, deep));
	assert_false(target.frames[0].is_call);
	assert_true(target.frames[1].is_call);
	assert_int_equal(target.frames[0].pc, regs.rip);
	/* Down to where the process began. */
	assert_string_equal(name_of(&target, target.count - 1), "_start");
	stop(&target);
}

/* What was needed the last time is copied at once, and decides nothing. */
static void what_was_copied_is_the_stack(void **state)
{
	struct tap_native_frame before[FRAMES_MAX];
	struct tap_regs regs = {0};
	struct target target;
	const uint8_t *copied;
	size_t size_bytes, count;
	uint64_t addr;
	uint8_t byte;

	(void)state;
	start(&target, "tap_lib_recursive", &regs);
	stop_with_registers(&target, &regs);
	unwind(&target, &regs, TAP_UNWIND_ALL);
	count = target.count;
	memcpy(before, target.frames, sizeof(before));
	for (int i = 0; i < 2; i++) {
		unwind(&target, &regs, TAP_UNWIND_ALL);
		assert_int_equal(target.count, count);
		for (size_t j = 0; j < count; j++) {
			assert_int_equal(target.frames[j].pc, before[j].pc);
			assert_int_equal(target.frames[j].cfa, before[j].cfa);
			assert_int_equal(target.frames[j].trust, before[j].trust);
		}
		copied = tap_unwind_copied(target.unwinder, &addr, &size_bytes);
		assert_in_range(addr, regs.rsp - 8, regs.rsp);
		assert_true(addr + size_bytes >= target.frames[count - 2].cfa);
		assert_true(tap_memory_try_u8(target.memory, addr + size_bytes - 1, &byte));
		assert_int_equal(copied[size_bytes - 1], byte);
	}
	/* Of a part of the stack, and then of another thread that has its number. */
	target.count = tap_unwind(
		target.unwinder, target.memory, &regs, TAP_UNWIND_ALL, target.frames, 2);
	unwind(&target, &regs, TAP_UNWIND_ALL);
	assert_int_equal(target.count, count);
	regs.rsp = before[count - 3].cfa;
	regs.rip = before[count - 2].pc;
	unwind(&target, &regs, TAP_UNWIND_SP_PC);
	regs.rsp = before[0].cfa - 8;
	regs.rip = before[0].pc;
	unwind(&target, &regs, TAP_UNWIND_SP_PC);
	assert_chain(&target, deep);
	stop(&target);
}

/* Stack pointer and program counter alone: the frame that is reached through
 * rbp is looked for, what follows is exact again. */
static void a_thread_that_was_not_stopped_is_unwound(void **state)
{
	struct tap_regs regs = {0};
	struct target target;

	(void)state;
	start(&target, "tap_lib_recursive", &regs);
	unwind(&target, &regs, TAP_UNWIND_SP_PC);
	assert_chain(&target, deep);
	stop(&target);
}

static void a_signal_handler_leads_to_what_it_interrupted(void **state)
{
	static const char *const raised[] = {"tap_lib_wait", "handler", NULL};
	struct tap_regs regs = {0};
	struct target target;
	bool found = false;

	(void)state;
	start(&target, "tap_lib_signal", &regs);
	stop_with_registers(&target, &regs);
	for (int way = 0; way < 2; way++) {
		size_t at;

		unwind(&target, &regs, way ? TAP_UNWIND_SP_PC : TAP_UNWIND_ALL);
		at = assert_chain(&target, raised);
		/* The trampoline, then exactly where the signal struck. */
		assert_false(target.frames[at].is_call);
		assert_false(target.frames[at + 1].is_call);
		assert_true(target.frames[at + 2].is_call);
		for (; at < target.count; at++)
			found |= !strcmp(name_of(&target, at), "tap_lib_signal");
		if (!found)
			dump(&target);
		assert_true(found);
	}
	stop(&target);
}

static void steps_are_the_same_as_a_whole_unwind(void **state)
{
	enum tap_frame_trust trust;
	struct tap_regs regs = {0};
	struct target target;
	uint32_t known = TAP_UNWIND_ALL;

	(void)state;
	start(&target, "tap_lib_signal", &regs);
	stop_with_registers(&target, &regs);
	unwind(&target, &regs, known);
	for (size_t i = 1; i < target.count; i++) {
		assert_true(tap_unwind_step(target.unwinder, target.memory, &regs, &known, &trust));
		assert_int_equal(regs.rip, target.frames[i].pc);
		assert_int_equal(trust, target.frames[i].trust);
	}
	assert_false(tap_unwind_step(target.unwinder, target.memory, &regs, &known, &trust));
	assert_int_equal(regs.rip, target.frames[target.count - 1].pc);
	stop(&target);
}

static void a_call_into_nowhere_shows_its_caller(void **state)
{
	struct tap_regs regs = {0};
	struct target target;
	uint64_t inside;

	(void)state;
	start(&target, "tap_lib_plain", &regs);
	stop_with_registers(&target, &regs);
	/* As if the system call's caller had been called at address 0. */
	unwind(&target, &regs, TAP_UNWIND_ALL);
	inside = target.frames[1].pc;
	for (uint64_t sp = target.frames[0].cfa - 8;; sp += 8) {
		uint64_t word;

		assert_true(tap_memory_try_u64(target.memory, sp, &word));
		if (word == inside) {
			regs.rsp = sp;
			break;
		}
	}
	regs.rip = 0;
	unwind(&target, &regs, TAP_UNWIND_ALL);
	assert_int_equal(target.frames[1].pc, inside);
	assert_int_equal(target.frames[1].trust, TAP_FRAME_GUESSED);
	stop(&target);
}

/* Whatever the registers and the stack hold, it ends. */
static void garbage_ends(void **state)
{
	const uint64_t stack = 0x7ffe00000000;
	uint64_t *words = tap_alloc(65536), seed = 88172645463325252u;
	struct tap_regs regs = {0};
	struct target target;

	(void)state;
	start(&target, "tap_lib_recursive", &regs);
	for (int round = 0; round < 300; round++) {
		uint64_t *parts[] = {&regs.rip, &regs.rsp, &regs.rbp, &regs.rbx};
		_cleanup_memory_ struct tap_memory *memory = tap_memory_create_image();

		for (size_t i = 0; i < 8192; i++) {
			const struct tap_mapping *m;

			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			/* Addresses in mapped code and in the stack itself. */
			m = &target.maps.items[seed % target.maps.count];
			words[i] = i % 3 ? m->start + (seed >> 20) % (m->end - m->start)
					 : stack + (seed >> 16) % 65536;
		}
		tap_memory_add_region(memory, stack, words, 65536);
		for (size_t i = 0; i < 4; i++)
			*parts[i] = words[(size_t)round + i];
		regs.rsp = stack + (seed >> 30) % 65536;
		target.count = tap_unwind(target.unwinder, memory, &regs,
			round % 2 ? TAP_UNWIND_ALL : TAP_UNWIND_SP_PC, target.frames, FRAMES_MAX);
		assert_in_range(target.count, 1, FRAMES_MAX);
	}
	free(words);
	stop(&target);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stopped_thread_is_unwound_exactly),
		cmocka_unit_test(what_was_copied_is_the_stack),
		cmocka_unit_test(a_thread_that_was_not_stopped_is_unwound),
		cmocka_unit_test(a_signal_handler_leads_to_what_it_interrupted),
		cmocka_unit_test(steps_are_the_same_as_a_whole_unwind),
		cmocka_unit_test(a_call_into_nowhere_shows_its_caller),
		cmocka_unit_test(garbage_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
