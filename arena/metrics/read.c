/*
 * From the engine's counts to the public structures.
 */
#include "heap/read.h"
#include "chunk/mappings.h"
#include "chunk/meta.h"
#include "chunk/retained.h"
#include "heap/request.h"
#include "heap/sample_table.h"
#include "metrics/read.h"
#include "os/slow.h"
#include "pool/api.h"
#include "pool/folded.h"
#include "pool/gauge.h"
#include "pool/limit.h"
#include "pool/pool.h"
#include "pool/tag.h"

#include <errno.h>
#include <string.h>

static void read_pool(struct berth__arenas *arenas, struct berth_pool_metrics *out) {
    struct berth__arenas_counts counts;
    berth__arenas_read(arenas, &counts);
    const struct berth__arena_counts *sum = &counts.sum;
    bool limited = arenas->ledger != &berth__ledger;
    *out = (struct berth_pool_metrics){
        .limit_bytes = limited ? berth__load_relaxed(&arenas->ledger->limit) : BERTH_UNLIMITED,
        .limit_used_bytes = limited ? berth__load_relaxed(&arenas->ledger->used) : 0,
        .count = sum->lends > sum->returns ? sum->lends - sum->returns : 0,
        .used_bytes = counts.live_high_bytes,
        .capacity_bytes = sum->chunk + counts.huge + counts.file,
        .live_low_bytes = counts.live_low_bytes,
        .live_high_bytes = counts.live_high_bytes,
        .chunk_bytes = sum->chunk,
        .huge_bytes = counts.huge,
        .huge_blocks = counts.huge_blocks,
        .file_bytes = counts.file,
        .slab_lent_bytes = sum->slab_lent,
        .remote_bytes = sum->remote,
        .slab_free_bytes = sum->free_slab,
        .slab_tail_bytes = sum->slab_tail,
        .run_lent_bytes = sum->run_lent > counts.cached_run ? sum->run_lent - counts.cached_run : 0,
        .run_cached_bytes = counts.cached_run,
        .run_free_bytes = sum->free_run,
        .run_dirty_bytes = sum->dirty_run,
        .arenas = counts.arenas,
        .heaps = sum->heaps,
        .threads = counts.threads,
        .allocations = sum->lends,
        .frees = sum->returns,
        .failures = counts.failures,
        .waits = counts.waits,
        .wait_failures = counts.waits_failed,
        .refills = sum->refills,
        .flushes = sum->flushes,
        .remote_batches = sum->remote_batches,
        .remote_frees = sum->remote_blocks,
        .slabs_made = sum->slabs_made,
        .slabs_returned = sum->slabs_returned,
        .chunk_maps = sum->chunk_maps,
        .chunk_unmaps = sum->chunk_unmaps,
        .purged_bytes = sum->purged,
        .purges = sum->purge_calls,
        .contended = sum->contended,
    };
}

static void add_pool(const struct berth_pool_metrics *pool, bool mapped_by_us,
                     struct berth_process_metrics *sum) {
    sum->chunk_bytes += mapped_by_us ? pool->chunk_bytes : 0;
    sum->huge_bytes += pool->huge_bytes;
    sum->file_bytes += pool->file_bytes;
    sum->live_low_bytes += mapped_by_us ? pool->live_low_bytes : 0;
    sum->live_high_bytes += mapped_by_us ? pool->live_high_bytes : 0;
    sum->allocations += pool->allocations;
    sum->frees += pool->frees;
    sum->failures += pool->failures;
    sum->pools++;
}

static void add_folded(unsigned tag, uint64_t *allocations, uint64_t *frees, uint64_t *failures) {
    struct berth__folded_counts sums = {*allocations, *frees, *failures};
    berth__folded_add(tag, &sums);
    *allocations = sums.allocations;
    *frees = sums.frees;
    *failures = sums.failures;
}

