/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/log.h"
#include "session/probed.h"
#include "session/sampler.h"

/* pymalloc's largest block (Objects/obmalloc.c, SMALL_REQUEST_THRESHOLD); what
 * is larger is passed on to malloc and counted there. */
#define POOL_LIMIT_BYTES 512
/* glibc's MALLOC_ALIGNMENT (sysdeps/generic/malloc-alignment.h): memalign() of no
 * more is malloc(). */
#define GLIBC_ALIGNMENT 16

static struct hook *make_hook(struct recorder *rec, enum tap_entry_kind kind, size_t point)
{
	struct hook *hook = arming_new_hook(rec);

	hook->kind = HOOK_ENTRY;
	hook->entry = kind;
	hook->point = point;
	return hook;
}

static uint64_t end_of(struct recorder *rec, uint64_t addr)
{
	uint64_t start, end;

	return tap_symbols_try_extent(rec->symbols, addr, &start, &end) ? end : addr;
}

/* The entry point of this kind that it ends in a jump to; NULL: it does not. */
static const struct tap_entry *passes_on_to(
	struct recorder *rec, const struct tap_entry *entry, enum tap_entry_kind kind)
{
	for (size_t i = 0; i < rec->entries.count; i++) {
		const struct tap_entry *to = &rec->entries.items[i];

		if (to->kind == kind && to->addr &&
			passing_jumps(rec, entry->addr, end_of(rec, entry->addr), to->addr))
			return to;
	}
	return NULL;
}

void placing_note_allocator(struct sampler *s, const struct tap_entry *entry)
{
	if (entry->kind != TAP_ENTRY_FREE && entry->kind != TAP_ENTRY_MUNMAP)
		*tap_vector_add(&s->allocators) =
			(struct code_range){entry->addr, end_of(s->rec, entry->addr)};
}

/* The entry points that are listed and have no probe yet. */
static struct tap_error *add_entry(struct sampler *s, const struct tap_entry *entry)
{
	struct recorder *rec = s->rec;
	size_t point = arming_find_point(
		rec, entry->module ? entry->module->path : "", entry->symbol, entry->addr);
	struct tap_probe_spec spec = {.entry = (uint32_t)rec->hooks.count};
	_cleanup_free_ uint8_t *code = NULL;
	const struct tap_entry *next;
	struct tap_error *err;
	size_t size = 0;

	if (rec->points.items[point].how != TAP_ENTRY_NONE)
		return NULL;
	if (entry->problem || !entry->addr || !probed_kind(entry->kind, &spec.kind)) {
		rec->points.items[point].reason = entry->problem;
		return NULL;
	}
	next = entry->kind == TAP_ENTRY_REALLOCARRAY ?
		passes_on_to(rec, entry, TAP_ENTRY_REALLOC) :
		NULL;
	if (next) {
		/* They are seen, by what is there. */
		rec->points.items[point].how =
			beside_is_wanted(s, next) ? TAP_ENTRY_BREAKPOINT : TAP_ENTRY_JUMP;
		rec->points.items[point].reason = "its calls are counted at realloc";
		return NULL;
	}
	spec.passes_null = entry->kind == TAP_ENTRY_REALLOC &&
		passes_on_to(rec, entry, TAP_ENTRY_MALLOC);
	if ((entry->kind == TAP_ENTRY_MEMALIGN || entry->kind == TAP_ENTRY_ALIGNED_ALLOC) &&
		rec->glibc && passes_on_to(rec, entry, TAP_ENTRY_MALLOC))
		spec.passes_alignment = GLIBC_ALIGNMENT;
	make_hook(rec, entry->kind, point);
	err = probed_code(rec->symbols, entry, &code, &size);
	if (!err)
		err = tap_probes_add_function(s->probes, entry->addr, code, size, &spec);
	if (err) {
		rec->points.items[point].reason = tap_strings_add(rec->strings, err->message);
		if (err->code == TAP_ERR_UNSUPPORTED && rec->options->engine == TAP_ENGINE_AUTO)
			beside_want(s, entry);
		return err;
	}
	rec->points.items[point].how = TAP_ENTRY_JUMP;
	placing_note_allocator(s, entry);
	return NULL;
}

static void add_table(struct sampler *s, const struct tap_python_table *table, const char *domain)
{
	static const struct {
		const char *name;
		enum tap_entry_kind entry;
		enum tap_probe_kind kind;
	} functions[] = {
		{"malloc", TAP_ENTRY_MALLOC, TAP_PROBE_SIZE1},
		{"calloc", TAP_ENTRY_CALLOC, TAP_PROBE_PRODUCT12},
		{"realloc", TAP_ENTRY_REALLOC, TAP_PROBE_RESIZE12},
		{"free", TAP_ENTRY_FREE, TAP_PROBE_FREE1},
	};
	struct recorder *rec = s->rec;
	const char *module = tap_python_info(rec->python)->module;

	for (unsigned i = 0; i < 4; i++) {
		_cleanup_free_ char *name = tap_format("%s.%s", domain, functions[i].name);
		uint64_t pointer = table->addr + 8 + 8 * i;
		size_t point = arming_find_point(rec, module ? module : "", name, pointer);
		struct tap_probe_spec spec = {
			.kind = functions[i].kind,
			.entry = (uint32_t)rec->hooks.count,
			.limit_bytes = POOL_LIMIT_BYTES,
			.common = s->takes_turns,
		};
		struct hook *hook = make_hook(rec, functions[i].entry, point);
		_cleanup_error_ struct tap_error *err = NULL;

		hook->table = hook->object_domain = true;
		err = tap_probes_add_pointer(s->probes, pointer, table->functions[i], &spec);
		if (err)
			rec->points.items[point].reason = tap_strings_add(rec->strings, err->message);
		else
			rec->points.items[point].how = TAP_ENTRY_TABLE;
	}
}

