#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A small service that forgets nothing: what tools/demo.sh attaches to."""
import json
import random
import time

seen_orders = []
recent = {}


def parse(line):
    return json.loads(line)


def remember(order):
    seen_orders.append(order)


def handle(number):
    line = json.dumps({"id": number, "customer": "customer %d" % random.randrange(1000),
                       "lines": [{"sku": "A%05d" % random.randrange(99999), "count": n}
                                 for n in range(4)]})
    order = parse(line)
    recent[order["customer"]] = number
    remember(order)


def main():
    number = 0
    while True:
        handle(number)
        number += 1
        time.sleep(0.01)


main()
