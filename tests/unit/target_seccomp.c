/* SPDX-License-Identifier: Apache-2.0 */
/* What filters answer: by a table, and compared with the kernel's own answers. */
#include "unit.h"

#include <errno.h>
#include <linux/audit.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "target/seccomp.h"

#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define LOG BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_LOG)
#define TRAP BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP)
#define KILL BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)
#define ERRNO(n) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (n))
#define FIELD(name) ((uint32_t)offsetof(struct seccomp_data, name))
#define LOW(n) ((uint32_t)(offsetof(struct seccomp_data, args) + 8 * (n)))
#define HIGH(n) (LOW(n) + 4)
#define LOAD(at) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (at))
#define IF(op, k, yes, no) BPF_JUMP(BPF_JMP | BPF_##op | BPF_K, (k), (yes), (no))
#define IF_X(op, yes, no) BPF_JUMP(BPF_JMP | BPF_##op | BPF_X, 0, (yes), (no))
#define GOTO(k) BPF_STMT(BPF_JMP | BPF_JA, (k))
#define ALU(op, k) BPF_STMT(BPF_ALU | BPF_##op | BPF_K, (k))
#define ALU_X(op) BPF_STMT(BPF_ALU | BPF_##op | BPF_X, 0)
#define SET_A(k) BPF_STMT(BPF_LD | BPF_IMM, (k))
#define SET_X(k) BPF_STMT(BPF_LDX | BPF_W | BPF_IMM, (k))
#define TAX BPF_STMT(BPF_MISC | BPF_TAX, 0)
#define TXA BPF_STMT(BPF_MISC | BPF_TXA, 0)
#define PUT_A(k) BPF_STMT(BPF_ST, (k))
#define PUT_X(k) BPF_STMT(BPF_STX, (k))
#define GET_A(k) BPF_STMT(BPF_LD | BPF_MEM, (k))
#define GET_X(k) BPF_STMT(BPF_LDX | BPF_MEM, (k))
#define RETURN_A BPF_STMT(BPF_RET | BPF_A, 0)
#define X32_BIT 0x40000000u

/* futex(unknown, FUTEX_WAIT_BITSET, 7, unknown, 0, FUTEX_BITSET_MATCH_ANY), from
 * an unknown place; the fifth argument is large for the sake of its high half. */
static struct seccomp_call futex_call(void)
{
	struct seccomp_call call = {
		.data = {
			.nr = SYS_futex,
			.arch = AUDIT_ARCH_X86_64,
			.instruction_pointer = 0x7f0000001000,
			.args = {0x7f0000002000, 9, 7, 0x7f0000003000, 0x500000006, 0xffffffff},
		},
	};

	seccomp_forget_pc(&call);
	seccomp_forget_argument(&call, 0);
	seccomp_forget_argument(&call, 3);
	return call;
}

/* Each is to be answered with ERRNO(1) where nothing else is said. */
#define RIGHT (SECCOMP_RET_ERRNO | 1u)
#define DEAD SECCOMP_RET_KILL_PROCESS

