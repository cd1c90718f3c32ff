/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "graph/internal.h"

/* Counts are kept two rows further on: added up, first[r + 1] is where row r
 * begins, and when all of the row was put there, where it ends. */
bool csr_create(struct csr *csr, size_t rows)
{
	csr->first = graph_array(rows + 2, sizeof(*csr->first));
	return csr->first != NULL;
}

bool csr_open(struct csr *csr, size_t rows)
{
	for (size_t i = 2; i < rows + 2; i++)
		csr->first[i] += csr->first[i - 1];
	csr->items = graph_array(csr->first[rows + 1], sizeof(*csr->items));
	return csr->items != NULL;
}

void csr_deinit(struct csr *csr)
{
	free(csr->first);
	free(csr->items);
	*csr = (struct csr){0};
}
