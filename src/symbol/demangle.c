/* SPDX-License-Identifier: Apache-2.0 */
#include <libiberty/demangle.h>
#include <setjmp.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "demangle.h"

#define MANGLED_MAX 4096
#define DEMANGLED_MAX 8192

struct output {
	jmp_buf too_long;
	size_t size_bytes;
	char text[DEMANGLED_MAX + 1];
};

/* libiberty's printers keep their state on the stack and give the text away
 * piece by piece, so that they can be left in the middle. Without that, names
 * whose substitutions double at each step would print for years. */
static void collect(const char *piece, size_t size_bytes, void *context)
{
	struct output *output = context;

	if (size_bytes > DEMANGLED_MAX - output->size_bytes)
		longjmp(output->too_long, 1);
	memcpy(output->text + output->size_bytes, piece, size_bytes);
	output->size_bytes += size_bytes;
}

/* Legacy Rust names are C++ names that end in a hash: 17h, 16 hex digits, E
 * ("17h" counts them), before suffixes such as ".llvm.123". */
static bool ends_with_rust_hash(const char *raw)
{
	size_t length = strcspn(raw, ".");
	const char *hash = raw + length - 20;

	return length > 24 && raw[length - 1] == 'E' && !strncmp(hash, "17h", 3) &&
		strspn(hash + 3, "0123456789abcdef") == 16;
}

bool tap_demangle_is_rust(const char *raw)
{
	return !strncmp(raw, "_R", 2) || (!strncmp(raw, "_ZN", 3) && ends_with_rust_hash(raw));
}

char *tap_demangle(const char *raw)
{
	struct output output;
	const int options = DMGL_PARAMS | DMGL_ANSI;
	int ok;

	if ((strncmp(raw, "_Z", 2) && strncmp(raw, "_R", 2)) ||
		strnlen(raw, MANGLED_MAX + 1) > MANGLED_MAX)
		return NULL;
	output.size_bytes = 0;
	if (setjmp(output.too_long))
		return NULL;
	ok = tap_demangle_is_rust(raw) && rust_demangle_callback(raw, options, collect, &output);
	if (!ok) {
		output.size_bytes = 0;
		ok = cplus_demangle_v3_callback(raw, options, collect, &output);
	}
	return ok ? tap_strndup(output.text, output.size_bytes) : NULL;
}
