#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes a small Debian tree with the newest Python versions, for the tests
# that attach to a process in another root with another C library.
#
#   tools/sid-tree.sh [--suite NAME] [--packages "A B"] DIR
#
# Exit code 0: the tree is there. 77: it cannot be made here, with the reason
# on standard output. A tree that is complete is left as it is.
set -euo pipefail

suite=sid
packages="python3.14 python3.15"
while [ $# -gt 1 ]; do
	case $1 in
	--suite) suite=$2; shift 2 ;;
	--packages) packages=$2; shift 2 ;;
	*) break ;;
	esac
done
if [ $# -ne 1 ]; then
	echo "usage: tools/sid-tree.sh [--suite NAME] [--packages \"A B\"] DIR" >&2
	exit 2
fi
dir=$1
stamp=$dir/.complete

skip() {
	echo "SKIP: no $suite tree: $1"
	exit 77
}

# The mirror that apt uses on this machine: what is reachable here, and what
# a developer chose.
mirror() {
	local found
	found=$(sed -nE -e '/^[[:space:]]*#/d' \
		-e 's/^URIs:[[:space:]]*([^[:space:]]+).*/\1/p' \
		-e 's/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+).*/\2/p' \
		/etc/apt/sources.list /etc/apt/sources.list.d/*.list \
		/etc/apt/sources.list.d/*.sources 2>/dev/null |
		grep -E '^https?://.*/debian/?$' | head -n 1) || true
	echo "${found:-http://deb.debian.org/debian}"
}

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$suite: $packages" ]; then
	echo "$dir is complete"
	exit 0
fi
[ "$(id -u)" = 0 ] || skip "debootstrap needs root"
command -v debootstrap >/dev/null || skip "debootstrap is not installed"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
proxy=$(apt-config dump 2>/dev/null |
	sed -nE 's/^Acquire::http::Proxy "(.+)";/\1/p' | head -n 1) || true
[ -z "$proxy" ] || export http_proxy="$proxy"

rm -rf --one-file-system "$dir"
mkdir -p "$dir"
if ! debootstrap --variant=minbase "$suite" "$dir" "$(mirror)" >"$log" 2>&1; then
	tail -n 5 "$log" >&2
	skip "debootstrap failed: $(tail -n 1 "$log")"
fi

# Archives that are served from a fixed date have expired release files.
cat >"$dir/etc/apt/apt.conf.d/99tree" <<CONF
Acquire::Check-Valid-Until "false";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
CONF
[ -z "$proxy" ] || echo "Acquire::http::Proxy \"$proxy\";" >>"$dir/etc/apt/apt.conf.d/99tree"
cp -L /etc/resolv.conf "$dir/etc/resolv.conf" 2>/dev/null || true

export DEBIAN_FRONTEND=noninteractive LC_ALL=C
in_tree() {
	chroot "$dir" "$@" >>"$log" 2>&1
}
in_tree apt-get update -q || skip "apt-get update failed in the tree: $(tail -n 1 "$log")"

installed=0
for package in $packages; do
	if in_tree apt-get install -qy "$package"; then
		installed=$((installed + 1))
		# shellcheck disable=SC2016
		echo "$suite: $package $(chroot "$dir" dpkg-query -W -f '${Version}' "$package")"
	else
		echo "$suite: $package is not to be had"
	fi
done
[ -z "$packages" ] || [ "$installed" -gt 0 ] || skip "none of $packages could be installed"
chroot "$dir" apt-get clean
echo "$suite: $packages" >"$stamp"
echo "$dir is complete"
