/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/map.h"
#include "heaptap/base/strings.h"

/* Equal hashes are chained, so that a collision costs a compare and never
 * mixes up two names. */
struct entry {
	struct entry *next;
	size_t size_bytes;
	char text[];
};

struct tap_strings {
	struct tap_map by_hash; /* of struct entry * */
};

struct tap_strings *tap_strings_create(void)
{
	return tap_alloc(sizeof(struct tap_strings));
}

void tap_strings_destroy(struct tap_strings *strings)
{
	struct tap_map_slot *slot;

	if (!strings)
		return;
	for (size_t i = 0; tap_map_next(&strings->by_hash, &i, &slot);) {
		struct entry *entry = (struct entry *)slot->value;

		while (entry) {
			struct entry *next = entry->next;

			free(entry);
			entry = next;
		}
	}
	tap_map_deinit(&strings->by_hash);
	free(strings);
}

const char *tap_strings_addn(struct tap_strings *strings, const char *text, size_t size_bytes)
{
	uint64_t hash = tap_hash_bytes(text, size_bytes, 0);
	uint64_t *head = tap_map_put(&strings->by_hash, hash, NULL);
	struct entry *entry;

	for (entry = (struct entry *)*head; entry; entry = entry->next)
		if (entry->size_bytes == size_bytes && !memcmp(entry->text, text, size_bytes))
			return entry->text;
	entry = tap_alloc(sizeof(*entry) + size_bytes + 1);
	memcpy(entry->text, text, size_bytes);
	entry->size_bytes = size_bytes;
	entry->next = (struct entry *)*head;
	*head = (uint64_t)entry;
	return entry->text;
}

const char *tap_strings_add(struct tap_strings *strings, const char *text)
{
	return text ? tap_strings_addn(strings, text, strlen(text)) : NULL;
}
