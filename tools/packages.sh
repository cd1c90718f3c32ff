# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034
#
# The Debian packages that heaptap needs, in one place; sourced by the scripts
# beside it, which share quiet and as_root as well. install_packages GROUP... installs what is missing.

build_packages="
	gcc g++ libc6-dev meson ninja-build pkg-config
	libdw-dev libelf-dev libcapstone-dev libjansson-dev libiberty-dev
"
# python3-dev: a test builds an extension module. debootstrap: a tree with
# newer Pythons. The servers are attached to under load.
test_packages="
	libcmocka-dev python3 python3-dev python3-venv python3-pytest
	binutils gdb strace util-linux procps debootstrap nginx-light redis-server
"
# What bench/run compares heaptap with.
bench_packages="python3 python3-venv heaptrack bpftrace gdb lldb redis-server"
lint_packages="clang clang-format mandoc shellcheck"

# Runs a command and shows what it said only where it failed.
quiet() {
	local log status=0

	log=$(mktemp)
	"$@" >"$log" 2>&1 </dev/null || status=$?
	[ $status = 0 ] || cat "$log" >&2
	rm -f "$log"
	return $status
}

if [ "$(id -u)" = 0 ]; then
	as_root=
elif command -v sudo >/dev/null; then
	as_root=sudo
else
	echo "not root, and sudo is not installed" >&2
	exit 1
fi

# Servers that come with the tests' packages are not started: apt asks this
# file, where the machine has none of its own.
_install_without_services() {
	local policy=/usr/sbin/policy-rc.d own=0 status=0

	if [ ! -e $policy ]; then
		own=1
		printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
		$as_root chmod 755 $policy
	fi
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
		--no-install-recommends "$@" >/dev/null </dev/null || status=$?
	[ $own = 0 ] || $as_root rm -f $policy
	return $status
}

install_packages() {
	local group list package missing=()

	for group in "$@"; do
		list=${group}_packages
		for package in ${!list}; do
			dpkg-query -W -f '${Status}' "$package" 2>/dev/null |
				grep -q 'ok installed' || missing+=("$package")
		done
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	echo "installing ${missing[*]}"
	$as_root apt-get update -qq </dev/null || echo "apt-get update failed; going on" >&2
	_install_without_services "${missing[@]}"
}
