# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Counts of passed, failed and skipped tests over several runners. They are
# kept in the file that TALLY names, so that one script can count for another.

if [ -z "${TALLY-}" ]; then
	TALLY=$(mktemp)
	tally_is_mine=1
fi
export TALLY

# NAME PASSED FAILED SKIPPED
tally_add() {
	printf '%s\t%d\t%d\t%d\n' "$1" "$2" "$3" "$4" >>"$TALLY"
}

# NAME BUILD-FOLDER: from the log of the last `meson test`.
tally_meson() {
	local counts

	counts=$(python3 - "$2/meson-logs/testlog.json" <<-'PYTHON'
		import json, sys
		try:
		    rows = [json.loads(line)["result"] for line in open(sys.argv[1])]
		except OSError:
		    rows = ["FAIL"]
		good = sum(row in ("OK", "EXPECTEDFAIL") for row in rows)
		skipped = rows.count("SKIP")
		print(good, len(rows) - good - skipped, skipped)
	PYTHON
	)
	# shellcheck disable=SC2086
	tally_add "$1" $counts
}

# NAME JUNIT-FILE
tally_pytest() {
	local counts

	counts=$(python3 - "$2" <<-'PYTHON'
		import sys, xml.etree.ElementTree as tree
		try:
		    suite = next(tree.parse(sys.argv[1]).iter("testsuite"))
		    total, failed, errors, skipped = (
		        int(suite.get(k)) for k in ("tests", "failures", "errors", "skipped"))
		except (OSError, tree.ParseError, StopIteration):
		    total, failed, errors, skipped = 1, 1, 0, 0
		print(total - failed - errors - skipped, failed + errors, skipped)
	PYTHON
	)
	# shellcheck disable=SC2086
	tally_add "$1" $counts
}

# What was counted, unless another script prints it.
tally_print() {
	[ -n "${tally_is_mine-}" ] || return 0
	awk -F'\t' '
		{ printf "%-24s %4d passed %4d failed %4d skipped\n", $1, $2, $3, $4 }
		{ p += $2; f += $3; s += $4 }
		END { printf "%d passed, %d failed, %d skipped\n", p, f, s }
	' "$TALLY"
	rm -f "$TALLY"
}
