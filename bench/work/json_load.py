# SPDX-License-Identifier: Apache-2.0
"""Parses JSON and builds dictionaries of it, as a web service does."""
import json
import sys

import meter

TEXT = json.dumps({
    "orders": [{"id": i, "customer": "customer %d" % i, "total": i * 1.5, "tags": ["a%d" % i, "b"],
                "address": {"street": "Street %d" % i, "city": "Town", "code": str(i)}}
               for i in range(40)],
    "next": None})
kept = []


def operation():
    document = json.loads(TEXT)
    by_customer = {}
    for order in document["orders"]:
        row = {"id": order["id"], "sum": order["total"] + 1, "where": dict(order["address"])}
        by_customer.setdefault(order["customer"], []).append(row)
    return len(by_customer)


def leak():
    size = 0
    for number in range(4):
        record = {"number": len(kept), "text": "%0300d" % number}  # LEAK
        kept.append(record)
        size += sys.getsizeof(record) + 352
    return size


meter.run(operation, leak)
