/* The sampling profiler: what it says must be what is so, within what chance allows; and a program
 * must not notice it. */
#include "figures.h"

#include "heap/sample.h"
#include "heap/sample_draw.h"

#include <string.h>

#if defined(__clang__)
#define SITE __attribute__((noinline))
#else
#define SITE __attribute__((noipa)) /* no copy of it for one argument */
#endif
enum { SITE_BYTES = 256 }; /* of a function's code, at most */

/* ---- sites ---- */

static berth_pool *pool;

static SITE void *keep_some(size_t size) {
    void *volatile block = berth_alloc(pool, size);
    UNIT_CHECK(block != NULL);
    return block;
}

static SITE void *free_all(size_t size) {
    void *volatile block = berth_alloc(pool, size);
    UNIT_CHECK(block != NULL);
    memset(block, 2, 2); /* compilers merge functions that are the same */
    return block;
}

static SITE void *after_a_free(size_t size) {
    void *volatile block = berth_alloc(pool, size);
    UNIT_CHECK(block != NULL);
    memset(block, 1, 1);
    return block;
}

/* ---- reading the tables, as `berth prof` does from outside; nothing changes meanwhile ---- */

static const struct berth__site *site_at(uint32_t number) {
    uintptr_t block = berth__samples_root()->site_block[number / BERTH_SITES_PER_BLOCK];
    return (const struct berth__site *)block + number % BERTH_SITES_PER_BLOCK;
}

struct sums {
    uint64_t allocated, live, live_count, requested, peak, samples;
};

/* The last of the functions above that begins before a place; or none of them. */
static bool is_place_in(uintptr_t place, void *(*function)(size_t)) {
    static void *(*const functions[])(size_t) = {keep_some, free_all, after_a_free};
    uintptr_t at = (uintptr_t)function;
    bool is_in = place - at < SITE_BYTES;
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(functions); i++) {
        uintptr_t other = (uintptr_t)functions[i];
        is_in = is_in && !(other > at && other <= place);
    }
    return is_in;
}

/* Of all sites that have a place in a function: builds without optimisation have places of the
 * engine's own before. */
static struct sums sums_of(void *(*function)(size_t)) {
    struct sums sums = {0};
    uint32_t count = (uint32_t)berth__samples_root()->site_count;
    for (uint32_t i = 1; i < count; i++) {
        const struct berth__site *site = site_at(i);
        bool is_in = false;
        for (unsigned d = 0; d < site->depth; d++) {
            is_in = is_in || is_place_in((uintptr_t)site->place[d], function);
        }
        bool stale = site->peak_number < berth__samples_root()->peak_number;
        sums.allocated += is_in ? site->allocated_bytes : 0;
        sums.live += is_in ? site->live_bytes : 0;
        sums.live_count += is_in ? site->live_count : 0;
        sums.requested += is_in ? site->live_requested : 0;
        sums.peak += !is_in ? 0 : stale ? site->live_bytes : site->peak_bytes;
        sums.samples += is_in ? site->samples : 0;
    }
    return sums;
}

static double square_root(double x) {
    double root = x > 1 ? x : 1;
    for (unsigned i = 0; i < 60; i++) {
        root = (root + x / root) / 2;
    }
    return root;
}

/* Of `count` blocks of `bytes`, each is sampled with the probability p: the estimate's standard
 * deviation is bytes * sqrt(count (1 - p) / p). Six of them: once in 500 million. */
static bool is_estimate_of(uint64_t estimate, uint64_t count, uint64_t bytes, uint64_t interval) {
    double p = berth__sample_probability(bytes, interval);
    double sigma = (double)bytes * square_root((double)count * (1 - p) / p);
    double off = (double)estimate - (double)count * (double)bytes;
    bool fits = off <= 6 * sigma + 1 && off >= -6 * sigma - 1;
    if (!fits) {
        print_message("%zu blocks of %zu: %zu estimated, %.1f deviations off\n", (size_t)count,
                      (size_t)bytes, (size_t)estimate, off / sigma);
    }
    return fits;
}

static uint64_t live_samples(void) {
    return berth__samples_root()->live_samples;
}

static int start(void **state) {
    (void)state;
    pool = berth_pool_create("sampled", NULL);
    return pool == NULL;
}