static const struct {
	const char *name;
	struct sock_filter insns[24];
	uint32_t answer;
} filters[] = {
	{"allows everything", {ALLOW}, SECCOMP_RET_ALLOW},
	{"allows nothing", {KILL}, DEAD},
	/* As libseccomp makes them: architecture, x32, then a tree of numbers. */
	{"libseccomp, a list",
		{LOAD(FIELD(arch)), IF(JEQ, AUDIT_ARCH_X86_64, 0, 9), LOAD(FIELD(nr)),
			IF(JGE, X32_BIT, 0, 1), IF(JEQ, 0xffffffff, 0, 6),
			IF(JGT, SYS_openat, 5, 0), IF(JEQ, SYS_read, 3, 0),
			IF(JEQ, SYS_futex, 2, 0), IF(JEQ, SYS_mmap, 1, 0), GOTO(1), ALLOW, KILL},
		SECCOMP_RET_ALLOW},
	{"libseccomp, not in the list",
		{LOAD(FIELD(arch)), IF(JEQ, AUDIT_ARCH_X86_64, 0, 6), LOAD(FIELD(nr)),
			IF(JGE, X32_BIT, 4, 0), IF(JEQ, SYS_read, 2, 0), IF(JEQ, SYS_write, 1, 0),
			ERRNO(1), ALLOW, KILL},
		RIGHT},
	{"another architecture",
		{LOAD(FIELD(arch)), IF(JEQ, AUDIT_ARCH_I386, 0, 1), ALLOW, ERRNO(1)}, RIGHT},
	/* Docker: a range of numbers, and an argument in its two halves. */
	{"docker, clone's flags are none of it",
		{LOAD(FIELD(arch)), IF(JEQ, AUDIT_ARCH_X86_64, 1, 0), KILL, LOAD(FIELD(nr)),
			IF(JEQ, SYS_clone, 0, 4), LOAD(LOW(0)), ALU(AND, 0x7e020000),
			IF(JEQ, 0, 0, 2), ALLOW, IF(JGE, SYS_socket, 0, 1), ALLOW, ERRNO(38)},
		SECCOMP_RET_ALLOW},
	{"an argument, both halves",
		{LOAD(HIGH(1)), IF(JEQ, 0, 0, 3), LOAD(LOW(1)), ALU(AND, 0x7f),
			IF(JEQ, 9, 1, 0), KILL, ERRNO(1)},
		RIGHT},
	{"an argument that differs in its high half",
		{LOAD(HIGH(4)), IF(JEQ, 5, 0, 2), LOAD(LOW(4)), IF(JEQ, 6, 1, 0), KILL, ERRNO(1)},
		RIGHT},
	{"the last word", {LOAD(HIGH(5)), IF(JEQ, 0, 0, 1), ERRNO(1), KILL}, RIGHT},
	{"behind the last word", {LOAD(64), ERRNO(1)}, DEAD},
	{"between two words", {LOAD(2), ERRNO(1)}, DEAD},
	{"at the end of all addresses", {LOAD(0xfffffffc), ERRNO(1)}, DEAD},
	{"a packet's byte", {BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), ERRNO(1)}, DEAD},
	{"by an index", {BPF_STMT(BPF_LD | BPF_W | BPF_IND, 0), ERRNO(1)}, DEAD},
	{"the length",
		{BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0), IF(JEQ, 64, 0, 1), ERRNO(1), KILL}, RIGHT},
	/* The machine. */
	{"A and X are 0 at first", {IF_X(JEQ, 0, 2), IF(JEQ, 0, 0, 1), ERRNO(1), KILL}, RIGHT},
	{"X by A",
		{SET_A(5), TAX, SET_A(7), ALU_X(SUB), IF(JEQ, 2, 0, 4), TXA, IF(JEQ, 5, 0, 2),
			IF_X(JGE, 0, 1), ERRNO(1), KILL},
		RIGHT},
	{"cells",
		{SET_A(3), PUT_A(0), SET_X(4), PUT_X(15), SET_A(0), GET_X(0), GET_A(15),
			ALU_X(MUL), IF(JEQ, 12, 0, 1), ERRNO(1), KILL},
		RIGHT},
	{"a cell that was not written", {GET_A(3), IF(JEQ, 0, 0, 1), ERRNO(1), KILL}, DEAD},
	{"a cell too far", {SET_A(1), PUT_A(16), ERRNO(1)}, DEAD},
	{"a cell too far to read", {GET_A(16), ERRNO(1)}, DEAD},
	{"sums that overflow",
		{SET_A(0xffffffff), ALU(ADD, 3), IF(JEQ, 2, 0, 6), ALU(SUB, 3),
			IF(JEQ, 0xffffffff, 0, 4), ALU(MUL, 2), ALU(DIV, 3),
			IF(JEQ, 0x55555554, 0, 1), ERRNO(1), KILL},
		RIGHT},
	{"bits",
		{SET_A(0xf0), ALU(OR, 0x0f), ALU(XOR, 0x11), ALU(LSH, 8), ALU(RSH, 4),
			ALU(AND, 0xff00), IF(JEQ, 0x0e00, 0, 3), ALU(LSH, 31), ALU(RSH, 31),
			IF(JSET, 1, 1, 0), ERRNO(1), KILL},
		RIGHT},
	{"negative", {SET_A(1), BPF_STMT(BPF_ALU | BPF_NEG, 0), IF(JGT, 0xfffffffe, 0, 1), ERRNO(1),
			KILL},
		RIGHT},
	{"the remainder is none of it", {SET_A(7), ALU(MOD, 4), ERRNO(1)}, DEAD},
	{"by zero", {SET_A(7), ALU(DIV, 0), ERRNO(1)}, DEAD},
	{"by X, zero", {SET_A(7), ALU_X(DIV), ERRNO(1)}, DEAD},
	{"shifted too far", {SET_A(7), ALU(LSH, 32), ERRNO(1)}, DEAD},
	{"an answer that was computed",
		{LOAD(LOW(1)), ALU(SUB, 8), ALU(OR, SECCOMP_RET_ERRNO), RETURN_A}, RIGHT},
	/* Where it ends. */
	{"a jump over the rest", {GOTO(1), KILL, ERRNO(1)}, RIGHT},
	{"a jump out", {GOTO(24), ERRNO(1)}, DEAD},
	{"a jump right behind the end", {GOTO(23), ERRNO(1)}, DEAD},
	{"a jump around all numbers", {GOTO(0xffffffff), ERRNO(1)}, DEAD},
	{"a branch out", {SET_A(1), IF(JEQ, 1, 255, 0), ERRNO(1)}, DEAD},
	{"a branch out that is not taken", {SET_A(1), IF(JEQ, 1, 0, 255), ERRNO(1)}, RIGHT},
	{"no class", {{0xffff, 0, 0, 0}, ERRNO(1)}, DEAD},
	{"odd bits", {BPF_STMT(0x100 | BPF_RET | BPF_K, RIGHT)}, DEAD},
	{"answers with X", {BPF_STMT(BPF_RET | BPF_X, 0)}, DEAD},
	{"jumps of a kind that is none", {BPF_STMT(BPF_JMP | 0x60, 0), ERRNO(1)}, DEAD},
	/* What is not known. */
	{"where the call comes from", {LOAD(FIELD(instruction_pointer)), IF(JGT, 1, 0, 1), ALLOW, TRAP},
		SECCOMP_RET_TRAP},
	{"which way does not matter",
		{LOAD(LOW(0)), IF(JEQ, 0, 0, 1), ERRNO(1), ERRNO(1)}, RIGHT},
	{"the strictest of two ways", {LOAD(HIGH(3)), IF(JSET, 0x8000, 0, 1), LOG, ERRNO(1)}, RIGHT},
	{"known behind both ways",
		{LOAD(LOW(0)), IF(JGE, 5, 0, 2), SET_A(4), GOTO(1), SET_A(4), IF(JEQ, 4, 0, 1),
			ERRNO(1), KILL},
		RIGHT},
	{"unknown behind both ways",
		{LOAD(LOW(0)), IF(JGE, 5, 0, 2), SET_A(4), GOTO(1), SET_A(5), IF(JEQ, 4, 0, 1),
			ERRNO(1), TRAP},
		SECCOMP_RET_TRAP},
	{"unknown through a cell and back",
		{LOAD(LOW(0)), PUT_A(2), SET_A(1), GET_X(2), IF_X(JEQ, 0, 1), ALLOW, ERRNO(1)}, RIGHT},
	{"a sum with it", {LOAD(LOW(3)), TAX, SET_A(1), ALU_X(ADD), IF(JEQ, 1, 0, 1), ALLOW, ERRNO(1)},
		RIGHT},
	{"by it",
		{LOAD(LOW(3)), TAX, SET_A(1), ALU_X(DIV), ERRNO(1)}, SECCOMP_RET_KILL_THREAD},
	{"answers with it", {LOAD(LOW(3)), RETURN_A}, DEAD},
	{"forgotten once it is overwritten",
		{LOAD(LOW(3)), LOAD(LOW(2)), IF(JEQ, 7, 0, 1), ERRNO(1), KILL}, RIGHT},
};

