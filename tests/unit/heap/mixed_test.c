/* Holes of one class that serve another: slabs of which some blocks are cut into parts. */
#include "figures.h"
#include "metadata.h"

#include "heap/engine.h"
#include "heap/mixed.h"
#include "heap/request.h"
#include "os/fault.h"
#include "pool/pool.h"

enum { LARGE = 1050, LARGE_CLASS = 1056, SMALL = 305, SMALL_CLASS = 320 };
enum { LARGES = 12000, HOLES = LARGES / 2, SMALLS = 3 * HOLES };

static berth_pool *pool;
static char *larges[LARGES];
static char *smalls[SMALLS];

static int start_of_test(void **state) {
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.arenas = 1;
    options.decay_ms = 60000; /* what is cut here would be purged */
    pool = berth_pool_create("mixed", &options);
    berth__mixed_policy.slabs = 1;
    berth__mixed_policy.free_bytes = 256 << 10;
    return pool == NULL;
}

static int end_of_test(void **state) {
    (void)state;
    return berth_pool_destroy(pool, BERTH_FORCE);
}

static void check_heaps(void) {
    for (uint32_t number = 1; number < berth__heap_numbers(); number++) {
        struct berth__heap *heap = berth__load_acquire(&berth__heaps[number]);
        UNIT_CHECK(heap == NULL || berth__heap_is_valid(heap));
    }
    check_balance_of(pool);
}

static bool is_mixed(const void *block) {
    return BERTH_ENTRY_KIND(berth__load_relaxed(berth__entry_find(block))) == BERTH_UNIT_MIXED;
}

static char *filled(size_t size) {
    char *block = berth_alloc(pool, size);
    UNIT_CHECK(block != NULL);
    fill(block, size);
    return block;
}

/* Every second large block is freed, and `count` small ones come. */
static void make_holes(void) {
    for (unsigned i = 0; i < LARGES; i++) {
        larges[i] = filled(LARGE);
    }
    for (unsigned i = 0; i < LARGES; i += 2) {
        berth_free(larges[i]);
        larges[i] = NULL;
    }
}

static unsigned use_holes(unsigned count) {
    unsigned parts = 0;
    for (unsigned i = 0; i < count; i++) {
        smalls[i] = filled(SMALL);
        parts += is_mixed(smalls[i]);
    }
    return parts;
}

static void check_content(unsigned count) {
    for (unsigned i = 1; i < LARGES; i += 2) {
        UNIT_CHECK(is_filled(larges[i], larges[i], LARGE));
    }
    for (unsigned i = 0; i < count; i++) {
        UNIT_CHECK(is_filled(smalls[i], smalls[i], SMALL));
    }
}

static void free_larges(void) {
    for (unsigned i = 1; i < LARGES; i += 2) {
        berth_free(larges[i]);
    }
}

static void free_smalls(unsigned from, unsigned count, unsigned step) {
    for (unsigned i = from; i < count; i += step) {
        berth_free(smalls[i]);
    }
}

static struct berth_class_metrics of_class(size_t size) {
    struct berth_class_metrics class;
    UNIT_CHECK(berth_metrics_read_class(pool, berth__class_of_size(size), &class, sizeof(class)) ==
               0);
    return class;
}

static void a_class_whose_holes_hold_no_memory_does_not_stand_in_the_way(void **state) {
    /* It has the most to spare, and nothing that is ready: nobody's holes would be used. */
    (void)state;
    enum { OTHERS = 4000, OTHER = 8000 };
    static void *others[OTHERS];
    UNIT_CHECK(berth_alloc_batch(pool, OTHER, OTHERS, others) == OTHERS);
    for (unsigned i = 0; i < OTHERS; i += 2) {
        berth_free(others[i]);
    }
    berth_trim(pool);
    make_holes();
    unsigned parts = use_holes(SMALLS / 2);
    assert_true(parts > SMALLS / 2 / 10 * 9);
    check_content(SMALLS / 2);
    for (unsigned i = 1; i < OTHERS; i += 2) {
        berth_free(others[i]);
    }
}

static void holes_between_blocks_serve_a_smaller_class(void **state) {
    /* Values that become smaller would need fresh memory beside the holes that they leave. */
    (void)state;
    make_holes();
    uint64_t before = figures_of(pool).chunk_bytes;
    unsigned parts = use_holes(SMALLS / 2);
    assert_true(parts > SMALLS / 2 / 10 * 9);
    assert_true(figures_of(pool).chunk_bytes < before + 1 * MiB);
    check_content(SMALLS / 2);
    check_heaps();
    free_smalls(0, SMALLS / 2, 2);
    check_heaps();
    free_larges();
    check_heaps();
    free_smalls(1, SMALLS / 2, 2);
    check_heaps();
    check_nothing_lives(pool);
    assert_int_equal(figures_of(pool).chunk_bytes, 0);
}

