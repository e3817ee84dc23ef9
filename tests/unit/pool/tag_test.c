/* Tags: what is allocated within a scope, or from a pool that has one, is accounted to a name. */
#include "figures.h"
#include "metadata.h"

#include "heap/arenas.h"
#include "pool/pool.h"
#include "pool/tag.h"

#include <errno.h>

static struct berth_tag_metrics tagged(const char *tag) {
    struct berth_tag_metrics figures;
    UNIT_CHECK(berth_metrics_read_tag(tag, &figures, sizeof(figures)) == 0);
    return figures;
}

static void *alloc(size_t size) {
    void *block = berth_alloc(berth_pool_default(), size);
    UNIT_CHECK(block != NULL);
    return block;
}

/* What is exact when caches are flushed. */
static void expect(const char *tag, uint64_t bytes, uint64_t allocations, uint64_t frees) {
    berth_thread_flush();
    struct berth_tag_metrics figures = tagged(tag);
    assert_int_equal(figures.live_low_bytes, bytes);
    assert_int_equal(figures.live_high_bytes, bytes);
    assert_int_equal(figures.allocations, allocations);
    assert_int_equal(figures.frees, frees);
    assert_int_equal(figures.count, allocations - frees);
    assert_true(figures.peak_bytes >= bytes);
}

static void push(const char *tag) {
    UNIT_CHECK(berth_tag_push(tag) == 0);
}

static void pop(void) {
    UNIT_CHECK(berth_tag_pop() == 0);
}

static void what_a_scope_allocates_is_accounted_until_it_is_freed(void **state) {
    /* Nobody could say which part of a server uses its memory. */
    (void)state;
    const size_t sizes[] = {1, 100, 5000, 16384, 20000, 400000, 6 * MiB};
    enum { COUNT = BERTH_ARRAY_COUNT(sizes) };
    void *blocks[COUNT];
    void *outside[COUNT];
    uint64_t bytes = 0;
    push("first");
    for (unsigned i = 0; i < COUNT; i++) {
        blocks[i] = alloc(sizes[i]);
        bytes += berth_usable_size(blocks[i]);
        fill(blocks[i], sizes[i]);
    }
    pop();
    for (unsigned i = 0; i < COUNT; i++) {
        outside[i] = alloc(sizes[i]);
        fill(outside[i], sizes[i]);
    }
    expect("first", bytes, COUNT, 0);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_true(is_filled(blocks[i], blocks[i], sizes[i]));
        bytes -= berth_usable_size(blocks[i]);
        berth_free(blocks[i]);
        expect("first", bytes, COUNT, i + 1);
    }
    push("first"); /* frees within a scope are of the block's tag, too */
    berth_free_batch(outside, COUNT);
    pop();
    expect("first", 0, COUNT, COUNT);
    check_balance(berth_pool_default());
}

static void scopes_nest(void **state) {
    /* A library that tags would take its caller's tag away. */
    (void)state;
    push("outer");
    void *a = alloc(1000);
    push("inner");
    void *b = alloc(2000);
    push("outer");
    void *c = alloc(3000);
    pop();
    void *d = alloc(2000);
    pop();
    void *e = alloc(1000);
    pop();
    void *f = alloc(1000);
    uint64_t outer = 2 * berth_usable_size(a) + berth_usable_size(c);
    uint64_t inner = 2 * berth_usable_size(b);
    expect("outer", outer, 3, 0);
    expect("inner", inner, 2, 0);
    void *all[] = {a, b, c, d, e, f};
    berth_free_batch(all, 6);
    expect("outer", 0, 3, 3);
    expect("inner", 0, 2, 2);
}

