/*
 * References in several threads: each holds its own, whoever is last gives the memory back. Under
 * ThreadSanitizer these show that the counts alone order what holders did before what happens next.
 *
 * Messages are written and read by words: it remembers few accesses to each word, and does not see
 * all of memset.
 */
#include "figures.h"

#include "buffer/owner.h"
#include "os/fault.h"

#include <stdatomic.h>

/* With faults, delays yield: on a busy machine each of them is as long as everybody else's turn. */
enum { ROUNDS = UNIT_SANITIZED ? 300 : BERTH_FAULTS ? 1000 : 3000 };
enum { THREADS = 4, WORDS = 16, BYTES = 8 * WORDS };

static berth_pool *pool;
static pthread_barrier_t barrier;

static int make_pool(void **state) {
    (void)state;
    pool = berth_pool_create("threads", NULL);
#if BERTH_FAULTS
    berth__delay_set(10);
#endif
    return pool == NULL || pthread_barrier_init(&barrier, NULL, THREADS) != 0;
}

static int end_pool(void **state) {
    (void)state;
#if BERTH_FAULTS
    berth__delay_set(0);
#endif
    pthread_barrier_destroy(&barrier);
    check_nothing_lives(pool);
    return berth_pool_destroy(pool, 0);
}

static void write_words(void *to, uint64_t word) {
    volatile uint64_t *words = to;
    for (unsigned i = 0; i < WORDS; i++) {
        words[i] = word;
    }
}

/* ---- one message, a reference for each thread ---- */

static struct berth_slice handed[THREADS];
static atomic_uint released;

static void on_release(void *context, void *data, size_t length) {
    (void)context;
    UNIT_CHECK(length == BYTES);
    write_words(data, 0); /* a race, if anybody reads still */
    atomic_fetch_add(&released, 1);
}

static void make_message(unsigned round) {
    static uint64_t memory[WORDS];
    int error = 0;
    if (round % 2 == 0) {
        write_words(memory, round);
        error = berth_slice_wrap(pool, memory, BYTES, on_release, NULL, &handed[0]);
    } else {
        error = berth_slice_alloc(pool, BYTES, &handed[0]);
        UNIT_CHECK(error == 0);
        write_words(berth_slice_try_write(&handed[0]), round);
    }
    UNIT_CHECK(error == 0);
    for (unsigned i = 1; i < THREADS; i++) {
        handed[i] = berth_slice_retain(&handed[0]);
    }
}

static bool is_whole(const struct berth_slice *slice, uint64_t round) {
    const volatile uint64_t *words = (const volatile void *)slice->data;
    bool whole = true;
    for (unsigned i = 0; i < slice->length / sizeof(*words); i++) {
        whole &= words[i] == round;
    }
    return whole;
}

static void *read_and_release(void *argument) {
    unsigned self = atomic_fetch_add((atomic_uint *)argument, 1);
    struct unit_random random = {self};
    for (unsigned round = 0; round < ROUNDS; round++) {
        if (self == 0) {
            make_message(round);
        }
        pthread_barrier_wait(&barrier);
        struct berth_slice own = handed[self];
        for (size_t i = unit_random_below(&random, 4); i > 0; i--) {
            struct berth_slice part;
            UNIT_CHECK(berth_slice_sub(&own, 8 * i, 16, &part) == 0);
            UNIT_CHECK(is_whole(&part, round));
            berth_slice_release(&part);
        }
        UNIT_CHECK(is_whole(&own, round));
        berth_slice_release(&own);
        pthread_barrier_wait(&barrier);
    }
    berth_thread_flush();
    return NULL;
}

static void the_last_of_all_holders_gives_the_memory_back(void **state) {
    /* Memory would be freed while it is read, twice, or never. */
    (void)state;
    atomic_uint threads = 0;
    atomic_store(&released, 0);
    run_threads(THREADS, read_and_release, &threads);
    assert_int_equal(atomic_load(&released), ROUNDS / 2);
}

/* ---- a writer that waits for the readers ---- */

static void write_alone(struct berth_slice *own) {
    void *bytes = NULL;
    for (unsigned tries = 1; (bytes = berth_slice_try_write(own)) == NULL; tries++) {
        struct berth_slice again = berth_slice_retain(own);
        berth_slice_release(&again);
        if (tries % 64 == 0) { /* sched_yield takes everybody else's turn, on a busy machine */
            usleep(50);
        }
    }
    write_words(bytes, 0); /* a race, if a reader's reads were not over */
}

