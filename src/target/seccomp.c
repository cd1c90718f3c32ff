/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdbool.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "target/seccomp.h"

static_assert(SECCOMP_WORDS == 16, "one bit a word");

#define PC_WORD (offsetof(struct seccomp_data, instruction_pointer) / sizeof(uint32_t))
#define ARGUMENT_WORD (offsetof(struct seccomp_data, args) / sizeof(uint32_t))

/* Registers of the machine, the memory's cells in front. */
enum {
	A = BPF_MEMWORDS,
	X,
	REGISTERS,
};

/* In front of an instruction, on all ways that lead there. */
struct state {
	bool reached;
	uint32_t known; /* bit n: value[n] is the same on all of them */
	uint32_t value[REGISTERS];
};

struct machine {
	const struct sock_filter *insns;
	size_t count;
	const struct seccomp_call *call;
	struct state *states; /* one for each instruction */
	uint32_t strictest;
};

void seccomp_forget_pc(struct seccomp_call *call)
{
	call->unknown = (uint16_t)(call->unknown | 3u << PC_WORD);
}

void seccomp_forget_argument(struct seccomp_call *call, unsigned index)
{
	call->unknown = (uint16_t)(call->unknown | 3u << (ARGUMENT_WORD + 2 * index));
}

static int32_t rank(uint32_t answer)
{
	return (int32_t)(answer & SECCOMP_RET_ACTION_FULL);
}

uint32_t seccomp_stricter(uint32_t a, uint32_t b)
{
	return rank(b) < rank(a) ? b : a;
}

static void answer(struct machine *machine, uint32_t with)
{
	machine->strictest = seccomp_stricter(machine->strictest, with);
}

static bool is_known(const struct state *state, unsigned reg)
{
	return state->known >> reg & 1;
}

static void set(struct state *state, unsigned reg, uint32_t value)
{
	state->known |= 1u << reg;
	state->value[reg] = value;
}

static void forget(struct state *state, unsigned reg)
{
	state->known &= ~(1u << reg);
}

static void copy(struct state *state, unsigned to, unsigned from)
{
	if (is_known(state, from))
		set(state, to, state->value[from]);
	else
		forget(state, to);
}

/* A way from the instruction at `from` to the one `distance` behind the next. */
static void lead(struct machine *machine, const struct state *state, size_t from, size_t distance)
{
	struct state *to;

	if (distance >= machine->count - from - 1) {
		answer(machine, SECCOMP_RET_KILL_PROCESS);
		return;
	}
	to = &machine->states[from + 1 + distance];
	if (!to->reached) {
		*to = *state;
		return;
	}
	for (unsigned i = 0; i < REGISTERS; i++)
		if (!is_known(state, i) || to->value[i] != state->value[i])
			forget(to, i);
}

/* A or X: false where there is no such load. */
static bool load(const struct machine *machine, struct state *state, const struct sock_filter *insn,
	unsigned reg)
{
	uint32_t word;

	if (BPF_SIZE(insn->code) != BPF_W)
		return false;
	switch (BPF_MODE(insn->code)) {
	case BPF_IMM:
		set(state, reg, insn->k);
		return true;
	case BPF_LEN:
		set(state, reg, sizeof(struct seccomp_data));
		return true;
	case BPF_MEM:
		if (insn->k >= BPF_MEMWORDS)
			return false;
		copy(state, reg, insn->k);
		return true;
	case BPF_ABS:
		if (reg != A || insn->k % sizeof(word) || insn->k >= sizeof(struct seccomp_data))
			return false;
		word = insn->k / (uint32_t)sizeof(word);
		set(state, reg, ((const uint32_t *)&machine->call->data)[word]);
		if (machine->call->unknown >> word & 1)
			forget(state, reg);
		return true;
	default:
		return false;
	}
}

static bool store(struct state *state, const struct sock_filter *insn, unsigned reg)
{
	if (insn->code != BPF_CLASS(insn->code) || insn->k >= BPF_MEMWORDS)
		return false;
	copy(state, insn->k, reg);
	return true;
}

/* False where the kernel would not have taken it. */
static bool compute(uint16_t code, uint32_t a, uint32_t b, uint32_t *ret)
{
	switch (BPF_OP(code)) {
	case BPF_ADD:
		*ret = a + b;
		return true;
	case BPF_SUB:
		*ret = a - b;
		return true;
	case BPF_MUL:
		*ret = a * b;
		return true;
	case BPF_DIV:
		*ret = b ? a / b : 0;
		return b != 0;
	case BPF_AND:
		*ret = a & b;
		return true;
	case BPF_OR:
		*ret = a | b;
		return true;
	case BPF_XOR:
		*ret = a ^ b;
		return true;
	case BPF_LSH:
		*ret = b < 32 ? a << b : 0;
		return b < 32;
	case BPF_RSH:
		*ret = b < 32 ? a >> b : 0;
		return b < 32;
	default:
		return false;
	}
}

/* Unlike a constant, X may be what nothing can be divided or shifted by: such a
 * division ends the filter with 0, such a shift gives what kernels differ in. */
