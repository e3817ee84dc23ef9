/*
 * Text into a buffer of fixed size, without stdio, without locale, without allocation.
 *
 * Used where a process is about to die, inside malloc, and for the metrics' formats. Safe in a
 * signal handler. What does not fit is cut off and `overflow` says so; the buffer always ends
 * in a zero byte.
 */
#ifndef BERTH_BASE_TEXT_H
#define BERTH_BASE_TEXT_H

#include "base/compiler.h"

#include <stdarg.h>

struct berth__text {
    char *buffer;
    size_t capacity; /* bytes in buffer, >= 1 */
    size_t length;   /* bytes written, without the final zero; < capacity */
    bool overflow;
};

void berth__text_init(struct berth__text *text, char *buffer, size_t capacity);
void berth__text_char(struct berth__text *text, char c);
void berth__text_string(struct berth__text *text, const char *string);
void berth__text_bytes(struct berth__text *text, const char *bytes, size_t count);
void berth__text_uint(struct berth__text *text, uint64_t value);
void berth__text_int(struct berth__text *text, int64_t value);
void berth__text_hex(struct berth__text *text, uint64_t value); /* with 0x */

/* Like printf with %s %c %u (unsigned) %d (int) %zu %lu (unsigned long) %p %% and nothing else. */
void berth__text_format(struct berth__text *text, const char *format, ...) BERTH_PRINTF(2, 3);
void berth__text_format_args(struct berth__text *text, const char *format, va_list args);

/*
 * "64", "64K", "1M", "2G", "1T": a whole number with an optional unit, powers of 1024; KiB and KB
 * are accepted for K, and so on. Returns false, and leaves *value, if the text is anything else or
 * the result does not fit.
 */
bool berth__parse_size(const char *text, size_t length, uint64_t *value);

#endif