static void *write_when_alone(void *argument) {
    unsigned self = atomic_fetch_add((atomic_uint *)argument, 1);
    for (unsigned round = 1; round < 2 * ROUNDS; round += 2) {
        if (self == 0) {
            make_message(round);
        }
        pthread_barrier_wait(&barrier);
        struct berth_slice own = handed[self];
        if (self == 0) {
            write_alone(&own);
        } else if (self == 1) {
            struct berth_slice pinned = berth_slice_pin(&own);
            UNIT_CHECK(is_whole(&pinned, round));
            berth_slice_unpin(&pinned);
        } else {
            UNIT_CHECK(is_whole(&own, round));
        }
        berth_slice_release(&own);
        pthread_barrier_wait(&barrier);
    }
    berth_thread_flush();
    return NULL;
}

static void who_is_alone_may_write(void **state) {
    /* A message would change under its last reader, or under the kernel. */
    (void)state;
    atomic_uint threads = 0;
    run_threads(THREADS, write_when_alone, &threads);
}

/* ---- everything at once ---- */

enum { SLOTS = 64 };

static struct {
    pthread_mutex_t lock;
    struct berth_chain chain;
} slots[SLOTS];

/* A message that says what it holds: its first byte is in all others. */
static void put_message(struct berth_chain *chain, struct unit_random *random) {
    struct berth_slice slice;
    size_t length = 1 + unit_random_below(random, 5000);
    UNIT_CHECK(berth_slice_alloc(pool, length, &slice) == 0);
    memset(berth_slice_try_write(&slice), (int)unit_random_below(random, 256), length);
    UNIT_CHECK(berth_chain_append(chain, &slice) == 0);
}

static bool is_uniform(const struct berth_chain *chain) {
    struct iovec entries[8];
    unsigned count = berth_chain_iovec(chain, entries, 8);
    for (unsigned i = 0; i < count; i++) {
        const unsigned char *bytes = entries[i].iov_base;
        size_t length = entries[i].iov_len;
        if (length > 1 && memcmp(bytes, bytes + 1, length - 1) != 0) {
            return false;
        }
    }
    return true;
}

/* What a slot has, in exchange for what *chain has. */
static void swap(size_t at, struct berth_chain *chain) {
    pthread_mutex_lock(&slots[at].lock);
    struct berth_chain had = slots[at].chain;
    slots[at].chain = *chain;
    pthread_mutex_unlock(&slots[at].lock);
    *chain = had;
}

static void *exchange_messages(void *argument) {
    struct unit_random random = {atomic_fetch_add((atomic_uint *)argument, 1)};
    for (unsigned i = 0; i < ROUNDS * 10; i++) {
        struct berth_chain message, shared;
        berth_chain_init(&message, pool);
        berth_chain_init(&shared, pool);
        swap(unit_random_below(&random, SLOTS), &message);
        UNIT_CHECK(is_uniform(&message));
        uint64_t length = berth_chain_length(&message);
        if (length == 0 || unit_random_below(&random, 4) == 0) {
            berth_chain_clear(&message); /* perhaps the last of another thread's memory */
            put_message(&message, &random);
            length = berth_chain_length(&message);
        }
        uint64_t from = unit_random_below(&random, length);
        UNIT_CHECK(berth_chain_share(&message, from, length - from, &shared) == 0);
        swap(unit_random_below(&random, SLOTS), &message);
        swap(unit_random_below(&random, SLOTS), &shared);
        UNIT_CHECK(is_uniform(&message) && is_uniform(&shared));
        berth_chain_clear(&message);
        berth_chain_clear(&shared);
    }
    berth_thread_flush();
    return NULL;
}

static void messages_go_round_and_all_memory_comes_home(void **state) {
    /* Servers that pass messages between threads would leak or corrupt them. */
    (void)state;
    for (unsigned i = 0; i < SLOTS; i++) {
        pthread_mutex_init(&slots[i].lock, NULL);
        berth_chain_init(&slots[i].chain, pool);
    }
    atomic_uint threads = 0;
    run_threads(THREADS, exchange_messages, &threads);
    for (unsigned i = 0; i < SLOTS; i++) {
        berth_chain_clear(&slots[i].chain);
        pthread_mutex_destroy(&slots[i].lock);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_pool, end_pool)
    const struct CMUnitTest tests[] = {
        TEST(the_last_of_all_holders_gives_the_memory_back),
        TEST(who_is_alone_may_write),
        TEST(messages_go_round_and_all_memory_comes_home),
    };
    return UNIT_RUN(tests);
}
