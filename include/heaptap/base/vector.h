/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_BASE_VECTOR_H
#define HEAPTAP_BASE_VECTOR_H

/*
 * A growing array. TAP_VECTOR(T) is a struct type with the members items,
 * count and capacity; zero-initialised it is empty. Item pointers hold until
 * the next push.
 */

#include <stddef.h>
#include <stdlib.h>
#include "heaptap/base/alloc.h"

#define TAP_VECTOR(type)                                                                           \
	struct {                                                                                   \
		type *items;                                                                       \
		size_t count;                                                                      \
		size_t capacity;                                                                   \
	}

/* The same as a named struct type, for function signatures. */
#define TAP_VECTOR_TYPE(name, type)                                                                \
	struct name {                                                                              \
		type *items;                                                                       \
		size_t count;                                                                      \
		size_t capacity;                                                                   \
	}

void tap_vector_grow(void **items, size_t *capacity, size_t count, size_t item_size);

/* Makes room for one more at the end, zeroed, and gives its address. */
#define tap_vector_add(vec)                                                                        \
	(tap_vector_grow((void **)&(vec)->items, &(vec)->capacity, (vec)->count + 1,               \
		 sizeof(*(vec)->items)),                                                           \
		&(vec)->items[(vec)->count++])

#define tap_vector_push(vec, value) (*tap_vector_add(vec) = (value))

#define tap_vector_free(vec)                                                                       \
	do {                                                                                       \
		free((vec)->items);                                                                \
		(vec)->items = NULL;                                                               \
		(vec)->count = (vec)->capacity = 0;                                                \
	} while (0)

#endif
