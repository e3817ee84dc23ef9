/*
 * If this fails, threads that begin, end and pass blocks to each other in unusual ways crash the
 * door, damage blocks, or make the process grow.
 */
#include "edge.h"

#include <limits.h>
#include <pthread.h>
#include <semaphore.h>

static pthread_t start_with(const pthread_attr_t *attributes, void *(*body)(void *),
                            void *context) {
    pthread_t thread;
    CHECK(pthread_create(&thread, attributes, body, context) == 0);
    return thread;
}

static pthread_t start(void *(*body)(void *), void *context) {
    return start_with(NULL, body, context);
}

static void join(pthread_t thread) {
    CHECK(pthread_join(thread, NULL) == 0);
}

static char *allocate(size_t size, size_t seed) {
    char *block = malloc(size);
    CHECK(block != NULL);
    edge_fill(block, size, seed);
    return block;
}

static void check_growth(size_t before, size_t most) {
    size_t after = edge_resident_bytes();
    if (after > before + most) {
        FAIL("%zu bytes stay, of at most %zu", after - before, most);
    }
}

/* ---- blocks that outlive their thread ---- */

enum { OUTLIVING = 300 };
static char *outliving[OUTLIVING];

static size_t outliving_size(size_t i) {
    return i * i;
}

static void *make_outliving(void *context) {
    (void)context;
    for (size_t i = 0; i < OUTLIVING; i++) {
        outliving[i] = allocate(outliving_size(i), i);
    }
    return NULL;
}

static void *free_outliving(void *context) {
    (void)context;
    for (size_t i = 0; i < OUTLIVING; i++) {
        CHECK(edge_holds(outliving[i], outliving_size(i), i));
        free(outliving[i]);
    }
    return NULL;
}

static void *resize_outliving(void *context) {
    (void)context;
    for (size_t i = 0; i < OUTLIVING; i++) {
        outliving[i] = realloc(outliving[i], outliving_size(i) + 1000);
        CHECK(outliving[i] != NULL);
    }
    return NULL;
}

static void blocks_outlive_their_thread(void) {
    size_t before = 0;
    for (unsigned round = 0; round < edge_times(60, 400); round++) {
        join(start(make_outliving, NULL));
        if (round % 2 == 0) {
            join(start(resize_outliving, NULL));
        }
        if (round % 3 == 0) {
            free_outliving(NULL);
        } else {
            join(start(free_outliving, NULL));
        }
        before = round == 20 ? edge_resident_bytes() : before;
    }
    check_growth(before, 32u << 20);
}

/* ---- threads that do little ---- */

static void *one_block(void *context) {
    (void)context;
    free(allocate(100, 1));
    return NULL;
}

static void *no_block(void *context) {
    return context;
}

static void short_threads_leave_nothing_behind(void) {
    size_t before = 0;
    for (unsigned i = 0; i < 8000; i++) {
        join(start(i % 2 == 0 ? one_block : no_block, NULL));
        before = i == 500 ? edge_resident_bytes() : before;
    }
    check_growth(before, 4u << 20);
}

static void detached_threads_leave_nothing_behind(void) {
    pthread_attr_t detached;
    CHECK(pthread_attr_init(&detached) == 0);
    CHECK(pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED) == 0);
    for (unsigned i = 0; i < 2000; i++) {
        pthread_t thread;
        int error;
        while ((error = pthread_create(&thread, &detached, one_block, NULL)) != 0) {
            CHECK_EQUAL(error, EAGAIN);
        }
    }
    CHECK(pthread_attr_destroy(&detached) == 0);
}

/* The door's slow paths must do with the smallest stack that a thread can have. */
static void *allocate_everything(void *context) {
    (void)context;
    for (size_t size = 1; size < 20u << 20; size = size * 3 / 2 + 1) {
        char *block = malloc(size);
        char *cleared = calloc(1, size);
        void *aligned = memalign(8192, size);
        CHECK(block != NULL && cleared != NULL && aligned != NULL);
        block[0] = cleared[size - 1] = 1;
        block = realloc(block, size * 2);
        CHECK(block != NULL);
        free(aligned);
        free(block);
        free(cleared);
    }
    (void)malloc_trim(0);
    return NULL;
}