static int end(void **state) {
    (void)state;
    berth__sample_set(0);
    return berth_pool_destroy(pool, BERTH_FORCE);
}

/* ---- tests ---- */

static void probabilities_and_weights_are_what_the_formula_says(void **state) {
    /* Every estimate would be off by some factor. */
    (void)state;
    static const struct {
        uint64_t bytes, interval;
        double p;
    } cases[] = {{16, 524288, 3.0517112477923e-05},
                 {4096, 16384, 0.22119921692859512},
                 {4096, 4096, 0.63212055882855767},
                 {65536, 16384, 0.98168436111126578},
                 {1 << 20, 1, 1},
                 {16384, 524288, 0.030766765523599376}};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(cases); i++) {
        double p = berth__sample_probability(cases[i].bytes, cases[i].interval);
        assert_true(p > cases[i].p * (1 - 1e-6) && p < cases[i].p * (1 + 1e-6));
        struct berth__sample sample = {.bytes = cases[i].bytes, .requested = cases[i].bytes / 2};
        berth__sample_weigh(&sample, cases[i].bytes, cases[i].interval);
        double weight = (double)cases[i].bytes / cases[i].p;
        assert_true((double)sample.weight > weight * 0.99999 - 1 &&
                    (double)sample.weight < weight * 1.00001 + 1);
        assert_true(berth__sample_requested(&sample) <= sample.weight / 2 + sample.count &&
                    berth__sample_requested(&sample) + sample.count >= sample.weight / 2);
    }
}

static void draws_follow_the_exponential_law(void **state) {
    /* Sizes and sites would be drawn unevenly. */
    (void)state;
    enum { DRAWS = 200000, BYTES = 64, INTERVAL = 4096, MOST = 512 };
    uint64_t random = 42;
    uint64_t none = 0;
    uint64_t sum = 0;
    for (unsigned i = 0; i < DRAWS; i++) {
        uint32_t at = berth__sample_draw(&random, INTERVAL, BYTES, MOST);
        none += at == MOST;
        sum += at;
    }
    /* exp(-8) of them find none; the mean of min(E, 512), E geometric of p = 1 - exp(-1/64) */
    double p_none = 0.00033546262790251185;
    double mean = (1 - p_none) * (1 - 0.015503563) / 0.015503563;
    assert_in_range(none, (uint64_t)(DRAWS * p_none) - 50, (uint64_t)(DRAWS * p_none) + 50);
    double got = (double)sum / DRAWS;
    assert_true(got > mean * 0.985 && got < mean * 1.015);
}

static void every_allocation_is_as_likely_as_any_other(void **state) {
    /* The profile would blame those whose blocks happen not to be cached. */
    (void)state;
    enum { ROUNDS = 150000, BYTES = 96, INTERVAL = 8192 };
    berth__sample_set(INTERVAL);
    static void *kept[ROUNDS];
    for (unsigned i = 0; i < ROUNDS; i++) {
        void *temporary = free_all(BYTES - 3);
        berth_free(temporary);
        kept[i] = after_a_free(BYTES - 10); /* always of the block that was just freed, or a mark */
    }
    assert_true(is_estimate_of(sums_of(free_all).allocated, ROUNDS, BYTES, INTERVAL));
    assert_true(is_estimate_of(sums_of(after_a_free).allocated, ROUNDS, BYTES, INTERVAL));
    assert_true(is_estimate_of(sums_of(after_a_free).live, ROUNDS, BYTES, INTERVAL));
    struct sums sums = sums_of(after_a_free);
    assert_true(sums_of(free_all).live == 0);
    assert_true(sums.requested > sums.live * 85 / BYTES && sums.requested < sums.live * 87 / BYTES);
    for (unsigned i = 0; i < ROUNDS; i++) {
        berth_free(kept[i]);
    }
    assert_true(sums_of(after_a_free).live == 0 && sums_of(after_a_free).live_count == 0);
    assert_true(live_samples() == 0);
    assert_true(is_estimate_of(sums_of(after_a_free).peak, ROUNDS, BYTES, INTERVAL));
    check_nothing_lives(pool);
}

