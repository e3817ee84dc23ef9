/* Events on the malloc door: inside malloc, only who said that it is safe is told. */
#include "figures.h"

#include <errno.h>
#include <stdatomic.h>

static _Atomic unsigned safe_told, told;

static void count_safe(void *context, const struct berth_event *event) {
    UNIT_CHECK(context == NULL && event->used_bytes > 0);
    free(malloc(100)); /* it may allocate */
    atomic_fetch_add(&safe_told, 1);
}

static void count(void *context, const struct berth_event *event) {
    UNIT_CHECK(context == NULL && event->used_bytes > 0);
    atomic_fetch_add(&told, 1);
}

static void add(unsigned kind) {
    atomic_store(&safe_told, 0);
    atomic_store(&told, 0);
    assert_int_equal(berth_event_add(kind | BERTH_EVENT_MALLOC_SAFE, count_safe, NULL), 0);
    assert_int_equal(berth_event_add(kind, count, NULL), 0);
}

static int take_away(void **state) {
    (void)state;
    UNIT_CHECK(berth_event_remove(count_safe, NULL) == 0);
    UNIT_CHECK(berth_event_remove(count, NULL) == 0);
    UNIT_CHECK(berth_soft_limit_set(BERTH_UNLIMITED) == 0);
    return berth_limit_set(BERTH_UNLIMITED);
}

static void a_crossing_in_malloc_is_told_to_others_later(void **state) {
    /* A callback that takes the program's locks would wait for the caller of malloc, for ever; or
     * never hear of it. */
    (void)state;
    add(BERTH_EVENT_SOFT_LIMIT);
    assert_int_equal(berth_soft_limit_set(berth_limit_used() + 16 * MiB), 0);
    void *block = malloc(32 * MiB);
    assert_int_equal(safe_told, 1);
    assert_int_equal(told, 0);
    free(malloc(8 * MiB));
    assert_int_equal(safe_told, 1);
    assert_int_equal(told, 0);
    berth_thread_idle();
    assert_int_equal(safe_told, 1);
    assert_int_equal(told, 1);
    berth_trim(NULL);
    assert_int_equal(told, 1);
    free(block);
}

static void a_failure_in_malloc_is_told_to_who_is_safe(void **state) {
    /* The program would hang when memory is short. */
    (void)state;
    add(BERTH_EVENT_FAILURE);
    assert_int_equal(berth_limit_set(berth_limit_used() + 8 * MiB), 0);
    errno = 0;
    assert_null(malloc(64 * MiB));
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(safe_told, 1);
    assert_int_equal(told, 0);
    assert_null(berth_alloc_flags(berth_pool_default(), 64 * MiB, BERTH_NOWAIT));
    assert_int_equal(safe_told, 2);
    assert_int_equal(told, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_crossing_in_malloc_is_told_to_others_later, take_away),
        cmocka_unit_test_teardown(a_failure_in_malloc_is_told_to_who_is_safe, take_away),
    };
    return UNIT_RUN(tests);
}
