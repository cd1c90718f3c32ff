/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/log.h"
#include "heaptap/proc/tasks.h"
#include "session/sampler.h"

#define CODE_BYTES 64
/* pymalloc's largest block (Objects/obmalloc.c, SMALL_REQUEST_THRESHOLD); what
 * is larger is passed on to malloc and counted there. */
#define POOL_LIMIT_BYTES 512
/* glibc's MALLOC_ALIGNMENT (sysdeps/generic/malloc-alignment.h): memalign() of no
 * more is malloc(). */
#define GLIBC_ALIGNMENT 16

static const struct {
	bool probed;
	enum tap_probe_kind kind;
} kinds[TAP_ENTRY_KINDS] = {
	[TAP_ENTRY_MALLOC] = {true, TAP_PROBE_SIZE0},
	[TAP_ENTRY_CALLOC] = {true, TAP_PROBE_PRODUCT01},
	[TAP_ENTRY_REALLOC] = {true, TAP_PROBE_RESIZE01},
	[TAP_ENTRY_REALLOCARRAY] = {true, TAP_PROBE_RESIZE_PRODUCT},
	[TAP_ENTRY_ALIGNED_ALLOC] = {true, TAP_PROBE_SIZE1},
	[TAP_ENTRY_MEMALIGN] = {true, TAP_PROBE_SIZE1},
	[TAP_ENTRY_POSIX_MEMALIGN] = {true, TAP_PROBE_SIZE2},
	[TAP_ENTRY_VALLOC] = {true, TAP_PROBE_SIZE0},
	[TAP_ENTRY_PVALLOC] = {true, TAP_PROBE_SIZE0},
	[TAP_ENTRY_FREE] = {true, TAP_PROBE_FREE0},
	[TAP_ENTRY_MMAP] = {true, TAP_PROBE_SIZE1},
	[TAP_ENTRY_MUNMAP] = {true, TAP_PROBE_FREE0},
	[TAP_ENTRY_MREMAP] = {true, TAP_PROBE_RESIZE02},
	[TAP_ENTRY_MALLOCX] = {true, TAP_PROBE_SIZE0},
	[TAP_ENTRY_RALLOCX] = {true, TAP_PROBE_RESIZE01},
};

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

/* Does it end in a jump to an entry point of this kind? */
static bool passes_on_to(
	struct recorder *rec, const struct tap_entry *entry, enum tap_entry_kind kind)
{
	for (size_t i = 0; i < rec->entries.count; i++) {
		const struct tap_entry *to = &rec->entries.items[i];

		if (to->kind == kind && to->addr &&
			passing_jumps(rec, entry->addr, end_of(rec, entry->addr), to->addr))
			return true;
	}
	return false;
}

static void note_allocator(struct sampler *s, const struct tap_entry *entry)
{
	if (entry->kind != TAP_ENTRY_FREE && entry->kind != TAP_ENTRY_MUNMAP)
		*tap_vector_add(&s->allocators) =
			(struct code_range){entry->addr, end_of(s->rec, entry->addr)};
}

static void add_entry(struct sampler *s, const struct tap_entry *entry)
{
	struct recorder *rec = s->rec;
	size_t point = arming_find_point(
		rec, entry->module ? entry->module->path : "", entry->symbol, entry->addr);
	struct tap_probe_spec spec = {.entry = (uint32_t)rec->hooks.count};
	_cleanup_error_ struct tap_error *err = NULL;
	uint8_t expected[CODE_BYTES] = {0};

	if (entry->problem || !entry->addr || !kinds[entry->kind].probed) {
		rec->points.items[point].reason = entry->problem;
		return;
	}
	if (entry->kind == TAP_ENTRY_REALLOCARRAY &&
		passes_on_to(rec, entry, TAP_ENTRY_REALLOC)) {
		rec->points.items[point].reason = "its calls are counted at realloc";
		return;
	}
	spec.kind = kinds[entry->kind].kind;
	spec.passes_null = entry->kind == TAP_ENTRY_REALLOC &&
		passes_on_to(rec, entry, TAP_ENTRY_MALLOC);
	if ((entry->kind == TAP_ENTRY_MEMALIGN || entry->kind == TAP_ENTRY_ALIGNED_ALLOC) &&
		rec->glibc && passes_on_to(rec, entry, TAP_ENTRY_MALLOC))
		spec.passes_alignment = GLIBC_ALIGNMENT;
	make_hook(rec, entry->kind, point);
	err = tap_module_file_bytes(entry->module, entry->addr, expected, sizeof(expected));
	if (!err)
		err = tap_probes_add_function(s->probes, entry->addr, end_of(rec, entry->addr),
			expected, sizeof(expected), &spec);
	if (err) {
		rec->points.items[point].reason = tap_strings_add(rec->strings, err->message);
		return;
	}
	rec->points.items[point].how = TAP_ENTRY_JUMP;
	note_allocator(s, entry);
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
	add_table(s, &tables[TAP_PYTHON_MEM], "mem");
	add_table(s, &tables[TAP_PYTHON_OBJ], "obj");
}

