/* Pools for the kernel: what it may be reading or writing stays where it is and as it is, also in a
 * child of a fork, and comes back when memory is short. */
#include "figures.h"

#include "chunk/ledger.h"
#include "heap/io.h"
#include "heap/stash.h"
#include "os/fault.h"
#include "pool/api.h"
#include "pool/pool.h"

#include <errno.h>

enum { PIECE = 65536, MOST = 64 };

static berth_pool *pool;

static berth_pool *make_pool(uint64_t limit, uint64_t in_flight) {
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.io = 1;
    options.limit = limit;
    options.wait_ms = 20000;
    options.in_flight = in_flight;
    berth_pool *made = berth_pool_create("kernel", &options);
    UNIT_CHECK(made != NULL);
    return made;
}

static int begin(void **state) {
    (void)state;
    pool = make_pool(0, 0);
    return 0;
}

static int end(void **state) {
    (void)state;
    return berth_pool_destroy(pool, BERTH_FORCE);
}

/* All chunks of the pool, in any order. */
static size_t list(struct berth__io_chunk chunks[MOST]) {
    size_t count = berth_pool_io_list(pool, chunks, MOST);
    UNIT_CHECK(count <= MOST);
    return count;
}

/* Holds all chunks as a ring would. */
static size_t hold_all(struct berth__io_chunk chunks[MOST]) {
    size_t count = list(chunks);
    for (size_t i = 0; i < count; i++) {
        UNIT_CHECK(berth_pool_io_hold(pool, chunks[i].at) == 0);
    }
    return count;
}

static void let_go_all(const struct berth__io_chunk *chunks, size_t count) {
    for (size_t i = 0; i < count; i++) {
        berth_pool_io_let_go(chunks[i].at);
    }
}

/* What freed memory holds. */
static __attribute__((no_sanitize("address"))) unsigned char peek(const void *at) {
    return *(const volatile unsigned char *)at;
}

static void chunks_are_whole(void **state) {
    /* A ring registers all of a chunk: what came later would not be in it. */
    (void)state;
    struct berth__io_chunk chunks[MOST];
    uint64_t before = berth_pool_io_changes(pool);
    void *block = berth_alloc(pool, 100);
    assert_non_null(block);
    assert_true(berth_pool_io_changes(pool) > before);
    size_t count = list(chunks);
    assert_int_equal(count, 1);
    assert_true(chunks[0].bytes >= BERTH_IO_CHUNK);
    assert_int_equal((uintptr_t)chunks[0].at % BERTH_IO_CHUNK, 0);
    assert_int_equal(figures_of(pool).chunk_bytes, chunks[0].bytes);
    for (unsigned i = 0; i < 64; i++) {
        assert_non_null(berth_alloc(pool, PIECE));
    }
    count = list(chunks);
    assert_true(count > 1);
    for (size_t i = 0; i < count; i++) {
        assert_true(chunks[i].bytes >= BERTH_IO_CHUNK);
    }
    assert_null(berth_alloc(pool, BERTH_IO_CHUNK + 1)); /* in no chunk */
    assert_int_equal(errno, ENOMEM);
    assert_non_null(berth_alloc(pool, BERTH_IO_CHUNK));
    check_balance(pool);
}

static void what_is_registered_stays(void **state) {
    (void)state;
    struct berth__io_chunk chunks[MOST];
    unsigned char *blocks[40];
    for (unsigned i = 0; i < 40; i++) {
        blocks[i] = berth_alloc(pool, PIECE);
        memset(blocks[i], (int)i + 1, PIECE);
    }
    size_t count = hold_all(chunks);
    for (unsigned i = 0; i < 40; i++) {
        berth_free(blocks[i]);
    }
    berth_thread_flush();
    berth_trim(pool);
    berth_trim(NULL);
    for (unsigned i = 0; i < 40; i++) { /* a free page that was purged would read as zero */
        assert_int_equal(peek(blocks[i] + PIECE / 2), i + 1);
    }
    assert_int_equal(list(chunks), count);
    assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), -EBUSY);
    assert_int_equal(berth_pool_reset(pool, BERTH_FORCE), -EBUSY);
    let_go_all(chunks, count);
    assert_int_equal(list(chunks), 0);
    assert_int_equal(berth_pool_io_hold(pool, chunks[0].at), -ENOENT);
    check_balance(pool);
}