static bool calculate(struct machine *machine, struct state *state, const struct sock_filter *insn)
{
	bool by_x = BPF_SRC(insn->code) == BPF_X;
	uint32_t operand = by_x ? state->value[X] : insn->k, result = 0;

	if (BPF_OP(insn->code) == BPF_NEG) {
		state->value[A] = 0 - state->value[A];
		return !by_x;
	}
	if (by_x && !is_known(state, X)) {
		if (BPF_OP(insn->code) == BPF_DIV)
			answer(machine, SECCOMP_RET_KILL_THREAD);
		forget(state, A);
		return compute(insn->code, 1, 1, &result);
	}
	if (!compute(insn->code, state->value[A], operand, &result))
		return false;
	state->value[A] = result;
	return true;
}

static bool is_taken(const struct sock_filter *insn, uint32_t a, uint32_t b)
{
	switch (BPF_OP(insn->code)) {
	case BPF_JEQ:
		return a == b;
	case BPF_JGT:
		return a > b;
	case BPF_JGE:
		return a >= b;
	default:
		return a & b;
	}
}

static bool jump(struct machine *machine, const struct state *state, size_t at)
{
	const struct sock_filter *insn = &machine->insns[at];
	bool by_x = BPF_SRC(insn->code) == BPF_X;

	switch (BPF_OP(insn->code)) {
	case BPF_JA:
		if (by_x)
			return false;
		lead(machine, state, at, insn->k);
		return true;
	case BPF_JEQ:
	case BPF_JGT:
	case BPF_JGE:
	case BPF_JSET:
		break;
	default:
		return false;
	}
	if (!is_known(state, A) || (by_x && !is_known(state, X))) {
		lead(machine, state, at, insn->jt);
		lead(machine, state, at, insn->jf);
	} else {
		lead(machine, state, at,
			is_taken(insn, state->value[A], by_x ? state->value[X] : insn->k) ?
				insn->jt :
				insn->jf);
	}
	return true;
}

static bool end(struct machine *machine, const struct state *state, const struct sock_filter *insn)
{
	switch (insn->code) {
	case BPF_RET | BPF_K:
		answer(machine, insn->k);
		return true;
	case BPF_RET | BPF_A:
		answer(machine, is_known(state, A) ? state->value[A] : SECCOMP_RET_KILL_PROCESS);
		return true;
	default:
		return false;
	}
}

static bool transfer(struct state *state, uint16_t code)
{
	switch (code) {
	case BPF_MISC | BPF_TAX:
		copy(state, X, A);
		return true;
	case BPF_MISC | BPF_TXA:
		copy(state, A, X);
		return true;
	default:
		return false;
	}
}

/* False where it is no instruction of a filter. */
static bool step(struct machine *machine, size_t at)
{
	const struct sock_filter *insn = &machine->insns[at];
	struct state *state = &machine->states[at];
	bool valid;

	if (insn->code > UINT8_MAX)
		return false;
	switch (BPF_CLASS(insn->code)) {
	case BPF_RET:
		return end(machine, state, insn);
	case BPF_JMP:
		return jump(machine, state, at);
	case BPF_LD:
		valid = load(machine, state, insn, A);
		break;
	case BPF_LDX:
		valid = load(machine, state, insn, X);
		break;
	case BPF_ST:
		valid = store(state, insn, A);
		break;
	case BPF_STX:
		valid = store(state, insn, X);
		break;
	case BPF_ALU:
		valid = calculate(machine, state, insn);
		break;
	default:
		valid = transfer(state, insn->code);
		break;
	}
	if (valid)
		lead(machine, state, at, 0);
	return valid;
}

uint32_t seccomp_evaluate(
	const struct sock_filter *insns, size_t count, const struct seccomp_call *call)
{
	struct machine machine = {insns, count, call, NULL, SECCOMP_RET_ALLOW};
	_cleanup_free_ struct state *states = NULL;

	if (!count || count > BPF_MAXINSNS)
		return SECCOMP_RET_KILL_PROCESS;
	machine.states = states = tap_alloc(count * sizeof(*states));
	states[0].reached = true;
	/* The kernel clears A and X; it refuses who reads a cell before it was
	 * written. */
	states[0].known = 1u << A | 1u << X;
	/* Jumps lead forward only: what leads to an instruction is behind us when
	 * its turn comes. */
	for (size_t i = 0; i < count; i++)
		if (states[i].reached && !step(&machine, i))
			return SECCOMP_RET_KILL_PROCESS;
	return machine.strictest;
}

const char *seccomp_action_text(uint32_t answer)
{
	switch (answer & SECCOMP_RET_ACTION_FULL) {
	case SECCOMP_RET_ALLOW:
		return "would let it pass";
	case SECCOMP_RET_LOG:
		return "would log it each time";
	case SECCOMP_RET_TRACE:
	case SECCOMP_RET_ERRNO:
		return "would make it fail";
	case SECCOMP_RET_USER_NOTIF:
		return "would ask another process about it";
	case SECCOMP_RET_TRAP:
		return "would send SIGSYS for it";
	case SECCOMP_RET_KILL_THREAD:
		return "would end the thread for it";
	default:
		return "would end the process for it";
	}
}