#define FILTERS (sizeof(filters) / sizeof(*filters))

static void test_the_table(void **state)
{
	struct seccomp_call call = futex_call();

	(void)state;
	for (size_t i = 0; i < FILTERS; i++) {
		/* What is left of the array is {0}, a load of 0: no end of a filter. */
		uint32_t got = seccomp_evaluate(filters[i].insns, 24, &call);

		if (got != filters[i].answer)
			fail_msg("%s: %#x instead of %#x", filters[i].name, got, filters[i].answer);
	}
}

static void test_bounds(void **state)
{
	struct seccomp_call call = futex_call();
	struct sock_filter *long_one = calloc(BPF_MAXINSNS + 1, sizeof(*long_one));
	struct sock_filter allow = ALLOW, load = LOAD(0);

	(void)state;
	assert_int_equal(seccomp_evaluate(&allow, 0, &call), DEAD);
	assert_int_equal(seccomp_evaluate(&allow, 1, &call), SECCOMP_RET_ALLOW);
	assert_int_equal(seccomp_evaluate(&load, 1, &call), DEAD); /* runs off its end */
	/* Each branch doubles the ways: the work must not. */
	for (size_t i = 0; i < BPF_MAXINSNS; i += 2) {
		long_one[i] = (struct sock_filter)LOAD(LOW(0));
		long_one[i + 1] = (struct sock_filter)IF(JEQ, (uint32_t)i, 1, 0);
	}
	long_one[BPF_MAXINSNS - 2] = long_one[BPF_MAXINSNS - 1] = allow;
	assert_int_equal(seccomp_evaluate(long_one, BPF_MAXINSNS, &call), SECCOMP_RET_ALLOW);
	assert_int_equal(seccomp_evaluate(long_one, BPF_MAXINSNS + 1, &call), DEAD);
	free(long_one);
}

