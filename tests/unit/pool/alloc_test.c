/* The public allocation calls: sizes, alignments, zeroing, resizing, batches. */
#include "figures.h"

#include "heap/engine.h"
#include "heap/request.h"
#include "pool/pool.h"

#include <errno.h>

static const size_t some_sizes[] = {
    0,     1,     16,     17,     100,    512,     1000,          4096,   16384,
    16385, 32768, 100000, 262144, 999999, 4 << 20, (4 << 20) + 1, 9 << 20};
enum { SIZES = sizeof(some_sizes) / sizeof(some_sizes[0]) };

static void every_byte_of_a_block_may_be_written_and_no_two_blocks_overlap(void **state) {
    /* Programs would overwrite each other's data. */
    (void)state;
    berth_pool *pool = berth_pool_default();
    unsigned char *blocks[2 * SIZES];
    for (unsigned i = 0; i < 2 * SIZES; i++) {
        size_t size = some_sizes[i / 2];
        blocks[i] = berth_alloc(pool, size);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        assert_true(berth_usable_size(blocks[i]) >= size);
        assert_int_equal(berth_usable_size(blocks[i]), berth_good_size(size));
        memset(blocks[i], (int)i + 1, berth_usable_size(blocks[i]));
    }
    for (unsigned i = 0; i < 2 * SIZES; i++) {
        size_t usable = berth_usable_size(blocks[i]);
        assert_int_equal(blocks[i][0], i + 1);
        assert_memory_equal(blocks[i], blocks[i] + 1, usable - 1);
        berth_free(blocks[i]);
    }
    check_nothing_lives(pool);
}

static void a_good_size_wastes_nothing_and_is_none_for_what_cannot_be(void **state) {
    /* Callers that ask for good sizes would waste memory, or believe that a hopeless one can be
     * had. */
    (void)state;
    size_t before = 0;
    for (size_t size = 0; size <= 5 * MiB; size += size < 20000 ? 1 : 1009) {
        size_t good = berth_good_size(size);
        assert_true(good >= size && good >= before);
        assert_int_equal(berth_good_size(good), good);
        assert_true(size <= 128 || good - size <= size / 8 + 4096);
        before = good;
    }
    assert_int_equal(berth_good_size(SIZE_MAX), 0);
    assert_int_equal(berth_good_size(PTRDIFF_MAX), 0);
}

static void a_size_beyond_all_addresses_fails_with_enomem(void **state) {
    /* Overflow in rounding would give a small block for a huge request. */
    (void)state;
    berth_pool *pool = berth_pool_default();
    const size_t sizes[] = {SIZE_MAX,    SIZE_MAX - 15,       (size_t)PTRDIFF_MAX + 1,
                            PTRDIFF_MAX, PTRDIFF_MAX / 2 + 1, (size_t)1 << 50};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        errno = 0;
        assert_null(berth_alloc(pool, sizes[i]));
        assert_int_equal(errno, ENOMEM);
        errno = 0;
        assert_null(berth_alloc_aligned(pool, 4096, sizes[i]));
        assert_int_equal(errno, ENOMEM);
        assert_null(berth_alloc_flags(pool, sizes[i], BERTH_ZERO | BERTH_ALIGN_LOG2(30)));
        void *block = berth_alloc(pool, 100);
        fill(block, 100);
        errno = 0;
        assert_null(berth_realloc(pool, block, sizes[i]));
        assert_int_equal(errno, ENOMEM);
        assert_true(is_filled(block, block, 100));
        berth_free(block);
    }
    check_nothing_lives(pool);
}

