/* A crowd of idle threads, as in a server with a thread for each connection. */
#include "figures.h"

enum { THREADS = 3000, CLASSES = 20 };

static pthread_barrier_t turn;

/* Resident anonymous memory: what the program's text and libraries take is left out. */
static size_t resident_bytes(void) {
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    unsigned long kib = 0;
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        (void)sscanf(line, "RssAnon: %lu kB", &kib);
    }
    fclose(file);
    return kib * KiB;
}

/* What calls need of the stack is there before the first measurement. */
static BERTH_NOINLINE void touch_the_stack(void) {
    char stack[24 << 10];
    memset(stack, 1, sizeof(stack));
    __asm__ volatile("" : : "r"(stack) : "memory");
}

/* Touches blocks of many sizes, then sleeps without a word: it never says that it is idle. */
static void *touch_and_sleep(void *unused) {
    (void)unused;
    touch_the_stack();
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    void *blocks[CLASSES];
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < CLASSES; i++) {
            size_t size = 16 + (size_t)i * i * 40;
            blocks[i] = berth_alloc(berth_pool_default(), size);
            UNIT_CHECK(blocks[i] != NULL);
            memset(blocks[i], 1, size);
        }
        berth_free_batch(blocks, CLASSES);
    }
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    return NULL;
}

static void an_idle_thread_costs_16_kib_at_most(void **state) {
    /* Thousands of connections would hold gigabytes. */
    (void)state;
    UNIT_ONLY_IF(!UNIT_SANITIZED);
    static pthread_t threads[THREADS];
    pthread_attr_t attributes;
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, 64 * KiB), 0);
    assert_int_equal(pthread_barrier_init(&turn, NULL, THREADS + 1), 0);
    berth_free(berth_alloc(berth_pool_default(), 100));
    for (unsigned i = 0; i < THREADS; i++) {
        UNIT_CHECK(pthread_create(&threads[i], &attributes, touch_and_sleep, NULL) == 0);
    }
    pthread_barrier_wait(&turn);
    size_t before = resident_bytes();
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    size_t each = (resident_bytes() - before) / THREADS;
    struct berth_process_metrics all = figures();
    printf("resident growth per thread: %zu bytes; metadata %lu KiB\n", each,
           (unsigned long)(all.metadata_bytes >> 10));
    assert_true(each <= 16 * KiB);
    assert_true(all.live_high_bytes - all.live_low_bytes <=
                all.cache_budget_bytes + (THREADS + 1) * 2 * KiB);
    assert_int_equal(figures_of(berth_pool_default()).threads, THREADS + 1);
    pthread_barrier_wait(&turn);
    for (unsigned i = 0; i < THREADS; i++) {
        join_thread(threads[i]);
    }
    check_nothing_lives(berth_pool_default());
    pthread_attr_destroy(&attributes);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(an_idle_thread_costs_16_kib_at_most)};
    return UNIT_RUN(tests);
}
