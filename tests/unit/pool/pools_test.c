/* Named pools: creation, options by structure, own limits, the end of a pool, lent memory. */
#include "figures.h"
#include "metadata.h"

#include "chunk/chunk.h"
#include "heap/engine.h"
#include "pool/pool.h"

#include <errno.h>
#include <sys/mman.h>

static struct berth_pool_options options_with(void) {
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.wait_ms = 0;
    return options;
}

static berth_pool *limited_pool(const char *name, uint64_t limit) {
    struct berth_pool_options options = options_with();
    options.limit = limit;
    berth_pool *pool = berth_pool_create(name, &options);
    assert_non_null(pool);
    return pool;
}

static void a_pool_is_found_by_its_name_and_by_its_blocks(void **state) {
    /* Metrics and tools would speak of the wrong pool. */
    (void)state;
    berth_pool *pool = berth_pool_create("A-name_of.31-characters-length-", NULL);
    assert_non_null(pool);
    assert_string_equal(berth_pool_name(pool), "A-name_of.31-characters-length-");
    assert_ptr_equal(berth_pool_find("A-name_of.31-characters-length-"), pool);
    assert_ptr_equal(berth_pool_find("default"), berth_pool_default());
    assert_string_equal(berth_pool_name(berth_pool_default()), "default");
    const size_t sizes[] = {10, 20000, 5 * MiB};
    for (unsigned i = 0; i < 3; i++) {
        void *mine = berth_alloc(pool, sizes[i]);
        void *other = berth_alloc(berth_pool_default(), sizes[i]);
        assert_ptr_equal(berth_pool_of(mine), pool);
        assert_ptr_equal(berth_pool_of(other), berth_pool_default());
        berth_free(mine);
        berth_free(other);
    }
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
    errno = 0;
    assert_null(berth_pool_find("A-name_of.31-characters-length-"));
    assert_null(berth_pool_find(NULL));
    assert_int_equal(errno, ENOENT);
}