/* The mem and obj domains while pymalloc is behind them; whatever is else
 * there ends in malloc, which sees all of it. The raw domain always does. */
static void add_tables(struct sampler *s)
{
	struct recorder *rec = s->rec;
	struct tap_python_table tables[TAP_PYTHON_DOMAINS];
	_cleanup_error_ struct tap_error *err = NULL;

	arming_open_python(rec);
	if (!rec->python || !tap_python_info(rec->python)->supported)
		return;
	err = tap_python_tables(rec->python, tables);
	if (err) {
		tap_log_warn("CPython's own allocations are not seen, only those of its C library: %s",
			err->message);
		return;
	}
	rec->tables_armed = rec->tables_seen = true;
	if (tables[TAP_PYTHON_OBJ].ctx || tables[TAP_PYTHON_MEM].ctx)
		return;
	s->takes_turns = tap_python_takes_turns(rec->python);
	add_table(s, &tables[TAP_PYTHON_MEM], "mem");
	add_table(s, &tables[TAP_PYTHON_OBJ], "obj");
}

/* Where none fits, breakpoints see all calls; unless probes were asked for. */
static struct tap_error *add_entries(struct sampler *s)
{
	struct recorder *rec = s->rec;
	size_t probes = 0;

	for (size_t i = 0; i < rec->entries.count; i++)
		tap_error_free(add_entry(s, &rec->entries.items[i]));
	for (size_t i = 0; i < rec->points.count; i++)
		probes += rec->points.items[i].how == TAP_ENTRY_JUMP;
	if (!probes && s->unfit.count)
		return tap_error_new(TAP_ERR_UNSUPPORTED, "no probe fits anywhere");
	return beside_check(s);
}

static struct tap_error *find_entries(struct recorder *rec)
{
	_cleanup_error_ struct tap_error *none = NULL;
	struct tap_error *err = arming_add_named(rec);

	if (err)
		return err;
	none = tap_entry_points_find(rec->symbols, rec->memory, &rec->entries);
	arming_note_allocators(rec);
	return NULL;
}

/* A sampled realloc of CPython's calls the C library's, which is one too: that
 * stack leads through the probe. */
static void tell_unwinder(struct sampler *s)
{
	uint64_t region = tap_probes_private_addr(s->probes) - TAP_PROBE_PRIVATE_AT;
	const struct tap_probe_frame *frame = &tap_probe_frame;
	size_t size;

	tap_probe_common(&size);
	tap_unwinder_add_code(s->rec->unwinder,
		&(struct tap_unwind_code){region, region + size, TAP_DWARF_RBX, frame->cfa_offset,
			frame->ra_offset, frame->rbx_offset, frame->rbp_offset, frame->r12_offset,
			frame->r13_offset, frame->r14_offset, frame->r15_offset});
}

static struct tap_error *place(struct sampler *s)
{
	struct recorder *rec = s->rec;
	struct tap_error *err = tap_probe_can_run() ?
		seccomp_judge(s) :
		tap_error_new(TAP_ERR_UNSUPPORTED, "the processor has no rdtscp");
	uint64_t near = 0;

	if (!err)
		err = arming_read_modules(rec);
	if (!err)
		err = find_entries(rec);
	if (err)
		return err;
	for (size_t i = 0; i < rec->entries.count && !near; i++)
		near = rec->entries.items[i].addr;
	if (!near)
		return tap_error_new(TAP_ERR_UNSUPPORTED,
			"process %d has no allocator that heaptap knows", rec->pid);
	err = tap_probes_create(rec->target, near, &s->probes);
	if (!err)
		err = add_entries(s);
	if (err)
		return err;
	tell_unwinder(s);
	add_tables(s);
	err = sampler_arm(s);
	return err ? err : tap_probes_apply(s->probes, rec->target);
}

/* A command's own libraries are there when its first instruction is: there it
 * is held. False: it ended before, or somebody does not want to wait any
 * longer. */
static bool run_to_start(
	struct recorder *rec, struct tap_event *start_ret, struct tap_error **err_ret)
{
	struct tap_event event;