/* Of what a compat call brings with it nothing is ours. */
static void test_x32(void **state)
{
	static const struct sock_filter insns[] = {
		LOAD(FIELD(nr)), IF(JGE, X32_BIT, 0, 1), KILL, ALLOW};
	struct seccomp_call call = futex_call();

	(void)state;
	assert_int_equal(seccomp_evaluate(insns, 4, &call), SECCOMP_RET_ALLOW);
	call.data.nr |= (int)X32_BIT;
	assert_int_equal(seccomp_evaluate(insns, 4, &call), DEAD);
}

static void test_which_is_stricter(void **state)
{
	static const uint32_t from_strict[] = {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD,
		SECCOMP_RET_TRAP, SECCOMP_RET_ERRNO | 5, SECCOMP_RET_USER_NOTIF, SECCOMP_RET_TRACE | 3,
		SECCOMP_RET_LOG, SECCOMP_RET_ALLOW};

	(void)state;
	for (size_t i = 0; i < 8; i++)
		for (size_t k = i; k < 8; k++) {
			assert_int_equal(
				seccomp_stricter(from_strict[i], from_strict[k]), from_strict[i]);
			assert_int_equal(
				seccomp_stricter(from_strict[k], from_strict[i]), from_strict[i]);
		}
	/* Data does not count: the first one's stays. */
	assert_int_equal(seccomp_stricter(SECCOMP_RET_ERRNO | 9, SECCOMP_RET_ERRNO | 2),
		SECCOMP_RET_ERRNO | 9);
	assert_string_not_equal(seccomp_action_text(SECCOMP_RET_ALLOW), seccomp_action_text(0x12340000));
	assert_string_equal(seccomp_action_text(0x12340000), seccomp_action_text(DEAD));
}

/* --- the kernel's own answers ----------------------------------------------- */

#define ASKED SYS_getppid
#define RANDOM_FILTERS 400
#define RANDOM_INSNS 30u

static uint32_t random_state;

static uint32_t draw(uint32_t below)
{
	random_state = random_state * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)random_state * below >> 32);
}

/* Small, large, or near what is compared. */
static uint32_t draw_constant(void)
{
	static const uint32_t some[] = {
		0, 1, 2, 31, 0x7fffffff, 0x80000000, 0xffffffff, AUDIT_ARCH_X86_64, ASKED};

	return draw(2) ? some[draw(sizeof(some) / sizeof(*some))] : draw(40);
}

static struct sock_filter draw_alu(void)
{
	static const uint16_t ops[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_AND, BPF_OR, BPF_XOR,
		BPF_LSH, BPF_RSH};
	uint16_t op = ops[draw(9)];

	if (op == BPF_LSH || op == BPF_RSH)
		return (struct sock_filter)BPF_STMT(BPF_ALU | op | BPF_K, draw(32));
	if (op == BPF_DIV)
		return (struct sock_filter)BPF_STMT(BPF_ALU | op | BPF_K, 1 + draw(9));
	return draw(2) ? (struct sock_filter)BPF_STMT(BPF_ALU | op | BPF_X, 0) :
			 (struct sock_filter)BPF_STMT(BPF_ALU | op | BPF_K, draw_constant());
}

/* left: instructions that follow, the last of which are answers. */
static struct sock_filter draw_insn(uint32_t left)
{
	static const uint16_t jumps[] = {BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET};
	uint32_t word = draw(16);
	uint32_t far = left < 8 ? left : 8;