static void bad_names_and_names_in_use_are_refused(void **state) {
    /* A name could break the metrics' formats, or stand for two pools. */
    (void)state;
    const char *const bad[] = {NULL,
                               "",
                               "with space",
                               "quote\"",
                               "new\nline",
                               "umlaut-\xc3\xa4",
                               "32-characters-are-one-too-many--",
                               "a/b",
                               "a{b}"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        errno = 0;
        assert_null(berth_pool_create(bad[i], NULL));
        assert_int_equal(errno, EINVAL);
    }
    berth_pool *pool = berth_pool_create("twice", NULL);
    errno = 0;
    assert_null(berth_pool_create("twice", NULL));
    assert_int_equal(errno, EEXIST);
    errno = 0;
    assert_null(berth_pool_create("default", NULL));
    assert_int_equal(errno, EEXIST);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
    pool = berth_pool_create("twice", NULL);
    assert_non_null(pool);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void refuse(struct berth_pool_options options) {
    errno = 0;
    assert_null(berth_pool_create("bad", &options));
    assert_int_equal(errno, EINVAL);
    assert_null(berth_pool_find("bad"));
}

static void options_out_of_range_are_refused(void **state) {
    /* A pool would behave in a way that nobody asked for. */
    (void)state;
    static char memory[512 << 10];
    struct berth_pool_options options = options_with();
#define REFUSED(field, value)                                                                      \
    options = options_with(), options.field = (value);                                             \
    refuse(options)
    REFUSED(struct_size, 0);
    REFUSED(struct_size, sizeof(options) - 1);
    REFUSED(chunk, 1);
    REFUSED(chunk, 128 << 10);
    REFUSED(chunk, (size_t)8 << 20);
    REFUSED(chunk, (1 << 20) + 4096);
    REFUSED(arenas, 65);
    REFUSED(decay_ms, -2);
    REFUSED(wait_ms, -2);
    REFUSED(reclaim, 2);
    REFUSED(reclaim, -2);
    REFUSED(thp, -1);
    REFUSED(thp, 4);
    REFUSED(one_thread, 2);
    REFUSED(one_thread, -1);
    REFUSED(memory, memory);
    REFUSED(memory_size, sizeof(memory));
#undef REFUSED
    options = options_with();
    options.memory = memory;
    options.memory_size = 256 << 10; /* not aligned to 64 KiB, it is too little */
    options.memory = memory + 16;
    refuse(options);
    options.memory = (void *)(uintptr_t)4096;
    options.memory_size = SIZE_MAX - 100;
    refuse(options);
}

static void options_of_the_structure_take_effect(void **state) {
    /* They would be silently ignored. */
    (void)state;
    struct berth_pool_options options = options_with();
    options.chunk = 256 << 10;
    options.arenas = 3;
    options.decay_ms = 77;
    options.wait_ms = 88;
    options.reclaim = 0;
    options.thp = BERTH_THP_OFF;
    options.limit = 16 * MiB;
    berth_pool *pool = berth_pool_create("options", &options);
    const struct berth__policy *policy = &berth__pool_arenas(pool)->policy;
    assert_int_equal(policy->chunk_bytes, 256 << 10);
    assert_int_equal(policy->arena_count, 3);
    assert_int_equal(policy->decay_ms, 77);
    assert_int_equal(policy->wait_ms, 88);
    assert_false(policy->reclaim);
    assert_int_equal(policy->thp, BERTH_THP_NEVER);
    assert_int_equal(berth_pool_limit_get(pool), 16 * MiB);
    void *run = berth_alloc(pool, 256 << 10);
    void *huge = berth_alloc(pool, (256 << 10) + 1);
    assert_int_equal(figures_of(pool).huge_blocks, 1);
    berth_free(run);
    berth_free(huge);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);

    options = options_with();
    options.struct_size = sizeof(options) + 64; /* of a later version */
    options.thp = BERTH_THP_ON;
    options.reclaim = 1;
    pool = berth_pool_create("options", &options);
    assert_int_equal(berth__pool_arenas(pool)->policy.thp, BERTH_THP_ALWAYS);
    assert_true(berth__pool_arenas(pool)->policy.reclaim);
    void *block = berth_alloc(pool, 3 * MiB);
    memset(block, 1, 3 * MiB);
    berth_free(block);
    block = berth_alloc(pool, 9 * MiB);
    memset(block, 1, 9 * MiB);
    berth_free(block);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void there_can_be_1024_pools_and_not_more(void **state) {
    /* The table would overflow, or a number of a destroyed pool would never be used again. */
    (void)state;
    static berth_pool *pools[1024];
    char name[32];
    for (unsigned i = 1; i < 1024; i++) {
        snprintf(name, sizeof(name), "pool%u", i);
        pools[i] = berth_pool_create(name, NULL);
        assert_non_null(pools[i]);
        if (i % 50 == 0) {
            assert_non_null(berth_alloc(pools[i], 100));
        }
    }
    errno = 0;
    assert_null(berth_pool_create("one-more", NULL));
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(berth_pool_destroy(pools[500], BERTH_FORCE), 0);
    pools[500] = berth_pool_create("one-more", NULL);
    assert_non_null(pools[500]);
    assert_int_equal(figures().pools, 1024);
    for (unsigned i = 1; i < 1024; i++) {
        assert_int_equal(berth_pool_destroy(pools[i], i % 50 == 0 ? BERTH_FORCE : 0), 0);
    }
    assert_int_equal(figures().pools, 1);
}

#if BERTH_FAULTS
static void create_without_memory(void *unused) {
    (void)unused;
    static char memory[1 << 20];
    struct berth_pool_options options = options_with();
    options.memory = memory;
    options.memory_size = sizeof(memory);
    UNIT_CHECK(berth_pool_default() != NULL);
    unit_use_up_metadata();
    errno = 0;
    UNIT_CHECK(berth_pool_create("poor", NULL) == NULL && errno == ENOMEM);
    UNIT_CHECK(berth_pool_find("poor") == NULL);
    berth__os_fail_after(BERTH_OS_COMMIT, 0, 0);
    /* The pool's own record, the lent memory's table, and then, too little. */
    for (unsigned passed = 0; berth_pool_find("lent") == NULL; passed++) {
        UNIT_CHECK(passed < 100);
        berth__os_fail_after(BERTH_OS_COMMIT, passed, UINT64_MAX);
        errno = 0;
        berth_pool *pool = berth_pool_create("lent", &options);
        UNIT_CHECK(pool != NULL || errno == ENOMEM);
        berth__os_fail_after(BERTH_OS_COMMIT, 0, 0);
    }
}
#endif

static void a_pool_that_cannot_be_made_leaves_nothing(void **state) {
    /* A name would be taken, or a caller's memory refused, because of a pool that is not there. */
    (void)state;
#if BERTH_FAULTS
    assert_int_equal(unit_in_child(create_without_memory, NULL), 0);
#endif
    static char memory[1 << 20];
    static berth_pool *pools[1023];
    struct berth_pool_options options = options_with();
    options.memory = memory;
    options.memory_size = sizeof(memory);
    char name[32];
    for (unsigned i = 0; i < 1023; i++) {
        snprintf(name, sizeof(name), "pool%u", i);
        pools[i] = berth_pool_create(name, NULL);
        assert_non_null(pools[i]);
    }
    uint64_t metadata = figures().metadata_bytes;
    for (unsigned i = 0; i < 20000; i++) {
        errno = 0;
        assert_null(berth_pool_create("lent", &options));
        assert_int_equal(errno, ENOSPC);
    }
    assert_int_equal(figures().metadata_bytes, metadata);
    assert_int_equal(berth_pool_destroy(pools[7], 0), 0);
    pools[7] = berth_pool_create("lent", &options);
    assert_non_null(pools[7]);
    errno = 0;
    assert_null(berth_pool_create("overlaps", &options));
    assert_int_equal(errno, EINVAL);
    for (unsigned i = 0; i < 1023; i++) {
        assert_int_equal(berth_pool_destroy(pools[i], 0), 0);
    }
}

static void a_pool_s_limit_holds_for_it_alone(void **state) {
    /* A tenant could take more than its share, or be refused because of another's. */
    (void)state;
    berth_pool *small = limited_pool("small", 8 * MiB);
    berth_pool *large = limited_pool("large", 32 * MiB);
    unsigned count = 0;
    void *blocks[64];
    while (count < 64 && (blocks[count] = berth_alloc(small, MiB)) != NULL) {
        count++;
        assert_true(berth_pool_limit_used(small) <= 8 * MiB);
    }
    assert_int_equal(count, 8);
    void *other = berth_alloc(large, 20 * MiB);
    assert_non_null(other);
    assert_int_equal(berth_pool_limit_set(small, 9 * MiB), 0);
    blocks[count] = berth_alloc(small, MiB);
    assert_non_null(blocks[count]);
    assert_int_equal(berth_pool_limit_set(small, 4 * MiB), 0);
    berth_free(blocks[0]);
    assert_null(berth_alloc(small, 5 * MiB));
    for (unsigned i = 1; i <= count; i++) {
        berth_free(blocks[i]);
    }
    berth_trim(small);
    assert_int_equal(berth_pool_limit_used(small), 0);
    assert_int_equal(berth_pool_limit_set(small, 0), -EINVAL);
    assert_int_equal(berth_pool_limit_set(small, BERTH_UNLIMITED), 0);
    assert_int_equal(berth_pool_limit_get(small), BERTH_UNLIMITED);
    berth_free(other);
    assert_int_equal(berth_pool_destroy(small, 0), 0);
    assert_int_equal(berth_pool_destroy(large, 0), 0);

    berth_pool *none = berth_pool_create("none", NULL);
    assert_int_equal(berth_pool_limit_set(none, MiB), -ENOTSUP);
    assert_int_equal(berth_pool_limit_set(berth_pool_default(), MiB), -ENOTSUP);
    assert_int_equal(berth_pool_limit_get(none), BERTH_UNLIMITED);
    assert_int_equal(berth_pool_limit_used(none), 0);
    assert_int_equal(berth_pool_destroy(none, 0), 0);
}

static void a_pool_with_any_live_block_is_not_destroyed(void **state) {
    /* A program would be left with pointers to memory that is gone. */
    (void)state;
    const size_t sizes[] = {1, 100, 16384, 20000, 2 * MiB, 5 * MiB};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        berth_pool *pool = berth_pool_create("busy", NULL);
        void *others[20];
        assert_int_equal(berth_alloc_batch(pool, sizes[i], 20, others), 20);
        void *block = berth_alloc(pool, sizes[i]);
        berth_free_batch(others, 20);
        fill(block, sizes[i]);
        assert_int_equal(berth_pool_destroy(pool, 0), -EBUSY);
        assert_int_equal(berth_pool_reset(pool, 0), -EBUSY);
        assert_true(is_filled(block, block, sizes[i]));
        berth_free(block);
        assert_int_equal(berth_pool_destroy(pool, 0), 0);
    }
    assert_int_equal(berth_pool_destroy(NULL, 0), -EINVAL);
    berth_pool *ended = berth_pool_create("ended", NULL);
    assert_int_equal(berth_pool_destroy(ended, 0), 0);
    assert_int_equal(berth_pool_destroy(ended, 0), -EINVAL);
    assert_int_equal(berth_pool_reset(ended, BERTH_FORCE), -EINVAL);
    assert_int_equal(berth_pool_destroy(berth_pool_default(), BERTH_FORCE), -EINVAL);
    assert_int_equal(berth_pool_reset(berth_pool_default(), BERTH_FORCE), -EINVAL);
    assert_int_equal(berth_pool_destroy(berth_pool_default(), 2), -EINVAL);
}