static void blocks_of_all_sizes_are_estimated(void **state) {
    /* Large blocks, or small ones, would be missing. */
    (void)state;
    enum { BLOCKS = 4000, INTERVAL = 64 << 10 };
    static const size_t sizes[] = {16, 512, 1000, 16384, 20000, 100000, 3 << 20, 9 << 20};
    static void *blocks[BLOCKS];
    berth__sample_set(INTERVAL);
    for (unsigned s = 0; s < BERTH_ARRAY_COUNT(sizes); s++) {
        unsigned count = sizes[s] > (1 << 20) ? 40 : BLOCKS;
        uint64_t before = sums_of(keep_some).allocated;
        for (unsigned i = 0; i < count; i++) {
            blocks[i] = keep_some(sizes[s]);
        }
        uint64_t estimate = sums_of(keep_some).allocated - before;
        assert_true(is_estimate_of(estimate, count, berth_good_size(sizes[s]), INTERVAL));
        for (unsigned i = 0; i < count; i++) {
            berth_free(blocks[i]);
        }
        assert_true(live_samples() == 0);
    }
    check_nothing_lives(pool);
}

static void what_a_thread_s_stash_serves_is_estimated_too(void **state) {
    /* Buffers of 16 to 256 KiB, which are most of many a server's traffic, would not be seen. */
    (void)state;
    enum { ROUNDS = 60000, BYTES = 32768, INTERVAL = 256 << 10 };
    for (unsigned i = 0; i < 1000; i++) { /* the stash is earned before samples are on */
        berth_free(keep_some(BYTES));
    }
    berth__sample_set(INTERVAL);
    void *kept[100];
    for (unsigned i = 0; i < ROUNDS; i++) {
        berth_free(free_all(BYTES));
        if (i < 100) {
            kept[i] = after_a_free(BYTES);
        }
    }
    /* The stash may have fuel for 8 MiB that was given before. */
    uint64_t allocated = sums_of(free_all).allocated + sums_of(after_a_free).allocated;
    assert_true(is_estimate_of(allocated, ROUNDS + 100 - (4 << 20) / BYTES, BYTES, INTERVAL));
    for (unsigned i = 0; i < 100; i++) {
        berth_free(kept[i]);
    }
    assert_true(live_samples() == 0);
    check_nothing_lives(pool);
}

static void followed_blocks_are_blocks_like_others(void **state) {
    /* A program would find its memory too short, misaligned, changed, or not zero. */
    (void)state;
    static const size_t sizes[] = {16, 40, 100, 512, 2000, 16384, 16385, 70000, 5 << 20};
    berth__sample_set(1); /* all of them */
    for (unsigned s = 0; s < BERTH_ARRAY_COUNT(sizes); s++) {
        size_t size = sizes[s];
        for (size_t alignment = 16; alignment <= 65536; alignment *= 4) {
            unsigned flags = (unsigned)BERTH_ZERO | BERTH_ALIGN_LOG2(__builtin_ctzl(alignment));
            char *block = berth_alloc_flags(pool, size, flags);
            assert_non_null(block);
            assert_true((uintptr_t)block % alignment == 0 && berth_usable_size(block) >= size);
            assert_true(berth_pool_of(block) == pool && is_zero(block, size));
            fill(block, size);
            uint64_t live = live_samples();
            char *longer = berth_realloc(NULL, block, size * 2 + 1);
            assert_true(longer != NULL && is_filled(longer, block, size));
            assert_true(live_samples() == live);
            berth_free_sized(longer, size * 2 + 1);
            assert_true(live_samples() == live - 1);
        }
    }
    assert_true(live_samples() == 0);
    check_nothing_lives(pool);
}

static void followed_blocks_are_as_large_as_others(void **state) {
    /* A program that looks, and cuts off what it does not need, would lose its samples at once:
     * what Redis keeps in strings was not in its profile. */
    (void)state;
    berth__sample_set(1);
    for (size_t size = 1; size <= BERTH_SMALL_MAX; size += size / 7 + 1) {
        void *block = keep_some(size);
        size_t usable = berth_usable_size(block);
        assert_int_equal(usable, berth_good_size(size));
        struct sums before = sums_of(keep_some);
        assert_ptr_equal(berth_realloc(NULL, block, usable), block);
        assert_ptr_equal(berth_realloc(NULL, block, usable - usable / 4), block);
        struct sums after = sums_of(keep_some);
        assert_int_equal(after.live, before.live);
        assert_int_equal(after.samples, before.samples);
        berth_free_sized(block, size);
    }
}

