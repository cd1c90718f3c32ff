/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_TESTS_UNIT_PYTHON_IMAGE_H
#define HEAPTAP_TESTS_UNIT_PYTHON_IMAGE_H

/* A runtime made by hand in a memory image: what a target could hold. Objects
 * are put one after the other; seal() makes what was put readable. */

#include <stdlib.h>
#include <string.h>
#include "python/runtime.h"

#define IMAGE_BASE UINT64_C(0x100000)
#define IMAGE_SIZE (1 << 18)
#define IMAGE_RUNTIME (IMAGE_BASE + 64)

struct image {
	uint8_t bytes[IMAGE_SIZE];
	size_t used;
	uint64_t code_type;
	struct tap_python python;
};

static inline void image_seal(struct image *image)
{
	tap_memory_close(image->python.memory);
	image->python.memory = tap_memory_create_image();
	tap_memory_add_region(image->python.memory, IMAGE_BASE, image->bytes, IMAGE_SIZE);
}

static inline void image_set(struct image *image, uint64_t addr, int32_t offset, uint64_t value)
{
	if (offset < 0)
		fail_msg("the version has no such field");
	memcpy(image->bytes + (addr - IMAGE_BASE) + offset, &value, sizeof(value));
}

static inline void image_set32(struct image *image, uint64_t addr, int32_t offset, uint32_t value)
{
	memcpy(image->bytes + (addr - IMAGE_BASE) + offset, &value, sizeof(value));
}

static inline uint64_t image_alloc(struct image *image, size_t size_bytes)
{
	uint64_t addr = IMAGE_BASE + image->used;

	image->used += (size_bytes + 31) & ~(size_t)15;
	if (image->used > IMAGE_SIZE)
		fail_msg("the image is full");
	return addr;
}

static inline uint64_t image_put(struct image *image, const void *bytes, size_t size_bytes)
{
	uint64_t addr = image_alloc(image, size_bytes);

	memcpy(image->bytes + (addr - IMAGE_BASE), bytes, size_bytes);
	return addr;
}

/* An image of this version, with the layout in use. The first part is room
 * for the runtime. */
static inline struct image *image_create(int minor)
{
	struct image *image = calloc(1, sizeof(*image));
	const struct tap_python_layout *layout = tap_python_layout_find(minor);
	uint64_t name;

	image->used = 16384;
	image->python.layout = *layout;
	image->python.info.supported = true;
	image->python.info.hex = 3u << 24 | (uint32_t)minor << 16;
	image->python.info.runtime_addr = IMAGE_RUNTIME;
	image->python.codes = tap_python_codes_create();
	tap_python_layout_measure(&image->python);
	name = image_put(image, "code", 5);
	image->code_type = image_alloc(image, 512);
	image_set(image, image->code_type, layout->type.name, name);
	return image;
}

static inline void image_destroy(struct image *image)
{
	tap_python_codes_destroy(image->python.codes);
	tap_map_deinit(&image->python.threads);
	tap_memory_close(image->python.memory);
	free(image);
}

/* A compact str of these characters. */
static inline uint64_t image_str(
	struct image *image, const void *characters, uint64_t count, unsigned width, bool ascii)
{
	const struct tap_python_layout *layout = &image->python.layout;
	int32_t at = ascii ? layout->unicode.ascii_size : layout->unicode.compact_size;
	uint64_t addr = image_alloc(image, (size_t)at + count * width);

	image_set(image, addr, layout->unicode.length, count);
	image_set32(
		image, addr, layout->unicode.state, width << 2 | 1u << 5 | (ascii ? 1u << 6 : 0));
	memcpy(image->bytes + (addr - IMAGE_BASE) + at, characters, count * width);
	return addr;
}

static inline uint64_t image_ascii(struct image *image, const char *text)
{
	return image_str(image, text, strlen(text), 1, true);
}

/* A code object with one range of lines over its first 16 bytes. */
static inline uint64_t image_code(
	struct image *image, const char *function, const char *file, uint32_t firstlineno)
{
	static const uint8_t lines[] = {0xEF, 2}; /* kind 13, eight units, one line on */
	const struct tap_python_layout *layout = &image->python.layout;
	uint64_t addr = image_alloc(image, 512), table = image_alloc(image, 64);

	image_set(image, table, layout->bytes.length, sizeof(lines));
	memcpy(image->bytes + (table - IMAGE_BASE) + layout->bytes.data, lines, sizeof(lines));
	image_set(image, addr, layout->object.type, image->code_type);
	image_set(image, addr, layout->code.filename, image_ascii(image, file));
	image_set(image, addr, layout->code.name, image_ascii(image, function));
	if (layout->code.qualname >= 0)
		image_set(image, addr, layout->code.qualname, image_ascii(image, function));
	image_set(image, addr, layout->code.linetable, table);
	image_set32(image, addr, layout->code.firstlineno, firstlineno);
	if (layout->code.instructions >= 0)
		image_set(image, addr, layout->code.instructions, 8);
	return addr;
}

/* A frame of 3.11 or later at an instruction of code; shims have owner 3. */
static inline uint64_t image_frame(
	struct image *image, uint64_t code, uint8_t owner, int instruction, uint64_t previous)
{
	const struct tap_python_layout *layout = &image->python.layout;
	uint64_t addr = image_alloc(image, 128);

	image_set(image, addr, layout->frame.code, code | (layout->minor >= 14));
	image_set(image, addr, layout->frame.previous, previous);
	image_set(image, addr, layout->frame.instruction,
		code + (uint64_t)(layout->code.adaptive + instruction));
	image->bytes[addr - IMAGE_BASE + (uint64_t)layout->frame.owner] = owner;
	return addr;
}

static inline uint64_t image_interpreter(struct image *image, uint64_t id, uint64_t next)
{
	const struct tap_python_layout *layout = &image->python.layout;
	uint64_t addr = image_alloc(image, 8192);

	image_set(image, addr, layout->interpreter.id, id);
	image_set(image, addr, layout->interpreter.next, next);
	return addr;
}

/* A thread state, new head of the interpreter's list. */
static inline uint64_t image_thread(
	struct image *image, uint64_t interp, uint64_t pthread, pid_t tid, uint64_t frame)
{
	const struct tap_python_layout *layout = &image->python.layout;
	uint64_t addr = image_alloc(image, 1024), head;
	size_t at = interp - IMAGE_BASE + (uint64_t)layout->interpreter.threads_head;

	memcpy(&head, image->bytes + at, sizeof(head));
	if (head)
		image_set(image, head, layout->thread.prev, addr);
	memcpy(image->bytes + at, &addr, sizeof(addr));
	image_set(image, addr, layout->thread.next, head);
	image_set(image, addr, layout->thread.interp, interp);
	image_set(image, addr, layout->thread.thread_id, pthread);
	if (layout->thread.native_thread_id >= 0)
		image_set(image, addr, layout->thread.native_thread_id, (uint64_t)tid);
	if (layout->thread.current_frame >= 0) {
		image_set(image, addr, layout->thread.current_frame, frame);
	} else if (layout->thread.frame >= 0) {
		image_set(image, addr, layout->thread.frame, frame);
	} else {
		uint64_t cframe = image_alloc(image, 64);

		image_set(image, cframe, layout->cframe.current_frame, frame);
		image_set(image, addr, layout->thread.cframe, cframe);
	}
	return addr;
}

static inline void image_runtime(struct image *image, uint64_t interpreters)
{
	image_set(
		image, IMAGE_RUNTIME, image->python.layout.runtime.interpreters_head, interpreters);
}

#endif