static pthread_barrier_t turn;

static void *use_and_stay(void *pool) {
    void *blocks[200];
    UNIT_CHECK(berth_alloc_batch(pool, 100, 200, blocks) == 200);
    berth_free_batch(blocks, 200);
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    return NULL;
}

static void what_other_threads_cache_hides_no_live_block(void **state) {
    /* The pool would be destroyed under a block that is smaller than what caches may hold. */
    (void)state;
    berth_pool *pool = berth_pool_create("hidden", NULL);
    assert_int_equal(pthread_barrier_init(&turn, NULL, 2), 0);
    pthread_t thread = start_thread(use_and_stay, pool);
    pthread_barrier_wait(&turn);
    void *block = berth_alloc(pool, 16);
    assert_int_equal(berth_pool_destroy(pool, 0), -EBUSY);
    berth_free(block);
    assert_int_equal(berth_pool_reset(pool, 0), 0);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
    pthread_barrier_wait(&turn);
    join_thread(thread);
    pthread_barrier_destroy(&turn);
}

static void a_forced_end_returns_everything(void **state) {
    /* A program that creates and destroys pools would leak mapped memory. */
    (void)state;
    berth_trim(NULL);
    uint64_t used = berth_limit_used();
    uint64_t metadata = 0;
    for (unsigned round = 0; round < 20; round++) {
        berth_pool *pool = berth_pool_create("forced", NULL);
        for (unsigned i = 0; i < 3000; i++) {
            memset(berth_alloc(pool, i % 700 + 1), 1, i % 700 + 1);
        }
        for (unsigned i = 0; i < 50; i++) {
            assert_non_null(berth_alloc(pool, 16385 + i * 20000));
        }
        assert_non_null(berth_alloc(pool, 9 * MiB));
        assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), 0);
        berth_trim(NULL);
        assert_int_equal(berth_limit_used(), used);
        check_balance(berth_pool_default());
        metadata = round == 3 ? figures().metadata_bytes : metadata;
    }
    assert_int_equal(figures().metadata_bytes, metadata);
}

