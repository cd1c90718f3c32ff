#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs the build dependencies, builds heaptap in build/, starts a Python
# script that leaks, attaches to it for 15 seconds, and prints the report.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/packages.sh
. tools/packages.sh

# The tests are not built here: they need more.
install_packages build
command -v python3 >/dev/null || $as_root apt-get install -qq -y python3-minimal >/dev/null
if [ ! -f build/build.ninja ]; then
	meson setup build -Dtests=false >/dev/null
fi
ninja -C build heaptap

coproc python3 tools/demo_leak.py
leaking=$COPROC_PID
trap 'kill $leaking 2>/dev/null || true' EXIT
read -r _ <&"${COPROC[0]}"

echo
echo "\$ heaptap trace $leaking -d 15"
run=
scope=$(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null || echo 0)
[ "$scope" = 0 ] || run=$as_root
$run build/heaptap trace "$leaking" -d 15