static void few_slabs_are_mixed_while_the_others_become_empty(void **state) {
    /* Parts all over would hold every page that a burst of large blocks once used. */
    (void)state;
    make_holes();
    (void)use_holes(HOLES / 2);
    free_larges();
    berth_trim(pool);
    struct berth_pool_metrics now = figures_of(pool);
    uint64_t needed = (uint64_t)HOLES / 2 * SMALL_CLASS;
    assert_true(now.chunk_bytes - now.run_free_bytes < 3 * needed + 1 * MiB);
    free_smalls(0, HOLES / 2, 1);
    check_nothing_lives(pool);
}

static void figures_of_both_classes_are_exact(void **state) {
    /* Metrics would show blocks that nobody has, or hide some. */
    (void)state;
    make_holes();
    (void)use_holes(HOLES);
    berth_thread_flush();
    assert_int_equal(of_class(LARGE).lent_blocks, LARGES / 2);
    assert_int_equal(of_class(SMALL).lent_blocks, HOLES);
    free_smalls(0, HOLES, 3);
    free_smalls(1, HOLES, 3);
    berth_thread_flush();
    assert_int_equal(of_class(SMALL).lent_blocks, HOLES / 3);
    assert_int_equal(of_class(SMALL).allocations - of_class(SMALL).frees, HOLES / 3);
    uint64_t lent = (uint64_t)HOLES / 3 * SMALL_CLASS + (uint64_t)LARGES / 2 * LARGE_CLASS;
    assert_int_equal(figures_of(pool).slab_lent_bytes, lent);
    check_heaps();
}

static void a_part_has_its_own_size(void **state) {
    /* A program that writes to all that it is told of would write into the next block. */
    (void)state;
    make_holes();
    (void)use_holes(HOLES);
    unsigned tried = 0;
    for (unsigned i = 0; i < HOLES && tried < 1000; i++) {
        if (!is_mixed(smalls[i])) {
            continue;
        }
        tried++;
        assert_int_equal(berth_usable_size(smalls[i]), SMALL_CLASS);
        assert_ptr_equal(berth_pool_of(smalls[i]), pool);
        assert_ptr_equal(berth_realloc(pool, smalls[i], SMALL_CLASS), smalls[i]);
        if (tried % 2 == 0) {
            char *was_at = smalls[i];
            smalls[i] = berth_realloc(pool, smalls[i], 2000);
            assert_ptr_not_equal(smalls[i], was_at);
            assert_true(is_filled(smalls[i], was_at, SMALL));
            berth_free(smalls[i]);
        } else {
            berth_free_sized(smalls[i], SMALL);
        }
        smalls[i] = filled(SMALL);
    }
    assert_int_equal(tried, 1000);
    for (unsigned i = 1; i < LARGES; i += 200) {
        assert_int_equal(berth_usable_size(larges[i]), LARGE_CLASS);
    }
    check_content(HOLES);
}

static void aligned_requests_get_aligned_parts(void **state) {
    /* Vector instructions fault, and direct IO fails, on what is not aligned. */
    (void)state;
    make_holes();
    unsigned parts = 0;
    for (unsigned i = 0; i < HOLES; i++) {
        smalls[i] = berth_alloc_aligned(pool, 64, SMALL);
        assert_int_equal((uintptr_t)smalls[i] % 64, 0);
        parts += is_mixed(smalls[i]);
    }
    assert_true(parts > HOLES / 2);
}

/* ---- threads ---- */

static void *free_every_third_small(void *from) {
    free_smalls(*(unsigned *)from, SMALLS / 2, 3);
    return NULL;
}

static void *allocate_of_both(void *unused) {
    (void)unused;
    enum { OWN = 2000 };
    char **own = calloc(OWN, sizeof(*own));
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < OWN; i++) {
            own[i] = filled(i % 3 == 0 ? LARGE : SMALL);
        }
        for (unsigned i = 0; i < OWN; i++) {
            UNIT_CHECK(is_filled(own[i], own[i], i % 3 == 0 ? LARGE : SMALL));
            berth_free(own[i]);
        }
    }
    free(own);
    return NULL;
}

static void parts_that_other_threads_free_come_home(void **state) {
    /* They would be lost, or lent by the thread that freed them as something else. */
    (void)state;
    make_holes();
    (void)use_holes(SMALLS / 2);
    unsigned from[3] = {0, 1, 2};
    pthread_t threads[3];
    for (unsigned t = 0; t < 3; t++) {
        threads[t] = start_thread(free_every_third_small, &from[t]);
    }
    free_larges();
    (void)allocate_of_both(NULL);
    for (unsigned t = 0; t < 3; t++) {
        join_thread(threads[t]);
    }
    check_nothing_lives(pool);
    check_heaps();
}

static void *make_and_use_holes(void *unused) {
    (void)unused;
    make_holes();
    (void)use_holes(SMALLS / 2);
    return NULL;
}

static void mixed_slabs_of_a_thread_that_ended_serve_others(void **state) {
    /* Its memory would stay unused, or its blocks be taken for those of another class. */
    (void)state;
    join_thread(start_thread(make_and_use_holes, NULL));
    free_smalls(0, SMALLS / 2, 2);
    berth_thread_flush();
    run_threads(4, allocate_of_both, NULL);
    check_heaps();
    for (unsigned i = 1; i < SMALLS / 2; i += 2) {
        assert_true(is_filled(smalls[i], smalls[i], SMALL));
    }
    free_smalls(1, SMALLS / 2, 2);
    free_larges();
    check_nothing_lives(pool);
    check_heaps();
}