static void a_block_has_any_alignment_that_is_asked_for(void **state) {
    /* Direct I/O, vector code, and huge pages rely on it. */
    (void)state;
    berth_pool *pool = berth_pool_default();
    for (unsigned log2 = 0; log2 <= 26; log2++) {
        size_t alignment = (size_t)1 << log2;
        void *blocks[2 * SIZES];
        for (unsigned i = 0; i < 2 * SIZES; i++) {
            size_t size = some_sizes[i / 2];
            blocks[i] = i % 2 == 0 ? berth_alloc_aligned(pool, alignment, size)
                                   : berth_alloc_flags(pool, size, BERTH_ALIGN_LOG2(log2));
            assert_non_null(blocks[i]);
            assert_int_equal((uintptr_t)blocks[i] % alignment, 0);
            assert_true(berth_usable_size(blocks[i]) >= size);
            *(volatile char *)blocks[i] = 1;
        }
        for (unsigned i = 0; i < 2 * SIZES; i++) {
            berth_free(blocks[i]);
        }
    }
    check_nothing_lives(pool);
}

static void an_empty_block_with_an_alignment_beyond_a_chunk_is_a_block(void **state) {
    /* Its slot would be given away while it lives. */
    (void)state;
    berth_pool *pool = berth_pool_default();
    void *blocks[6];
    for (unsigned i = 0; i < 6; i++) {
        blocks[i] = berth_alloc_aligned(pool, (size_t)8 << 20 << (i / 2), 0);
        assert_non_null(blocks[i]);
        for (unsigned k = 0; k < i; k++) {
            assert_ptr_not_equal(blocks[i], blocks[k]);
        }
        memset(blocks[i], 1, berth_usable_size(blocks[i]));
    }
    for (unsigned i = 0; i < 6; i++) {
        berth_free(blocks[i]);
    }
    check_nothing_lives(pool);
}

static void bad_alignments_and_flags_are_refused(void **state) {
    /* A caller's slip would go unnoticed. */
    (void)state;
    berth_pool *pool = berth_pool_default();
    const size_t alignments[] = {0, 3, 48, 4095, SIZE_MAX};
    for (unsigned i = 0; i < sizeof(alignments) / sizeof(alignments[0]); i++) {
        errno = 0;
        assert_null(berth_alloc_aligned(pool, alignments[i], 10));
        assert_int_equal(errno, EINVAL);
    }
    const unsigned flags[] = {8, 16, 128, 1u << 14, 1u << 31};
    for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        errno = 0;
        assert_null(berth_alloc_flags(pool, 10, flags[i]));
        assert_int_equal(errno, EINVAL);
    }
    errno = 0;
    assert_null(berth_alloc_aligned(pool, (size_t)1 << 62, 10));
    assert_int_equal(errno, ENOMEM);
    errno = 0;
    assert_null(berth_alloc_flags(pool, 10, BERTH_ALIGN_LOG2(63)));
    assert_int_equal(errno, ENOMEM);
}

/* Free runs of 8 pages, none of them aligned to 8 but the last, which the shortest look misses. */
static void an_aligned_run_is_found_behind_many_others(void **state) {
    /* The request would spin for ever between an arena that has room and a search that misses it.
     */
    (void)state;
    enum { HOLES = 13 };
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.arenas = 1;
    berth_pool *pool = berth_pool_create("aligned", &options);
    void *holes[HOLES];
    char *first = berth_alloc(pool, (size_t)5 * 4096);
    for (unsigned i = 0; i < HOLES; i++) {
        holes[i] = berth_alloc(pool, (size_t)8 * 4096);
        assert_non_null(berth_alloc(pool, (size_t)5 * 4096));
    }
    /* 192 pages are mapped by now, all but the last 18 used. */
    size_t mapped = figures_of(pool).chunk_bytes;
    size_t used = figures_of(pool).run_lent_bytes;
    size_t fill_bytes = mapped - used - (size_t)8 * 4096;
    assert_int_equal(mapped % ((size_t)8 * 4096), 0);
    assert_non_null(berth_alloc(pool, fill_bytes));
    for (unsigned i = 0; i < HOLES; i++) {
        berth_free(holes[i]);
    }
    berth__run_caches_flush(berth__pool_arenas(pool));
    char *aligned = berth_alloc_aligned(pool, (size_t)8 * 4096, (size_t)8 * 4096);
    assert_non_null(aligned);
    assert_int_equal((uintptr_t)aligned % ((size_t)8 * 4096), 0);
    assert_true(aligned > first);
    assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), 0);
}

