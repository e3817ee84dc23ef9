/*
 * A bound on the number of mappings, seen from outside: programs that would need many times as
 * many, with every kind of block, and one that the kernel lets have no more. Each load runs in a
 * child with a bound of its own.
 */
#include "figures.h"

#include "chunk/space.h"
#include "maps.h"
#include "os/fault.h"
#include "os/file.h"
#include "os/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

enum { BOUND = 300, BLOCKS = 1000, THREADS = 4 };

static struct block {
    char *at;
    size_t size;
} blocks[BLOCKS];
static struct unit_random random_state = {11};
static berth_pool *pools[5];
static int file;

/* ---- what the kernel has ---- */

static uint64_t real_mappings(void) {
    return unit_range_read(berth__primary.base, berth__primary.units * BERTH_UNIT, false).mappings;
}

/* Threads that map at the same moment may pass the bound by 3 each. */
static void check_bound(unsigned threads) {
    uint64_t real = real_mappings();
    UNIT_CHECK(real <= BOUND + 3 * (threads - 1));
    UNIT_CHECK(threads > 1 || real <= figures().mappings);
}

/* No more can be written than is charged. */
static void check_writable(void) {
    struct unit_range real =
        unit_range_read(berth__primary.slots, berth__primary.slots_bytes, false);
    UNIT_CHECK(real.writable <= berth_limit_used());
}

/* ---- blocks: only their first and last bytes are touched ---- */

static void mark(struct block *block) {
    if (block->at != NULL) {
        block->at[0] = block->at[block->size - 1] = (char)(block->size >> 12);
    }
}

static void check(const struct block *block) {
    if (block->at != NULL) {
        UNIT_CHECK(block->at[0] == (char)(block->size >> 12));
        UNIT_CHECK(block->at[block->size - 1] == (char)(block->size >> 12));
    }
}

static void release(struct block *block) {
    check(block);
    berth_free(block->at);
    *block = (struct block){NULL, 0};
}

static void take(struct block *block, void *at, size_t size) {
    UNIT_CHECK(at != NULL || errno == ENOMEM);
    *block = (struct block){at, at == NULL ? 0 : size};
    mark(block);
}

static size_t odd_size(struct unit_random *random) {
    return 4 * MiB + 4096 * (1 + unit_random_below(random, 1500));
}

static void start(void) {
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    char conf[32];
    snprintf(conf, sizeof(conf), "mappings:%d,wait_ms:0", BOUND);
    UNIT_CHECK(setenv("BERTH_CONF", conf, 1) == 0);
    pools[0] = berth_pool_default();
    options.chunk = 256 * KiB;
    pools[1] = berth_pool_create("short", &options);
    options.chunk = 0;
    options.thp = BERTH_THP_ON;
    pools[2] = berth_pool_create("always", &options);
    options.thp = BERTH_THP_OFF;
    pools[3] = berth_pool_create("never", &options);
    options.thp = BERTH_THP_AS_CONFIGURED;
    options.limit = 512 * MiB;
    options.wait_ms = 0;
    pools[4] = berth_pool_create("limited", &options);
    file = memfd_create("file", 0);
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(pools); i++) {
        UNIT_CHECK(pools[i] != NULL);
    }
    UNIT_CHECK(ftruncate(file, 5 << 20) == 0);
}

static void finish(void) {
    for (unsigned i = 0; i < BLOCKS; i++) {
        release(&blocks[i]);
    }
    berth_thread_flush();
    berth_trim(NULL);
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(pools); i++) {
        check_nothing_lives(pools[i]);
    }
    struct berth_process_metrics all = figures();
    UNIT_CHECK(berth_limit_used() == 0 && all.retained_bytes == 0);
    UNIT_CHECK(all.mapped_bytes == all.metadata_bytes);
    UNIT_CHECK(real_mappings() < 12 && all.mappings < 16);
}

/* ---- loads ---- */

static unsigned served(void) {
    unsigned count = 0;
    for (unsigned i = 0; i < BLOCKS; i++) {
        check(&blocks[i]);
        count += blocks[i].at != NULL;
    }
    return count;
}

