/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_BASE_CLEANUP_H
#define HEAPTAP_BASE_CLEANUP_H

/* Cleanup attributes for what the C library hands out. Modules define their
 * own beside their destroy function. */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <dirent.h>

static inline void tap_cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void tap_cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void tap_cleanup_fclose(FILE **f)
{
	if (*f)
		fclose(*f);
}

static inline void tap_cleanup_closedir(DIR **d)
{
	if (*d)
		closedir(*d);
}

#define _cleanup_free_ __attribute__((cleanup(tap_cleanup_free)))
#define _cleanup_close_ __attribute__((cleanup(tap_cleanup_close)))
#define _cleanup_fclose_ __attribute__((cleanup(tap_cleanup_fclose)))
#define _cleanup_closedir_ __attribute__((cleanup(tap_cleanup_closedir)))

#endif