static void a_forced_end_is_refused_while_the_kernel_uses_memory(void **state) {
    /* The kernel would write into memory that has another owner by then. */
    (void)state;
    const size_t sizes[] = {100, 20000, 5 * MiB};
    for (unsigned i = 0; i < 3; i++) {
        berth_pool *pool = berth_pool_create("pinned", NULL);
        void *block = berth_alloc(pool, sizes[i]);
        struct berth__chunk *chunk = berth__chunk_of(block);
        _Atomic uint32_t *const held[] = {&chunk->pins, &chunk->registrations};
        for (unsigned k = 0; k < 2; k++) {
            berth__store_relaxed(held[k], 1);
            assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), -EBUSY);
            assert_int_equal(berth_pool_reset(pool, BERTH_FORCE), -EBUSY);
            fill(block, sizes[i]);
            berth__store_relaxed(held[k], 0);
        }
        assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), 0);
    }
}

static void a_pinned_block_keeps_its_pool(void **state) {
    /* A kernel that was told of the block would write into memory of somebody else. */
    (void)state;
    const size_t sizes[] = {100, 17000, 50000, 5 * MiB};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(sizes); i++) {
        berth_pool *pool = berth_pool_create("pinned", NULL);
        void *block = berth_alloc(pool, sizes[i]);
        berth_pin(block);
        berth_pin(block);
        assert_int_equal(figures().pinned_blocks, 2);
        berth_unpin(block);
        assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), -EBUSY);
        assert_int_equal(figures().pinned_blocks, 1);
        berth_unpin(block);
        assert_int_equal(figures().pinned_blocks, 0);
        assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), 0);
    }
}

