/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dlopen_leak LOG PLUGIN [--at SECONDS]
 *
 * Waits for a line on standard input (or so many seconds), loads the plugin,
 * and lets it leak 50 times a second.
 */
#include "target.h"

#include <dlfcn.h>

static void wait_for_line(double seconds)
{
	struct pollfd in = { STDIN_FILENO, POLLIN, 0 };
	char line[64];

	if (poll(&in, 1, seconds < 0 ? -1 : (int)(seconds * 1000)) > 0 &&
	    read(STDIN_FILENO, line, sizeof(line)) <= 0)
		exit(0);
}

int main(int argc, char **argv)
{
	static struct leak_log leaks = LEAK_LOG_INIT;
	void (*plugin_leak)(size_t);
	struct timespec next, before;
	void *plugin;

	if (argc < 3)
		return 2;
	leak_log_open(&leaks, argv[1]);
	catch_terminate();
	say("{\"ready\": true, \"pid\": %d, \"function\": \"plugin_leak\", \"size\": 1000}\n",
	    getpid());
	wait_for_line(atof(option(argc, argv, "--at", "-1")));
	plugin = dlopen(argv[2], RTLD_NOW);
	if (!plugin) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	*(void **)&plugin_leak = dlsym(plugin, "plugin_leak");
	say("{\"loaded\": true}\n");
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (;;) {
		add_ns(&next, 20000000);
		if (!wait_until(&next))
			return 0;
		before = leak_log_begin();
		plugin_leak(1000);
		leak_log_add(&leaks, before, 1000);
	}
}
