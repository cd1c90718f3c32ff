/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/text.h"
#include "../../src/symbol/demangle.h"

static const struct {
	const char *raw;
	const char *text; /* NULL: no mangled name */
} cases[] = {
	{"_ZN2ns1fEi", "ns::f(int)"},
	{"_ZNSt6vectorIiSaIiEE9push_backERKi",
		"std::vector<int, std::allocator<int> >::push_back(int const&)"},
	{"_Znwm", "operator new(unsigned long)"},
	{"_ZNKSt9basic_iosIcSt11char_traitsIcEE5rdbufEv",
		"std::basic_ios<char, std::char_traits<char> >::rdbuf() const"},
	{"_ZN12_GLOBAL__N_11fEv", "(anonymous namespace)::f()"},
	/* Rust, legacy: without the hash, also behind a suffix of LLVM's. */
	{"_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write"},
	{"_ZN4core3fmt5write17h0123456789abcdefE.llvm.1234", "core::fmt::write"},
	/* Rust, v0 (RFC 2603). */
	{"_RNvCs1234_7mycrate3foo", "mycrate::foo"},
	{"_RNvMs_CsbDqzXfLQacH_4testNtB4_3Foo3bar", "<test::Foo>::bar"},
	{"malloc", NULL},
	{"_Z", NULL},
	{"_R", NULL},
	{"", NULL},
	{"_ZN", NULL},
};

static void names_are_shown_as_people_write_them(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *text = tap_demangle(cases[i].raw);

		if (cases[i].text) {
			assert_non_null(text);
			assert_string_equal(text, cases[i].text);
		} else {
			assert_null(text);
		}
		free(text);
	}
}

static void rust_is_told_from_cxx(void **state)
{
	(void)state;
	assert_true(tap_demangle_is_rust("_RNvCs1234_7mycrate3foo"));
	assert_true(tap_demangle_is_rust("_ZN4core3fmt5write17h0123456789abcdefE"));
	assert_false(tap_demangle_is_rust("_ZN2ns1fEi"));
	assert_false(tap_demangle_is_rust("_ZN4core3fmt5write17h0123456789abcdeXE"));
	assert_false(tap_demangle_is_rust("malloc"));
}

/* Each substitution holds the one before twice: 30 of them would be printed
 * as 2^30 names. It must be given up, soon. */
static void a_name_that_never_ends_is_given_up(void **state)
{
	static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	struct tap_text raw = {0};

	(void)state;
	tap_text_add(&raw, "_Z1fSt4pairIiiE");
	/* Each step adds two substitutions, the template and the type. */
	for (int i = 0; i < 60; i += 2) {
		char id[3] = {digits[i / 36], digits[i % 36], '\0'};
		const char *sequence = i < 36 ? id + 1 : id;

		tap_text_add(&raw, "St4pairIS%s_S%s_E", sequence, sequence);
	}
	assert_null(tap_demangle(raw.data));
	tap_text_deinit(&raw);
}

static void long_and_deep_names_are_refused(void **state)
{
	struct tap_text raw = {0};

	(void)state;
	tap_text_add(&raw, "_Z1f");
	for (int i = 0; i < 4000; i++)
		tap_text_add(&raw, "P");
	tap_text_add(&raw, "i");
	free(tap_demangle(raw.data));
	for (int i = 0; i < 4000; i++)
		tap_text_add(&raw, "P");
	assert_null(tap_demangle(raw.data));
	tap_text_deinit(&raw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_shown_as_people_write_them),
		cmocka_unit_test(rust_is_told_from_cxx),
		cmocka_unit_test(a_name_that_never_ends_is_given_up),
		cmocka_unit_test(long_and_deep_names_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
