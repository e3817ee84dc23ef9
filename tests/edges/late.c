/*
 * If this fails, a program that allocates and frees in its last moments (exit handlers, library
 * destructors, destructors of thread-specific data) crashes there, or leaks with every thread.
 */
#include "edge.h"

#include <limits.h>
#include <pthread.h>

static void churn(void) {
    char *blocks[64];
    for (size_t i = 0; i < COUNT_OF(blocks); i++) {
        size_t size = i * i * 10 + 1;
        blocks[i] = malloc(size);
        CHECK(blocks[i] != NULL);
        blocks[i][0] = blocks[i][size - 1] = (char)i;
    }
    for (size_t i = 0; i < COUNT_OF(blocks); i++) {
        CHECK(blocks[i][0] == (char)i && blocks[i][i * i * 10] == (char)i);
        free(blocks[i]);
    }
}

/* ---- the end of a process ---- */

static void *kept[100];

static void free_kept(void) {
    for (size_t i = 0; i < COUNT_OF(kept); i++) {
        free(kept[i]);
        kept[i] = NULL;
    }
}

static void keep(void) {
    for (size_t i = 0; i < COUNT_OF(kept); i++) {
        kept[i] = malloc(i * 500);
        CHECK(kept[i] != NULL);
    }
}

static void at_exit(void) {
    churn();
    free_kept();
    keep();
}

__attribute__((destructor)) static void after_exit_handlers(void) {
    churn();
    free_kept();
}

__attribute__((destructor(101))) static void at_the_very_end(void) {
    churn();
    free_kept();
    fflush(stdout);
}

static void exit_handlers_and_destructors_allocate(void) {
    keep();
    for (unsigned i = 0; i < 40; i++) { /* more than libc keeps without allocating */
        CHECK(atexit(at_exit) == 0);
    }
    exit(0);
}

static void quick_exit_handlers_allocate(void) {
    keep();
    CHECK(at_quick_exit(at_exit) == 0);
    quick_exit(0);
}

static void *exit_from_thread(void *context) {
    (void)context;
    churn();
    exit(0);
}

static void a_thread_ends_the_process(void) {
    pthread_t thread;
    keep();
    CHECK(atexit(at_exit) == 0);
    CHECK(pthread_create(&thread, NULL, exit_from_thread, NULL) == 0);
    (void)pthread_join(thread, NULL);
    FAIL("exit returned");
}

static void *work_for_ever(void *context) {
    while (context == NULL) {
        churn();
    }
    return NULL;
}

/* While others are in the middle of malloc. */
static void exit_does_not_wait_for_busy_threads(void) {
    for (unsigned i = 0; i < 3; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, work_for_ever, NULL) == 0);
    }
    churn();
    CHECK(atexit(at_exit) == 0);
    exit(0);
}

/* ---- the end of a thread ---- */

enum { KEYS = 8 };
static pthread_key_t keys[KEYS];
static _Atomic unsigned destructions;

struct value {
    unsigned key, round;
    char text[200];
};

static void set_value(unsigned key, unsigned round) {
    struct value *value = malloc(sizeof(*value));
    CHECK(value != NULL);
    value->key = key;
    value->round = round;
    memset(value->text, (int)key, sizeof(value->text));
    CHECK(pthread_setspecific(keys[key], value) == 0);
}

/* Frees the value and sets another, until the system stops asking. */
static void destroy(void *pointer) {
    struct value *value = pointer;
    destructions++;
    CHECK(value->text[0] == (char)value->key && value->text[199] == (char)value->key);
    churn();
    if (value->round + 1 < PTHREAD_DESTRUCTOR_ITERATIONS) {
        set_value(value->key, value->round + 1);
    }
    free(value);
}

static void *set_all(void *context) {
    (void)context;
    for (unsigned i = 0; i < KEYS; i++) {
        set_value(i, 0);
    }
    return NULL;
}

/* Half of the keys are made before the door's own, as far as that can be. */
static void make_keys(void) {
    for (unsigned i = 0; i < KEYS; i++) {
        CHECK(pthread_key_create(&keys[i], destroy) == 0);
    }
}

static void run_threads(unsigned count, void *(*body)(void *)) {
    for (unsigned i = 0; i < count; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, body, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
}

static void destructors_allocate_in_every_iteration(void) {
    make_keys();
    run_threads(50, set_all);
    CHECK_EQUAL(destructions, 50 * KEYS * PTHREAD_DESTRUCTOR_ITERATIONS);
}

static void threads_that_end_so_leave_nothing_behind(void) {
    make_keys();
    run_threads(200, set_all);
    size_t before = edge_resident_bytes();
    run_threads(1500, set_all);
    size_t after = edge_resident_bytes();
    if (after > before + (8u << 20)) {
        FAIL("%zu bytes stay", after - before);
    }
}

/* The door has not been called by the thread before its destructors run. */
static void *set_static(void *context) {
    static struct value value = {.key = 0, .round = 0};
    (void)context;
    CHECK(pthread_setspecific(keys[0], &value) == 0);
    return NULL;
}

static void only_churn(void *value) {
    (void)value;
    churn();
}

static void the_first_allocation_can_be_in_a_destructor(void) {
    CHECK(pthread_key_create(&keys[0], only_churn) == 0);
    run_threads(100, set_static);
    size_t before = edge_resident_bytes();
    run_threads(1500, set_static);
    CHECK(edge_resident_bytes() < before + (8u << 20));
}

/* Frees in the last iteration what another thread made. */
static void free_from_destructor(void *block) {
    free(block);
}

static void *set_foreign(void *block) {
    CHECK(pthread_setspecific(keys[0], block) == 0);
    return NULL;
}

static void destructors_free_what_others_made(void) {
    CHECK(pthread_key_create(&keys[0], free_from_destructor) == 0);
    size_t before = 0;
    for (unsigned i = 0; i < 2000; i++) {
        pthread_t thread;
        void *block = malloc(20000);
        CHECK(block != NULL);
        memset(block, 1, 20000);
        CHECK(pthread_create(&thread, NULL, set_foreign, block) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        before = i == 200 ? edge_resident_bytes() : before;
    }
    CHECK(edge_resident_bytes() < before + (8u << 20));
}

static const struct edge_case cases[] = {
    EDGE_CASE(exit_handlers_and_destructors_allocate),
    EDGE_CASE(quick_exit_handlers_allocate),
    EDGE_CASE(a_thread_ends_the_process),
    EDGE_CASE(exit_does_not_wait_for_busy_threads),
    EDGE_CASE(destructors_allocate_in_every_iteration),
    EDGE_CASE(threads_that_end_so_leave_nothing_behind),
    EDGE_CASE(the_first_allocation_can_be_in_a_destructor),
    EDGE_CASE(destructors_free_what_others_made),
};

EDGE_MAIN(cases)
