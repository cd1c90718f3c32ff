#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A small service that forgets nothing: what tools/demo.sh attaches to. It
says "ready" when it has started."""
import time

seen_orders = []
recent = {}


def parse(number):
    return {"id": number, "note": "order %d: " % number + "x" * 3000}


def remember(order):
    seen_orders.append(order)


def handle(number):
    order = parse(number)
    recent[number % 100] = number
    remember(order)


def main():
    for number in range(200):
        handle(number)
    print("ready", flush=True)
    while True:
        number += 1
        handle(number)
        time.sleep(0.005)


main()
