/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <sys/mman.h>
#include "session/recorder.h"
#include "session/sampler.h"

/* Two calls on stacks further apart than this are on different stacks: a
 * signal handler's, a coroutine's. */
#define STACK_BYTES (UINT64_C(64) << 20)
/* A block that a debugging layer frees begins a little in front of the one
 * that the program has. */
#define DEBUG_HEAD_BYTES 64
#define PAGE_BYTES UINT64_C(4096)
#define MMAP_FAILED UINT64_MAX
/* Calls in flight of one thread, one for each of its stacks; more were left. */
#define PENDING_MAX 64
/* More than a C library has below the end of a thread. */
#define THREAD_END_FRAMES 16

/* A call that has not come back keeps its return address on the stack. One that
 * was left (longjmp, exceptions) loses it to whatever is called next; where
 * that is the same function from the same place, the stack pointer tells: a
 * function does not begin again before it is over. */
static bool is_left(struct recorder *rec, const struct pending *pending, const struct hook *hook,
	uint64_t sp)
{
	uint64_t now;

	if (sp >= pending->sp)
		return sp - pending->sp <= STACK_BYTES;
	if (pending->sp - sp >= STACK_BYTES)
		return false;
	if (sp == pending->sp - 8 && hook == pending->hook)
		return true;
	return !tap_memory_try_u64(rec->memory, pending->sp - 8, &now) ||
		now != pending->return_addr;
}

/* The old block of a realloc whose end is not seen is still there, as far as
 * anybody knows. */
void hits_abandon(struct recorder *rec, const struct pending *pending)
{
	blocks_put_back(rec, pending->arguments[0], &pending->old);
}

static void drop_left(
	struct recorder *rec, struct thread *thread, const struct hook *hook, uint64_t sp)
{
	while (thread->pending.count) {
		const struct pending *last = &thread->pending.items[thread->pending.count - 1];

		if (!is_left(rec, last, hook, sp))
			break;
		hits_abandon(rec, last);
		thread->pending.count--;
	}
}

/* Inside a call that is counted already: calloc's malloc, operator new's,
 * pymalloc's mmap of an arena. */
static bool is_nested(const struct thread *thread, uint64_t sp)
{
	const struct pending *last;

	if (!thread->pending.count)
		return false;
	last = &thread->pending.items[thread->pending.count - 1];
	return sp < last->sp && last->sp - sp < STACK_BYTES;
}

bool hits_is_inside(struct recorder *rec, uint64_t fs_base, uint64_t sp)
{
	uint64_t *value = tap_map_find(&rec->by_fs_base, fs_base);
	struct thread *thread = value ? (struct thread *)*value : NULL;

	if (!thread)
		return false;
	drop_left(rec, thread, NULL, sp);
	return is_nested(thread, sp);
}

static bool holds_python(const struct recorder *rec, const struct tap_module *module)
{
	const char *path = rec->python ? tap_python_info(rec->python)->module : NULL;

	return path && !strcmp(path, module->path);
}

/* The C library maps memory for its own purposes (arenas, large blocks, thread
 * stacks), and CPython for its arenas: not the program's own calls. Where its
 * tables are seen, those for arenas come inside of a table's call, and any
 * other is a script's mmap.mmap(). */
bool hits_is_allocators_own(struct recorder *rec, uint64_t return_addr)
{
	struct tap_module *module = tap_symbols_module_at(rec->symbols, return_addr);

	if (!module)
		return false;
	if (module->interpreter || (!rec->tables_seen && holds_python(rec, module)))
		return true;
	for (size_t i = 0; i < rec->entries.count; i++)
		if (rec->entries.items[i].module == module && !module->executable)
			return true;
	return false;
}

static void count_call(struct recorder *rec, const struct hook *hook)
{
	rec->points.items[hook->point].calls++;
	atomic_fetch_add(&rec->calls, 1);
}

static void publish(struct recorder *rec)
{
	atomic_store(&rec->net_bytes, tap_ledger_net_bytes(rec->ledger));
}