static void parts_of_chunks_are_not_purged(void **state) {
    /* Registered or not: a ring may register it at any time. */
    (void)state;
    unsigned char *kept = berth_alloc(pool, PIECE);
    unsigned char *freed[24];
    void *small[2000];
    for (unsigned i = 0; i < 24; i++) {
        freed[i] = berth_alloc(pool, PIECE);
        memset(freed[i], 0x77, PIECE);
    }
    berth_alloc_batch(pool, 512, 2000, small);
    for (unsigned i = 0; i < 2000; i++) {
        memset(small[i], 0x66, 512);
    }
    for (unsigned i = 0; i < 24; i++) {
        berth_free(freed[i]);
    }
    for (unsigned i = 0; i < 2000; i += 1) {
        berth_free(i % 64 == 0 ? NULL : small[i]);
    }
    berth_thread_flush();
    berth_trim(pool);
    assert_int_equal(figures_of(pool).run_dirty_bytes, 0);
    for (unsigned i = 0; i < 24; i++) {
        assert_int_equal(peek(freed[i] + 100), 0x77);
    }
    for (unsigned i = 1; i < 64; i++) {
        assert_int_equal(peek((char *)small[i] + 100), 0x66);
    }
    berth_free(kept);
    check_balance(pool);
}

/* ---- a full ledger ---- */

/* Plays the ring of another thread: lets go of what is asked back, and of nothing else. */
static void *let_go_when_asked(void *unused) {
    (void)unused;
    struct berth__io_chunk chunks[MOST];
    for (;;) {
        size_t count = list(chunks);
        for (size_t i = 0; i < count; i++) {
            if (chunks[i].asked) {
                UNIT_CHECK(berth__load_relaxed(&berth__ledger.returning) == chunks[i].bytes);
                berth_pool_io_let_go(chunks[i].at);
                return NULL;
            }
        }
        sched_yield();
    }
}

static void a_full_ledger_gets_registered_memory_back(void **state) {
    (void)state;
    struct berth__io_chunk chunks[MOST];
    void *used = berth_alloc(pool, PIECE);
    berth_pool *other = NULL;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.wait_ms = 20000;
    other = berth_pool_create("other", &options);
    void *filler = berth_alloc(pool, BERTH_IO_CHUNK);
    size_t count = hold_all(chunks);
    assert_int_equal(count, 2);
    berth_free(filler); /* one chunk is empty now, and registered */
    berth_thread_flush();
    berth_trim(NULL);
    /* That has asked already, so begin anew. */
    let_go_all(chunks, count);
    filler = berth_alloc(pool, BERTH_IO_CHUNK);
    count = hold_all(chunks);
    berth_free(filler);
    berth_thread_flush();
    assert_int_equal(berth__load_relaxed(&berth__ledger.returning), 0);

    assert_int_equal(berth_limit_set(berth_limit_used()), 0);
    pthread_t ring;
    assert_int_equal(pthread_create(&ring, NULL, let_go_when_asked, NULL), 0);
    void *needs = berth_alloc(other, MiB);
    assert_non_null(needs);
    pthread_join(ring, NULL);
    assert_int_equal(berth__load_relaxed(&berth__ledger.returning), 0);
    assert_int_equal(berth_limit_set(BERTH_UNLIMITED), 0);
    assert_int_equal(list(chunks), 1);
    berth_pool_io_let_go(chunks[0].at);
    berth_free(needs);
    berth_free(used);
    assert_int_equal(berth_pool_destroy(other, 0), 0);
}

/* ---- forks ---- */

static void never_called(void *context, void *data, size_t length) {
    (void)context;
    (void)data;
    (void)length;
    abort();
}