static void in_the_child(void *unused) {
    (void)unused;
    check_content(SMALLS / 2);
    free_smalls(0, SMALLS / 2, 1);
    free_larges();
    check_nothing_lives(pool);
    (void)allocate_of_both(NULL);
}

static void the_child_of_a_fork_goes_on_with_them(void **state) {
    /* The child would not know what was cut. */
    (void)state;
    make_holes();
    (void)use_holes(SMALLS / 2);
    berth_thread_flush();
    assert_int_equal(unit_in_child_line(in_the_child, NULL, NULL, 0), 0);
    in_the_child(NULL);
}

/* ---- faults ---- */

static char *a_part(unsigned which) {
    for (unsigned i = 0; i < SMALLS / 2; i++) {
        if (is_mixed(smalls[i]) && which-- == 0) {
            return smalls[i];
        }
    }
    return NULL;
}

static void twice_at_once(void *unused) {
    (void)unused;
    berth_free(a_part(7));
    berth_free(a_part(7));
}

static void twice_after_a_flush(void *unused) {
    (void)unused;
    char *part = a_part(7);
    char *neighbour = a_part(8); /* of the same block, whose other part keeps it cut */
    assert_int_equal(neighbour - part, SMALL_CLASS);
    berth_free(part);
    berth_thread_flush();
    berth_free(part);
    berth_thread_flush();
}

static void into_a_part(void *unused) {
    (void)unused;
    berth_free(a_part(7) + 16);
}

static void into_a_whole_block(void *unused) {
    (void)unused;
    for (unsigned i = 1; i < LARGES; i += 2) {
        if (is_mixed(larges[i])) {
            berth_free(larges[i] + SMALL_CLASS);
        }
    }
}

static void size_of_what_is_in_a_part(void *unused) {
    (void)unused;
    (void)berth_usable_size(a_part(7) + 16);
}

static void misuse_of_a_part_is_found(void **state) {
    /* Two owners of a part, or of a part and a block, would corrupt each other's data. */
    (void)state;
    const struct {
        void (*fault)(void *);
        const char *line;
    } cases[] = {
        {twice_at_once, "double free"},
        {twice_after_a_flush, "double free"},
        {into_a_part, "free of a pointer inside a block"},
        {into_a_whole_block, "free of a pointer inside a block"},
        {size_of_what_is_in_a_part, "size of a pointer inside a block"},
    };
    make_holes();
    (void)use_holes(SMALLS / 2);
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(cases); i++) {
        char line[256];
        assert_int_equal(unit_in_child_line(cases[i].fault, NULL, line, sizeof(line)), -SIGABRT);
        assert_non_null(strstr(line, cases[i].line));
        assert_non_null(strstr(line, "pointer 0x"));
    }
}

static void without_metadata_nothing_is_cut(void **state) {
    /* The request would fail, though there is memory for it. */
    (void)state;
#if !BERTH_FAULTS
    skip();
#else
    make_holes();
    unit_use_up_metadata();
    unsigned parts = use_holes(100);
    berth__os_fail_after(BERTH_OS_COMMIT, 0, 0);
    assert_int_equal(parts, 0);
    check_content(100);
    assert_true(use_holes(HOLES) > 0);
    check_heaps();
#endif
}

static void a_pool_that_ends_takes_them_along(void **state) {
    /* Each round would leave bitmaps behind. */
    (void)state;
    uint64_t metadata = 0;
    for (unsigned round = 0; round < 6; round++) {
        make_holes();
        assert_true(use_holes(SMALLS / 2) > 0);
        assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), 0);
        metadata = round == 2 ? figures().metadata_bytes : metadata;
        assert_int_equal(start_of_test(state), 0);
    }
    assert_true(figures().metadata_bytes <= metadata + 64 * KiB);
}

int main(void) {
    (void)berth_pool_default();
#define TEST(function) cmocka_unit_test_setup_teardown(function, start_of_test, end_of_test)
    const struct CMUnitTest tests[] = {
        TEST(a_class_whose_holes_hold_no_memory_does_not_stand_in_the_way),
        TEST(holes_between_blocks_serve_a_smaller_class),
        TEST(few_slabs_are_mixed_while_the_others_become_empty),
        TEST(figures_of_both_classes_are_exact),
        TEST(a_part_has_its_own_size),
        TEST(aligned_requests_get_aligned_parts),
        TEST(parts_that_other_threads_free_come_home),
        TEST(mixed_slabs_of_a_thread_that_ended_serve_others),
        TEST(the_child_of_a_fork_goes_on_with_them),
        TEST(misuse_of_a_part_is_found),
        TEST(without_metadata_nothing_is_cut),
        TEST(a_pool_that_ends_takes_them_along),
    };
    return UNIT_RUN(tests);
}