/* CPython's tables pass a large block on to the raw table and that to free();
 * an allocator on top of another one does the same. */
static bool is_passed_on(struct thread *thread, const struct hook *hook, uint64_t sp, uint64_t addr)
{
	struct passed_free *last = &thread->last_free;
	bool passed = last->hook && last->hook != hook && sp <= last->sp &&
		last->sp - sp < STACK_BYTES && addr <= last->addr &&
		last->addr - addr <= DEBUG_HEAD_BYTES;

	if (hook->passes_on)
		*last = (struct passed_free){hook, sp, addr};
	else if (passed || sp > last->sp)
		last->hook = NULL;
	return passed;
}

/* A thread that ends gives back what its cache of free blocks holds by free()
 * (glibc, tcache_thread_shutdown): blocks that were freed before. Nobody but
 * the C library is on the stack then. */
static bool is_cache_of_thread(struct recorder *rec, const struct tap_regs *regs)
{
	struct tap_native_frame frames[THREAD_END_FRAMES];
	struct tap_module *library;
	uint64_t caller;
	size_t count;

	if (!tap_memory_try_u64(rec->memory, regs->rsp, &caller))
		return false;
	library = tap_symbols_module_at(rec->symbols, caller);
	if (!library || library->executable || !hits_is_allocators_own(rec, caller))
		return false;
	count = tap_unwind(
		rec->unwinder, rec->memory, regs, TAP_UNWIND_ALL, frames, THREAD_END_FRAMES);
	for (size_t i = 0; i < count; i++)
		if (tap_symbols_module_at(rec->symbols, frames[i].pc) != library)
			return false;
	return count < THREAD_END_FRAMES;
}

static void on_free(struct recorder *rec, struct thread *thread, const struct hook *hook,
	const struct tap_regs *regs, uint64_t addr)
{
	uint64_t usable = 0;
	uint32_t class = TAP_LEDGER_NO_CLASS;

	if (!addr || is_passed_on(thread, hook, regs->rsp, addr))
		return;
	if (!blocks_try_free(rec, addr)) {
		if (is_cache_of_thread(rec, regs))
			return;
		if (!rec->beside) {
			block_class(rec, addr, hook->object_domain, &class, &usable);
			tap_ledger_free_unseen(rec->ledger, class, usable, 1);
		}
	}
	count_call(rec, hook);
	publish(rec);
}

static void on_munmap(struct recorder *rec, const struct hook *hook, const uint64_t *arguments)
{
	/* One that nobody saw come may be anything: a module, a file. Probes see that
	 * one goes where it begins, and so do breakpoints beside them. */
	if (rec->beside ? !blocks_try_free(rec, arguments[0]) :
			  !mappings_unmap(rec, arguments[0], arguments[1]))
		return;
	count_call(rec, hook);
	publish(rec);
}

bool hits_reallocates(enum tap_entry_kind entry)
{
	return entry == TAP_ENTRY_REALLOC || entry == TAP_ENTRY_REALLOCARRAY ||
		entry == TAP_ENTRY_RALLOCX || entry == TAP_ENTRY_MREMAP;
}

static void take_old(struct recorder *rec, struct pending *pending)
{
	struct old_block *old = &pending->old;
	uint64_t addr = pending->arguments[0];

	old->weight = 1;
	if (!addr || blocks_try_take(rec, addr, old) || rec->beside)
		return;
	if (pending->hook->entry == TAP_ENTRY_MREMAP) {
		old->usable_bytes = pending->arguments[1];
		old->size_class = block_class_of_mapping(old->usable_bytes);
	} else {
		block_class(rec, addr, pending->hook->object_domain, &old->size_class,
			&old->usable_bytes);
	}
}

static void push(struct recorder *rec, struct thread *thread, const struct pending *pending)
{
	if (thread->pending.count == PENDING_MAX) {
		hits_abandon(rec, &thread->pending.items[0]);
		memmove(&thread->pending.items[0], &thread->pending.items[1],
			(PENDING_MAX - 1) * sizeof(*pending));
		thread->pending.count--;
	}
	tap_vector_push(&thread->pending, *pending);
}

