# SPDX-License-Identifier: Apache-2.0
"""json_loop.py: a busy loop over json.loads and json.dumps that says once a
second how many rounds it made."""
import json
import time

from targetlib import ready, say

DOCUMENT = json.dumps({"rows": [{"id": n, "name": "row %d" % n, "tags": ["a", "b", str(n)]}
                                for n in range(50)]})


def rounds(seconds):
    done = 0
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if json.dumps(json.loads(DOCUMENT)) != DOCUMENT:
            raise SystemExit("a document came out changed")
        done += 1
    return done / (time.monotonic() - began)


def main():
    ready(function="rounds")
    while True:
        speed = rounds(0.5)
        say(t=time.time(), ops_per_s=speed)


if __name__ == "__main__":
    main()
