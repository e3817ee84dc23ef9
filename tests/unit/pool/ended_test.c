/* If this fails, a program that goes on with a pool that it has destroyed gets another one's
 * memory, or dies without a word. */
#include "unit.h"

#include <berth/berth.h>

#include <errno.h>
#include <string.h>

enum { KEPT = 64 }; /* as pool/ended.h has it */

static berth_pool *ended_pool(const char *name) {
    berth_pool *pool = berth_pool_create(name, NULL);
    UNIT_CHECK(pool != NULL);
    berth_free(berth_alloc(pool, 100)); /* so that this thread has a cache of it */
    berth_free(berth_alloc(pool, 20000));
    UNIT_CHECK(berth_pool_destroy(pool, 0) == 0);
    return pool;
}

static void allocate(void *pool) {
    (void)berth_alloc(pool, 100);
}
static void allocate_large(void *pool) {
    (void)berth_alloc(pool, 20000);
}
static void allocate_huge(void *pool) {
    (void)berth_alloc(pool, 9 << 20);
}
static void allocate_zeroed(void *pool) {
    (void)berth_alloc_flags(pool, 100, BERTH_ZERO);
}
static void allocate_aligned(void *pool) {
    (void)berth_alloc_aligned(pool, 4096, 100);
}
static void allocate_batch(void *pool) {
    void *blocks[2];
    (void)berth_alloc_batch(pool, 100, 2, blocks);
}
static void reallocate(void *pool) {
    (void)berth_realloc(pool, NULL, 100);
}
static void make_a_slice(void *pool) {
    struct berth_slice slice;
    (void)berth_slice_alloc(pool, 100, &slice);
}
static void map_a_file(void *pool) {
    (void)berth_map_file(pool, 0, 0, 4096, false);
}
static void trim(void *pool) {
    (void)berth_trim(pool);
}
static void limit(void *pool) {
    (void)berth_pool_limit_set(pool, 1 << 20);
}
static void read_limit(void *pool) {
    (void)berth_pool_limit_get(pool);
}
static void read_metrics(void *pool) {
    struct berth_pool_metrics metrics;
    (void)berth_metrics_read_pool(pool, &metrics, sizeof(metrics));
}

static void (*const uses[])(void *) = {
    allocate,       allocate_large, allocate_huge, allocate_zeroed, allocate_aligned,
    allocate_batch, reallocate,     make_a_slice,  map_a_file,      trim,
    limit,          read_limit,     read_metrics,
};

static void use_of_a_destroyed_pool_ends_with_one_line(void **state) {
    (void)state;
    berth_pool *pool = ended_pool("gone");
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(uses); i++) {
        char line[512];
        int outcome = unit_in_child_line(uses[i], pool, line, sizeof(line));
        if (outcome != -SIGABRT ||
            strstr(line, "berth: use of a pool that was destroyed") != line ||
            strstr(line, "\"gone\"") == NULL) {
            fail_msg("use %u: outcome %d, \"%s\"", i, outcome, line);
        }
    }
    assert_int_equal(berth_pool_destroy(pool, 0), -EINVAL);
    assert_int_equal(berth_pool_reset(pool, BERTH_FORCE), -EINVAL);
}

static void a_handle_is_not_another_pools_before_many_others_have_ended(void **state) {
    (void)state;
    berth_pool *stale = ended_pool("stale");
    for (unsigned i = 1; i < KEPT; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "other-%u", i);
        assert_ptr_not_equal(ended_pool(name), stale);
    }
}

static void handles_of_ended_pools_serve_further_ones(void **state) {
    /* Else a program that makes pools without end has records without end. */
    (void)state;
    for (unsigned i = 0; i < 2 * KEPT; i++) {
        (void)ended_pool("warm");
    }
    struct berth_process_metrics before, after;
    assert_int_equal(berth_metrics_read(&before, sizeof(before)), 0);
    for (unsigned i = 0; i < 2000; i++) {
        (void)ended_pool("next");
    }
    assert_int_equal(berth_metrics_read(&after, sizeof(after)), 0);
    assert_true(after.metadata_bytes <= before.metadata_bytes + (64 << 10));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(use_of_a_destroyed_pool_ends_with_one_line),
        cmocka_unit_test(a_handle_is_not_another_pools_before_many_others_have_ended),
        cmocka_unit_test(handles_of_ended_pools_serve_further_ones),
    };
    return UNIT_RUN(tests);
}