/* Inside of a call that a probe counts. What it frees there is watched only if it
 * is a block of the program's, unless it is the one that a realloc moves. */
static bool is_in_probed(
	struct recorder *rec, const struct hook *hook, const struct tap_regs *regs)
{
	bool frees = hook->entry == TAP_ENTRY_FREE || hook->entry == TAP_ENTRY_MUNMAP;
	uint64_t return_addr;

	if (!rec->beside)
		return false;
	return (tap_memory_try_u64(rec->memory, regs->rsp, &return_addr) &&
		       samples_is_nested(rec->beside, return_addr)) ||
		(!frees && samples_is_counting(rec->beside, regs->fs_base));
}

void hits_entry(struct recorder *rec, struct tap_tracee *tracee, const struct hook *hook)
{
	struct thread *thread = recorder_thread(rec, tracee);
	struct tap_regs *regs = &tracee->regs;
	struct pending pending = {.hook = hook, .sp = regs->rsp + 8};

	drop_left(rec, thread, hook, regs->rsp);
	if (is_nested(thread, regs->rsp) || is_in_probed(rec, hook, regs))
		return;
	for (unsigned i = 0; i < 4; i++)
		pending.arguments[i] = tap_regs_argument(regs, i + hook->table);
	if (hook->entry == TAP_ENTRY_FREE) {
		on_free(rec, thread, hook, regs, pending.arguments[0]);
		return;
	}
	thread->last_free.hook = NULL;
	if (!tap_memory_try_u64(rec->memory, regs->rsp, &pending.return_addr))
		return;
	if ((hook->entry == TAP_ENTRY_MMAP || hook->entry == TAP_ENTRY_MUNMAP ||
		    hook->entry == TAP_ENTRY_MREMAP) &&
		hits_is_allocators_own(rec, pending.return_addr))
		return;
	if (hook->entry == TAP_ENTRY_MUNMAP) {
		on_munmap(rec, hook, pending.arguments);
		return;
	}
	count_call(rec, hook);
	if (!arming_follow_return(rec, pending.return_addr)) {
		rec->lost_calls++;
		return;
	}
	if (hits_reallocates(hook->entry))
		take_old(rec, &pending);
	push(rec, thread, &pending);
}