static void odd_blocks(void *unused) {
    (void)unused;
    start();
    for (unsigned i = 0; i < BLOCKS; i++) {
        size_t size = odd_size(&random_state);
        take(&blocks[i], berth_alloc(pools[0], size), size);
        check_bound(1);
    }
    UNIT_CHECK(served() == BLOCKS); /* a bound of 300 is no bound on blocks */
    for (unsigned i = 0; i < BLOCKS; i += 2) {
        release(&blocks[i]);
        check_bound(1);
    }
    berth_trim(NULL);
    check_bound(1);
    check_balance(pools[0]);
    UNIT_CHECK(unit_range_read(berth__primary.slots, berth__primary.slots_bytes, true).resident <
               64 * MiB); /* of 4 GiB */
    for (unsigned i = 0; i < BLOCKS; i += 2) {
        size_t size = odd_size(&random_state);
        take(&blocks[i], berth_alloc(pools[0], size), size);
    }
    UNIT_CHECK(served() == BLOCKS);
    finish();
}

static void holes_in_whole_slots(void *unused) {
    (void)unused;
    start();
    for (unsigned i = 0; i < BLOCKS; i++) {
        take(&blocks[i], berth_alloc(pools[0], 8 * MiB), 8 * MiB);
    }
    for (unsigned i = 0; i < BLOCKS; i += 2) {
        release(&blocks[i]);
        if (i % 16 == 0) {
            berth_trim(NULL);
            check_bound(1);
        }
    }
    berth_trim(NULL);
    struct berth_process_metrics now = figures();
    UNIT_CHECK(now.retained_bytes > BLOCKS / 4 * 8 * MiB); /* kept, and charged */
    check_balance(pools[0]);
    UNIT_CHECK(berth_limit_set(BLOCKS * 8 * MiB) == 0);
    for (unsigned i = 0; i < BLOCKS; i += 2) { /* and there to be used */
        take(&blocks[i], berth_alloc(pools[0], 8 * MiB), 8 * MiB);
    }
    UNIT_CHECK(served() == BLOCKS && figures().retained_bytes == 0);
    UNIT_CHECK(berth_limit_set(BERTH_UNLIMITED) == 0);
    finish();
}

static void short_chunks(void *unused) {
    (void)unused;
    start();
    for (unsigned i = 0; i < BLOCKS; i++) {
        take(&blocks[i], berth_alloc(pools[1], 200 * KiB), 200 * KiB);
        check_bound(1);
    }
    UNIT_CHECK(served() == BLOCKS);
    finish();
}

/* Blocks whose neighbours they are unlike, so that the bound is one on their number. */
static void islands(void *unused) {
    (void)unused;
    start();
    for (unsigned i = 0; i < BLOCKS; i++) {
        errno = 0;
        switch (i % 3) {
        case 0: take(&blocks[i], berth_alloc_aligned(pools[0], 16 * MiB, 5 * MiB), 5 * MiB); break;
        case 1: take(&blocks[i], berth_alloc(pools[2 + i % 2], 8 * MiB), 8 * MiB); break;
        default: take(&blocks[i], berth_map_file(pools[0], file, 0, 65536, true), 65536); break;
        }
        if (i % 3 == 2) { /* they all show the same bytes */
            blocks[i].size = blocks[i].at == NULL ? 0 : 1;
            mark(&blocks[i]);
        }
        check_bound(1);
    }
    UNIT_CHECK(served() > BOUND / 8 && served() < BLOCKS);

    finish();
}

static void *any_step(struct block *block, struct unit_random *random) {
    berth_pool *pool = pools[unit_random_below(random, 5)];
    size_t size = unit_random_below(random, 3) == 0 ? 200 * KiB : odd_size(random);
    errno = 0;
    switch (unit_random_below(random, 6)) {
    case 0: release(block); break;
    case 1:
        if (block->at != NULL) {
            check(block);
            char *moved = berth_realloc(NULL, block->at, size);
            UNIT_CHECK(moved != NULL || errno == ENOMEM);
            if (moved != NULL) {
                UNIT_CHECK(moved[0] == (char)(block->size >> 12));
                *block = (struct block){moved, size};
                mark(block);
            }
        }
        break;
    case 2:
        release(block);
        take(block, berth_alloc_aligned(pool, 8 * MiB, size), size);
        break;
    default:
        release(block);
        take(block, berth_alloc(pool, size), size);
        break;
    }
    return NULL;
}

