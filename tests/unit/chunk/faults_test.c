/*
 * Every system call of the engine fails in turn, while a program uses all doors of libberth: each
 * call of the program must then succeed or fail with ENOMEM, and when the kernel has memory again,
 * everything works and the balance of the metrics holds.
 *
 * Each case runs in a child, from the engine's start on: a kind of call, and how many of them pass
 * before one, or all that follow, fail. With the argument "all", no case is left out.
 */
#include "os/fault.h"

#include "unit.h"

#if BERTH_FAULTS
#include <berth/berth.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

enum { MIB = 1 << 20, BLOCKS = 200, STEPS = 450 };

struct block {
    unsigned char *at;
    size_t size;
};

static struct block blocks[BLOCKS];
static struct unit_random random_state;
static berth_pool *pools[3];
static char lent[2 * MIB] __attribute__((aligned(65536)));
static int file;

static const char *const call_names[] = {
#define BERTH_X(name) #name,
    BERTH_OS_CALLS(BERTH_X)
#undef BERTH_X
};

/* ---- the program ---- */

static size_t random_size(void) {
    size_t kind = unit_random_below(&random_state, 100);
    return kind < 60   ? unit_random_below(&random_state, 2000)
           : kind < 85 ? unit_random_below(&random_state, 60000)
           : kind < 97 ? unit_random_below(&random_state, 2 * MIB)
                       : unit_random_below(&random_state, 12 * MIB);
}

static void mark(struct block *block) {
    size_t part = block->size < 64 ? block->size : 64;
    memset(block->at, (int)(block->size & 0xff), part);
    block->at[block->size == 0 ? 0 : block->size - 1] = (unsigned char)block->size;
}

static void check(const struct block *block) {
    if (block->at != NULL && block->size > 0) {
        UNIT_CHECK(block->at[0] == (unsigned char)block->size);
        UNIT_CHECK(block->at[block->size - 1] == (unsigned char)block->size);
    }
}

static void take(struct block *block, unsigned char *at, size_t size, bool zero) {
    if (at == NULL) {
        UNIT_CHECK(errno == ENOMEM);
        *block = (struct block){NULL, 0};
        return;
    }
    for (size_t i = 0; zero && i < size; i += i < 256 ? 1 : 509 + i / 16) {
        UNIT_CHECK(at[i] == 0);
    }
    *block = (struct block){at, size};
    mark(block);
}

static void release(struct block *block) {
    check(block);
    if (block->at != NULL) {
        errno = ERANGE;
        berth_free(block->at);
        UNIT_CHECK(errno == ERANGE);
    }
    *block = (struct block){NULL, 0};
}

static void allocate(struct block *block) {
    berth_pool *pool = pools[unit_random_below(&random_state, 3)];
    size_t size = random_size();
    size_t alignment = (size_t)16 << unit_random_below(&random_state, 12);
    errno = 0;
    switch (pool == NULL ? 3 : unit_random_below(&random_state, 4)) {
    case 0: take(block, berth_alloc_flags(pool, size, BERTH_ZERO), size, true); break;
    case 1: take(block, berth_alloc_aligned(pool, alignment, size), size, false); break;
    case 2: take(block, berth_alloc(pool, size), size, false); break;
    default: take(block, berth_realloc(NULL, NULL, size), size, false); break;
    }
}

static void resize(struct block *block) {
    size_t size = random_size();
    check(block);
    errno = 0;
    unsigned char *at = berth_realloc(NULL, block->at, size);
    if (at == NULL) {
        UNIT_CHECK(errno == ENOMEM);
        check(block); /* it is as it was */
        return;
    }
    UNIT_CHECK(block->at == NULL || block->size == 0 || size == 0 ||
               at[0] == (unsigned char)block->size);
    *block = (struct block){at, size};
    mark(block);
}

static void map_file(void) {
    errno = 0;
    if (pools[0] == NULL) {
        return;
    }
    char *at = berth_map_file(pools[0], file, 0, 65536, true);
    UNIT_CHECK(at != NULL || errno == ENOMEM);
    if (at != NULL) {
        UNIT_CHECK(strcmp(at, "content") == 0);
        berth_free(at);
    }
}

static void *free_elsewhere(void *unused) {
    (void)unused;
    for (unsigned i = 0; i < BLOCKS; i += 3) {
        release(&blocks[i]);
        allocate(&blocks[i]);
    }
    return NULL;
}

static void in_another_thread(void) {
    pthread_t thread;
    UNIT_CHECK(pthread_create(&thread, NULL, free_elsewhere, NULL) == 0);
    pthread_join(thread, NULL);
}

static void make_pools(void) {
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.decay_ms = 0;
    options.wait_ms = 0;
    options.limit = 200 * MIB;
    pools[0] = pools[0] != NULL ? pools[0] : berth_pool_default();
    pools[1] = pools[1] != NULL ? pools[1] : berth_pool_create("limited", &options);
    options.limit = 0;
    options.memory = lent;
    options.memory_size = sizeof(lent);
    pools[2] = pools[2] != NULL ? pools[2] : berth_pool_create("lent", &options);
}

