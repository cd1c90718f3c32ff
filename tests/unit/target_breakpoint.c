/* SPDX-License-Identifier: Apache-2.0 */
/* Breakpoints and redirected pointers: every hit is seen, nothing is changed,
 * and afterwards nothing is left. */
#include "target_trace.h"
#include "target_code.h"

#define THREADS 8
#define CALLS 40

struct shared {
	atomic_int go, ready, wrong, done;
	atomic_long counter;
	atomic_long state, answer;
};

static struct shared *shared;

static any_function *const functions[] = {code_push, code_lea, code_vector, code_far};
#define FUNCTIONS (sizeof(functions) / sizeof(*functions))

PLAIN static void *call_all(void *unused)
{
	(void)unused;
	for (int i = 0; i < CALLS; i++) {
		for (size_t k = 0; k < FUNCTIONS; k++)
			shared->wrong += code_checked_call(functions[k]) != 0;
		shared->wrong += code_constant() != 42;
		code_count((long *)&shared->counter);
	}
	return NULL;
}

static void wait_for_word(void)
{
	/* A blocked thread, as most are when somebody attaches. */
	while (!shared->go)
		usleep(100);
}

static void call_from_threads(void *unused)
{
	pthread_t threads[THREADS];

	(void)unused;
	shared->ready = 1;
	wait_for_word();
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, call_all, NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	shared->done = 1;
	while (shared->go)
		usleep(100);
}

static int setup(void **state)
{
	(void)state;
	shared = shared_memory(sizeof(*shared));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	munmap(shared, sizeof(*shared));
	return 0;
}

static void test_every_call_of_eight_threads(void **state)
{
	struct tracing t = {.points = {code_push, code_lea, code_vector, code_far,
				    (any_function *)code_constant, (any_function *)code_count}};
	pid_t pid = child_start(call_from_threads, NULL);

	(void)state;
	t.pid = pid;
	wait_until(shared->ready);
	tracing_begin(&t);
	assert_no_error(t.armed);
	shared->go = 1;
	wait_until(shared->done);
	tracing_end(&t);
	assert_traced(&t);
	for (int i = 0; i < 6; i++) {
		assert_int_equal(t.hits[i], THREADS * CALLS);
		assert_text_clean(pid, t.points[i]);
	}
	assert_int_equal(shared->wrong, 0);
	assert_int_equal(shared->counter, THREADS * CALLS);
	assert_int_equal(t.threads_new, THREADS);
	assert_int_equal(t.threads_exit, THREADS);
	assert_int_equal(count_areas(pid), 0);
	shared->go = 0;
	assert_int_equal(child_end(pid), 0);
	tracing_free(&t);
}

PLAIN static void call_for_ever(void *unused)
{
	(void)unused;
	for (;;) {
		call_all(NULL);
		shared->ready++;
	}
}

static void test_attach_again_and_again(void **state)
{
	pid_t pid = child_start(call_for_ever, NULL);

	(void)state;
	for (int i = 0; i < 20; i++) {
		struct tracing t = {
			.pid = pid,
			.points = {code_push, code_vector, (any_function *)code_count},
		};
		int before;

		tracing_begin(&t);
		before = shared->ready;
		wait_until(shared->ready > before + 1);
		tracing_end(&t);
		assert_traced(&t);
		assert_true(t.hits[0] > CALLS && t.hits[1] > CALLS);
		assert_text_clean(pid, code_push);
		assert_text_clean(pid, code_vector);
		assert_int_equal(count_areas(pid), 0);
		before = shared->ready;
		wait_until(shared->ready > before + 1);
		tracing_free(&t);
	}
	assert_int_equal(shared->wrong, 0);
	child_kill(pid);
}

static void *plant_wrong(struct tracing *t, const uint8_t *expected, size_t size)
{
	struct tap_breakpoint *breakpoint = NULL;

	tap_error_free(t->armed);
	t->armed = tap_target_plant(
		t->target, (uint64_t)code_push, expected, size, NULL, &breakpoint);
	return breakpoint;
}

