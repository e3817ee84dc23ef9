/*
 * Looking symbols up in the running program. In a statically linked one there is nothing to find.
 */
#ifndef BERTH_OS_DYNAMIC_H
#define BERTH_OS_DYNAMIC_H

#include "base/text.h"

#include <stddef.h>

/* The first bearer of a symbol in the program, or NULL. */
const void *berth__dynamic_find(const char *symbol);

/* The next one behind the library that calls this, or NULL. */
const void *berth__dynamic_find_next(const char *symbol);

/* What an address is in the running program. */
struct berth__symbol {
    const char *name; /* of the exported function it is in; NULL if unknown */
    size_t offset;    /* in it */
    const char *path; /* of the program or library; NULL if unknown */
    size_t path_offset;
};
struct berth__symbol berth__dynamic_symbol(const void *address);

/* "f+0x1a (/usr/lib/libx.so+0x12ab)", as far as it is known. */
void berth__dynamic_describe(struct berth__text *text, const void *address);

/* The path of the library that an address lies in, "?" if unknown. */
const char *berth__dynamic_path(const void *address);

/* Return addresses of the calls that led here, innermost first: how many of `stack` were filled in.
 * 0 where libc has no such thing (musl). The first time in a process it may load a library. */
unsigned berth__dynamic_stack(void **stack, unsigned depth_max);

#endif
