/* Tags on the malloc door: that all of its calls follow the scope. This program runs on it. */
#include "figures.h"

#include <malloc.h>

static struct berth_tag_metrics tagged(const char *tag) {
    struct berth_tag_metrics figures;
    berth_thread_flush();
    UNIT_CHECK(berth_metrics_read_tag(tag, &figures, sizeof(figures)) == 0);
    return figures;
}

static void every_call_allocates_for_the_tag(void **state) {
    /* What calloc or libc itself takes would be missing. */
    (void)state;
    const size_t sizes[] = {40, 3000, 40960, 327680, 6 * MiB}; /* which fill their classes */
    void *blocks[64];
    unsigned count = 0;
    uint64_t bytes = 0;
    assert_int_equal(berth_tag_push("door"), 0);
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(sizes); i++) {
        blocks[count++] = malloc(sizes[i]);
        blocks[count++] = calloc(sizes[i] / 4, 4);
        blocks[count++] = realloc(NULL, sizes[i]);
        blocks[count++] = realloc(malloc(10), sizes[i]);
        blocks[count++] = memalign(4096, sizes[i]);
        blocks[count++] = aligned_alloc(64, sizes[i]);
    }
    blocks[count++] = strdup("from inside libc");
    assert_int_equal(berth_tag_pop(), 0);
    void *untagged = malloc(40);
    for (unsigned i = 0; i < count; i++) {
        assert_string_equal(berth_pool_name(berth_pool_of(blocks[i])), "tag:door");
        bytes += malloc_usable_size(blocks[i]);
    }
    assert_ptr_equal(berth_pool_of(untagged), berth_pool_default());
    assert_int_equal(tagged("door").live_low_bytes, bytes);
    assert_int_equal(tagged("door").live_high_bytes, bytes);
    for (unsigned i = 0; i < count; i++) {
        free(blocks[i]);
    }
    free(untagged);
    assert_int_equal(tagged("door").live_high_bytes, 0);
}

static void mallinfo_counts_what_is_tagged(void **state) {
    /* A program that watches itself would not see the greater part of its memory. */
    (void)state;
    struct mallinfo2 before = mallinfo2();
    assert_int_equal(berth_tag_push("watched"), 0);
    void *blocks[200];
    for (unsigned i = 0; i < 200; i++) {
        blocks[i] = malloc(10000);
    }
    assert_int_equal(berth_tag_pop(), 0);
    struct mallinfo2 during = mallinfo2();
    assert_true(during.uordblks >= before.uordblks + 2000000);
    for (unsigned i = 0; i < 200; i++) {
        memset(blocks[i], 1, 10000);
        free(blocks[i]);
    }
    assert_true(malloc_trim(0) != 0);
    assert_true(mallinfo2().arena < during.arena);
}

/* A thread's first allocation is in a scope, and its blocks outlive it. */
static void *start_tagged(void *unused) {
    (void)unused;
    UNIT_CHECK(berth_tag_push("first") == 0);
    return malloc(5000);
}

static void a_thread_may_begin_and_end_within_a_scope(void **state) {
    /* A worker that is tagged for all of its life is how most are. */
    (void)state;
    void *blocks[20];
    for (unsigned i = 0; i < 20; i++) {
        pthread_t thread = start_thread(start_tagged, NULL);
        assert_int_equal(pthread_join(thread, &blocks[i]), 0);
    }
    assert_true(tagged("first").live_high_bytes >= 20 * malloc_usable_size(blocks[0]));
    for (unsigned i = 0; i < 20; i++) {
        free(blocks[i]);
    }
    berth_thread_flush();
    berth_trim(NULL);
    assert_int_equal(tagged("first").live_high_bytes, 0);
    assert_int_equal(tagged("first").allocations, tagged("first").frees);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_allocates_for_the_tag),
        cmocka_unit_test(mallinfo_counts_what_is_tagged),
        cmocka_unit_test(a_thread_may_begin_and_end_within_a_scope),
    };
    return UNIT_RUN(tests);
}
