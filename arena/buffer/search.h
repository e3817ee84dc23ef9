/*
 * Searching and comparing bytes, for slices, chains and buffers.
 */
#ifndef BERTH_BUFFER_SEARCH_H
#define BERTH_BUFFER_SEARCH_H

#include "base/compiler.h"

/* As memcmp, of the common length; then the shorter is less. */
int berth__bytes_compare(const void *a, size_t a_length, const void *b, size_t b_length);

/* Index of the first place at or after `from` where the needle stands; SIZE_MAX if nowhere. */
size_t berth__bytes_find(const void *bytes, size_t length, size_t from, const void *needle,
                         size_t count);

#endif