	switch (draw(8)) {
	case 0:
	case 1: /* all but the instruction pointer */
		return (struct sock_filter)LOAD(4 * (word == 2 || word == 3 ? 0 : word));
	case 2:
		return draw_alu();
	case 3:
		return (struct sock_filter)BPF_STMT(draw(2) ? BPF_ST : BPF_STX, draw(4));
	case 4:
		return draw(2) ? (struct sock_filter)GET_A(draw(4)) :
				 (struct sock_filter)GET_X(draw(4));
	case 5:
		return draw(2) ? (struct sock_filter)TAX : (struct sock_filter)TXA;
	default:
		return (struct sock_filter)BPF_JUMP(
			(uint16_t)(BPF_JMP | jumps[draw(4)] | (draw(2) ? BPF_K : BPF_X)),
			draw_constant(), (uint8_t)draw(far), (uint8_t)draw(far));
	}
}

/* Every other call is allowed, so that the child can tell; all cells are
 * written first, as the kernel wants it. */
static size_t draw_filter(struct sock_filter *insns)
{
	size_t n = 0;

	insns[n++] = (struct sock_filter)LOAD(FIELD(nr));
	insns[n++] = (struct sock_filter)IF(JEQ, ASKED, 1, 0);
	insns[n++] = (struct sock_filter)ALLOW;
	for (uint32_t i = 0; i < 4; i++)
		insns[n++] = (struct sock_filter)PUT_A(i);
	for (uint32_t i = 0; i < RANDOM_INSNS; i++)
		insns[n++] = draw_insn(RANDOM_INSNS - i + 7);
	for (uint16_t i = 0; i < 7; i++)
		insns[n++] = (struct sock_filter)ERRNO(100u + i);
	insns[n++] = (struct sock_filter)ALLOW;
	return n;
}

/* What the kernel answers: an answer, or 0 where no filter can be set here. */
static uint32_t ask_kernel(struct sock_filter *insns, size_t count, const struct seccomp_data *data)
{
	struct sock_fprog program = {(unsigned short)count, insns};
	int ends[2], status;
	uint32_t answer = 0;
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	if (!pid) {
		long result;

		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
			syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
			_exit(errno == EINVAL && !prctl(PR_GET_SECCOMP) ? 3 : 2);
		result = syscall(ASKED, data->args[0], data->args[1], data->args[2], data->args[3],
			data->args[4], data->args[5]);
		answer = result < 0 ? SECCOMP_RET_ERRNO | (uint32_t)errno : SECCOMP_RET_ALLOW;
		_exit(write(ends[1], &answer, sizeof(answer)) != sizeof(answer));
	}
	close(ends[1]);
	if (read(ends[0], &answer, sizeof(answer)) != sizeof(answer))
		answer = 0;
	close(ends[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_not_equal(WEXITSTATUS(status), 3); /* the filter was refused */
	return answer;
}

static void test_as_the_kernel_answers(void **state)
{
	struct seccomp_call call = {.data = {.nr = ASKED, .arch = AUDIT_ARCH_X86_64}};
	unsigned seen[8] = {0}, kinds = 0;

	(void)state;
	for (unsigned i = 0; i < RANDOM_FILTERS; i++) {
		struct sock_filter insns[RANDOM_INSNS + 16];
		uint32_t ours, theirs;
		size_t count;

		random_state = i;
		for (unsigned k = 0; k < 6; k++)
			call.data.args[k] = (uint64_t)draw_constant() << 32 | draw_constant();
		count = draw_filter(insns);
		theirs = ask_kernel(insns, count, &call.data);
		if (!theirs)
			skip();
		ours = seccomp_evaluate(insns, count, &call);
		if (ours != theirs)
			fail_msg("filter %u: %#x, the kernel says %#x", i, ours, theirs);
		seen[theirs == SECCOMP_RET_ALLOW ? 7 : (theirs & 0xffff) - 100]++;
	}
	/* It was not always the same. */
	for (unsigned i = 0; i < 8; i++)
		kinds += seen[i] > 0;
	assert_true(kinds >= 4);
}

/* Whatever the bytes, it ends, and reads nothing else (sanitizers tell). */
static void test_noise(void **state)
{
	struct seccomp_call call = futex_call();

	(void)state;
	random_state = 1;
	for (unsigned i = 0; i < 20000; i++) {
		size_t count = 1 + draw(64);
		struct sock_filter *insns = malloc(count * sizeof(*insns));

		for (size_t k = 0; k < count; k++)
			insns[k] = (struct sock_filter){(uint16_t)draw(0x100), (uint8_t)draw(40),
				(uint8_t)draw(40), draw(4) ? draw_constant() : draw(UINT32_MAX)};
		seccomp_evaluate(insns, count, &call);
		free(insns);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_table),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_x32),
		cmocka_unit_test(test_which_is_stricter),
		cmocka_unit_test(test_as_the_kernel_answers),
		cmocka_unit_test(test_noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