static void plant_other_bytes(struct tracing *t)
{
	static const uint8_t other[16] = {0x53, 0x5b, 0xc3};

	plant_wrong(t, other, sizeof(other));
}

static void plant_system_call(struct tracing *t)
{
	static const uint8_t call[16] = {0x0f, 0x05, 0xc3};

	plant_wrong(t, call, sizeof(call));
}

static void plant_nothing(struct tracing *t)
{
	plant_wrong(t, (const uint8_t *)code_push, 0);
}

static void test_other_bytes_are_left_alone(void **state)
{
	static const struct {
		void (*plant)(struct tracing *t);
		enum tap_error_code code;
	} cases[] = {
		{plant_other_bytes, TAP_ERR_BAD_DATA},
		{plant_system_call, TAP_ERR_BAD_DATA},
		{plant_nothing, TAP_ERR_UNSUPPORTED},
	};
	pid_t pid = child_start(call_for_ever, NULL);

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct tracing t = {.pid = pid, .once_planted = cases[i].plant};

		tracing_begin(&t);
		tracing_end(&t);
		assert_non_null(t.armed);
		assert_int_equal(t.armed->code, cases[i].code);
		assert_no_error(t.released);
		assert_text_clean(pid, code_push);
		tracing_free(&t);
	}
	assert_int_equal(shared->wrong, 0);
	child_kill(pid);
}

/* --- pointers ----------------------------------------------------------- */

PLAIN static void add_one(void)
{
	shared->counter++;
}

PLAIN static void add_thousand(void)
{
	shared->counter += 1000;
}

static any_function *table[] = {add_one, code_vector};
static any_function *copy;

/* Steps that the test asks for, one after the other. */
enum step {
	STEP_NONE,
	STEP_CALL,       /* through the table, CALLS times */
	STEP_COPY,       /* keeps the pointer in static data */
	STEP_COPY_HEAP,  /* keeps it on the heap, and puts another in its place */
	STEP_CALL_COPY,
	STEP_PUT_BACK,   /* as if it had never been replaced */
	STEP_FORK,       /* calls through the table and the copy in a child */
	STEP_END,
};

static any_function *volatile *heap_copy;

static void do_step(enum step step);

static void call_in_child(void *unused)
{
	(void)unused;
	do_step(STEP_CALL);
	do_step(STEP_CALL_COPY);
}

static void do_step(enum step step)
{
	switch (step) {
	case STEP_CALL:
		for (int i = 0; i < CALLS; i++) {
			shared->wrong += code_checked_call(((any_function *volatile *)table)[1]) != 0;
			((any_function *volatile *)table)[0]();
		}
		break;
	case STEP_COPY:
		copy = ((any_function *volatile *)table)[0];
		break;
	case STEP_COPY_HEAP:
		heap_copy = malloc(sizeof(*heap_copy));
		*heap_copy = ((any_function *volatile *)table)[0];
		((any_function *volatile *)table)[0] = add_thousand;
		break;
	case STEP_CALL_COPY:
		if (copy)
			copy();
		if (heap_copy)
			(*heap_copy)();
		break;
	case STEP_PUT_BACK:
		((any_function *volatile *)table)[0] = add_one;
		break;
	case STEP_FORK:
		shared->answer = child_end(child_start(call_in_child, NULL));
		break;
	default:
		break;
	}
}

static void follow_steps(void *unused)
{
	(void)unused;
	while (shared->state != STEP_END) {
		if (shared->state == STEP_NONE) {
			usleep(100);
			continue;
		}
		do_step((enum step)shared->state);
		shared->state = STEP_NONE;
	}
}

static void step(enum step step)
{
	shared->state = step;
	wait_until(shared->state == STEP_NONE);
}