static void unpin_what_is_not_pinned(void *block) {
    berth_unpin(block);
}

static void unpinning_what_is_not_pinned_stops_the_process(void **state) {
    /* A count below zero would never again keep memory from being purged. */
    (void)state;
    char line[256];
    void *block = berth_alloc(berth_pool_default(), 100);
    assert_int_equal(unit_in_child_line(unpin_what_is_not_pinned, block, line, sizeof(line)),
                     -SIGABRT);
    assert_non_null(strstr(line, "berth: unpinning of a block that is not pinned"));
    berth_free(block);
}

static void a_pool_tells_whether_it_promised_one_thread(void **state) {
    /* Counts of its buffers would be kept in the wrong way. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.one_thread = 1;
    berth_pool *pool = berth_pool_create("one-thread", &options);
    assert_true(berth_pool_is_one_thread(pool));
    assert_false(berth_pool_is_one_thread(berth_pool_default()));
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void a_reset_pool_is_like_a_new_one(void **state) {
    /* A request's heap would slow down, grow, or hand out what still belongs to the last request.
     */
    (void)state;
    berth_pool *pool = limited_pool("request", 32 * MiB);
    uint32_t heap_numbers = 0;
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned i = 0; i < 500; i++) {
            size_t size = i % 40 == 0 ? 20000 : i * 3 + 1;
            memset(berth_alloc(pool, size), (int)round, size);
        }
        assert_non_null(berth_alloc(pool, 5 * MiB));
        heap_numbers = round == 0 ? berth__heap_numbers() : heap_numbers;
        assert_int_equal(berth__heap_numbers(), heap_numbers);
        assert_int_equal(berth_pool_reset(pool, BERTH_FORCE), 0);
        struct berth_pool_metrics after = figures_of(pool);
        assert_int_equal(after.live_high_bytes, 0);
        assert_int_equal(after.capacity_bytes, 0);
        assert_int_equal(after.threads, 0);
        assert_int_equal(berth_pool_limit_used(pool), 0);
    }
    assert_string_equal(berth_pool_name(pool), "request");
    assert_int_equal(berth_pool_limit_get(pool), 32 * MiB);
    void *block = berth_alloc(pool, 10);
    assert_int_equal(berth_pool_reset(pool, 0), -EBUSY);
    berth_free(block);
    assert_int_equal(berth_pool_reset(pool, 0), 0);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void *hand_over(void *pool) {
    void **blocks = malloc(100 * sizeof(void *));
    UNIT_CHECK(berth_alloc_batch(pool, 64, 100, blocks) == 100);
    return blocks;
}

