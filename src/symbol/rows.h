/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TAP_SYMBOL_ROWS_H
#define TAP_SYMBOL_ROWS_H

/*
 * Call frame information, evaluated once per address and kept: where the CFA
 * is, and where the return address and the registers that a callee keeps. What
 * does not fit the compact form (PLT entries, signal frames) is kept as DWARF
 * expressions.
 */

#include <elfutils/libdw.h>
#include <stdbool.h>
#include <stdint.h>
#include "heaptap/arch/regs.h"
#include "heaptap/base/map.h"
#include "heaptap/base/vector.h"
#include "heaptap/symbol/symbols.h"

/* rbx, rbp, r12 to r15, and the return address. */
#define TAP_ROW_RULES 7
extern const uint8_t tap_row_registers[TAP_ROW_RULES];

enum tap_rule_kind {
	TAP_RULE_SAME,      /* the callee did not touch it */
	TAP_RULE_UNDEFINED, /* lost; of the return address: the outermost frame */
	TAP_RULE_SAVED,     /* in memory at CFA + offset */
};

struct tap_rule {
	int32_t offset;
	uint8_t kind;
};

/* One register's expression; without operations: same or undefined. */
struct tap_expression {
	Dwarf_Op *ops;
	size_t count;
	Dwarf_Op room[3];
	bool same;
};

struct tap_row_full {
	Dwarf_Frame *frame; /* owns what ops points to */
	Dwarf_Op *cfa;
	size_t cfa_count;
	struct tap_expression registers[TAP_DWARF_REGS];
};

struct tap_row {
	bool found;    /* there is call frame information */
	bool signal;   /* the caller was interrupted: its pc is exact */
	bool hidden;   /* of code that was told of: no frame of the program's */
	uint8_t cfa_register;
	int32_t cfa_offset;
	struct tap_rule rules[TAP_ROW_RULES];
	struct tap_row_full *full; /* instead of the compact form, or NULL */
};

struct tap_rows {
	uint64_t code_start, code_end; /* code that was told of */
	struct tap_row code;           /* and the row for all of it */
	struct tap_map by_pc; /* of index + 1 in rows */
	TAP_VECTOR(struct tap_row) rows;
};

/* The row at pc, NULL where there is none. Holds until the next call. */
const struct tap_row *tap_rows_at(
	struct tap_rows *rows, const struct tap_symbols *symbols, uint64_t pc);
void tap_rows_clear(struct tap_rows *rows);
void tap_rows_deinit(struct tap_rows *rows);

#endif
