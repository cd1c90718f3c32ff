/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TAP_SYMBOL_DEMANGLE_H
#define TAP_SYMBOL_DEMANGLE_H

#include <stdbool.h>

/* "ns::f(int)" of C++, "crate::f" of Rust (v0, and legacy without its hash);
 * free() it. NULL where raw is no mangled name, or would become longer than
 * a few KiB: a short name can stand for an endless one. */
char *tap_demangle(const char *raw);

bool tap_demangle_is_rust(const char *raw);

#endif