static void the_smallest_stack_is_enough(void) {
    pthread_attr_t small;
    CHECK(pthread_attr_init(&small) == 0);
    CHECK(pthread_attr_setstacksize(&small, (size_t)PTHREAD_STACK_MIN) == 0);
    for (unsigned i = 0; i < 20; i++) {
        join(start_with(&small, allocate_everything, NULL));
    }
    CHECK(pthread_attr_destroy(&small) == 0);
}

/* ---- many threads at once ---- */

enum { CROWD = 400, CROWD_BLOCKS = 256 };
static pthread_barrier_t crowd_gate;

static void *hold_and_free(void *context) {
    char *blocks[CROWD_BLOCKS];
    for (size_t i = 0; i < COUNT_OF(blocks); i++) {
        blocks[i] = allocate(1000, i);
    }
    for (size_t i = 0; i < COUNT_OF(blocks); i++) {
        free(blocks[i]);
    }
    pthread_barrier_wait(&crowd_gate); /* all have freed */
    pthread_barrier_wait(&crowd_gate); /* and were counted */
    return context;
}

/* 100 MB were allocated and freed again; what the threads keep of it is bounded by the budget. */
static void a_crowd_of_idle_threads_keeps_little(void) {
    static pthread_t crowd[CROWD];
    pthread_attr_t small;
    CHECK(pthread_attr_init(&small) == 0);
    CHECK(pthread_attr_setstacksize(&small, 64 << 10) == 0);
    CHECK(pthread_barrier_init(&crowd_gate, NULL, CROWD + 1) == 0);
    size_t before = edge_resident_bytes();
    for (size_t i = 0; i < CROWD; i++) {
        crowd[i] = start_with(&small, hold_and_free, NULL);
    }
    pthread_barrier_wait(&crowd_gate);
    (void)malloc_trim(0);
    check_growth(before, 64u << 20);
    pthread_barrier_wait(&crowd_gate);
    for (size_t i = 0; i < CROWD; i++) {
        join(crowd[i]);
    }
    CHECK(pthread_attr_destroy(&small) == 0);
}

/* ---- one makes, another frees ---- */

enum { QUEUE = 512, PASSED = 400000 };
static void *queue[QUEUE];
static sem_t queue_room, queue_filled;

static void *free_what_comes(void *context) {
    (void)context;
    for (unsigned i = 0; i < PASSED; i++) {
        while (sem_wait(&queue_filled) != 0) {
        }
        free(queue[i % QUEUE]);
        CHECK(sem_post(&queue_room) == 0);
    }
    return NULL;
}

static void a_thread_that_only_frees_keeps_nothing(void) {
    uint64_t state = 4101842887655102017u;
    CHECK(sem_init(&queue_room, 0, QUEUE) == 0 && sem_init(&queue_filled, 0, 0) == 0);
    pthread_t thread = start(free_what_comes, NULL);
    size_t before = 0;
    for (unsigned i = 0; i < PASSED; i++) {
        while (sem_wait(&queue_room) != 0) {
        }
        size_t size = (size_t)(edge_random(&state) % 8192) + 1;
        char *block = malloc(size);
        CHECK(block != NULL);
        block[0] = block[size - 1] = 1;
        queue[i % QUEUE] = block;
        CHECK(sem_post(&queue_filled) == 0);
        before = i == PASSED / 10 ? edge_resident_bytes() : before;
    }
    join(thread);
    check_growth(before, 32u << 20);
}

/* ---- all kinds, between all threads ---- */

enum { SHARED = 512, EXCHANGERS = 6, EXCHANGES = 20000 };

static struct shared {
    pthread_mutex_t lock;
    char *block;
    size_t size;
} shared[SHARED];

static void exchange_one(struct shared *slot, uint64_t *state) {
    size_t seed = (size_t)(slot - shared);
    size_t size = edge_random_size(state) / 8 + 1;
    CHECK(pthread_mutex_lock(&slot->lock) == 0);
    if (slot->block != NULL && !edge_holds(slot->block, slot->size, seed)) {
        FAIL("a block of %zu bytes is damaged", slot->size);
    }
    if (slot->block != NULL && size % 4 == 0) {
        size_t kept = slot->size < size ? slot->size : size;
        slot->block = realloc(slot->block, size);
        CHECK(slot->block != NULL && edge_holds(slot->block, kept, seed));
    } else {
        free(slot->block);
        slot->block = size % 4 == 1 ? memalign(256, size) : malloc(size);
        CHECK(slot->block != NULL);
    }
    slot->size = size;
    edge_fill(slot->block, size, seed);
    CHECK(pthread_mutex_unlock(&slot->lock) == 0);
}

