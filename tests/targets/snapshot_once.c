/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_once [--in-place] PID
 *
 * Not a target: takes one snapshot of a process, reads some of its memory,
 * releases it, and says what it was. Ends with 1 where something failed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/error.h"
#include "heaptap/proc/maps.h"
#include "heaptap/proc/process.h"
#include "heaptap/target/snapshot.h"

#define PIECE_BYTES 65536

static int failed(struct tap_error *err)
{
	fprintf(stderr, "%s\n", err->message);
	return 1;
}

/* The first piece of each writable mapping. */
static struct tap_error *read_some(struct tap_snapshot *snapshot, size_t *bytes_ret)
{
	static char piece[PIECE_BYTES];
	struct tap_maps maps = { 0 };
	struct tap_error *err = tap_maps_read(tap_snapshot_pid(snapshot), &maps);

	*bytes_ret = 0;
	for (size_t i = 0; !err && i < maps.count; i++)
		if (maps.items[i].writable)
			*bytes_ret += tap_memory_read_some(tap_snapshot_memory(snapshot),
				maps.items[i].start, piece, sizeof(piece));
	tap_maps_deinit(&maps);
	return err;
}

int main(int argc, char **argv)
{
	struct tap_snapshot_options options = { .in_place = argc > 2 };
	struct tap_snapshot *snapshot;
	struct tap_process process;
	struct tap_error *err;
	size_t bytes, threads;

	if (argc < 2)
		return 2;
	err = tap_process_read((pid_t)atoi(argv[argc - 1]), &process);
	if (!err)
		err = tap_snapshot_take(&process, &options, &snapshot);
	if (err)
		return failed(err);
	tap_process_deinit(&process);
	err = read_some(snapshot, &bytes);
	if (err)
		return failed(err);
	tap_snapshot_threads(snapshot, &threads);
	printf("{\"copy\": %s, \"why\": \"%s\", \"threads\": %zu, \"bytes\": %zu, "
	       "\"pause_s\": %.6f}\n",
	       tap_snapshot_is_copy(snapshot) ? "true" : "false",
	       tap_snapshot_is_copy(snapshot) ? "" : tap_snapshot_why_in_place(snapshot),
	       threads, bytes, (double)tap_snapshot_pause_ns(snapshot) * 1e-9);
	err = tap_snapshot_release(snapshot);
	return err ? failed(err) : 0;
}