static void read_process(struct berth_process_metrics *out) {
    _Atomic uint64_t *steps = berth__ladder_counts;
    bool started = berth__default_arenas() != NULL;
    uint64_t used = berth__load_relaxed(&berth__ledger.used); /* the peak is noted after it */
    uint64_t budget = started ? berth__cache_budget_total : 0;
    uint64_t budget_left = started ? (uint64_t)berth__load_relaxed(&berth__cache_budget) : 0;
    *out = (struct berth_process_metrics){
        .limit_bytes = berth__load_relaxed(&berth__ledger.limit),
        .limit_used_bytes = used,
        .limit_peak_bytes = berth__max(used, berth__load_relaxed(&berth__ledger.peak)),
        .limit_refusals = berth__load_relaxed(&berth__ledger.failures),
        .retained_bytes = berth__retained_charged(),
        .metadata_bytes = berth__meta_bytes(),
        .reserved_bytes = berth__reserved_elsewhere(),
        .cache_budget_bytes = budget,
        .cache_granted_bytes = budget - budget_left,
        .ladder_own_cache = berth__load_relaxed(&steps[BERTH_LADDER_OWN_CACHE]),
        .ladder_caches = berth__load_relaxed(&steps[BERTH_LADDER_CACHES]),
        .ladder_parked = berth__load_relaxed(&steps[BERTH_LADDER_PARKED]),
        .ladder_return = berth__load_relaxed(&steps[BERTH_LADDER_RETURN]),
        .ladder_callbacks = berth__load_relaxed(&steps[BERTH_LADDER_CALLBACKS]),
        .ladder_waits = berth__load_relaxed(&steps[BERTH_LADDER_WAIT]),
        .mappings = berth__mappings_count(),
        .returning_bytes = berth__load_relaxed(&berth__ledger.returning),
        .pinned_blocks = (uint64_t)berth__gauge_read(BERTH_GAUGE_PINNED_BLOCKS),
        .pinned_bytes = (uint64_t)berth__gauge_read(BERTH_GAUGE_PINNED_BYTES),
        .in_flight_bytes = (uint64_t)berth__gauge_read(BERTH_GAUGE_IN_FLIGHT_BYTES),
        .slices_held_bytes = (uint64_t)berth__gauge_read(BERTH_GAUGE_HELD_BYTES),
        .slices_viewed_bytes = (uint64_t)berth__gauge_read(BERTH_GAUGE_VIEWED_BYTES),
    };
    const struct berth__sample_root *samples = berth__samples_root();
    if (samples != NULL) {
        out->sample_bytes = berth__load_relaxed(&samples->interval);
        out->sampled_blocks = berth__load_relaxed(&samples->live_samples);
        out->samples = berth__load_relaxed(&samples->taken);
        out->samples_left_out = berth__load_relaxed(&samples->left_out);
    }
    struct berth__arenas *arenas = NULL;
    while ((arenas = berth__engine_next(arenas)) != NULL) {
        struct berth_pool_metrics pool;
        read_pool(arenas, &pool);
        add_pool(&pool, arenas->lent == NULL, out);
    }
    add_folded(0, &out->allocations, &out->frees, &out->failures);
    out->mapped_bytes = out->chunk_bytes + out->huge_bytes + out->file_bytes + out->retained_bytes +
                        out->metadata_bytes;
}

static bool read_arena(struct berth__arenas *arenas, unsigned index,
                       struct berth_arena_metrics *out) {
    struct berth__arena *arena = berth__arenas_at(arenas, index);
    if (arena == NULL) {
        return false;
    }
    struct berth__arena_counts counts;
    berth__arena_read(arena, &counts);
    *out = (struct berth_arena_metrics){
        .node = arena->node == BERTH_NODE_ANY ? UINT64_MAX : arena->node,
        .chunks = counts.chunks,
        .chunk_bytes = counts.chunk,
        .slabs = counts.slabs,
        .slab_lent_bytes = counts.slab_lent,
        .remote_bytes = counts.remote,
        .slab_free_bytes = counts.free_slab,
        .slab_tail_bytes = counts.slab_tail,
        .run_lent_bytes = counts.run_lent,
        .run_free_bytes = counts.free_run,
        .run_dirty_bytes = counts.dirty_run,
        .heaps = counts.heaps,
        .purged_bytes = counts.purged,
        .contended = counts.contended,
    };
    return true;
}

static void read_class(struct berth__arenas *arenas, unsigned small_class,
                       struct berth_class_metrics *out) {
    struct berth__class_counts counts;
    berth__class_read(arenas, small_class, &counts);
    *out = (struct berth_class_metrics){
        .size_bytes = berth__classes[small_class].size,
        .slabs = counts.slabs,
        .lent_blocks = counts.lent,
        .free_blocks = counts.free,
        .allocations = counts.lends,
        .frees = counts.returns,
    };
}

/* ---- tags ---- */

