/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "heaptap/proc/descriptors.h"

#define BUDGET UINT64_C(60000000000)

static uint64_t count_of(const struct tap_descriptors *descriptors, const char *target)
{
	for (size_t i = 0; i < descriptors->groups.count; i++)
		if (!strcmp(descriptors->groups.items[i].target, target))
			return descriptors->groups.items[i].count;
	return 0;
}

static uint64_t sum_of(const struct tap_descriptors *descriptors)
{
	uint64_t sum = descriptors->ungrouped, last = UINT64_MAX;

	for (size_t i = 0; i < descriptors->groups.count; i++) {
		assert_true(descriptors->groups.items[i].count <= last);
		last = descriptors->groups.items[i].count;
		sum += last;
	}
	return sum;
}

static uint16_t port_of(int sock, bool peer)
{
	struct sockaddr_in address;
	socklen_t size = sizeof(address);

	assert_int_equal(peer ? getpeername(sock, (struct sockaddr *)&address, &size)
			      : getsockname(sock, (struct sockaddr *)&address, &size),
		0);
	return ntohs(address.sin_port);
}

static void groups_files_and_the_like(void **state)
{
	struct tap_descriptors before, after;
	char file[] = "/tmp/heaptap-descriptors-XXXXXX", gone[64];
	int ends[2];

	(void)state;
	assert_ok(tap_descriptors_read(getpid(), BUDGET, &before));
	assert_int_equal(sum_of(&before), before.count);
	assert_true(mkstemp(file) >= 0);
	for (int i = 0; i < 3; i++) {
		assert_true(open(file, O_RDONLY) >= 0);
		assert_true(memfd_create("mine", 0) >= 0);
		assert_true(eventfd(0, 0) >= 0);
	}
	assert_int_equal(pipe(ends), 0);
	assert_true(epoll_create1(0) >= 0);
	assert_ok(tap_descriptors_read(getpid(), BUDGET, &after));
	assert_int_equal(count_of(&after, file), 4);
	assert_int_equal(count_of(&after, "memfd:mine"), 3);
	assert_int_equal(count_of(&after, "eventfd"), count_of(&before, "eventfd") + 3);
	assert_int_equal(count_of(&after, "pipe"), count_of(&before, "pipe") + 2);
	assert_int_equal(count_of(&after, "eventpoll"), count_of(&before, "eventpoll") + 1);
	assert_int_equal(after.count, before.count + 13);
	assert_int_equal(sum_of(&after), after.count);
	tap_descriptors_deinit(&after);
	unlink(file);
	snprintf(gone, sizeof(gone), "%s (deleted)", file);
	assert_ok(tap_descriptors_read(getpid(), BUDGET, &after));
	assert_int_equal(count_of(&after, gone), 4);
	tap_descriptors_deinit(&after);
	tap_descriptors_deinit(&before);
}

static void groups_sockets_by_their_peers(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct sockaddr_un path = {.sun_family = AF_UNIX, .sun_path = "@heaptap test"};
	int listener = socket(AF_INET, SOCK_STREAM, 0), udp = socket(AF_INET, SOCK_DGRAM, 0);
	int pair[2], bound = socket(AF_UNIX, SOCK_STREAM, 0);
	struct tap_descriptors descriptors;
	socklen_t size = sizeof(address);
	char target[128];

	(void)state;
	path.sun_path[0] = '\0';
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 10), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
	for (int i = 0; i < 5; i++) {
		int client = socket(AF_INET, SOCK_STREAM, 0);

		assert_int_equal(connect(client, (struct sockaddr *)&address, size), 0);
		assert_true(accept(listener, NULL, NULL) >= 0);
	}
	assert_int_equal(connect(udp, (struct sockaddr *)&address, size), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(
		bind(bound, (struct sockaddr *)&path, offsetof(struct sockaddr_un, sun_path) + 13),
		0);
	assert_ok(tap_descriptors_read(getpid(), BUDGET, &descriptors));
	snprintf(target, sizeof(target), "socket:127.0.0.1:%u", port_of(listener, false));
	assert_int_equal(count_of(&descriptors, target), 5);
	snprintf(target, sizeof(target), "socket:127.0.0.1 at port %u", port_of(listener, false));
	assert_int_equal(count_of(&descriptors, target), 5);
	snprintf(target, sizeof(target), "socket:listening at 127.0.0.1:%u",
		port_of(listener, false));
	assert_int_equal(count_of(&descriptors, target), 1);
	snprintf(target, sizeof(target), "socket:udp 127.0.0.1:%u", port_of(udp, true));
	assert_int_equal(count_of(&descriptors, target), 1);
	assert_true(count_of(&descriptors, "socket:unix") >= 2);
	assert_int_equal(count_of(&descriptors, "socket:unix @heaptap test"), 1);
	assert_int_equal(sum_of(&descriptors), descriptors.count);
	tap_descriptors_deinit(&descriptors);
}

static void knows_the_limit(void **state)
{
	struct tap_descriptors descriptors;
	struct rlimit limit;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = 777;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_ok(tap_descriptors_read(getpid(), BUDGET, &descriptors));
	assert_int_equal(descriptors.limit, 777);
	tap_descriptors_deinit(&descriptors);
	assert_code(tap_descriptors_read(999999999, BUDGET, &descriptors), TAP_ERR_GONE);
}

static void what_there_was_no_time_for_is_counted(void **state)
{
	struct tap_descriptors descriptors;

	(void)state;
	assert_ok(tap_descriptors_read(getpid(), 0, &descriptors));
	assert_true(descriptors.count > 10);
	assert_true(descriptors.ungrouped > 0);
	assert_int_equal(sum_of(&descriptors), descriptors.count);
	tap_descriptors_deinit(&descriptors);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(groups_files_and_the_like),
		cmocka_unit_test(groups_sockets_by_their_peers),
		cmocka_unit_test(what_there_was_no_time_for_is_counted),
		cmocka_unit_test(knows_the_limit),
	};

	return cmocka_run_group_tests_name("descriptors", tests, NULL, NULL);
}