static void a_zeroed_block_is_zero_whatever_lay_there(void **state) {
    /* calloc would hand out a stranger's data: small, reused, dirty runs, retained huge memory. */
    (void)state;
    berth_pool *pool = berth_pool_default();
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < SIZES; i++) {
            size_t size = some_sizes[i];
            unsigned align = round % 2 == 0 ? 0 : BERTH_ALIGN_LOG2(13);
            void *dirty[3];
            for (unsigned k = 0; k < 3; k++) {
                dirty[k] = berth_alloc_flags(pool, size, align);
                memset(dirty[k], 0xa5, berth_usable_size(dirty[k]));
            }
            for (unsigned k = 0; k < 3; k++) {
                berth_free(dirty[k]);
            }
            if (round == 2) {
                berth_thread_flush();
            } else if (round == 3) {
                berth_trim(pool);
            }
            for (unsigned k = 0; k < 3; k++) {
                dirty[k] = berth_alloc_flags(pool, size, BERTH_ZERO | align);
                assert_true(is_zero(dirty[k], size));
            }
            for (unsigned k = 0; k < 3; k++) {
                berth_free(dirty[k]);
            }
        }
    }
    check_nothing_lives(pool);
}

static void zeroed_runs_are_zero_where_clean_and_dirty_pages_meet(void **state) {
    /* Pages known to be zero are not cleared; one that is wrongly known would leak old data. */
    (void)state;
    berth_pool *pool = berth_pool_default();
    struct unit_random random = {1};
    void *blocks[64] = {NULL};
    for (unsigned i = 0; i < 4000; i++) {
        unsigned slot = (unsigned)unit_random_below(&random, 64);
        berth_free(blocks[slot]);
        size_t size = 16385 + unit_random_below(&random, 150000);
        bool zero = unit_random_below(&random, 2) == 0;
        blocks[slot] = berth_alloc_flags(pool, size, zero ? BERTH_ZERO : 0);
        assert_true(!zero || is_zero(blocks[slot], size));
        memset(blocks[slot], 0x5a, unit_random_below(&random, 2) == 0 ? size : size / 2);
        if (unit_random_below(&random, 400) == 0) {
            berth_trim(pool);
        }
    }
    berth_free_batch(blocks, 64);
    check_nothing_lives(pool);
}

static void realloc_keeps_what_fits_whatever_the_sizes(void **state) {
    /* A growing or shrinking buffer would lose its data. */
    (void)state;
    berth_pool *pool = berth_pool_default();
    for (unsigned from = 0; from < SIZES; from++) {
        for (unsigned to = 0; to < SIZES; to++) {
            size_t kept = some_sizes[from] < some_sizes[to] ? some_sizes[from] : some_sizes[to];
            char *block = berth_alloc(pool, some_sizes[from]);
            void *was_at = block;
            fill(block, some_sizes[from]);
            block = berth_realloc(NULL, block, some_sizes[to]);
            assert_non_null(block);
            assert_true(berth_usable_size(block) >= some_sizes[to]);
            assert_true(is_filled(block, was_at, kept));
            memset(block, 1, berth_usable_size(block));
            berth_free(block);
        }
    }
    check_nothing_lives(pool);
}

