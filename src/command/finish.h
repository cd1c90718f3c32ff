/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_COMMAND_FINISH_H
#define HEAPTAP_COMMAND_FINISH_H

#include <stdbool.h>

/* A second signal asked to leave out the answer: the exit code is 130. */
bool tap_finish_is_cut_short(int *exit_ret);

#endif
