/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include "python_image.h"

static const int minors[] = {8, 9, 10, 11, 12, 13, 14, 15};

static void check(struct image *image, uint64_t addr, const char *wanted)
{
	char text[64];

	image_seal(image);
	assert_true(tap_python_unicode(&image->python, addr, text, sizeof(text)));
	assert_string_equal(text, wanted);
}

static void reads_every_kind(void **state)
{
	static const uint8_t latin1[] = {'h', 0xE9, 0xFF};
	static const uint16_t ucs2[] = {0x20AC, 'x', 0xDCFF, 0xD800, 0};
	static const uint32_t ucs4[] = {0x1F600, 0x7FF, 0x110000};

	(void)state;
	for (size_t i = 0; i < TAP_PYTHON_COUNT(minors); i++) {
		struct image *image = image_create(minors[i]);

		check(image, image_ascii(image, "plain"), "plain");
		check(image, image_ascii(image, ""), "");
		check(image, image_str(image, latin1, 3, 1, false), "h\u00e9\u00ff");
		check(image, image_str(image, ucs2, 5, 2, false), "\u20acx\xff\ufffd?");
		check(image, image_str(image, ucs4, 3, 4, false), "\U0001f600\u07ff\ufffd");
		image_destroy(image);
	}
}

/* As a subclass of str has it. */
static void reads_what_is_not_compact(void **state)
{
	(void)state;
	for (size_t i = 0; i < TAP_PYTHON_COUNT(minors); i++) {
		struct image *image = image_create(minors[i]);
		const struct tap_python_layout *layout = &image->python.layout;
		uint64_t addr = image_ascii(image, "room for the pointer to the characters");
		uint64_t data = image_put(image, "elsewhere", 9);

		image_set(image, addr, layout->unicode.length, 9);
		image_set32(image, addr, layout->unicode.state, 1u << 2 | 1u << 6);
		image_set(image, addr, layout->unicode.data, data);
		check(image, addr, "elsewhere");
		image_destroy(image);
	}
}

static void cuts_at_a_whole_character(void **state)
{
	static const uint16_t euros[] = {0x20AC, 0x20AC, 0x20AC};
	struct image *image = image_create(12);
	uint64_t addr = image_str(image, euros, 3, 2, false);
	char text[8];

	(void)state;
	image_seal(image);
	assert_true(tap_python_unicode(&image->python, addr, text, sizeof(text)));
	assert_string_equal(text, "\u20ac\u20ac");
	image_destroy(image);
}

static void refuses_what_cannot_be(void **state)
{
	struct image *image = image_create(11);
	const struct tap_python_layout *layout = &image->python.layout;
	uint64_t addr = image_ascii(image, "text");
	char text[32];

	(void)state;
	image_seal(image);
	assert_false(tap_python_unicode(&image->python, 0, text, sizeof(text)));
	assert_false(tap_python_unicode(&image->python, 8, text, sizeof(text)));
	assert_false(tap_python_unicode(
		&image->python, IMAGE_BASE + IMAGE_SIZE - 8, text, sizeof(text)));
	for (unsigned width = 0; width < 8; width++) {
		image_set32(image, addr, layout->unicode.state, width << 2 | 1u << 5 | 1u << 6);
		image_seal(image);
		assert_int_equal(
			tap_python_unicode(&image->python, addr, text, sizeof(text)), width == 1);
	}
	/* A length beyond everything: as much as fits is read. */
	image_set32(image, addr, layout->unicode.state, 1u << 2 | 1u << 5 | 1u << 6);
	image_set(image, addr, layout->unicode.length, UINT64_C(1) << 60);
	image_seal(image);
	assert_true(tap_python_unicode(&image->python, addr, text, sizeof(text)));
	assert_int_equal(strncmp(text, "text", 4), 0);
	image_destroy(image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_every_kind),
		cmocka_unit_test(reads_what_is_not_compact),
		cmocka_unit_test(cuts_at_a_whole_character),
		cmocka_unit_test(refuses_what_cannot_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
