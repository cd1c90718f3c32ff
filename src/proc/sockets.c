/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/base/vector.h"
#include "heaptap/proc/root.h"
#include "scan.h"
#include "sockets.h"

#define LISTENING 10 /* TCP_LISTEN */
#define LINE_BYTES 1024
#define LINES_PER_LOOK 256
#define LABEL_BYTES (INET6_ADDRSTRLEN + 64)

struct endpoint {
	uint8_t addr[16]; /* IPv4: the first four bytes */
	bool v6;
	uint16_t port;
};

struct connection {
	uint64_t inode;
	struct endpoint local, remote;
	uint64_t state;
	bool udp;
};

struct finder {
	pid_t pid;
	const struct tap_map *wanted;
	uint64_t deadline_ns;
	tap_socket_fn fn;
	void *context;
	TAP_VECTOR(struct connection) connections;
	uint8_t listening[65536 / 8]; /* ports: a bit each */
};

static bool is_wanted(const struct finder *finder, uint64_t inode)
{
	return inode && tap_map_find(finder->wanted, inode);
}

/* Words of the machine's byte order that hold the bytes in network order. */
static bool scan_endpoint(const char **cursor, struct endpoint *ret)
{
	size_t digits = strspn(*cursor, "0123456789ABCDEF");
	uint64_t port;

	if (digits != 8 && digits != 32)
		return false;
	memset(ret, 0, sizeof(*ret));
	ret->v6 = digits == 32;
	for (size_t i = 0; i < digits / 8; i++) {
		char word[9] = "";
		const char *at = word;
		uint64_t value;
		uint32_t bytes;

		memcpy(word, *cursor + 8 * i, 8);
		if (!tap_scan_hex(&at, &value))
			return false;
		bytes = (uint32_t)value;
		memcpy(ret->addr + 4 * i, &bytes, 4);
	}
	*cursor += digits;
	if (!tap_scan_char(cursor, ':') || !tap_scan_hex(cursor, &port) || port > 65535)
		return false;
	ret->port = (uint16_t)port;
	tap_scan_blanks(cursor);
	return true;
}

static void skip_words(const char **cursor, int count)
{
	for (; count > 0; count--) {
		*cursor += strcspn(*cursor, " \n");
		tap_scan_blanks(cursor);
	}
}

/* "  0: local remote state queues timer retransmits uid timeout inode ..." */
static bool parse_inet(const char *line, struct connection *ret)
{
	uint64_t number;

	tap_scan_blanks(&line);
	if (!tap_scan_decimal(&line, &number) || !tap_scan_char(&line, ':'))
		return false;
	tap_scan_blanks(&line);
	if (!scan_endpoint(&line, &ret->local) || !scan_endpoint(&line, &ret->remote) ||
		!tap_scan_hex(&line, &ret->state))
		return false;
	tap_scan_blanks(&line);
	skip_words(&line, 5);
	return tap_scan_decimal(&line, &ret->inode);
}

static void note_inet(struct finder *finder, const char *line, bool udp)
{
	struct connection connection = {.udp = udp};

	if (!parse_inet(line, &connection))
		return;
	if (!udp && connection.state == LISTENING)
		finder->listening[connection.local.port / 8] |=
			(uint8_t)(1 << connection.local.port % 8);
	if (is_wanted(finder, connection.inode))
		tap_vector_push(&finder->connections, connection);
}

static void note_tcp(struct finder *finder, const char *line)
{
	note_inet(finder, line, false);
}

static void note_udp(struct finder *finder, const char *line)
{
	note_inet(finder, line, true);
}

/* "address: references protocol flags type state inode path" */
static void note_unix(struct finder *finder, const char *line)
{
	char label[LINE_BYTES + 16];
	uint64_t inode;

	skip_words(&line, 6);
	if (!tap_scan_decimal(&line, &inode) || !is_wanted(finder, inode))
		return;
	tap_scan_blanks(&line);
	snprintf(label, sizeof(label),
		*line == '\n' || !*line ? "socket:unix%.*s" : "socket:unix %.*s",
		(int)strcspn(line, "\n"), line);
	finder->fn(finder->context, inode, label);
}

static void read_table(
	struct finder *finder, const char *name, void (*note)(struct finder *, const char *))
{
	char path[PATH_MAX], line[LINE_BYTES];
	_cleanup_fclose_ FILE *file =
		fopen(tap_proc_path(path, sizeof(path), finder->pid, name), "re");
	bool at_start = true;

	if (!file)
		return;
	for (unsigned i = 1; fgets(line, sizeof(line), file); i++) {
		if (at_start)
			note(finder, line);
		at_start = strchr(line, '\n') != NULL;
		if (!(i % LINES_PER_LOOK) && tap_clock_ns() > finder->deadline_ns)
			return;
	}
}

static char *address_of(const struct endpoint *endpoint, char *buf)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	*buf = '\0';
	if (!endpoint->v6)
		inet_ntop(AF_INET, endpoint->addr, buf, INET6_ADDRSTRLEN);
	else if (!memcmp(endpoint->addr, mapped, sizeof(mapped)))
		inet_ntop(AF_INET, endpoint->addr + 12, buf, INET6_ADDRSTRLEN);
	else
		inet_ntop(AF_INET6, endpoint->addr, buf, INET6_ADDRSTRLEN);
	return buf;
}

static void put_endpoint(char *label, const char *start, const struct endpoint *endpoint)
{
	char address[INET6_ADDRSTRLEN];

	address_of(endpoint, address);
	snprintf(label, LABEL_BYTES, strchr(address, ':') ? "%s[%s]:%u" : "%s%s:%u", start, address,
		endpoint->port);
}

static void label_connection(
	const struct finder *finder, const struct connection *connection, char *label)
{
	uint16_t port = connection->local.port;
	char address[INET6_ADDRSTRLEN];

	if (connection->udp && connection->remote.port)
		put_endpoint(label, "socket:udp ", &connection->remote);
	else if (connection->udp)
		put_endpoint(label, "socket:udp at ", &connection->local);
	else if (connection->state == LISTENING)
		put_endpoint(label, "socket:listening at ", &connection->local);
	else if (!connection->remote.port)
		put_endpoint(label, "socket:tcp at ", &connection->local);
	else if (finder->listening[port / 8] & 1 << port % 8)
		snprintf(label, LABEL_BYTES, "socket:%s at port %u",
			address_of(&connection->remote, address), port);
	else
		put_endpoint(label, "socket:", &connection->remote);
}

void tap_sockets_find(pid_t pid, const struct tap_map *wanted, uint64_t deadline_ns,
	tap_socket_fn fn, void *context)
{
	struct finder finder = {.pid = pid,
		.wanted = wanted,
		.deadline_ns = deadline_ns,
		.fn = fn,
		.context = context};
	char label[LABEL_BYTES];

	read_table(&finder, "net/tcp", note_tcp);
	read_table(&finder, "net/tcp6", note_tcp);
	read_table(&finder, "net/udp", note_udp);
	read_table(&finder, "net/udp6", note_udp);
	read_table(&finder, "net/unix", note_unix);
	/* Only now all ports are known that somebody listens at. */
	for (size_t i = 0; i < finder.connections.count; i++) {
		label_connection(&finder, &finder.connections.items[i], label);
		fn(context, finder.connections.items[i].inode, label);
	}
	tap_vector_free(&finder.connections);
}