static void a_reset_forgets_what_was_on_its_way_home(void **state) {
    /* Blocks of the time before would still count as cached: live bytes would be too low for ever.
     */
    (void)state;
    berth_pool *pool = berth_pool_create("forgets", NULL);
    berth_free(berth_alloc(pool, 64)); /* this thread owns a heap, so the other's is another */
    pthread_t thread = start_thread(hand_over, pool);
    void *result = NULL;
    assert_int_equal(pthread_join(thread, &result), 0);
    void **blocks = result;
    berth_free(blocks[0]);
    assert_int_equal(berth_pool_reset(pool, BERTH_FORCE), 0);
    free(blocks);
    void *large = berth_alloc(pool, 16000);
    berth_thread_flush();
    struct berth_pool_metrics after = figures_of(pool);
    assert_int_equal(after.live_high_bytes, berth_usable_size(large));
    assert_int_equal(after.live_low_bytes, after.live_high_bytes);
    berth_free(large);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

/* ---- on the caller's memory ---- */

static berth_pool *pool_on(void *memory, size_t bytes) {
    struct berth_pool_options options = options_with();
    options.memory = memory;
    options.memory_size = bytes;
    berth_pool *pool = berth_pool_create("lent", &options);
    assert_non_null(pool);
    return pool;
}

static void a_pool_on_lent_memory_stays_in_it(void **state) {
    /* It would write beyond what the caller gave, or take memory that nobody allowed. */
    (void)state;
    static char memory[6 << 20];
    char *from = memory + 4096 + 16;
    size_t bytes = sizeof(memory) - 8192;
    memset(memory, 0x77, sizeof(memory));
    berth_trim(NULL);
    uint64_t used = berth_limit_used();
    berth_pool *pool = pool_on(from, bytes);
    struct unit_random random = {3};
    for (unsigned round = 0; round < 3; round++) {
        size_t total = 0;
        for (;;) {
            size_t size = unit_random_below(&random, round == 1 ? 300 : 60000);
            char *block = berth_alloc_flags(pool, size, round == 2 ? BERTH_ZERO : 0);
            if (block == NULL) {
                assert_int_equal(errno, ENOMEM);
                break;
            }
            assert_true(block >= from && block + berth_usable_size(block) <= from + bytes);
            assert_true(round != 2 || is_zero(block, size));
            memset(block, 1, berth_usable_size(block));
            total += berth_usable_size(block);
        }
        assert_true(total > bytes / 2);
        assert_int_equal(berth_limit_used(), used);
        check_balance(pool);
        assert_int_equal(berth_pool_reset(pool, BERTH_FORCE), 0);
    }
    assert_null(berth_alloc(pool, 5 * MiB));
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
    for (unsigned i = 0; i < 4096; i++) {
        assert_int_equal(memory[i], 0x77);
        assert_int_equal(memory[sizeof(memory) - 1 - i], 0x77);
    }
    memset(memory, 1, sizeof(memory)); /* it is the caller's again */
}

static void lent_memory_is_aligned_by_its_addresses(void **state) {
    /* Blocks would be aligned to the start of the memory instead. */
    (void)state;
    char *memory = mmap(NULL, 20 * MiB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    for (size_t shift = 0; shift < 8; shift++) {
        berth_pool *pool = pool_on(memory + shift * 65536 + 4096, 16 * MiB);
        for (size_t alignment = 16; alignment <= 2 * MiB; alignment *= 2) {
            for (size_t size = 1; size <= 400000; size *= 9) {
                void *block = berth_alloc_aligned(pool, alignment, size);
                assert_non_null(block);
                assert_int_equal((uintptr_t)block % alignment, 0);
                memset(block, 1, size);
                berth_free(block);
            }
        }
        assert_int_equal(berth_pool_destroy(pool, 0), 0);
    }
    munmap(memory, 20 * MiB);
}

/* Shared memory keeps its content when it is purged: a page believed to be zero would not be. */
static void lent_memory_is_never_purged(void **state) {
    /* Memory that others may be looking at would vanish, and zeroed blocks would not be zero. */
    (void)state;
    size_t bytes = 8 * MiB;
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    berth_pool *pool = pool_on(memory, bytes);
    for (unsigned round = 0; round < 3; round++) {
        char *run = berth_alloc(pool, 300000);
        memset(run, 0x33, 300000);
        void *small[2000];
        assert_int_equal(berth_alloc_batch(pool, 1000, 2000, small), 2000);
        for (unsigned i = 0; i < 2000; i++) {
            memset(small[i], 0x44, 1000);
        }
        berth_free(run);
        for (unsigned i = 0; i < 2000; i++) {
            if (i % 50 != 0) {
                berth_free(small[i]);
            }
        }
        assert_int_equal(berth_trim(pool), 0);
        assert_int_equal(figures_of(pool).purged_bytes, 0);
        char *zeroed = berth_alloc_flags(pool, 600000, BERTH_ZERO);
        assert_true(is_zero(zeroed, 600000));
        berth_free(zeroed);
        for (unsigned i = 0; i < 2000; i += 50) {
            berth_free(small[i]);
        }
        berth_trim(pool);
        check_balance(pool);
        assert_int_equal(figures_of(pool).live_high_bytes, 0);
    }
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
    munmap(memory, bytes);
}

static void lent_memory_is_in_its_pool_s_figures_and_not_in_the_process_s(void **state) {
    /* The process's figures would show more in use than is mapped. */
    (void)state;
    static char memory[1 << 20];
    struct berth_process_metrics before = figures();
    berth_pool *pool = pool_on(memory, sizeof(memory));
    void *block = berth_alloc(pool, 100000);
    struct berth_process_metrics during = figures();
    assert_true(figures_of(pool).live_high_bytes >= 100000);
    assert_true(figures_of(pool).capacity_bytes >= 100000);
    assert_int_equal(during.live_high_bytes, before.live_high_bytes);
    assert_int_equal(during.chunk_bytes, before.chunk_bytes);
    assert_int_equal(during.limit_used_bytes, before.limit_used_bytes);
    berth_free(block);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_is_found_by_its_name_and_by_its_blocks),
        cmocka_unit_test(bad_names_and_names_in_use_are_refused),
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(options_of_the_structure_take_effect),
        cmocka_unit_test(there_can_be_1024_pools_and_not_more),
        cmocka_unit_test(a_pool_that_cannot_be_made_leaves_nothing),
        cmocka_unit_test(a_pool_s_limit_holds_for_it_alone),
        cmocka_unit_test(a_pool_with_any_live_block_is_not_destroyed),
        cmocka_unit_test(what_other_threads_cache_hides_no_live_block),
        cmocka_unit_test(a_forced_end_returns_everything),
        cmocka_unit_test(a_forced_end_is_refused_while_the_kernel_uses_memory),
        cmocka_unit_test(a_pinned_block_keeps_its_pool),
        cmocka_unit_test(unpinning_what_is_not_pinned_stops_the_process),
        cmocka_unit_test(a_pool_tells_whether_it_promised_one_thread),
        cmocka_unit_test(a_reset_pool_is_like_a_new_one),
        cmocka_unit_test(a_reset_forgets_what_was_on_its_way_home),
        cmocka_unit_test(a_pool_on_lent_memory_stays_in_it),
        cmocka_unit_test(lent_memory_is_aligned_by_its_addresses),
        cmocka_unit_test(lent_memory_is_never_purged),
        cmocka_unit_test(lent_memory_is_in_its_pool_s_figures_and_not_in_the_process_s),
    };
    return UNIT_RUN(tests);
}
