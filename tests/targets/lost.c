/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lost [BLOCKS [LOST [MODE]]]: allocates so many blocks, of which it forgets
 * LOST, and waits. What it keeps hangs in a list in its data. MODE: "arena" has
 * another thread do it, in an arena of its own; "churn" frees and allocates a lot
 * around it.
 */
#include "target.h"

struct block {
	struct block *next;
	char text[24];
};

static struct block *kept;
static int blocks = 200000, lost = 50000;
static const char *mode = "main";

static NOINLINE void churn(void)
{
	void *some[64] = {NULL};

	for (unsigned i = 0; i < 200000; i++) {
		unsigned slot = (i * 2654435761u >> 7) % 64;

		free(some[slot]);
		some[slot] = malloc(16 + i % 900);
	}
	for (unsigned i = 0; i < 64; i++)
		free(some[i]);
	memset(some, 0, sizeof(some));
}

static NOINLINE void fill(void)
{
	int every = lost ? blocks / lost : blocks + 1, forgotten = 0;

	for (int i = 0; i < blocks; i++) {
		struct block *block = malloc(sizeof(*block));

		memset(block, 0, sizeof(*block));
		if (i % every == 0 && forgotten < lost) {
			forgotten++;
			strcpy(block->text, "forgotten");
		} else {
			strcpy(block->text, "kept");
			block->next = kept;
			kept = block;
		}
		block = NULL;
	}
}

/* What the work left on the stack and in registers is overwritten. */
static NOINLINE void wipe(void)
{
	volatile char stack[65536];

	for (size_t i = 0; i < sizeof(stack); i++)
		stack[i] = 0;
}

static void *work(void *unused)
{
	(void)unused;
	if (!strcmp(mode, "churn"))
		churn();
	fill();
	if (!strcmp(mode, "churn"))
		churn();
	wipe();
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	char line[16];

	if (argc > 1)
		blocks = atoi(argv[1]);
	if (argc > 2)
		lost = atoi(argv[2]);
	if (argc > 3)
		mode = argv[3];
	if (!strcmp(mode, "arena")) {
		pthread_create(&thread, NULL, work, NULL);
		pthread_join(thread, NULL);
	} else {
		work(NULL);
	}
	wipe();
	say("{\"ready\": true, \"pid\": %d, \"blocks\": %d, \"lost\": %d}\n", (int)getpid(), blocks,
		lost);
	while (read(0, line, sizeof(line)) > 0)
		;
	say("{\"done\": true}\n");
	return 0;
}