static void *exchange(void *context) {
    uint64_t state = (uint64_t)(uintptr_t)context * 2654435761u + 1;
    for (unsigned i = 0; i < EXCHANGES; i++) {
        exchange_one(&shared[edge_random(&state) % SHARED], &state);
    }
    return NULL;
}

static void blocks_go_round_between_threads(void) {
    pthread_t threads[EXCHANGERS];
    for (size_t i = 0; i < SHARED; i++) {
        CHECK(pthread_mutex_init(&shared[i].lock, NULL) == 0);
    }
    for (size_t i = 0; i < EXCHANGERS; i++) {
        threads[i] = start(exchange, (void *)(uintptr_t)(i + 1));
    }
    for (size_t i = 0; i < EXCHANGERS; i++) {
        join(threads[i]);
    }
    for (size_t i = 0; i < SHARED; i++) {
        free(shared[i].block);
    }
}

/* ---- ends ---- */

static void free_in_cleanup(void *block) {
    free(block);
    free(allocate(5000, 1));
}

static void *wait_for_ever(void *context) {
    char *block = allocate(3000, 2);
    pthread_cleanup_push(free_in_cleanup, block);
    CHECK(sem_post(context) == 0);
    for (;;) {
        free(allocate(200, 3));
        pthread_testcancel();
    }
    pthread_cleanup_pop(1);
    return NULL;
}

static void cancelled_threads_clean_up(void) {
    sem_t started;
    CHECK(sem_init(&started, 0, 0) == 0);
    for (unsigned i = 0; i < 500; i++) {
        pthread_t thread = start(wait_for_ever, &started);
        while (sem_wait(&started) != 0) {
        }
        CHECK(pthread_cancel(thread) == 0);
        join(thread);
    }
}

/* What a thread does that is to be cancelled at its next chance: none of it is one. */
static void *allocate_cancelled(void *passed) {
    CHECK(pthread_cancel(pthread_self()) == 0);
    malloc_stats();
    (void)mallinfo2();
    for (size_t i = 0; i < 300; i++) {
        free(allocate(i * i * 20 + 1, i));
    }
    CHECK(malloc((size_t)1 << 60) == NULL);
    (void)malloc_trim(0);
    *(bool *)passed = true;
    pthread_testcancel();
    FAIL("not cancelled");
}

static void no_call_is_a_cancellation_point(void) {
    for (unsigned i = 0; i < 20; i++) {
        bool passed = false;
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, allocate_cancelled, &passed) == 0);
        void *result = NULL;
        CHECK(pthread_join(thread, &result) == 0);
        CHECK(passed && result == PTHREAD_CANCELED);
    }
}

static void *outlive_main(void *main_thread) {
    join(*(pthread_t *)main_thread);
    make_outliving(NULL);
    free_outliving(NULL);
    exit(EDGE_PASS);
}

static void the_main_thread_may_end_first(void) {
    static pthread_t self;
    self = pthread_self();
    make_outliving(NULL);
    (void)start(outlive_main, &self);
    pthread_exit(NULL);
}

static const struct edge_case cases[] = {
    EDGE_CASE(blocks_outlive_their_thread),
    EDGE_CASE(short_threads_leave_nothing_behind),
    EDGE_CASE(detached_threads_leave_nothing_behind),
    EDGE_CASE(the_smallest_stack_is_enough),
    EDGE_CASE(a_crowd_of_idle_threads_keeps_little),
    EDGE_CASE(a_thread_that_only_frees_keeps_nothing),
    EDGE_CASE(blocks_go_round_between_threads),
    EDGE_CASE(cancelled_threads_clean_up),
    EDGE_CASE(no_call_is_a_cancellation_point),
    EDGE_CASE(the_main_thread_may_end_first),
};

EDGE_MAIN(cases)