static void add_to_tag(struct berth__arenas *arenas, struct berth_tag_metrics *sum) {
    struct berth_pool_metrics pool;
    read_pool(arenas, &pool);
    sum->live_low_bytes += pool.live_low_bytes;
    sum->live_high_bytes += pool.live_high_bytes;
    sum->count += pool.count;
    sum->allocations += pool.allocations;
    sum->frees += pool.frees;
    sum->failures += pool.failures;
    sum->capacity_bytes += pool.capacity_bytes;
    sum->pools++;
}

static void add_pools_to_tag(unsigned tag, struct berth_tag_metrics *sum) {
    unsigned left = berth__tag_pools(tag);
    for (unsigned number = 1; left > 0 && number < BERTH_POOLS_MAX; number++) {
        struct berth__arenas *arenas = berth__engine_enter(number);
        if (arenas == NULL) {
            continue;
        }
        if (arenas->tag == tag && !arenas->serves_scopes) {
            add_to_tag(arenas, sum);
            left--;
        }
        berth__engine_leave(arenas);
    }
}

static void read_tag(unsigned tag, struct berth_tag_metrics *out) {
    *out = (struct berth_tag_metrics){.pools = 0};
    struct berth__arenas *scope = berth__tag_scope(tag);
    if (scope != NULL) {
        add_to_tag(scope, out);
    }
    add_pools_to_tag(tag, out);
    add_folded(tag, &out->allocations, &out->frees, &out->failures);
    out->peak_bytes = berth__tag_peak(tag, out->live_high_bytes);
}

/* ---- how long slow paths took ---- */

#define NAME(name, help) #name,
static const char *const slow_names[] = {BERTH_SLOW_PATHS(NAME)};
#undef NAME

/* The metrics are a count, a sum, and the buckets. */
enum { SLOW_BUCKETS_FROM = 2 };
_Static_assert(sizeof(struct berth_slow_metrics) ==
                   (SLOW_BUCKETS_FROM + BERTH_SLOW_BUCKETS) * sizeof(uint64_t),
               "a metric for each bucket");
_Static_assert(offsetof(struct berth_slow_metrics, within_512_ns) ==
                   SLOW_BUCKETS_FROM * sizeof(uint64_t),
               "buckets follow the sum");

/* The count is that of the buckets, so that the histogram agrees with itself. */
static void read_slow(enum berth__slow_path path, struct berth_slow_metrics *out) {
    struct berth__slow_times *times = &berth__slow_times[path];
    uint64_t *values = (uint64_t *)(void *)out;
    out->count = 0;
    out->total_ns = berth__load_relaxed(&times->total_ns);
    for (unsigned i = 0; i < BERTH_SLOW_BUCKETS; i++) {
        values[SLOW_BUCKETS_FROM + i] = berth__load_relaxed(&times->buckets[i]);
        out->count += values[SLOW_BUCKETS_FROM + i];
    }
}

/* ---- rows, for the writers ---- */

_Static_assert(BERTH_ROW_POOL_BYTES == BERTH_POOL_NAME_MAX + 1, "any name fits a row");

static bool read_row_of(struct berth__arenas *arenas, struct berth__row *row,
                        enum berth__level level, unsigned index) {
    row->index = index;
    switch (level) {
    case BERTH_LEVEL_POOL:
        if (index > 0) {
            return false;
        }
        read_pool(arenas, &row->of.pool_metrics);
        return true;
    case BERTH_LEVEL_ARENA: return read_arena(arenas, index, &row->of.arena);
    case BERTH_LEVEL_CLASS:
        if (index >= BERTH_SMALL_CLASS_COUNT) {
            return false;
        }
        read_class(arenas, index, &row->of.class_metrics);
        row->index = berth__classes[index].size;
        return true;
    case BERTH_LEVEL_PROCESS:
    case BERTH_LEVEL_TAG:
    case BERTH_LEVEL_SLOW:
    case BERTH_LEVEL_COUNT: break;
    }
    return false;
}

/* What is of no pool. */
static bool read_row_of_process(struct berth__row *row, enum berth__level level, unsigned index) {
    memset(row->pool, 0, sizeof(row->pool));
    row->index = index;
    switch (level) {
    case BERTH_LEVEL_PROCESS:
        if (index > 0) {
            return false;
        }
        read_process(&row->of.process);
        return true;
    case BERTH_LEVEL_TAG:
        if (index >= berth__tags_count()) {
            return false;
        }
        strncpy(row->pool, berth__tag_name(index + 1), sizeof(row->pool) - 1);
        read_tag(index + 1, &row->of.tag);
        return true;
    case BERTH_LEVEL_SLOW:
        if (index >= BERTH_SLOW_PATH_COUNT) {
            return false;
        }
        strncpy(row->pool, slow_names[index], sizeof(row->pool) - 1);
        read_slow((enum berth__slow_path)index, &row->of.slow);
        return true;
    default: return false;
    }
}

