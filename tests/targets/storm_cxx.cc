// SPDX-License-Identifier: Apache-2.0
//
// storm_cxx: exceptions through frames that allocate, out of constructors, and
// out of operator new: by bad_alloc, and by a new_handler that throws.
#include <cstdio>
#include <cstdlib>
#include <cstdint>
#include <ctime>
#include <iostream>
#include <new>
#include <stdexcept>
#include <string>
#include <atomic>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>
#include <vector>

static std::atomic<unsigned long> rounds, wrong;

struct gave_up : std::runtime_error {
	gave_up() : std::runtime_error("no memory, says the handler") {}
};

static void give_up()
{
	throw gave_up();
}

static int guards;

struct guard {
	std::string text;
	explicit guard(int i) : text(static_cast<std::size_t>(40 + i % 100), 'x') { guards++; }
	~guard() { guards--; }
};

__attribute__((noinline)) static int deep(int depth)
{
	guard here(depth);

	if (depth == 0)
		throw std::runtime_error(here.text);
	return deep(depth - 1) + static_cast<int>(here.text.size());
}

// More than any address space: malloc says NULL.
__attribute__((noinline)) static void *too_much(std::size_t size)
{
	guard here(3);

	return ::operator new(size);
}

static void expect(bool right)
{
	if (!right)
		wrong++;
}

static void round()
{
	volatile std::size_t huge = std::size_t(1) << 62;

	try {
		deep(10);
		expect(false);
	} catch (const std::runtime_error &error) {
		expect(std::string(error.what()).size() == 40);
	}
	std::set_new_handler(nullptr);
	try {
		::operator delete(too_much(huge));
		expect(false);
	} catch (const std::bad_alloc &) {
	}
	std::set_new_handler(give_up);
	try {
		::operator delete(too_much(huge));
		expect(false);
	} catch (const gave_up &) {
	}
	std::set_new_handler(nullptr);
	std::vector<std::string> words;
	for (int i = 0; i < 50; i++)
		words.push_back(std::string(static_cast<std::size_t>(i), 'w'));
	expect(words[49].size() == 49 && guards == 0);
	rounds++;
}

int main()
{
	std::printf("{\"ready\": true, \"pid\": %d}\n", getpid());
	std::fflush(stdout);
	for (;;) {
		struct pollfd in = {STDIN_FILENO, POLLIN, 0};
		char drop;

		for (int i = 0; i < 20; i++)
			round();
		if (poll(&in, 1, 1) > 0 && read(STDIN_FILENO, &drop, 1) <= 0)
			break;
	}
	std::printf("{\"done\": true, \"digest\": 1, \"rounds\": %lu, \"wrong\": %lu, \"gap_s\": 0}\n",
		    rounds.load(), wrong.load());
	return wrong != 0;
}
