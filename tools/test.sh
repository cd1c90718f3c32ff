#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what is needed, builds in build/, and runs every test:
#
#   tools/test.sh [PYTEST-ARGUMENT...]
#
# HEAPTAP_TEST_FULL=1 runs the long versions. The newest Pythons come from a
# Debian tree in /var/tmp/heaptap-sid (HEAPTAP_TEST_SID names another one; empty:
# none). The end-to-end tests run as root: they look at other users' processes,
# at other roots, and at the mapped files of their targets.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/packages.sh
. tools/packages.sh
# shellcheck source=tools/tally.sh
. tools/tally.sh

install_packages build test

if [ -f build/build.ninja ]; then
	meson configure build -Dtests=true
else
	meson setup build >/dev/null
fi
ninja -C build

tree=${HEAPTAP_TEST_SID-/var/tmp/heaptap-sid}
if [ -n "$tree" ]; then
	status=0
	$as_root tools/sid-tree.sh "$tree" || status=$?
	[ $status = 0 ] || tree=
	if [ $status != 0 ]; then
		[ $status = 77 ] || exit $status
		tally_add "Debian sid tree" 0 0 1
	fi
fi

failed=0
meson test -C build --no-rebuild --print-errorlogs --quiet || failed=1
tally_meson "unit and lint tests" build

results=$(mktemp -d)
$as_root env PYTHONDONTWRITEBYTECODE=1 HEAPTAP="$PWD/build/heaptap" HEAPTAP_TEST_SID="$tree" \
	HEAPTAP_TEST_FULL="${HEAPTAP_TEST_FULL-}" PYENV_ROOT="${PYENV_ROOT-$HOME/.pyenv}" \
	PATH="$PATH:$HOME/.cargo/bin" \
	/usr/bin/python3 -m pytest -q -rs -p no:cacheprovider --tb=short \
	--junit-xml="$results/e2e.xml" tests/e2e "$@" </dev/null || failed=1
tally_pytest "end-to-end tests" "$results/e2e.xml"
rm -rf "$results" 2>/dev/null || $as_root rm -rf "$results"

tally_print
exit $failed