static void a_scope_is_in_nobodys_way(void **state) {
    /* What a thread frees of its own would go home by the way of other threads' blocks. */
    (void)state;
    enum { BLOCKS = 2000 };
    static void *blocks[BLOCKS];
    assert_int_equal(berth_alloc_batch(berth_pool_default(), 100, BLOCKS, blocks), BLOCKS);
    uint64_t remote = figures_of(berth_pool_default()).remote_frees;
    push("in the way");
    berth_free(alloc(100));
    berth_free_batch(blocks, BLOCKS);
    pop();
    berth_thread_flush();
    berth_trim(NULL);
    assert_int_equal(figures_of(berth_pool_default()).remote_frees, remote);
}

static void resizing_keeps_the_tag(void **state) {
    /* A table that grows would wander from its tag to none, or to another's. */
    (void)state;
    push("grows");
    void *block = alloc(100);
    pop();
    block = berth_realloc(NULL, block, 200000);
    expect("grows", berth_usable_size(block), 2, 1);
    push("other");
    block = berth_realloc(NULL, block, 3 * MiB);
    block = berth_realloc(NULL, block, 9 * MiB);
    block = berth_realloc(NULL, block, 50);
    pop();
    struct berth_tag_metrics grows = tagged("grows");
    expect("grows", berth_usable_size(block), grows.allocations, grows.allocations - 1);
    expect("other", 0, 0, 0);
    berth_free(block);
    expect("grows", 0, grows.allocations, grows.allocations);
}

/* ---- names and depth ---- */

static void bad_names_and_too_many_scopes_are_refused(void **state) {
    /* A slip would account to something else, or write beyond a table. */
    (void)state;
    const char *const bad[] = {NULL,        "",         "tab\there",
                               "new\nline", "\xc3\xa4", "1234567890123456789012345678"};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(bad); i++) {
        assert_int_equal(berth_tag_push(bad[i]), -EINVAL);
    }
    assert_int_equal(berth_tag_pop(), -EINVAL);
    for (unsigned i = 0; i < BERTH_TAG_DEPTH_MAX; i++) {
        assert_int_equal(berth_tag_push(i % 2 == 0 ? "even" : "odd"), 0);
    }
    assert_int_equal(berth_tag_push("one more"), -EOVERFLOW);
    void *block = alloc(64);
    for (unsigned i = 0; i < BERTH_TAG_DEPTH_MAX; i++) {
        assert_int_equal(berth_tag_pop(), 0);
    }
    assert_int_equal(berth_tag_pop(), -EINVAL);
    expect("odd", berth_usable_size(block), 1, 0);
    berth_free(block);
    struct berth_tag_metrics figures;
    assert_int_equal(berth_metrics_read_tag("never pushed", &figures, sizeof(figures)), -ENOENT);
    assert_int_equal(berth_metrics_read_tag(NULL, &figures, sizeof(figures)), -EINVAL);
    assert_int_equal(berth_metrics_read_tag("odd", NULL, sizeof(figures)), -EINVAL);
}

static void push_every_name(void *unused) {
    (void)unused;
    unsigned pushed = berth__tags_count();
    for (unsigned i = 0; pushed < BERTH_TAGS_MAX; i++, pushed++) {
        char name[32];
        snprintf(name, sizeof(name), "name \"%u\" \\", i);
        push(name);
        berth_free(alloc(10));
        pop();
    }
    UNIT_CHECK(berth_tag_push("beyond") == -ENOSPC);
    UNIT_CHECK(berth_tag_push("name \"7\" \\") == 0);
    void *block = alloc(10);
    pop();
    berth_thread_flush();
    UNIT_CHECK(tagged("name \"7\" \\").live_high_bytes == berth_usable_size(block));
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.tag = "beyond";
    UNIT_CHECK(berth_pool_create("tagged beyond", &options) == NULL && errno == EINVAL);
    UNIT_CHECK(berth_pool_create("tagged-beyond", &options) == NULL && errno == ENOSPC);
}

static void there_are_255_names(void **state) {
    /* The 256th would be accounted to the first, or to nothing without a word. */
    (void)state;
    assert_int_equal(unit_in_child(push_every_name, NULL), 0);
}