static void any_load(void *unused) {
    (void)unused;
    start();
    for (unsigned i = 0; i < 4000; i++) {
        (void)any_step(&blocks[unit_random_below(&random_state, BLOCKS)], &random_state);
        if (i % 500 == 499) {
            berth_trim(NULL);
        }
        if (i % 8 == 0) {
            check_bound(1);
            check_balance(pools[0]);
        }
    }
    UNIT_CHECK(served() > BLOCKS / 4);
    finish();
}

/* The kernel's list is read in parts: nobody maps anything meanwhile. */
static pthread_rwlock_t looking = PTHREAD_RWLOCK_INITIALIZER;

static void *any_load_of_a_thread(void *number) {
    struct unit_random random = {(uintptr_t)number};
    size_t part = BLOCKS / THREADS;
    struct block *own = &blocks[(uintptr_t)number * part];
    for (unsigned i = 0; i < 1500; i++) {
        pthread_rwlock_rdlock(&looking);
        (void)any_step(&own[unit_random_below(&random, part)], &random);
        pthread_rwlock_unlock(&looking);
        if (i % 8 == 0) {
            pthread_rwlock_wrlock(&looking);
            check_bound(THREADS);
            pthread_rwlock_unlock(&looking);
        }
    }
    berth_thread_flush();
    return NULL;
}

static void load_of_threads(void *unused) {
    (void)unused;
    pthread_t threads[THREADS];
    start();
    for (uintptr_t i = 0; i < THREADS; i++) {
        threads[i] = start_thread(any_load_of_a_thread, (void *)i);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        join_thread(threads[i]);
    }
    finish();
}

static void blocks_of_odd_sizes_get_whole_slots(void **state) {
    /* A large program would fail, or use up what the kernel allows, at 32,000 blocks. */
    (void)state;
    assert_int_equal(unit_in_child(odd_blocks, NULL), 0);
}

static void holes_are_emptied_and_kept(void **state) {
    /* Freeing every second block would cost two mappings each. */
    (void)state;
    assert_int_equal(unit_in_child(holes_in_whole_slots, NULL), 0);
}

static void short_chunks_become_whole_slots(void **state) {
    /* A pool with chunks of 256 KiB would end at 8 GiB. */
    (void)state;
    assert_int_equal(unit_in_child(short_chunks, NULL), 0);
}

static void what_merges_with_nothing_is_refused_at_the_bound(void **state) {
    /* There would be no mapping left for the stack of a thread. */
    (void)state;
    assert_int_equal(unit_in_child(islands, NULL), 0);
}

static void any_mix_stays_below_the_bound(void **state) {
    /* Resizing, moving and trimming would pass it, or lose data or charges on the way. */
    (void)state;
    assert_int_equal(unit_in_child(any_load, NULL), 0);
}

static void threads_stay_below_it_together(void **state) {
    /* The count would drift when several threads change neighbouring slots. */
    (void)state;
    assert_int_equal(unit_in_child(load_of_threads, NULL), 0);
}

/* ---- the kernel refuses ---- */

/* Uses up the kernel's mappings, but for a few; how many bytes of addresses that takes. */
static size_t use_up_mappings(char **filler) {
    char text[32];
    UNIT_CHECK(berth__file_read("/proc/sys/vm/max_map_count", text, sizeof(text)) > 0);
    size_t most = strtoul(text, NULL, 10);
    size_t bytes = (most + 100) * 4096;
    *filler = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    UNIT_CHECK(*filler != MAP_FAILED);
    size_t at = 4096;
    while (at < bytes && mprotect(*filler + at, 4096, PROT_READ) == 0) {
        at += 8192;
    }
    UNIT_CHECK(at < bytes);
    return bytes;
}

static void out_of_mappings(void *unused) {
    (void)unused;
    char *filler = NULL;
    start();
    for (unsigned i = 0; i < BLOCKS / 2; i++) {
        take(&blocks[i], berth_alloc(pools[0], 8 * MiB), 8 * MiB);
    }
    size_t bytes = use_up_mappings(&filler);
    uint64_t failures = figures().failures;
    for (unsigned i = 0; i < 2000; i++) {
        (void)any_step(&blocks[unit_random_below(&random_state, BLOCKS)], &random_state);
        check_balance(pools[0]);
        if (i % 100 == 0) {
            berth_trim(NULL);
            check_writable();
        }
    }
    UNIT_CHECK(figures().failures > failures);
    UNIT_CHECK(munmap(filler, bytes) == 0);
    finish();
}

