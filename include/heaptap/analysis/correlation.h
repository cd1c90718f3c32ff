/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_ANALYSIS_CORRELATION_H
#define HEAPTAP_ANALYSIS_CORRELATION_H

#include <stddef.h>

/* Pearson's r of two series, -1 to 1. Pairs of which one is not finite are
 * left out; NAN where fewer than 3 pairs are left or one series is constant. */
double tap_correlation(const double *x, const double *y, size_t count);

#endif
