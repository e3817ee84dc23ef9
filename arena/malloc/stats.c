/*
 * What glibc's malloc tells about itself, told of berth: mallinfo, malloc_stats, malloc_info,
 * malloc_trim; and mallopt, whose parameters have no counterpart here.
 */
#include "heap/read.h"
#include "malloc/door.h"
#include "os/warn.h"
#include "pool/maintenance.h"
#include "pool/tag.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>

/* Calls visit for whatever serves malloc: the default pool, and those of scopes (pool/tag.h). */
static void each_server(void (*visit)(struct berth__arenas *arenas, void *context), void *context) {
    visit(berth__default_arenas(), context);
    for (unsigned tag = 1; tag <= berth__tags_count(); tag++) {
        struct berth__arenas *scope = berth__tag_scope(tag);
        if (scope != NULL) {
            visit(scope, context);
        }
    }
}

static void add_counts(struct berth__arenas *arenas, void *context) {
    struct berth__arenas_counts counts = {.arenas = 0};
    uint64_t *sum = context;
    const uint64_t *more = (const uint64_t *)&counts;
    berth__arenas_read(arenas, &counts);
    for (size_t i = 0; i < sizeof(counts) / sizeof(*more); i++) {
        sum[i] += more[i];
    }
}

static bool read_counts(struct berth__arenas_counts *counts) {
    *counts = (struct berth__arenas_counts){.arenas = 0};
    if (!berth__start()) {
        return false;
    }
    each_server(add_counts, counts);
    return true;
}

/* mallinfo is of glibc, mallinfo2 since 2.33; musl has neither. */
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
#define HAVE_MALLINFO2 1
#else
#define HAVE_MALLINFO2 0
#endif

#ifdef __GLIBC__
/* The fields that have a meaning here, by glibc's names. */
struct info {
    size_t arena, ordblks, hblks, hblkhd, uordblks, fordblks, fsmblks, keepcost;
};

static struct info read_info(void) {
    struct info info = {0};
    struct berth__arenas_counts counts;
    if (read_counts(&counts)) {
        info.arena = counts.sum.chunk;
        info.ordblks = counts.sum.chunks;
        info.hblks = counts.huge_blocks;
        info.hblkhd = counts.huge;
        uint64_t mapped = counts.huge + counts.file;
        info.uordblks = berth__min(counts.live_high_bytes - mapped, counts.sum.chunk);
        info.fordblks = counts.sum.chunk - info.uordblks;
        info.fsmblks = counts.sum.free_slab;
        info.keepcost = counts.sum.dirty_run;
    }
    return info;
}

#if HAVE_MALLINFO2
BERTH_EXPORT struct mallinfo2 mallinfo2(void) {
    struct info info = read_info();
    return (struct mallinfo2){.arena = info.arena,
                              .ordblks = info.ordblks,
                              .hblks = info.hblks,
                              .hblkhd = info.hblkhd,
                              .uordblks = info.uordblks,
                              .fordblks = info.fordblks,
                              .fsmblks = info.fsmblks,
                              .keepcost = info.keepcost};
}
#endif

/* The old form, whose fields wrap at 2 GiB; nothing can be done about that. */
static struct mallinfo read_narrow_info(void) {
    struct info info = read_info();
    return (struct mallinfo){.arena = (int)info.arena,
                             .ordblks = (int)info.ordblks,
                             .hblks = (int)info.hblks,
                             .hblkhd = (int)info.hblkhd,
                             .uordblks = (int)info.uordblks,
                             .fordblks = (int)info.fordblks,
                             .fsmblks = (int)info.fsmblks,
                             .keepcost = (int)info.keepcost};
}

BERTH_EXPORT struct mallinfo mallinfo(void) {
    return read_narrow_info();
}

BERTH_EXPORT struct mallinfo __libc_mallinfo(void) {
    return read_narrow_info();
}
#endif

BERTH_EXPORT void malloc_stats(void) {
    struct berth__arenas_counts counts;
    if (read_counts(&counts)) {
        berth__warn("mapped %lu bytes in chunks and %lu in huge blocks; in use at most %lu, at "
                    "least %lu; %lu allocations, %lu frees",
                    counts.sum.chunk, counts.huge, counts.live_high_bytes, counts.live_low_bytes,
                    counts.sum.lends, counts.sum.returns);
    }
}

BERTH_EXPORT int malloc_info(int options, FILE *stream) {
    struct berth__arenas_counts counts;
    if (options != 0) {
        return EINVAL; /* not -1 and errno, whatever the manual says */
    }
    if (!read_counts(&counts)) {
        errno = ENOMEM;
        return -1;
    }
    int written =
        fprintf(stream,
                "<malloc version=\"berth-1\">\n<total type=\"chunk\" count=\"%lu\" size=\"%lu\"/>\n"
                "<total type=\"mmap\" count=\"%lu\" size=\"%lu\"/>\n<system type=\"current\" "
                "size=\"%lu\"/>\n<system type=\"max\" size=\"%lu\"/>\n<aspace type=\"total\" "
                "size=\"%lu\"/>\n</malloc>\n",
                counts.sum.chunks, counts.sum.chunk, counts.huge_blocks, counts.huge,
                counts.sum.chunk + counts.huge, berth__load_relaxed(&berth__ledger.peak),
                counts.sum.chunk + counts.huge);
    return written < 0 ? -1 : 0;
}

static void trim(struct berth__arenas *arenas, void *returned) {
    *(size_t *)returned += berth__reclaim_all(arenas);
}

BERTH_EXPORT int malloc_trim(size_t pad) {
    (void)pad;
    berth__maintenance_start();
    size_t returned = 0;
    if (berth__start()) {
        each_server(trim, &returned);
    }
    return returned > 0;
}

BERTH_EXPORT int mallopt(int parameter, int value) {
    (void)parameter, (void)value;
    return 1;
}

/* The name by which glibc exports it, too; as above. */
BERTH_EXPORT int __libc_mallopt(int parameter, int value) {
    return mallopt(parameter, value);
}