bool berth__row_read(struct berth__row *row, enum berth__level level, unsigned pool_number,
                     unsigned index) {
    if (!berth__level_is_of_pools(level)) {
        return read_row_of_process(row, level, index);
    }
    row->pool[0] = '\0';
    struct berth__arenas *arenas = berth__engine_enter(pool_number);
    if (arenas == NULL) {
        return false;
    }
    const berth_pool *pool = berth__pool_of_arenas(arenas);
    bool found = pool != NULL && read_row_of(arenas, row, level, index);
    if (found) {
        memcpy(row->pool, pool->name, sizeof(row->pool));
    }
    berth__engine_leave(arenas);
    return found;
}

void berth__rows_each(enum berth__level level, unsigned pool_number, berth__row_taker *take,
                      void *context) {
    struct berth__arenas *arenas = berth__engine_enter(pool_number);
    if (arenas == NULL) {
        return;
    }
    struct berth__row row;
    const berth_pool *pool = berth__pool_of_arenas(arenas);
    if (pool != NULL) {
        memcpy(row.pool, pool->name, sizeof(row.pool));
        for (unsigned i = 0; read_row_of(arenas, &row, level, i); i++) {
            take(context, &row);
        }
    }
    berth__engine_leave(arenas);
}

/* ---- public ---- */

/* Copies what both sides know, and zeroes what only the caller knows. */
static int hand_out(void *to, size_t to_size, const void *from, size_t from_size) {
    memset(to, 0, to_size);
    memcpy(to, from, berth__min(to_size, from_size));
    return 0;
}

int berth__do_metrics_read(struct berth_process_metrics *metrics, size_t size) {
    if (metrics == NULL) {
        return -EINVAL;
    }
    struct berth_process_metrics read;
    read_process(&read);
    return hand_out(metrics, size, &read, sizeof(read));
}

int berth__do_metrics_read_pool(const berth_pool *pool, struct berth_pool_metrics *metrics,
                                size_t size) {
    if (pool == NULL || metrics == NULL) {
        return -EINVAL;
    }
    struct berth_pool_metrics read;
    read_pool(berth__pool_arenas(pool), &read);
    return hand_out(metrics, size, &read, sizeof(read));
}

int berth__do_metrics_read_arena(const berth_pool *pool, unsigned index,
                                 struct berth_arena_metrics *metrics, size_t size) {
    if (pool == NULL || metrics == NULL) {
        return -EINVAL;
    }
    struct berth_arena_metrics read;
    if (!read_arena(berth__pool_arenas(pool), index, &read)) {
        return -ENOENT;
    }
    return hand_out(metrics, size, &read, sizeof(read));
}

int berth__do_metrics_read_class(const berth_pool *pool, unsigned index,
                                 struct berth_class_metrics *metrics, size_t size) {
    if (pool == NULL || metrics == NULL) {
        return -EINVAL;
    }
    if (index >= BERTH_SMALL_CLASS_COUNT) {
        return -ENOENT;
    }
    struct berth_class_metrics read;
    read_class(berth__pool_arenas(pool), index, &read);
    return hand_out(metrics, size, &read, sizeof(read));
}

int berth__do_metrics_read_tag(const char *tag, struct berth_tag_metrics *metrics, size_t size) {
    if (tag == NULL || metrics == NULL) {
        return -EINVAL;
    }
    unsigned number = berth__tag_find(tag);
    if (number == 0) {
        return -ENOENT;
    }
    struct berth_tag_metrics read;
    read_tag(number, &read);
    return hand_out(metrics, size, &read, sizeof(read));
}

int berth__do_metrics_read_slow(const char *path, struct berth_slow_metrics *metrics, size_t size) {
    if (path == NULL || metrics == NULL) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < BERTH_SLOW_PATH_COUNT; i++) {
        if (strcmp(path, slow_names[i]) == 0) {
            struct berth_slow_metrics read;
            read_slow((enum berth__slow_path)i, &read);
            return hand_out(metrics, size, &read, sizeof(read));
        }
    }
    return -ENOENT;
}
