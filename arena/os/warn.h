/*
 * One-line messages of the library on stderr. The fatal one is declared in base/check.h.
 *
 * The library prints nothing but a corruption line, a warning about a bad option, and what the user
 * asked for.
 */
#ifndef BERTH_OS_WARN_H
#define BERTH_OS_WARN_H

#include "base/compiler.h"

/* "berth: ...", then goes on. Keeps errno. Allocates nothing; safe in a signal handler. */
BERTH_COLD void berth__warn(const char *format, ...) BERTH_PRINTF(1, 2);

#endif