static void what_the_kernel_refuses_loses_nothing(void **state) {
    /* Memory would be usable and not charged, or charged and not there, or data lost. */
    (void)state;
    char text[32] = "";
    bool small = berth__file_read("/proc/sys/vm/max_map_count", text, sizeof(text)) > 0 &&
                 strtoul(text, NULL, 10) < 300000;
    UNIT_ONLY_IF(small && !UNIT_SANITIZED); /* sanitizers need mappings themselves */
    assert_int_equal(unit_in_child(out_of_mappings, NULL), 0);
}

#if BERTH_FAULTS
/* A block over memory that is there in pieces: the second piece is refused, and so is undoing the
 * first. */
static void refuse_to_undo(void *unused) {
    (void)unused;
    start();
    for (unsigned i = 0; i < 4; i++) {
        take(&blocks[i], berth_alloc(pools[0], 8 * MiB), 8 * MiB);
    }
    release(&blocks[0]);
    release(&blocks[2]);
    berth_trim(NULL);
    release(&blocks[1]);
    release(&blocks[3]); /* holes: 0 and 2; memory: 1 and 3 */
    uint64_t used = berth_limit_used();
    UNIT_CHECK(used == 16 * MiB);
    berth__os_fail_after(BERTH_OS_COMMIT, 1, UINT64_MAX);
    berth__os_fail_after(BERTH_OS_DECOMMIT, 0, UINT64_MAX);
    UNIT_CHECK(berth_alloc_flags(pools[0], 30 * MiB, BERTH_NOWAIT) == NULL);
    berth__os_fail_after(BERTH_OS_COMMIT, 0, 0);
    check_balance(pools[0]);
    check_writable();
    UNIT_CHECK(berth_limit_used() == used + 8 * MiB);
    UNIT_CHECK(figures().retained_bytes == used + 8 * MiB);
    size_t size = 30 * MiB; /* what was kept is there for the next */
    take(&blocks[0], berth_alloc_flags(pools[0], size, BERTH_ZERO), size);
    UNIT_CHECK(served() == 1 && berth_limit_used() == 32 * MiB);
    check_writable();
    release(&blocks[0]);
    berth__os_fail_after(BERTH_OS_DECOMMIT, 0, 0);
    finish();
}

/* A block that must move finds room for its longer end; then the move and the way back fail. */
static void refuse_to_move_back(void *unused) {
    (void)unused;
    start();
    take(&blocks[0], berth_alloc(pools[4], 6 * MiB), 6 * MiB);
    take(&blocks[1], berth_alloc(pools[0], 5 * MiB), 5 * MiB);
    uint64_t own = berth_pool_limit_used(pools[4]);
    berth__os_fail_after(BERTH_OS_MOVE, 0, UINT64_MAX);
    berth__os_fail_after(BERTH_OS_DECOMMIT, 0, UINT64_MAX);
    char *moved = berth_realloc(pools[4], blocks[0].at, 20 * MiB);
    UNIT_CHECK(moved != NULL && moved[0] == (char)(blocks[0].size >> 12)); /* copied */
    blocks[0] = (struct block){moved, 20 * MiB};
    mark(&blocks[0]);
    check_balance(pools[0]);
    UNIT_CHECK(berth_pool_limit_used(pools[4]) == own + 14 * MiB);
    check_writable();
    berth__os_fail_after(BERTH_OS_MOVE, 0, 0);
    berth__os_fail_after(BERTH_OS_DECOMMIT, 0, 0);
    finish();
}
#endif

static void what_cannot_be_undone_stays_charged_until_it_can(void **state) {
    /* Memory would be usable that nobody counts, and the limit be passed. */
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS);
#if BERTH_FAULTS
    assert_int_equal(unit_in_child(refuse_to_undo, NULL), 0);
    assert_int_equal(unit_in_child(refuse_to_move_back, NULL), 0);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_of_odd_sizes_get_whole_slots),
        cmocka_unit_test(holes_are_emptied_and_kept),
        cmocka_unit_test(short_chunks_become_whole_slots),
        cmocka_unit_test(what_merges_with_nothing_is_refused_at_the_bound),
        cmocka_unit_test(any_mix_stays_below_the_bound),
        cmocka_unit_test(threads_stay_below_it_together),
        cmocka_unit_test(what_the_kernel_refuses_loses_nothing),
        cmocka_unit_test(what_cannot_be_undone_stays_charged_until_it_can),
    };
    return UNIT_RUN(tests);
}
