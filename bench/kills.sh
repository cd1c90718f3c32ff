#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# kills.sh [N [EVERY]]
#
# heaptap is killed with SIGKILL N times (1000) at random moments of a recording
# by probes, and at every EVERY-th (1) call of ptrace, pread and pwrite that one
# whole recording makes, and one snapshot, against a threaded C program, one under
# a timer's signals, and a Python script. Each checks its own results all the time
# and measures how long a thread of it was held. Prints one line for each; ends
# with 1 where one died, computed something else, was held for 200 ms, or kept
# anything of heaptap's after `heaptap clean`.
#
# HEAPTAP: the binary (build/heaptap); HEAPTAP_TEST_TARGETS: the test programs.
here=$(cd "$(dirname "$0")/.." && pwd) || exit 2
HEAPTAP=${HEAPTAP:-$here/build/heaptap}
export HEAPTAP
exec python3 "$here/bench/kills.py" "${1:-1000}" "${2:-1}"
