#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs a command from a fresh clone in an empty Debian 12 tree (as root):
#
#   tools/fresh-tree.sh DIR COMMAND [ARGUMENT...]
#
# for instance `tools/fresh-tree.sh /var/tmp/heaptap-bookworm tools/demo.sh`.
# The tree is made anew each time. Exit code 77: it cannot be made here.
set -euo pipefail
if [ $# -lt 2 ]; then
	echo "usage: tools/fresh-tree.sh DIR COMMAND [ARGUMENT...]" >&2
	exit 2
fi
here=$(cd "$(dirname "$0")/.." && pwd)
tree=$1
shift

unmount_all() {
	local place

	for place in dev/shm dev/pts dev proc; do
		mountpoint -q "$tree/$place" && umount "$tree/$place"
	done
	return 0
}

unmount_all
rm -f "$tree/.complete"
"$here/tools/sid-tree.sh" --suite bookworm --packages "" "$tree"
trap unmount_all EXIT
mount -t proc proc "$tree/proc"
mount --bind /dev "$tree/dev"
mount --bind /dev/pts "$tree/dev/pts" 2>/dev/null || true
mount --bind /dev/shm "$tree/dev/shm" 2>/dev/null || true
git clone -q "$here" "$tree/root/heaptap"
chroot "$tree" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
	${HEAPTAP_TEST_FULL:+HEAPTAP_TEST_FULL="$HEAPTAP_TEST_FULL"} HEAPTAP_TEST_SID="${HEAPTAP_TEST_SID-}" \
	/bin/bash -c 'cd /root/heaptap && exec "$@"' run "$@" </dev/null
