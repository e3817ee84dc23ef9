/*
 * Rows of metrics, for the writers.
 */
#ifndef BERTH_METRICS_READ_H
#define BERTH_METRICS_READ_H

#include "metrics/tables.h"

/* Reads the index-th thing of a level: of the pool with that number, but for the process. False if
 * there is none. Without a lock. */
bool berth__row_read(struct berth__row *row, enum berth__level level, unsigned pool_number,
                     unsigned index);

/* Calls take(context, row) for each thing of a level of that pool, in one visit; `take` makes none.
 */
typedef void berth__row_taker(void *context, const struct berth__row *row);
void berth__rows_each(enum berth__level level, unsigned pool_number, berth__row_taker *take,
                      void *context);

#endif