static void use_as_a_child(void *block) {
    unsigned char *bytes = block;
    UNIT_CHECK(berth_alloc(pool, 100) == NULL && errno == EOWNERDEAD);
    UNIT_CHECK(berth_alloc(pool, PIECE) == NULL && errno == EOWNERDEAD);
    UNIT_CHECK(berth_realloc(NULL, block, 2 * PIECE) == NULL && errno == EOWNERDEAD);
    UNIT_CHECK(berth_pool_destroy(pool, BERTH_FORCE) == -EOWNERDEAD);
    struct berth_slice slice;
    struct berth_chain chain;
    struct berth_buf buf;
    berth_chain_init(&chain, pool);
    berth_buf_init(&buf, pool, 0, 0);
    UNIT_CHECK(berth_slice_alloc(pool, 100, &slice) == -EOWNERDEAD);
    UNIT_CHECK(berth_slice_wrap(pool, block, 1, never_called, NULL, &slice) == -EOWNERDEAD);
    UNIT_CHECK(berth_chain_append_bytes(&chain, "abc", 3) == -EOWNERDEAD);
    UNIT_CHECK(berth_chain_append_file(&chain, 0, 0, 1, false) == -EOWNERDEAD);
    UNIT_CHECK(berth_buf_append(&buf, "abc", 3) == -EOWNERDEAD);
    UNIT_CHECK(berth_pool_reset(pool, BERTH_FORCE) == -EOWNERDEAD);
    UNIT_CHECK(berth_pool_io_hold(pool, block) == -EOWNERDEAD);
    UNIT_CHECK(bytes[0] == 0 && bytes[PIECE - 1] == 0); /* no page is shared with the parent */
    berth_free(block);
    UNIT_CHECK(berth_alloc(pool, PIECE) == NULL); /* not that one */
    berth_trim(NULL);
    struct berth_process_metrics all;
    UNIT_CHECK(berth_metrics_read(&all, sizeof(all)) == 0);
    void *own = berth_alloc(berth_pool_default(), PIECE);
    UNIT_CHECK(own != NULL);
    berth_free(own);
    pid_t grandchild = fork();
    if (grandchild == 0) {
        UNIT_CHECK(berth_alloc(pool, 100) == NULL && errno == EOWNERDEAD);
        _exit(0);
    }
    int status = 0;
    UNIT_CHECK(waitpid(grandchild, &status, 0) == grandchild && status == 0);
}

static void *free_elsewhere(void *block) {
    berth_free(block);
    return NULL;
}

static void a_child_has_no_part_in_it(void **state) {
    (void)state;
    unsigned char *block = berth_alloc(pool, PIECE);
    void *small = berth_alloc(pool, 100);
    memset(block, 0x11, PIECE);
    pthread_t thread; /* a remote free lies in blocks */
    assert_int_equal(pthread_create(&thread, NULL, free_elsewhere, small), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(unit_in_child(use_as_a_child, block), 0);
    assert_int_equal(block[PIECE - 1], 0x11);
    berth_free(block);
    assert_non_null(berth_alloc(pool, 100));
    check_balance(pool);
}

enum { STASHED = 20000, MANY = 256 };

/* What the rest of a berth_free or berth_alloc does whose signal handler has forked. */
static void go_on_with_the_parent_s_stash(void *stale) {
    struct berth__cache *cache = stale;
    uint64_t count = berth__load_relaxed(&cache->stash->table.count);
    UNIT_CHECK(!berth__stash_make_room(cache, cache->stash, berth__normal_class(STASHED)));
    cache->stash->fuel_bytes = 0;
    UNIT_CHECK(berth__stash_pop_slow(cache, berth__normal_class(STASHED)) == NULL);
    UNIT_CHECK(berth__load_relaxed(&cache->stash->table.count) == count);
}

static void an_interrupted_call_leaves_the_stash_alone(void **state) {
    /* What lies in it would go back to a pool that is the parent's. */
    (void)state;
    void *blocks[MANY];
    for (unsigned turn = 0; turn < 2; turn++) { /* the first makes the stash, the second fills it */
        for (unsigned i = 0; i < MANY; i++) {
            blocks[i] = berth_alloc(pool, STASHED);
            assert_non_null(blocks[i]);
        }
        berth_free_batch(blocks, MANY);
    }
    struct berth__cache *cache = berth__cache_peek(berth__pool_arenas(pool));
    assert_true(berth__stash_bytes(cache) > 0);
    assert_int_equal(unit_in_child(go_on_with_the_parent_s_stash, cache), 0);
    assert_true(berth__stash_make_room(cache, cache->stash, berth__normal_class(STASHED)));
}

static void use_the_parent_s_slice(void *slice) {
    (void)berth_slice_try_write(slice);
}

static void a_child_is_told_whose_slices_it_has(void **state) {
    /* What is in the record reads as zero: it would look for a release that there was not. */
    (void)state;
    struct berth_slice slice;
    char line[256];
    assert_int_equal(berth_slice_alloc(pool, PIECE, &slice), 0);
    assert_int_equal(unit_in_child_line(use_the_parent_s_slice, &slice, line, sizeof(line)),
                     -SIGABRT);
    assert_non_null(strstr(line, "use of a slice that is the parent's, or was released"));
    berth_slice_release(&slice);
}

static void expect_inherited(void *block) {
    UNIT_CHECK(memcmp(block, "inherited", 10) == 0);
}

static void memory_that_has_left_is_inherited_again(void **state) {
    /* Slots pass from pool to pool: a child would lose what malloc gave its parent. */
    (void)state;
    void *blocks[40];
    for (unsigned i = 0; i < 40; i++) {
        blocks[i] = berth_alloc(pool, PIECE);
        memset(blocks[i], 1, PIECE);
    }
    assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), 0);
    berth_pool *other = berth_pool_create("after", NULL);
    bool met = false;
    for (unsigned i = 0; i < 40; i++) {
        char *block = berth_alloc(other, PIECE);
        memcpy(block, "inherited", 10);
        for (unsigned j = 0; j < 40; j++) {
            met = met || (void *)block == blocks[j];
        }
        assert_int_equal(unit_in_child(expect_inherited, block), 0);
    }
    assert_true(met); /* or this test looks at nothing */
    assert_int_equal(berth_pool_destroy(other, BERTH_FORCE), 0);
    pool = make_pool(0, 0);
}