static uint64_t word_in(pid_t pid, const void *addr)
{
	struct tap_memory *memory;
	uint64_t word = 0;

	assert_ok(tap_memory_open(pid, false, &memory));
	assert_true(tap_memory_try_u64(memory, (uint64_t)addr, &word));
	tap_memory_close(memory);
	return word;
}

static pid_t begin_table(struct tracing *t)
{
	pid_t pid = child_start(follow_steps, NULL);

	*t = (struct tracing){.pid = pid, .pointers = {&table[0], &table[1]}};
	step(STEP_CALL);
	tracing_begin(t);
	assert_no_error(t->armed);
	step(STEP_CALL);
	return pid;
}

static void end_steps(pid_t pid)
{
	shared->state = STEP_END;
	assert_int_equal(child_end(pid), 0);
	assert_int_equal(shared->wrong, 0);
}

static void test_pointers_are_redirected(void **state)
{
	struct tracing t;
	pid_t pid = begin_table(&t);

	(void)state;
	assert_int_not_equal(word_in(pid, &table[0]), (uint64_t)add_one);
	tracing_end(&t);
	assert_traced(&t);
	assert_int_equal(t.redirected_hits[0], CALLS);
	assert_int_equal(t.redirected_hits[1], CALLS);
	assert_int_equal(word_in(pid, &table[0]), (uint64_t)add_one);
	assert_int_equal(word_in(pid, &table[1]), (uint64_t)code_vector);
	assert_int_equal(count_areas(pid), 0);
	step(STEP_CALL);
	assert_int_equal(shared->counter, 3 * CALLS);
	tracing_free(&t);
	end_steps(pid);
}

static void check_kept(struct tracing *t, pid_t pid)
{
	tracing_end(t);
	assert_no_error(t->attached);
	assert_non_null(t->released);
	assert_int_equal(t->released->code, TAP_ERR_BUSY);
	assert_int_equal(count_areas(pid), 1);
	shared->counter = 0;
	step(STEP_CALL_COPY);
	assert_int_equal(shared->counter, 1);
	tracing_free(t);
}

static void test_a_copied_pointer_goes_on_working(void **state)
{
	struct tracing t;
	pid_t pid = begin_table(&t);

	(void)state;
	step(STEP_COPY);
	step(STEP_CALL_COPY);
	check_kept(&t, pid);
	assert_int_equal(word_in(pid, &table[0]), (uint64_t)add_one);
	end_steps(pid);
}

static void test_a_moved_pointer_goes_on_working(void **state)
{
	struct tracing t;
	pid_t pid = begin_table(&t);

	(void)state;
	step(STEP_COPY_HEAP);
	check_kept(&t, pid);
	/* Somebody else's word is somebody else's. */
	assert_int_equal(word_in(pid, &table[0]), (uint64_t)add_thousand);
	end_steps(pid);
}

static void test_a_pointer_that_was_put_back_may_be_kept(void **state)
{
	struct tracing t;
	pid_t pid = begin_table(&t);

	(void)state;
	step(STEP_COPY_HEAP);
	step(STEP_PUT_BACK);
	check_kept(&t, pid);
	end_steps(pid);
}

static void test_a_forked_child_has_its_pointers_back(void **state)
{
	struct tracing t;
	pid_t pid = begin_table(&t);

	(void)state;
	step(STEP_FORK);
	assert_int_equal(shared->answer, 0);
	step(STEP_COPY);
	step(STEP_FORK);
	assert_int_equal(shared->answer, 0);
	assert_int_equal(shared->counter, 4 * CALLS + 1);
	check_kept(&t, pid);
	end_steps(pid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_call_of_eight_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_attach_again_and_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_bytes_are_left_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pointers_are_redirected, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_copied_pointer_goes_on_working, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_moved_pointer_goes_on_working, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_pointer_that_was_put_back_may_be_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_forked_child_has_its_pointers_back, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
