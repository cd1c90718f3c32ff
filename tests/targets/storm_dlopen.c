/* SPDX-License-Identifier: Apache-2.0 */
/* storm_dlopen PLUGIN: loads a module, calls into it and unloads it, in two
 * threads, as fast as it goes. */
#include <dlfcn.h>
#include "storm.h"

static const char *plugin;

static void *load(void *context)
{
	while (!atomic_load(&storm.end)) {
		void *handle = dlopen(plugin, RTLD_NOW);

		storm_expect(handle != NULL);
		storm_check();
		if (handle)
			dlclose(handle);
	}
	return context;
}

int main(int argc, char **argv)
{
	pthread_t threads[2];

	if (argc < 2)
		return 2;
	plugin = argv[1];
	storm_begin();
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, load, NULL);
	say("{\"ready\": true, \"pid\": %d}\n", getpid());
	wait_for_end();
	atomic_store(&storm.end, 1);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	return storm_finish();
}