/* ---- pools ---- */

static void a_pools_tag_is_that_of_all_its_blocks(void **state) {
    /* A part of the program that has its own pools would be missing. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    char name[] = "of pools";
    options.tag = name;
    berth_pool *one = berth_pool_create("one", &options);
    berth_pool *two = berth_pool_create("two", &options);
    name[0] = 'x'; /* it was copied */
    void *a = berth_alloc(one, 1000);
    void *b = berth_alloc(two, 100000);
    push("of pools");
    void *c = alloc(5000);
    void *d = berth_alloc(two, 700);
    pop();
    push("else");
    void *e = berth_alloc(one, 700);
    pop();
    uint64_t bytes = berth_usable_size(a) + berth_usable_size(b) + berth_usable_size(c) +
                     2 * berth_usable_size(d);
    expect("of pools", bytes, 5, 0);
    expect("else", 0, 0, 0);
    assert_int_equal(tagged("of pools").pools, 3);
    berth_free(a);
    berth_free(e);
    assert_int_equal(berth_pool_reset(two, BERTH_FORCE), 0);
    assert_int_equal(berth_pool_destroy(one, 0), 0);
    berth_thread_flush();
    assert_int_equal(tagged("of pools").live_high_bytes, berth_usable_size(c));
    assert_int_equal(tagged("of pools").pools, 2);
    (void)b;
    (void)d;
    assert_int_equal(berth_pool_destroy(two, 0), 0);
    berth_pool *scopes = berth_pool_of(c);
    assert_string_equal(berth_pool_name(scopes), "tag:of pools");
    assert_int_equal(berth_pool_destroy(scopes, BERTH_FORCE), -EINVAL);
    assert_int_equal(berth_pool_reset(scopes, BERTH_FORCE), -EINVAL);
    berth_free(c);
}

/* ---- threads ---- */

static void *end_within_a_scope(void *unused) {
    (void)unused;
    push("ended");
    push("ended inside");
    void *block = alloc(500);
    berth_free(alloc(600));
    return block;
}

static void a_thread_that_ends_within_a_scope_leaves_nothing_behind(void **state) {
    /* Caches of the tag would be lost with each such thread. */
    (void)state;
    void *blocks[50];
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(blocks); i++) {
        pthread_t thread = start_thread(end_within_a_scope, NULL);
        UNIT_CHECK(pthread_join(thread, &blocks[i]) == 0);
    }
    expect("ended inside", 50 * berth_usable_size(blocks[0]), 100, 50);
    expect("ended", 0, 0, 0);
    berth_free_batch(blocks, 50);
    expect("ended inside", 0, 100, 100);
    assert_int_equal(figures_of(berth_pool_find("tag:ended inside")).threads, 1); /* this one */
}

static void a_parked_thread_goes_on_in_its_scope(void **state) {
    /* A thread that slept would allocate for nobody, or for somebody else. */
    (void)state;
    void *before = alloc(128);
    push("sleeps");
    void *a = alloc(128);
    berth_thread_idle();
    void *b = alloc(128);
    berth_thread_idle();
    push("sleeps, too");
    void *c = alloc(128);
    berth_thread_idle();
    pop();
    void *d = alloc(128);
    berth_thread_idle();
    berth_free(a);
    berth_thread_idle();
    pop();
    berth_thread_idle();
    void *e = alloc(128);
    expect("sleeps", 256, 3, 1);
    expect("sleeps, too", 128, 1, 0);
    void *rest[] = {before, b, c, d, e};
    berth_free_batch(rest, 5);
    expect("sleeps", 0, 3, 3);
    expect("sleeps, too", 0, 1, 1);
}

static _Atomic unsigned seeds;
enum { SHARED = 2000, THREADS = 6 };
static _Atomic(void *) shared[SHARED];
static const char *const names[] = {"alpha", "beta", "gamma", "delta"};