/* What does not fit fails. */
static uint64_t multiply(uint64_t a, uint64_t b)
{
	uint64_t product;

	return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

/* What was asked for. */
uint64_t hits_requested(const struct pending *pending)
{
	const uint64_t *a = pending->arguments;

	switch (pending->hook->entry) {
	case TAP_ENTRY_CALLOC:
		return multiply(a[0], a[1]);
	case TAP_ENTRY_REALLOC:
	case TAP_ENTRY_RALLOCX:
	case TAP_ENTRY_ALIGNED_ALLOC:
	case TAP_ENTRY_MEMALIGN:
	case TAP_ENTRY_MMAP:
		return a[1];
	case TAP_ENTRY_REALLOCARRAY:
		return multiply(a[1], a[2]);
	case TAP_ENTRY_POSIX_MEMALIGN:
	case TAP_ENTRY_MREMAP:
		return a[2];
	case TAP_ENTRY_PVALLOC:
		return (a[0] + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
	default:
		return a[0];
	}
}

/* The block that the call gave; 0 where it failed. */
uint64_t hits_result(
	struct recorder *rec, const struct pending *pending, const struct tap_regs *regs)
{
	uint64_t addr = 0;

	switch (pending->hook->entry) {
	case TAP_ENTRY_POSIX_MEMALIGN:
		if ((uint32_t)regs->rax ||
			!tap_memory_try_u64(rec->memory, pending->arguments[0], &addr))
			return 0;
		return addr;
	case TAP_ENTRY_MMAP:
	case TAP_ENTRY_MREMAP:
		return regs->rax == MMAP_FAILED ? 0 : regs->rax;
	default:
		return regs->rax;
	}
}

/* Mappings that the program makes to have memory: not files, not reserved
 * addresses. */
bool hits_is_memory(const struct pending *pending)
{
	if (pending->hook->entry != TAP_ENTRY_MMAP)
		return true;
	return (pending->arguments[2] & PROT_WRITE) && (pending->arguments[3] & MAP_ANONYMOUS);
}

/* A realloc that gave nothing: of size 0 it freed the block, else the block is
 * as it was. */
static void on_no_result(struct recorder *rec, const struct pending *pending, uint64_t size)
{
	const struct old_block *old = &pending->old;
	uint64_t addr = pending->arguments[0];
	bool gone = !size && pending->hook->entry != TAP_ENTRY_MREMAP;

	if (!hits_reallocates(pending->hook->entry) || !addr)
		return;
	if (!gone)
		blocks_put_back(rec, addr, old);
	else if (old->seen)
		tap_ledger_freed(rec->ledger, &old->block);
	else if (old->watched || !rec->beside)
		tap_ledger_free_unseen(
			rec->ledger, old->size_class, old->usable_bytes, old->weight);
}

static void on_result(struct recorder *rec, struct tap_tracee *tracee,
	const struct pending *pending, uint64_t addr, uint64_t size)
{
	struct tap_ledger_block block = {.size_bytes = size};
	const struct old_block *old = &pending->old;
	uint64_t usable;

	if (old->seen) {
		block.baseline_bytes = old->block.baseline_bytes;
		block.baseline_class = old->block.baseline_class;
		tap_ledger_replaced(rec->ledger, &old->block);
	} else if (old->weight > SAME_BLOCK_WEIGHT) {
		tap_ledger_free_unseen(
			rec->ledger, old->size_class, old->usable_bytes, old->weight);
	} else if (old->usable_bytes) {
		/* It was as large as this before, or had room for it. */
		block.baseline_bytes =
			old->usable_bytes < size || size + PAGE_BYTES < old->usable_bytes ?
			old->usable_bytes :
			size;
		block.baseline_class = old->size_class;
	} else if (hits_reallocates(pending->hook->entry) && pending->arguments[0] && !rec->beside) {
		/* How large it was cannot be told. */
		tap_ledger_free_unseen(rec->ledger, TAP_LEDGER_NO_CLASS, 0, 1);
	}
	if (pending->hook->entry == TAP_ENTRY_MMAP || pending->hook->entry == TAP_ENTRY_MREMAP) {
		if (pending->hook->entry == TAP_ENTRY_MREMAP)
			mappings_forget(rec, pending->arguments[0]);
		if (!rec->beside)
			mappings_add(rec, addr, size);
		block.size_class = block_class_of_mapping(size);
	} else {
		block_class(rec, addr, pending->hook->object_domain, &block.size_class, &usable);
	}
	if (block.baseline_bytes)
		block.size_class = TAP_LEDGER_NO_CLASS;
	block.stack = capture_stack(rec, tracee);
	blocks_add(rec, addr, &block);
}

void hits_return(struct recorder *rec, struct tap_tracee *tracee)
{
	struct thread *thread = recorder_thread(rec, tracee);
	const struct tap_regs *regs = &tracee->regs;
	struct pending pending;
	size_t i = thread->pending.count;
	uint64_t addr, size;

	/* Code comes by here without a call of ours, too. */
	while (i && !(thread->pending.items[i - 1].sp == regs->rsp &&
			    thread->pending.items[i - 1].return_addr == regs->rip))
		i--;
	if (!i)
		return;
	pending = thread->pending.items[i - 1];
	while (thread->pending.count > i)
		hits_abandon(rec, &thread->pending.items[--thread->pending.count]);
	thread->pending.count--;
	size = hits_requested(&pending);
	addr = hits_result(rec, &pending, regs);
	if (!addr)
		on_no_result(rec, &pending, size);
	else if (hits_is_memory(&pending))
		on_result(rec, tracee, &pending, addr, size);
	publish(rec);
}