static void resizing_in_place_is_drawn_anew(void **state) {
    /* A buffer that grew to megabytes would be shown with the size that it began with. */
    (void)state;
    berth__sample_set(1);
    char *block = keep_some(100000);
    assert_true(sums_of(keep_some).live == berth_good_size(100000));
    char *shorter = berth_realloc(NULL, block, 40000);
    assert_non_null(shorter);
    assert_true(live_samples() == 1 && berth__samples_root()->live_bytes == berth_good_size(40000));
    char *huge = berth_realloc(NULL, shorter, 30 << 20);
    assert_true(live_samples() == 1 && berth__samples_root()->live_bytes == 30 << 20);
    huge = berth_realloc(NULL, huge, 60 << 20);
    assert_true(live_samples() == 1 && berth__samples_root()->live_bytes == 60 << 20);
    berth__sample_set(0);
    huge = berth_realloc(NULL, huge, 61 << 20);
    assert_true(live_samples() == 0 && berth__samples_root()->live_bytes == 0);
    berth_free(huge);
    check_nothing_lives(pool);
}

static void the_interval_may_change_at_any_time(void **state) {
    /* A mark drawn for a short interval would be counted with the weight of a long one. */
    (void)state;
    enum { BLOCKS = 20000, BYTES = 64, LONG = 1 << 20 };
    static void *blocks[BLOCKS];
    for (unsigned round = 0; round < 20; round++) {
        berth__sample_set(128);
        for (unsigned i = 0; i < 1000; i++) {
            blocks[i] = keep_some(BYTES);
        }
        for (unsigned i = 0; i < 1000; i++) {
            berth_free(blocks[i]);
        }
        uint64_t before = sums_of(keep_some).allocated;
        berth__sample_set(LONG);
        for (unsigned i = 0; i < BLOCKS; i++) {
            blocks[i] = keep_some(BYTES);
        }
        uint64_t estimate = sums_of(keep_some).allocated - before;
        assert_true(is_estimate_of(estimate, BLOCKS, BYTES, LONG));
        berth__sample_set(0);
        uint64_t taken = berth__samples_root()->taken;
        for (unsigned i = 0; i < BLOCKS; i++) {
            berth_free(blocks[i]);
            berth_free(keep_some(BYTES));
        }
        assert_true(berth__samples_root()->taken == taken && live_samples() == 0);
    }
    check_nothing_lives(pool);
}

static void a_pool_s_end_takes_its_samples_along(void **state) {
    /* The profile would show memory that is gone, and other blocks under its addresses. */
    (void)state;
    berth__sample_set(1);
    for (unsigned i = 0; i < 300; i++) {
        (void)keep_some((size_t)i * 1000);
    }
    void *other = berth_alloc(berth_pool_default(), 50000);
    assert_true(live_samples() == 301);
    assert_int_equal(berth_pool_reset(pool, BERTH_FORCE), 0);
    assert_true(live_samples() == 1 && sums_of(keep_some).live == 0);
    void *block = keep_some(50000);
    assert_true(live_samples() == 2);
    berth_free(block);
    berth_free(other);
    assert_true(live_samples() == 0);
}

enum { THREADS = 6, SWAPS = 60000, PLACES = 512 };
static _Atomic(void *) places[PLACES];

static void *swap_blocks(void *number) {
    struct unit_random random = {.state = (uintptr_t)number};
    for (unsigned i = 0; i < SWAPS; i++) {
        size_t size = unit_random_below(&random, 16) == 0 ? unit_random_below(&random, 60000)
                                                          : unit_random_below(&random, 600);
        void *mine = berth_alloc(pool, size);
        UNIT_CHECK(mine != NULL);
        memset(mine, (int)i, size);
        berth_free(atomic_exchange(&places[unit_random_below(&random, PLACES)], mine));
        if (i % 5000 == 0) {
            berth__sample_set(i % 10000 == 0 ? 500 : 5000);
        }
        if (i % 3000 == 0) {
            berth_thread_idle();
        }
    }
    return number;
}

