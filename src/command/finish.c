/* SPDX-License-Identifier: Apache-2.0 */
#include "command/finish.h"
#include "heaptap/session/stop.h"

#define EXIT_CUT_SHORT 130

bool tap_finish_is_cut_short(int *exit_ret)
{
	if (tap_stop_requested() < 2)
		return false;
	*exit_ret = EXIT_CUT_SHORT;
	return true;
}
