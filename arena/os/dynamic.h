/*
 * Looking symbols up in the running program. In a statically linked one there is nothing to find.
 */
#ifndef BERTH_OS_DYNAMIC_H
#define BERTH_OS_DYNAMIC_H

/* The first bearer of a symbol in the program, or NULL. */
const void *berth__dynamic_find(const char *symbol);

/* The next one behind the library that calls this, or NULL. */
const void *berth__dynamic_find_next(const char *symbol);

/* The path of the library that an address lies in, "?" if unknown. */
const char *berth__dynamic_path(const void *address);

#endif