static void a_block_grows_and_shrinks_where_it_lies_if_it_can(void **state) {
    /* Growing buffers would be copied each time. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.arenas = 1;
    berth_pool *pool = berth_pool_create("in-place", &options);
    char *small = berth_alloc(pool, 1000);
    assert_ptr_equal(berth_realloc(pool, small, 1020), small);
    assert_ptr_equal(berth_realloc(pool, small, 600), small);
    assert_ptr_not_equal(berth_realloc(pool, small, 10), small);

    char *run = berth_alloc(pool, 20000);
    size_t mapped = figures_of(pool).chunk_bytes;
    char *grown = berth_realloc(pool, run, 60000);
    assert_ptr_equal(grown, run);
    assert_true(berth_usable_size(run) >= 60000);
    assert_ptr_equal(berth_realloc(pool, run, 20000), run);
    assert_int_equal(berth_usable_size(run), 20480);
    assert_int_equal(figures_of(pool).chunk_bytes, mapped);

    char *huge = berth_alloc(pool, 6 * MiB);
    fill(huge, 6 * MiB);
    assert_ptr_equal(berth_realloc(pool, huge, 40 * MiB), huge);
    assert_int_equal(berth_usable_size(huge), 40 * MiB);
    assert_true(is_filled(huge, huge, 6 * MiB) && is_zero(huge + 6 * MiB, 34 * MiB));
    assert_ptr_equal(berth_realloc(pool, huge, 5 * MiB), huge);
    assert_int_equal(figures_of(pool).huge_bytes, 5 * MiB);
    assert_true(is_filled(huge, huge, 5 * MiB));
    check_balance(pool);
    assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), 0);
}

static void a_block_is_extended_where_it_lies_or_not_at_all(void **state) {
    /* Who holds the old address would lose its data. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.arenas = 1;
    berth_pool *pool = berth_pool_create("extended", &options);
    unsigned char *small = berth_alloc(pool, 100);
    fill(small, 100);
    assert_true(berth_extend(small, berth_usable_size(small)));
    assert_false(berth_extend(small, berth_usable_size(small) + 1));
    assert_true(berth_extend(small, 10)); /* nothing to do */
    assert_true(is_filled(small, small, 100));
    unsigned char *run = berth_alloc(pool, 64 * KiB);
    fill(run, 64 * KiB);
    assert_true(berth_extend(run, 80 * KiB));
    assert_true(berth_usable_size(run) >= 80 * KiB);
    assert_true(is_filled(run, run, 64 * KiB));
    assert_false(berth_extend(run, 64 * MiB));
    berth_free(small);
    berth_free(run);
    check_nothing_lives(pool);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void a_huge_block_that_is_walled_in_moves_by_remapping(void **state) {
    /* Both copies would be charged at once: under a limit the move would fail. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.limit = 64 * MiB;
    options.wait_ms = 0;
    berth_pool *pool = berth_pool_create("moves", &options);
    char *huge = berth_alloc(pool, 40 * MiB);
    char *wall = berth_alloc(pool, 5 * MiB);
    assert_true(wall > huge);
    fill(huge, 40 * MiB);
    char *moved = berth_realloc(pool, huge, 58 * MiB);
    assert_non_null(moved);
    assert_ptr_not_equal(moved, huge);
    assert_true(is_filled(moved, huge, 40 * MiB));
    assert_int_equal(berth_pool_limit_used(pool), 63 * MiB);
    errno = 0;
    assert_null(berth_realloc(pool, moved, 60 * MiB));
    assert_int_equal(errno, ENOMEM);
    assert_true(is_filled(moved, huge, 40 * MiB));
    berth_free(moved);
    berth_free(wall);
    check_balance(pool);
    assert_int_equal(berth_pool_limit_used(pool), 0);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void take_what_there_is(berth_pool *pool, size_t size, void **blocks, size_t *count,
                               size_t most) {
    while (*count < most && (blocks[*count] = berth_alloc(pool, size)) != NULL) {
        (*count)++;
    }
}

static void a_block_shrinks_also_where_there_is_no_room_for_another(void **state) {
    /* Programs do not expect it to fail, and stop when it does. */
    (void)state;
    enum { MOST = 4096 };
    static void *blocks[MOST];
    static const size_t sizes[] = {1000, 9000, 20000, 200000, 5 * MiB};
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.limit = 20 * MiB;
    options.wait_ms = 0;
    options.arenas = 1;
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t to = 1; to < sizes[i]; to = to * 3 + 1) {
            berth_pool *pool = berth_pool_create("full", &options);
            size_t count = 0;
            take_what_there_is(pool, sizes[i], blocks, &count, MOST);
            take_what_there_is(pool, 9000, blocks, &count, MOST);
            take_what_there_is(pool, to > 400 ? 400 : to, blocks, &count, MOST);
            fill(blocks[0], sizes[i]);
            uint64_t failures = figures_of(pool).failures;
            void *shrunk = berth_realloc(pool, blocks[0], to);
            assert_non_null(shrunk);
            assert_true(berth_usable_size(shrunk) >= to);
            assert_true(is_filled(shrunk, blocks[0], to));
            assert_true(sizes[i] < 5 * MiB || berth_usable_size(shrunk) <= 4 * MiB + 65536);
            assert_int_equal(figures_of(pool).failures, failures);
            blocks[0] = shrunk;
            berth_free_batch(blocks, count);
            check_balance(pool);
            assert_int_equal(berth_pool_destroy(pool, 0), 0);
        }
    }
}