/* A sampled call waits on a futex: a filter of system calls may end the
 * program for it. */
static struct tap_error *check_seccomp(struct recorder *rec)
{
	struct tap_task_list tasks = {0};
	struct tap_error *err = tap_tasks_read(rec->pid, &tasks);

	for (size_t i = 0; i < tasks.count && !err; i++)
		if (tasks.items[i].seccomp)
			err = tap_error_advise(
				tap_error_new(TAP_ERR_UNSUPPORTED,
					"process %d filters its system calls (seccomp), which those of a "
					"probe might not pass",
					rec->pid),
				"leave out --engine probe");
	tap_vector_free(&tasks);
	return err;
}

static struct tap_error *place(struct sampler *s)
{
	struct recorder *rec = s->rec;
	_cleanup_error_ struct tap_error *none = NULL;
	struct tap_error *err;
	uint64_t near = 0;

	err = check_seccomp(rec);
	if (!err)
		err = arming_read_modules(rec);
	if (!err)
		err = arming_add_named(rec);
	if (err)
		return err;
	none = tap_entry_points_find(rec->symbols, rec->memory, &rec->entries);
	arming_note_allocators(rec);
	for (size_t i = 0; i < rec->entries.count && !near; i++)
		near = rec->entries.items[i].addr;
	if (!near)
		return tap_error_new(TAP_ERR_UNSUPPORTED,
			"process %d has no allocator that heaptap knows", rec->pid);
	err = tap_probes_create(rec->target, near, &s->probes);
	if (err)
		return err;
	for (size_t i = 0; i < rec->entries.count; i++)
		add_entry(s, &rec->entries.items[i]);
	add_tables(s);
	return tap_probes_apply(s->probes, rec->target);
}

/* With the end of the thread the kernel lets go of what it left alone. */
static struct tap_error *on_own_thread(struct sampler *s, void *(*run)(void *))
{
	pthread_t thread;
	void *err;

	if (pthread_create(&thread, NULL, run, s))
		return tap_error_new(TAP_ERR_SYSTEM, "cannot start a thread");
	pthread_join(thread, &err);
	return err;
}

static void *run_place(void *context)
{
	struct sampler *s = context;
	struct tap_error *err, *release = NULL;

	tap_log_defer();
	sampler_hurry();
	err = recorder_attach(s->rec);
	if (!err)
		err = place(s);
	if (s->rec->target)
		release = tap_target_release(s->rec->target);
	s->rec->target = NULL;
	if (!err)
		return release;
	tap_error_free(release);
	return err;
}

static void *run_remove(void *context)
{
	struct sampler *s = context;
	struct tap_error *err, *release = NULL;

	tap_log_defer();
	sampler_hurry();
	err = recorder_attach(s->rec);
	if (!err)
		err = tap_probes_remove(s->probes, s->rec->target);
	if (s->rec->target)
		release = tap_target_release(s->rec->target);
	s->rec->target = NULL;
	if (!err)
		return release;
	tap_error_free(release);
	return err;
}

struct tap_error *placing_place(struct sampler *s)
{
	return on_own_thread(s, run_place);
}

struct tap_error *placing_remove(struct sampler *s)
{
	return on_own_thread(s, run_remove);
}
