/* Memory on its way: a request that fits is not refused because others are moving what it needs. */
#include "chunk/transit.h"

#include "figures.h"

#include "os/clock.h"

static void what_is_not_on_its_way_is_not_waited_for(void **state) {
    /* Every refusal would look again, for nothing. */
    (void)state;
    berth__transit_begin();
    berth__transit_end();
    assert_false(berth__transit_settled(berth__transit_look()));
}

/* Patience ends after a tenth of a second: what a busy machine made last longer shows nothing. */
static bool took_long(uint64_t since_ns) {
    return berth__clock_ns() - since_ns > 90 * UINT64_C(1000000);
}

static _Atomic bool arrived;

static void *arrive(void *unused) {
    (void)unused;
    sleep_ms(5);
    atomic_store(&arrived, true);
    berth__transit_end();
    return NULL;
}

static void what_began_before_or_during_a_look_is_waited_for(void **state) {
    /* The request would fail while its memory is being purged. */
    (void)state;
    struct berth__transit before;
    bool in_time = false, waited = false;
    while (!in_time) {
        uint64_t start_ns = berth__clock_ns();
        atomic_store(&arrived, false);
        berth__transit_begin();
        before = berth__transit_look();
        pthread_t thread = start_thread(arrive, NULL);
        assert_true(berth__transit_settled(before));
        waited = atomic_load(&arrived);
        join_thread(thread);
        in_time = !took_long(start_ns);
    }
    assert_true(waited);
    before = berth__transit_look();
    berth__transit_begin();
    berth__transit_end();
    assert_true(berth__transit_settled(before));
    assert_false(berth__transit_settled(berth__transit_look()));
}

static void look_in_child(void *unused) {
    (void)unused;
    berth__transit_reset_in_child();
    UNIT_CHECK(!berth__transit_settled(berth__transit_look()));
}

static void a_child_waits_for_nothing_that_its_parent_moved(void **state) {
    /* Each refusal in the child would take a tenth of a second. */
    (void)state;
    berth__transit_begin();
    assert_int_equal(unit_in_child(look_in_child, NULL), 0);
    berth__transit_end();
}

/* ---- in the engine ---- */

static pthread_barrier_t moving;

/* What purging and unmapping do, slowly: memory that is free soon is in nobody's hands for now. */
static void *move_slowly(void *block) {
    berth__transit_begin();
    pthread_barrier_wait(&moving);
    sleep_ms(20);
    berth_free(block);
    berth_thread_flush();
    berth__transit_end();
    return NULL;
}

static void what_is_on_its_way_is_not_refused(void **state) {
    /* NOWAIT requests would fail now and then, with the memory they need just being purged. */
    (void)state;
    enum { BLOCKS = 8 }; /* of 2 MiB, which no cache keeps */
    berth_pool *pool = berth_pool_default();
    void *blocks[BLOCKS];
    assert_int_equal(pthread_barrier_init(&moving, NULL, 2), 0);
    assert_int_equal(berth_limit_set(BLOCKS * 2 * MiB), 0);
    for (unsigned i = 0; i < BLOCKS; i++) {
        blocks[i] = berth_alloc(pool, 2 * MiB);
        assert_non_null(blocks[i]);
    }
    assert_null(berth_alloc_flags(pool, 2 * MiB, BERTH_NOWAIT));
    bool in_time = false;
    while (!in_time) {
        pthread_t thread = start_thread(move_slowly, blocks[0]);
        pthread_barrier_wait(&moving);
        uint64_t start_ns = berth__clock_ns();
        void *block = berth_alloc_flags(pool, 2 * MiB, BERTH_NOWAIT);
        join_thread(thread);
        in_time = !took_long(start_ns);
        assert_true(block != NULL || !in_time);
        blocks[0] = block != NULL ? block : berth_alloc_flags(pool, 2 * MiB, BERTH_NOWAIT);
        assert_non_null(blocks[0]);
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        berth_free(blocks[i]);
    }
    pthread_barrier_destroy(&moving);
    assert_int_equal(berth_limit_set(BERTH_UNLIMITED), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_on_its_way_is_not_waited_for),
        cmocka_unit_test(what_began_before_or_during_a_look_is_waited_for),
        cmocka_unit_test(a_child_waits_for_nothing_that_its_parent_moved),
        cmocka_unit_test(what_is_on_its_way_is_not_refused),
    };
    return UNIT_RUN(tests);
}