static void work(void) {
    random_state.state = 4;
    make_pools();
    for (unsigned i = 0; i < STEPS; i++) {
        struct block *block = &blocks[unit_random_below(&random_state, BLOCKS)];
        switch (unit_random_below(&random_state, 8)) {
        case 0:
        case 1: release(block); break;
        case 2: resize(block); break;
        default:
            release(block);
            allocate(block);
            break;
        }
        if (i % 100 == 50) {
            map_file();
            berth_trim(NULL);
            berth_thread_idle();
        }
    }
    in_another_thread();
    berth_limit_set(UINT64_C(1) << 40);
    int error = berth_limit_reserve(MIB);
    UNIT_CHECK(error == 0 || error == -ENOMEM);
    berth_limit_release(error == 0 ? MIB : 0);
    berth_metrics_write_fd(file, BERTH_METRICS_JSON, BERTH_METRICS_ALL);
    UNIT_CHECK(pwrite(file, "content", 8, 0) == 8);
}

/* ---- afterwards, with memory ---- */

static void check_balance(const berth_pool *pool) {
    struct berth_pool_metrics m;
    UNIT_CHECK(berth_metrics_read_pool(pool, &m, sizeof(m)) == 0);
    UNIT_CHECK(m.chunk_bytes == m.slab_lent_bytes + m.remote_bytes + m.slab_free_bytes +
                                    m.slab_tail_bytes + m.run_lent_bytes + m.run_cached_bytes +
                                    m.run_free_bytes);
    UNIT_CHECK(m.live_high_bytes == 0 && m.live_low_bytes == 0);
    UNIT_CHECK(m.huge_bytes == 0 && m.file_bytes == 0);
    UNIT_CHECK(m.allocations == m.frees);
}

static void finish(void) {
    for (unsigned i = 0; i < BLOCKS; i++) {
        release(&blocks[i]);
    }
    berth_thread_flush();
    berth_trim(NULL); /* remote frees come home */
    for (unsigned i = 0; i < 3; i++) {
        UNIT_CHECK(pools[i] != NULL);
        check_balance(pools[i]);
    }
    for (unsigned i = 1; i < 3; i++) {
        UNIT_CHECK(berth_pool_destroy(pools[i], 0) == 0);
        pools[i] = NULL;
    }
    berth_trim(NULL);
}

struct fault {
    enum berth__os_call call;
    uint64_t skip, fail;
};

static void work_with_fault(void *context) {
    const struct fault *fault = context;
    char path[] = "/tmp/berth-unit-faults-XXXXXX";
    file = mkstemp(path);
    UNIT_CHECK(file >= 0 && unlink(path) == 0 && ftruncate(file, 65536) == 0);
    UNIT_CHECK(pwrite(file, "content", 8, 0) == 8);
    berth__os_fail_after(fault->call, fault->skip, fault->fail);
    work();
    berth__os_fail_after(fault->call, 0, 0);
    uint64_t made = berth__os_calls(fault->call);
    work(); /* the same again */
    for (unsigned i = 0; i < BLOCKS; i++) {
        if (blocks[i].at == NULL) {
            size_t size = random_size();
            take(&blocks[i], berth_alloc(pools[0], size), size, false);
            UNIT_CHECK(blocks[i].at != NULL);
        }
    }
    finish();
    struct berth_process_metrics m;
    UNIT_CHECK(berth_metrics_read(&m, sizeof(m)) == 0);
    UNIT_CHECK(m.live_high_bytes == 0);
    if (fault->fail == 0 || made <= fault->skip) {
        exit(made <= fault->skip ? 2 : 0); /* there are no more such calls */
    }
}

/* The calls of a kind, if all are asked for; else the first ones, and ever fewer of the later. */
static bool all_calls;

static void fail_in_turn(enum berth__os_call call, uint64_t fail) {
    for (uint64_t skip = 0;; skip += all_calls ? 1 : 1 + skip * (UNIT_TSAN ? 4 : 1)) {
        struct fault fault = {call, skip, fail};
        char line[256];
        int status = unit_in_child_line(work_with_fault, &fault, line, sizeof(line));
        if (status == 2) {
            return;
        }
        if (status != 0) {
            fail_msg("%s, %u passing, %s: status %d: %s", call_names[call], (unsigned)skip,
                     fail == 1 ? "one failing" : "all others failing", status, line);
        }
    }
}

static void any_single_call_may_fail(void **state) {
    /* A kernel that refuses once would break what the program does next. */
    (void)state;
    for (int call = 0; call < BERTH_OS_CALL_COUNT; call++) {
        fail_in_turn((enum berth__os_call)call, 1);
    }
}

static void any_kind_of_call_may_fail_for_a_while(void **state) {
    /* A program that has survived a shortage would find the engine broken after it. */
    (void)state;
    for (int call = 0; call < BERTH_OS_CALL_COUNT; call++) {
        fail_in_turn((enum berth__os_call)call, UINT64_MAX);
    }
}

int main(int argc, char **argv) {
    all_calls = argc > 1 && strcmp(argv[1], "all") == 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_single_call_may_fail),
        cmocka_unit_test(any_kind_of_call_may_fail_for_a_while),
    };
    return UNIT_RUN(tests);
}
#else
int main(void) {
    return UNIT_SKIPPED;
}
#endif
