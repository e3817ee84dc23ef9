/*
 * Which memory a ring has registered, for sends by it.
 */
#ifndef BERTH_IO_URING_TABLE_H
#define BERTH_IO_URING_TABLE_H

#include <berth/uring.h>

/* The slot whose memory these bytes lie in; -1: none. */
int berth__uring_table_slot(const berth_uring_table *table, const void *data, size_t length);

#endif
