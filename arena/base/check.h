/*
 * Checks. Three kinds: BERTH_CHECK always runs and stops the process with one line; BERTH_ASSERT
 * runs in debug builds; `_is_valid()` walks of single structures are called by tests and audits.
 */
#ifndef BERTH_BASE_CHECK_H
#define BERTH_BASE_CHECK_H

#include "base/compiler.h"

/* One line on stderr, "berth: ...", then abort. Defined in os/fatal.c, because it writes. Safe in a
 * signal handler and with any lock held; allocates nothing. */
BERTH_NORETURN BERTH_COLD void berth__fatal(const char *format, ...) BERTH_PRINTF(1, 2);

#define BERTH_CHECK(condition, what)                                                               \
    do {                                                                                           \
        if (BERTH_UNLIKELY(!(condition))) {                                                        \
            berth__fatal("internal error: %s (%s:%d)", what, __FILE__, __LINE__);                  \
        }                                                                                          \
    } while (0)

#if BERTH_DEBUG || defined(__clang_analyzer__) /* which learns from them */
#define BERTH_ASSERT(condition) BERTH_CHECK(condition, #condition)
#else
#define BERTH_ASSERT(condition) ((void)sizeof((condition) ? 1 : 0))
#endif

#endif