static void threads_that_free_each_other_s_blocks_leave_no_sample(void **state) {
    /* A busy server's profile would grow with what is long gone. */
    (void)state;
    berth__sample_set(500);
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) {
        threads[i] = start_thread(swap_blocks, (void *)(i + 1));
    }
    for (unsigned i = 0; i < THREADS; i++) {
        join_thread(threads[i]);
    }
    for (unsigned i = 0; i < PLACES; i++) {
        berth_free(atomic_exchange(&places[i], NULL));
    }
    assert_true(live_samples() == 0 && berth__samples_root()->live_bytes == 0);
    assert_true(berth__samples_root()->taken > 1000);
    check_nothing_lives(pool);
}

static void child_goes_on(void *block) {
    uint64_t live = live_samples();
    UNIT_CHECK(live >= 1);
    berth_free(block);
    UNIT_CHECK(live_samples() == live - 1);
    for (unsigned i = 0; i < 1000; i++) {
        berth_free(keep_some(i * 50));
    }
    UNIT_CHECK(live_samples() == live - 1);
}

static void a_child_s_profile_begins_as_its_parent_s(void **state) {
    /* A server that forks would hang, or show its parent's frees. */
    (void)state;
    berth__sample_set(1);
    void *block = keep_some(700);
    assert_int_equal(unit_in_child(child_goes_on, block), 0);
    assert_true(live_samples() == 1);
    berth_free(block);
    assert_true(live_samples() == 0);
}

static void free_twice(void *block) {
    berth_free(block);
    berth_free(block);
}

static void free_inside(void *block) {
    berth_free((char *)block + 16);
}

static void misuse_of_followed_blocks_is_found_at_once(void **state) {
    /* A double free would go unnoticed just where blocks are watched. */
    (void)state;
    berth__sample_set(1);
    static const size_t sizes[] = {48, 5000, 50000, 5 << 20};
    for (unsigned s = 0; s < BERTH_ARRAY_COUNT(sizes); s++) {
        void *block = keep_some(sizes[s]);
        assert_int_equal(unit_in_child(free_twice, block), -SIGABRT);
        assert_int_equal(unit_in_child(free_inside, block), -SIGABRT);
        berth_free(block);
    }
    assert_true(live_samples() == 0);
}

static void what_finds_no_room_is_counted_and_served(void **state) {
    /* A profile that is too small would end the program, or lie. */
    (void)state;
    enum { COUNT = BERTH_SAMPLES_MAX + 1000 };
    berth__sample_set(1);
    void **blocks = malloc(COUNT * sizeof(void *));
    assert_non_null(blocks);
    for (unsigned i = 0; i < COUNT; i++) {
        blocks[i] = keep_some(16);
    }
    assert_true(live_samples() == BERTH_SAMPLES_MAX);
    assert_true(berth__samples_root()->left_out >= 990); /* one in 9 million is not drawn */
    for (unsigned i = 0; i < COUNT; i++) {
        berth_free(blocks[i]);
    }
    free(blocks);
    assert_true(live_samples() == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probabilities_and_weights_are_what_the_formula_says),
        cmocka_unit_test(draws_follow_the_exponential_law),
        cmocka_unit_test_setup_teardown(every_allocation_is_as_likely_as_any_other, start, end),
        cmocka_unit_test_setup_teardown(blocks_of_all_sizes_are_estimated, start, end),
        cmocka_unit_test_setup_teardown(what_a_thread_s_stash_serves_is_estimated_too, start, end),
        cmocka_unit_test_setup_teardown(followed_blocks_are_blocks_like_others, start, end),
        cmocka_unit_test_setup_teardown(followed_blocks_are_as_large_as_others, start, end),
        cmocka_unit_test_setup_teardown(resizing_in_place_is_drawn_anew, start, end),
        cmocka_unit_test_setup_teardown(the_interval_may_change_at_any_time, start, end),
        cmocka_unit_test_setup_teardown(a_pool_s_end_takes_its_samples_along, start, end),
        cmocka_unit_test_setup_teardown(threads_that_free_each_other_s_blocks_leave_no_sample,
                                        start, end),
        cmocka_unit_test_setup_teardown(a_child_s_profile_begins_as_its_parent_s, start, end),
        cmocka_unit_test_setup_teardown(misuse_of_followed_blocks_is_found_at_once, start, end),
        cmocka_unit_test_setup_teardown(what_finds_no_room_is_counted_and_served, start, end),
    };
    return UNIT_RUN(tests);
}