static void memory_that_cannot_be_inherited_is_not_used_again(void **state) {
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS);
#if BERTH_FAULTS
    unsigned char *block = berth_alloc(pool, PIECE);
    uintptr_t from = (uintptr_t)block / BERTH_CHUNK * BERTH_CHUNK;
    uint64_t retained = figures().retained_bytes;
    berth__os_fail_after(BERTH_OS_ADVISE, 0, 1000);
    assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), 0);
    berth__os_fail_after(BERTH_OS_ADVISE, 0, 0);
    assert_true(figures().retained_bytes >= retained + BERTH_IO_CHUNK); /* still charged */
    berth_pool *other = berth_pool_create("after", NULL);
    for (unsigned i = 0; i < 200; i++) {
        uintptr_t at = (uintptr_t)berth_alloc(other, PIECE);
        assert_true(at != 0 && (at < from || at >= from + BERTH_CHUNK));
    }
    assert_int_equal(berth_pool_destroy(other, BERTH_FORCE), 0);
    berth_trim(NULL); /* unmaps it */
    pool = make_pool(0, 0);
    check_balance(pool);
#endif
}

/* ---- bytes in flight ---- */

static void bytes_in_flight_have_a_bound(void **state) {
    (void)state;
    assert_true(berth_pool_flight_begin(pool, UINT32_MAX)); /* none is set */
    berth_pool_flight_end(pool, UINT32_MAX);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
    pool = make_pool(0, 100);
    assert_true(berth_pool_flight_begin(pool, 60));
    assert_false(berth_pool_flight_begin(pool, 41));
    assert_true(berth_pool_flight_begin(pool, 40));
    assert_false(berth_pool_flight_begin(pool, 1));
    berth_pool_flight_end(pool, 60);
    assert_true(berth_pool_flight_begin(pool, 60));
    berth_pool_flight_end(pool, 100);
}

static void options_that_contradict_are_refused(void **state) {
    (void)state;
    static char memory[1 << 20];
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.io = 2;
    assert_null(berth_pool_create("refused", &options));
    assert_int_equal(errno, EINVAL);
    options.io = 1;
    options.memory = memory;
    options.memory_size = sizeof(memory);
    assert_null(berth_pool_create("refused", &options));
    assert_int_equal(errno, EINVAL);
}

#define IO_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        IO_TEST(chunks_are_whole),
        IO_TEST(what_is_registered_stays),
        IO_TEST(parts_of_chunks_are_not_purged),
        IO_TEST(a_full_ledger_gets_registered_memory_back),
        IO_TEST(a_child_has_no_part_in_it),
        IO_TEST(a_child_is_told_whose_slices_it_has),
        IO_TEST(an_interrupted_call_leaves_the_stash_alone),
        IO_TEST(memory_that_has_left_is_inherited_again),
        IO_TEST(memory_that_cannot_be_inherited_is_not_used_again),
        IO_TEST(bytes_in_flight_have_a_bound),
        IO_TEST(options_that_contradict_are_refused),
    };
    return UNIT_RUN(tests);
}