/* Blocks of all tags and of none change hands, and are freed by whoever gets them. */
static void *exchange(void *unused) {
    (void)unused;
    struct unit_random random = {atomic_fetch_add(&seeds, 1)};
    unsigned depth = 0;
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t what = unit_random_below(&random, 100);
        if (what < 10 && depth < 5) {
            push(names[unit_random_below(&random, 4)]);
            depth++;
        } else if (what < 20 && depth > 0) {
            pop();
            depth--;
        } else if (what == 20) {
            berth_thread_idle();
        } else if (what == 21) {
            berth_thread_flush();
        }
        size_t size = unit_random_below(&random, 50) == 0 ? unit_random_below(&random, 200000)
                                                          : unit_random_below(&random, 2000);
        berth_free(atomic_exchange(&shared[unit_random_below(&random, SHARED)], alloc(size)));
    }
    return NULL;
}

static uint64_t usable_of_pool(const berth_pool *pool) {
    uint64_t bytes = 0;
    for (unsigned i = 0; i < SHARED; i++) {
        void *block = atomic_load(&shared[i]);
        bytes += block != NULL && berth_pool_of(block) == pool ? berth_usable_size(block) : 0;
    }
    return bytes;
}

static void every_byte_is_accounted_after_threads_passed_blocks_around(void **state) {
    /* Remote frees, ended and sleeping threads would leave a difference. */
    (void)state;
    run_threads(THREADS, exchange, NULL);
    for (unsigned i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof(name), "tag:%s", names[i]);
        const berth_pool *pool = berth_pool_find(name);
        struct berth_tag_metrics figures = tagged(names[i]);
        assert_int_equal(figures.live_low_bytes, usable_of_pool(pool));
        assert_int_equal(figures.live_high_bytes, usable_of_pool(pool));
        assert_true(figures.allocations > 1000);
        check_balance(pool);
    }
    for (unsigned i = 0; i < SHARED; i++) {
        berth_free(atomic_exchange(&shared[i], NULL));
    }
    berth_thread_flush();
    berth_trim(NULL); /* what was freed elsewhere counts as freed when it has come home */
    for (unsigned i = 0; i < 4; i++) {
        struct berth_tag_metrics figures = tagged(names[i]);
        expect(names[i], 0, figures.allocations, figures.allocations);
    }
}

/* ---- fork ---- */

static void free_and_count(void *block) {
    UNIT_CHECK(berth_tag_pop() == 0); /* the inner one: still pushed */
    void *more = alloc(100);
    berth_thread_flush();
    UNIT_CHECK(tagged("forked").live_high_bytes ==
               berth_usable_size(more) + berth_usable_size(block));
    berth_free(block);
    berth_free(more);
    berth_thread_flush();
    UNIT_CHECK(tagged("forked").live_high_bytes == 0);
    UNIT_CHECK(berth_tag_pop() == 0);
    UNIT_CHECK(berth_tag_pop() == -EINVAL);
    berth_free(alloc(100));
    berth_thread_flush();
    UNIT_CHECK(tagged("forked").live_high_bytes == 0);
}

static void a_child_goes_on_in_the_scopes_of_its_parent(void **state) {
    /* A forking server's children would allocate under other names, or crash at the pop. */
    (void)state;
    for (unsigned parked = 0; parked < 2; parked++) {
        push("forked");
        void *block = alloc(300);
        push("forked inside");
        berth_thread_flush();
        if (parked != 0) {
            berth_thread_idle();
        }
        assert_int_equal(unit_in_child(free_and_count, block), 0);
        pop();
        pop();
        berth_free(block);
        berth_thread_flush();
        assert_int_equal(tagged("forked").live_high_bytes, 0);
    }
}

/* ---- the limit ---- */

