/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_SESSION_TRACE_H
#define HEAPTAP_SESSION_TRACE_H

/*
 * `heaptap trace`: attach, record allocations and frees by site for a while,
 * lift everything, and hand back what grew. Two threads: the tracer (ptrace,
 * unwinding, the ledger) and the caller's (clock, RSS, progress).
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "heaptap/analysis/trace_report.h"
#include "heaptap/base/error.h"

enum tap_trace_engine {
	TAP_ENGINE_AUTO,
	TAP_ENGINE_PROBE,
	TAP_ENGINE_BREAKPOINT,
};

struct tap_trace_options {
	pid_t pid;             /* attach to it; 0: run argv instead */
	char *const *argv;     /* NULL-terminated */
	double duration_s;     /* 0 with argv: until the command ends */
	double interval_s;     /* of the timeline; 0: max(50 ms, duration / 200) */
	enum tap_trace_engine engine;
	bool exact;            /* every call: no brake, no sampling */
	uint64_t sample_bytes; /* probes: a fixed interval; 0: from every call on, as the cost
	                        * allows */
	double overhead;       /* probes: what samples may cost, a share; 0: 0.05 */
	bool unsafe;           /* also where a thread blocks or ignores SIGTRAP */
	const char *debug_dir; /* may be NULL */
	struct {
		const char *entry; /* "malloc", "free", ... */
		const char *name;  /* the symbol that stands for it */
	} *symbols;            /* --symbol */
	size_t symbol_count;
	/* Called on every tick where not NULL. */
	void (*on_tick)(void *context, double elapsed_s, uint64_t calls, int64_t live_bytes,
		uint64_t rss_bytes);
	void *context;
};

struct tap_error *tap_trace_collect(
	const struct tap_trace_options *options, struct tap_trace_report *ret);

#endif