static void a_block_stays_in_its_pool_when_it_is_resized(void **state) {
    /* Its bytes would be charged to a pool that the caller did not mean. */
    (void)state;
    berth_pool *pool = berth_pool_create("stays", NULL);
    for (unsigned i = 0; i < SIZES; i++) {
        void *block = berth_realloc(pool, NULL, 100);
        assert_ptr_equal(berth_pool_of(block), pool);
        block = berth_realloc(berth_pool_default(), block, some_sizes[i]);
        assert_ptr_equal(berth_pool_of(block), pool);
        berth_free(block);
    }
    void *of_default = berth_realloc(NULL, NULL, 100);
    assert_ptr_equal(berth_pool_of(of_default), berth_pool_default());
    berth_free(of_default);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void a_batch_gives_what_there_is(void **state) {
    /* A caller that takes a partial batch for a whole one would use wild pointers. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.limit = 8 * MiB;
    options.wait_ms = 0;
    berth_pool *pool = berth_pool_create("batch", &options);
    void *blocks[100];
    memset(blocks, 0xee, sizeof(blocks));
    assert_int_equal(berth_alloc_batch(pool, 100, 50, blocks), 50);
    for (unsigned i = 0; i < 50; i++) {
        fill(blocks[i], 100);
    }
    void *large[100];
    void *untouched = large;
    for (unsigned i = 0; i < 100; i++) {
        large[i] = untouched;
    }
    errno = 0;
    size_t got = berth_alloc_batch(pool, MiB, 100, large);
    assert_int_equal(errno, ENOMEM);
    assert_in_range(got, 6, 7);
    assert_ptr_equal(large[got], untouched);
    for (size_t i = 0; i < got; i++) {
        memset(large[i], 1, MiB);
    }
    for (unsigned i = 0; i < 50; i++) {
        assert_true(is_filled(blocks[i], blocks[i], 100));
    }
    large[got] = NULL;
    blocks[50] = blocks[7];
    blocks[7] = NULL;
    berth_free_batch(large, got + 1);
    berth_free_batch(blocks, 51);
    berth_free_batch(NULL, 0);
    assert_int_equal(berth_alloc_batch(pool, 10, 0, NULL), 0);
    check_nothing_lives(pool);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void a_block_is_freed_to_its_pool_whatever_pool_is_named(void **state) {
    /* Blocks would be cached in a pool that they are not of. */
    (void)state;
    berth_pool *pools[] = {berth_pool_default(), berth_pool_create("one", NULL),
                           berth_pool_create("two", NULL)};
    for (unsigned i = 0; i < SIZES * 9 * 3; i++) {
        berth_pool *of = pools[i % 3], *named = pools[i / 3 % 3];
        berth_pool_free(named, berth_alloc(of, some_sizes[i / 9 % SIZES]));
    }
    berth_pool_free(pools[1], NULL);
    for (unsigned i = 0; i < 3; i++) {
        check_nothing_lives(pools[i]);
    }
    assert_int_equal(berth_pool_destroy(pools[1], 0), 0);
    assert_int_equal(berth_pool_destroy(pools[2], 0), 0);
}

static void free_keeps_errno_and_ignores_null(void **state) {
    /* Error paths that free before they report would report something else. */
    (void)state;
    berth_pool *pool = berth_pool_default();
    for (unsigned i = 0; i < SIZES; i++) {
        void *block = berth_alloc(pool, some_sizes[i]);
        void *sized = berth_alloc(pool, some_sizes[i]);
        void *whole = berth_alloc(pool, some_sizes[i]);
        size_t usable = berth_usable_size(whole);
        errno = 12345;
        berth_free(block);
        berth_free_sized(sized, some_sizes[i]);
        berth_free_sized(whole, usable);
        assert_int_equal(errno, 12345);
    }
    errno = 12345;
    berth_free(NULL);
    berth_free_sized(NULL, 100);
    assert_int_equal(berth_usable_size(NULL), 0);
    berth_thread_flush();
    berth_thread_idle();
    assert_int_equal(errno, 12345);
    check_nothing_lives(pool);
}

static void after_everything_is_freed_and_trimmed_nothing_is_mapped(void **state) {
    /* Memory would not shrink after a peak. */
    (void)state;
    enum { BLOCKS = 20000 };
    static void *blocks[BLOCKS];
    berth_pool *pool = berth_pool_default();
    struct unit_random random = {7};
    for (unsigned i = 0; i < BLOCKS; i++) {
        blocks[i] = berth_alloc(pool, unit_random_below(&random, 100) == 0
                                          ? unit_random_below(&random, 6 * MiB)
                                          : unit_random_below(&random, 5000));
        assert_non_null(blocks[i]);
    }
    check_balance(pool);
    berth_free_batch(blocks, BLOCKS);
    size_t returned = berth_trim(NULL);
    assert_true(returned > 0);
    assert_int_equal(berth_limit_used(), 0);
    assert_int_equal(berth_trim(NULL), 0);
    check_nothing_lives(pool);
}

static void a_hundred_large_buffers_one_after_another_use_one_buffer_s_memory(void **state) {
    /* Each would map and unmap, or the memory of all would pile up. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.arenas = 1;
    berth_pool *pool = berth_pool_create("one-by-one", &options);
    for (unsigned i = 0; i < 100; i++) {
        void *block = berth_alloc(pool, MiB);
        memset(block, 1, MiB);
        assert_true(figures_of(pool).capacity_bytes < 8 * MiB);
        berth_free(block);
    }
    struct berth_pool_metrics after = figures_of(pool);
    assert_true(after.chunk_maps < 10);
    assert_int_equal(after.allocations, 100);
    assert_int_equal(after.frees, 100);
    assert_int_equal(after.live_high_bytes, 0);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_of_a_block_may_be_written_and_no_two_blocks_overlap),
        cmocka_unit_test(a_good_size_wastes_nothing_and_is_none_for_what_cannot_be),
        cmocka_unit_test(a_size_beyond_all_addresses_fails_with_enomem),
        cmocka_unit_test(a_block_has_any_alignment_that_is_asked_for),
        cmocka_unit_test(an_empty_block_with_an_alignment_beyond_a_chunk_is_a_block),
        cmocka_unit_test(bad_alignments_and_flags_are_refused),
        cmocka_unit_test(an_aligned_run_is_found_behind_many_others),
        cmocka_unit_test(a_zeroed_block_is_zero_whatever_lay_there),
        cmocka_unit_test(zeroed_runs_are_zero_where_clean_and_dirty_pages_meet),
        cmocka_unit_test(realloc_keeps_what_fits_whatever_the_sizes),
        cmocka_unit_test(a_block_grows_and_shrinks_where_it_lies_if_it_can),
        cmocka_unit_test(a_block_is_extended_where_it_lies_or_not_at_all),
        cmocka_unit_test(a_huge_block_that_is_walled_in_moves_by_remapping),
        cmocka_unit_test(a_block_shrinks_also_where_there_is_no_room_for_another),
        cmocka_unit_test(a_block_stays_in_its_pool_when_it_is_resized),
        cmocka_unit_test(a_batch_gives_what_there_is),
        cmocka_unit_test(a_block_is_freed_to_its_pool_whatever_pool_is_named),
        cmocka_unit_test(free_keeps_errno_and_ignores_null),
        cmocka_unit_test(after_everything_is_freed_and_trimmed_nothing_is_mapped),
        cmocka_unit_test(a_hundred_large_buffers_one_after_another_use_one_buffer_s_memory),
    };
    return UNIT_RUN(tests);
}