static void fill_up(void *unused) {
    (void)unused;
    enum { BLOCKS = 8192 };
    static void *blocks[BLOCKS];
    UNIT_CHECK(berth_limit_set(16 * MiB) == 0);
    push("at the limit");
    for (unsigned round = 0; round < 4; round++) {
        unsigned count = 0;
        while (count < BLOCKS && (blocks[count] = berth_alloc_flags(berth_pool_default(), 4000,
                                                                    BERTH_NOWAIT)) != NULL) {
            count++;
        }
        UNIT_CHECK(count > 2500 && count <= 4096 && berth_limit_used() <= 16 * MiB);
        berth_free_batch(blocks, count);
        if (round % 2 == 0) {
            pop(); /* what the tag's cache and chunks hold is had by others */
        } else {
            push("at the limit");
        }
    }
    UNIT_CHECK(tagged("at the limit").failures == 2);
}

static void at_the_limit_what_a_tag_does_not_use_serves_others(void **state) {
    /* Memory cached under a name would be lost to the rest of the program. */
    (void)state;
    assert_int_equal(unit_in_child(fill_up, NULL), 0);
}

/* 2 KiB per thread, and what the budget grants: scopes get none on top. */
static void a_scopes_caches_are_within_the_budget(void **state) {
    /* Threads times tags would cache more than all threads may. */
    (void)state;
    berth_thread_flush();
    struct berth_process_metrics before = figures();
    push("cached");
    void *blocks[100];
    UNIT_CHECK(berth_alloc_batch(berth_pool_default(), 512, 100, blocks) == 100);
    berth_free_batch(blocks, 100);
    pop();
    struct berth__arenas *arenas = berth__tag_scope(berth__tag_find("cached"));
    uint64_t bound = berth__load_relaxed(&arenas->cached_bound);
    struct berth_process_metrics after = figures();
    assert_true(bound > 0);
    assert_true(after.cache_granted_bytes - before.cache_granted_bytes >= bound);
    assert_true(berth__caches_bytes(arenas) <= bound);
    berth_thread_flush();
    assert_int_equal(berth__caches_bytes(arenas), 0);
}

#if BERTH_FAULTS
static void push_without_memory(void *unused) {
    (void)unused;
    push("there");
    unit_use_up_metadata();
    UNIT_CHECK(berth_tag_push("starved") == -ENOMEM);
    berth__os_fail_after(BERTH_OS_COMMIT, 0, 0);
    void *block = alloc(1000);
    pop();
    UNIT_CHECK(berth_tag_pop() == -EINVAL);
    UNIT_CHECK(tagged("there").allocations == 1);
    berth_free(block);
}
#endif

static void without_memory_a_push_fails_and_changes_nothing(void **state) {
    /* The pop that does not follow would end somebody else's scope. */
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS);
#if BERTH_FAULTS
    assert_int_equal(unit_in_child(push_without_memory, NULL), 0);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_scope_allocates_is_accounted_until_it_is_freed),
        cmocka_unit_test(scopes_nest),
        cmocka_unit_test(a_scope_is_in_nobodys_way),
        cmocka_unit_test(resizing_keeps_the_tag),
        cmocka_unit_test(bad_names_and_too_many_scopes_are_refused),
        cmocka_unit_test(there_are_255_names),
        cmocka_unit_test(a_pools_tag_is_that_of_all_its_blocks),
        cmocka_unit_test(a_thread_that_ends_within_a_scope_leaves_nothing_behind),
        cmocka_unit_test(a_parked_thread_goes_on_in_its_scope),
        cmocka_unit_test(every_byte_is_accounted_after_threads_passed_blocks_around),
        cmocka_unit_test(a_child_goes_on_in_the_scopes_of_its_parent),
        cmocka_unit_test(at_the_limit_what_a_tag_does_not_use_serves_others),
        cmocka_unit_test(a_scopes_caches_are_within_the_budget),
        cmocka_unit_test(without_memory_a_push_fails_and_changes_nothing),
    };
    return UNIT_RUN(tests);
}
