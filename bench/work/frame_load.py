# SPDX-License-Identifier: Apache-2.0
"""Groups, joins and sorts tables with pandas, on numpy's arrays."""
import numpy
import pandas

import meter

ROWS = 5000
rng = numpy.random.default_rng(1)
shops = pandas.DataFrame({"shop": numpy.arange(100), "region": numpy.arange(100) % 7})
kept = []


def operation():
    sales = pandas.DataFrame({
        "shop": rng.integers(0, 100, ROWS), "price": rng.random(ROWS), "count": 1})
    sums = sales.groupby("shop").sum().reset_index()
    joined = sums.merge(shops, on="shop").sort_values("price")
    return joined.groupby("region")["price"].mean().iloc[0]


def leak():
    kept.append(numpy.arange(8192.0))  # LEAK
    return kept[-1].nbytes


meter.run(operation, leak)