	*err_ret = arming_read_modules(rec);
	if (!*err_ret)
		recorder_plant_start(rec);
	while (!*err_ret && !atomic_load(&rec->end_wanted)) {
		*err_ret = tap_target_next(rec->target, &event);
		if (*err_ret)
			break;
		if (event.kind == TAP_EVENT_EXIT) {
			atomic_store(&rec->child_exit_code, event.exit_code);
			recorder_end(rec, TAP_ENDED_EXIT);
		} else if (event.kind == TAP_EVENT_BREAKPOINT) {
			*start_ret = event;
			*err_ret = tap_target_lift(rec->target);
			return !*err_ret;
		}
		tap_target_go(rec->target, &event);
	}
	return false;
}

static void forget_points(struct recorder *rec)
{
	for (size_t i = 0; i < rec->points.count; i++) {
		rec->points.items[i].how = TAP_ENTRY_NONE;
		rec->points.items[i].reason = NULL;
	}
}

/* Nothing of the probes is left, neither there nor in the report. */
static struct tap_error *take_back(struct sampler *s)
{
	struct recorder *rec = s->rec;
	struct tap_error *err = s->probes ? tap_probes_remove(s->probes, rec->target) : NULL;

	tap_probes_destroy(s->probes);
	s->probes = NULL;
	forget_points(rec);
	s->unfit.count = s->allocators.count = 0;
	rec->tables_armed = rec->tables_seen = false;
	return err;
}

/* What cannot be attached to cannot be for breakpoints either. */
static bool is_for_breakpoints(const struct recorder *rec, const struct tap_error *err)
{
	return err && rec->target && rec->options->engine == TAP_ENGINE_AUTO &&
		(err->code == TAP_ERR_UNSUPPORTED || err->code == TAP_ERR_TIMEOUT ||
			err->code == TAP_ERR_NOMEM);
}

static void *run_place(void *context)
{
	struct sampler *s = context;
	struct recorder *rec = s->rec;
	struct tap_event start = {.kind = TAP_EVENT_TICK};
	struct tap_error *err, *left;
	bool runs = rec->pid;

	tap_log_defer();
	sampler_hurry();
	/* Of before a pause. */
	forget_points(rec);
	err = recorder_attach(rec);
	if (!err && (runs || run_to_start(rec, &start, &err)))
		err = place(s);
	if (!is_for_breakpoints(rec, err)) {
		/* A process that runs gets them when its old blocks are watched. */
		if (!err && !runs && s->probes)
			err = beside_plant(s);
		if (rec->target)
			tap_target_go(rec->target, &start);
		return beside_end(s, err);
	}
	tap_log_warn("by breakpoints, which stop the process at each call: %s", err->message);
	left = take_back(s);
	if (left) {
		tap_error_free(err);
		return beside_end(s, left);
	}
	tap_error_free(err);
	rec->engine = TAP_ENGINE_BREAKPOINT;
	return recorder_run_breakpoints(rec, &start);
}

static struct tap_error *apply(struct sampler *s)
{
	struct tap_error *err = tap_probes_apply(s->probes, s->rec->target);

	tap_error_free(beside_plant(s));
	return err;
}

struct tap_error *placing_place(struct sampler *s)
{
	return beside_do(s, run_place, NULL);
}

struct tap_error *placing_plant(struct sampler *s)
{
	return s->unfit.count ? beside_do(s, beside_run, beside_plant) : NULL;
}

static bool has_tables(struct recorder *rec)
{
	struct tap_python_table tables[TAP_PYTHON_DOMAINS];
	_cleanup_error_ struct tap_error *err = NULL;

	arming_open_python(rec);
	if (!rec->python || !tap_python_info(rec->python)->supported)
		return false;
	err = tap_python_tables(rec->python, tables);
	return !err;
}

void placing_read_modules(struct sampler *s)
{
	if (arming_modules_changed(s->rec)) {
		tap_error_free(arming_read_modules(s->rec));
		s->modules_changed = true;
	}
}

/* True where there is something new to place. */
static bool look(struct sampler *s)
{
	struct recorder *rec = s->rec;
	_cleanup_error_ struct tap_error *err = NULL;
	size_t before = rec->entries.count;
	bool changed, more;

	placing_read_modules(s);
	changed = s->modules_changed;
	s->modules_changed = false;
	if (changed)
		err = find_entries(rec);
	more = !err && rec->entries.count > before;
	for (size_t i = before; more && i < rec->entries.count; i++)
		tap_error_free(add_entry(s, &rec->entries.items[i]));
	/* An interpreter that has just begun has none yet. */
	if (!err && !rec->tables_armed && (changed || rec->options->argv) && has_tables(rec)) {
		add_tables(s);
		more = true;
	}
	if (err)
		tap_log_detail("modules that were loaded: %s", err->message);
	return more;
}

void placing_look(struct sampler *s)
{
	_cleanup_error_ struct tap_error *err = NULL;
	bool more;

	pthread_mutex_lock(&s->rec->lock);
	more = look(s);
	pthread_mutex_unlock(&s->rec->lock);
	if (more)
		err = beside_do(s, beside_run, apply);
	if (err)
		tap_log_detail("probes for modules that were loaded: %s", err->message);
}

struct tap_error *placing_remove(struct sampler *s)
{
	return beside_do(s, beside_run, beside_take_out);
}
