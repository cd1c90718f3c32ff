/* SPDX-License-Identifier: Apache-2.0 */
/* How an answer may look where it goes. */
#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "command/command.h"

static bool wants_color(const char *when, int fd)
{
	const char *no_color = getenv("NO_COLOR");
	const char *term = getenv("TERM");

	if (strcmp(when, "auto"))
		return !strcmp(when, "always");
	if ((no_color && *no_color) || !term || !strcmp(term, "dumb"))
		return false;
	return isatty(fd);
}

static int width_of(int fd)
{
	struct winsize size;

	if (!isatty(fd) || ioctl(fd, TIOCGWINSZ, &size) || !size.ws_col)
		return 100;
	return size.ws_col;
}

struct tap_view_options tap_view_options(const struct tap_common *common, int fd)
{
	return (struct tap_view_options){
		.color = wants_color(common->color, fd),
		.utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8"),
		.limit = (size_t)common->limit,
		.width = width_of(fd),
	};
}
