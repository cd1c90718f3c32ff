/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leak_cxx LOG [--rate N]
 *
 * Leaks an array through operator new[] in a frame that an exception then
 * leaves. Beside it: an operator new that fails and throws through its own
 * frame, a constructor that throws, a vector and strings that come and go.
 */
#include "target.h"

#include <new>
#include <stdexcept>
#include <string>
#include <vector>

namespace shop {

struct refused : std::runtime_error {
	refused() : std::runtime_error("refused: a text that does not fit into a small string") {}
};

struct half_made {
	char bytes[3000];
	explicit half_made(bool fail)
	{
		bytes[0] = 1;
		if (fail)
			throw refused();
	}
};

class cache {
public:
	NOINLINE void insert(size_t size)
	{
		char *block = new char[size]; /* LEAK */
		block[0] = 1;
		last = block;
		throw refused();
	}

private:
	char *volatile last = nullptr;
};

NOINLINE static void pass_through(cache &into, size_t size)
{
	std::string guard(100, 'g'); /* destroyed by the unwinding */

	into.insert(size);
	guard[0] = 'x';
}

NOINLINE static bool leak_once(cache &into, size_t size)
{
	try {
		pass_through(into, size);
	} catch (const refused &) {
		return true;
	}
	return false;
}

NOINLINE static bool too_much()
{
	try {
		volatile size_t huge = SIZE_MAX / 4;
		char *block = new char[huge];

		__asm__ volatile("" : "+r"(block));
		delete[] block;
	} catch (const std::bad_alloc &) {
		return true;
	}
	return false;
}

NOINLINE static bool make_half()
{
	try {
		auto *half = new half_made(true);

		__asm__ volatile("" : "+r"(half));
		delete half;
	} catch (const refused &) {
		return true;
	}
	return false;
}

NOINLINE static size_t grow_vector()
{
	std::vector<int> numbers;

	for (int i = 0; i < 40; i++)
		numbers.push_back(i);
	return numbers.size();
}

} // namespace shop

int main(int argc, char **argv)
{
	static struct leak_log leaks = LEAK_LOG_INIT;
	const size_t size = 1000;
	unsigned long thrown = 0, expected = 0;
	struct timespec next;
	shop::cache into;

	if (argc < 2)
		return 2;
	long period_ns = (long)(1e9 / atof(option(argc, argv, "--rate", "50")));
	leak_log_open(&leaks, argv[1]);
	catch_terminate();
	say("{\"ready\": true, \"pid\": %d, \"function\": \"shop::cache::insert\", \"size\": %zu}\n",
	    getpid(), size);
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (;;) {
		add_ns(&next, period_ns);
		if (!wait_until(&next))
			break;
		expected += 3;
		struct timespec before = leak_log_begin();
		thrown += shop::leak_once(into, size);
		leak_log_add(&leaks, before, size);
		thrown += shop::too_much();
		thrown += shop::make_half();
		if (shop::grow_vector() != 40)
			return 1;
	}
	say("{\"done\": true, \"thrown\": %lu, \"expected\": %lu}\n", thrown, expected);
	return 0;
}
