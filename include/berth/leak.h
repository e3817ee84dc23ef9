/*
 * Leaks: memory of slices, chains and buffers whose last reference is never released.
 *
 * Nothing here can know that a program has forgotten a reference; it can know where memory that is
 * still referenced was allocated, how long ago, and what was done with it since. So some memory is
 * put on record as it is allocated, and taken off with its last reference. What is on record is
 * reported, and may be a leak,
 *   - when berth_leak_report is called: what is older than a given age, which is for the program to
 *     choose, longer than anything that it keeps;
 *   - when a pool is destroyed or reset: what still lives in it. If that is refused for it, each
 *     record is reported once; if it is done by force, those that were not reported before;
 *   - at exit, if the option leak_report asks for it.
 *
 * The levels, by berth_leak_level_set or the option leak_detect:
 *   off       nothing is put on record
 *   simple    one in 128, drawn at random: where it was allocated
 *   advanced  the same, with the stack of calls, and the last uses (retaining, releasing,
 *             hints) with theirs
 *   paranoid  advanced, and all of them: for tests
 *
 * Records are memory of the default pool. Blocks of berth_alloc are never on record. A place is a
 * return address. Names of functions are those that a program or library exports (a program links
 * with -rdynamic to export its own); else there is the offset in the file, for addr2line -e. Part
 * of libberth, not of libberth-malloc.
 */
#ifndef BERTH_LEAK_H
#define BERTH_LEAK_H

#include <berth/slice.h>

#ifdef __cplusplus
extern "C" {
#endif

/** How much is put on record. */
enum berth_leak_level {
    BERTH_LEAK_OFF = 0,
    BERTH_LEAK_SIMPLE = 1,
    BERTH_LEAK_ADVANCED = 2,
    BERTH_LEAK_PARANOID = 3
};

/** How many calls of a stack, and uses of one memory, are kept. */
enum { BERTH_LEAK_STACK_MAX = 16, BERTH_LEAK_USES_MAX = 4 };

/** Something that was done with memory. */
struct berth_leak_use {
    const char *what; /* "allocated", "retained", "released", "hint" */
    const char *hint; /* of berth_leak_hint; else NULL */
    uint64_t age_ms;
    uint64_t thread;                   /* its thread pointer: pthread_self of glibc */
    unsigned depth;                    /* places in stack */
    void *stack[BERTH_LEAK_STACK_MAX]; /* where berth was called from, and from where that was */
};

/** Memory that is on record. */
struct berth_leak {
    char pool[32];    /* the name */
    const void *data; /* NULL: a region of a file */
    size_t bytes;
    uint64_t number; /* no other memory has the same, in this process; ascending */
    struct berth_leak_use allocated;
    uint64_t use_count; /* all of them; what is kept is the last */
    unsigned uses_kept;
    struct berth_leak_use uses[BERTH_LEAK_USES_MAX]; /* the latest first */
};

/**
 * Is told of memory on record, on the thread of whoever causes the report, with no lock of berth
 * held; it may use berth, but not the pool if its end is the cause. *leak is gone afterwards.
 */
typedef void berth_leak_listener(void *context, const struct berth_leak *leak);

/**
 * Sets the level. Memory that is on record stays there.
 *
 * Errors: -EINVAL. Threads: any. Blocks: wait-free. Since: 0.1.
 */
BERTH_API int berth_leak_level_set(enum berth_leak_level level);

/** The level. Threads: any. Blocks: wait-free. Since: 0.1. */
BERTH_API enum berth_leak_level berth_leak_level_get(void);

/**
 * Sets who is told when a pool ends, and at exit. NULL, and at the beginning: lines on stderr, as
 * berth_leak_text has them.
 *
 * Threads: any; who was told before may be for a report that is under way. Owns: borrows the
 * context until another listener is set. Blocks: may lock. Since: 0.1.
 */
BERTH_API void berth_leak_listener_set(berth_leak_listener *listener, void *context);

/**
 * Tells the listener (NULL: the one that was set) of what is on record of a pool (NULL: of all) and
 * at least `age_ms` milliseconds old, the oldest first. Returns how many that was. What others
 * release meanwhile may be left out, or not.
 *
 * Threads: any. Owns: borrows the context. Blocks: may lock, for short; besides as the listener.
 * Since: 0.1.
 */
BERTH_API size_t berth_leak_report(berth_pool *pool, uint64_t age_ms, berth_leak_listener *listener,
                                   void *context);

/**
 * Notes a use, with a word about it, at the levels advanced and paranoid: where a message passes.
 * Does nothing with a slice whose memory is not on record.
 *
 * Threads: one at a time per slice. Owns: borrows the hint for good: a string of the program.
 * Blocks: may lock, for short. Since: 0.1.
 */
BERTH_API void berth_leak_hint(const struct berth_slice *slice, const char *hint);

/**
 * Writes a record as lines of text into text[0..size), and a zero behind; what does not fit is cut
 * off. 4096 bytes will mostly do.
 *
 * Threads: any. Blocks: may lock (dladdr). Since: 0.1.
 */
BERTH_API void berth_leak_text(const struct berth_leak *leak, char *text, size_t size);

#ifdef __cplusplus
}
#endif

#endif
