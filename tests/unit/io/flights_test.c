/* Sends that the kernel holds: notifications in any order release exactly what they name. */
#include "sockets.h"

#include "io/flights.h"

static berth_pool *pool;
static struct berth__flights flights;
static struct berth_chain chain;
static unsigned released[BERTH_FLIGHTS_MAX + 1];
static unsigned char memory[BERTH_FLIGHTS_MAX + 1][600];

static void count_release(void *context, void *data, size_t length) {
    (void)data;
    (void)length;
    ++*(unsigned *)context;
}

static int begin(void **state) {
    (void)state;
    pool = berth_pool_create("flights", NULL);
    berth_chain_init(&chain, pool);
    memset(released, 0, sizeof(released));
    /* The numbers wrap on the way. */
    flights =
        (struct berth__flights){.pool = pool, .oldest = UINT32_MAX - 4, .next = UINT32_MAX - 4};
    return 0;
}

static int end(void **state) {
    (void)state;
    UNIT_CHECK(flights.count == 0 && flights.oldest == flights.next);
    berth__flights_end(&flights);
    berth_chain_clear(&chain);
    check_nothing_lives(pool);
    return berth_pool_destroy(pool, 0);
}

/* Sends wrapped memory number i; only the flight holds it then. */
static bool depart(unsigned i) {
    struct berth_slice slice;
    UNIT_CHECK(berth_slice_wrap(pool, memory[i], 600, count_release, &released[i], &slice) == 0);
    UNIT_CHECK(berth_chain_append(&chain, &slice) == 0);
    struct berth__flight *flight = berth__flights_prepare(&flights, 1);
    if (flight != NULL) {
        berth__flights_depart(&flights, flight, &chain, 600);
    }
    berth_chain_clear(&chain);
    UNIT_CHECK(berth__flights_are_valid(&flights));
    return flight != NULL;
}

/* Of numbers from the first one on. */
static uint32_t land(unsigned from, unsigned to) {
    uint32_t landed = berth__flights_land(&flights, UINT32_MAX - 4 + from, UINT32_MAX - 4 + to);
    UNIT_CHECK(berth__flights_are_valid(&flights));
    return landed;
}

static void ranges_land_in_any_order(void **state) {
    /* Memory would be reused while the kernel sends it, or never. */
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        assert_true(depart(i));
    }
    struct berth_process_metrics figures;
    assert_int_equal(berth_metrics_read(&figures, sizeof(figures)), 0);
    assert_int_equal(figures.in_flight_bytes, 600 * flights.count);
    assert_int_equal(land(7, 9), 3);
    assert_int_equal(berth_metrics_read(&figures, sizeof(figures)), 0);
    assert_int_equal(figures.in_flight_bytes, 600 * flights.count);
    assert_int_equal(land(15, 19), 5);
    assert_int_equal(land(3, 8), 4);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(released[i], (i >= 3 && i <= 9) || i >= 15);
    }
    assert_int_equal(flights.count, 8);
    assert_int_equal(flights.next - flights.oldest, 20);
    assert_int_equal(land(0, 2), 3);
    assert_int_equal(flights.next - flights.oldest, 10);
    assert_int_equal(land(0, 19), 5);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(released[i], 1);
    }
}

static void strange_numbers_are_passed_over(void **state) {
    /* A notification of nobody's would release what is in flight, or loop for hours. */
    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        assert_true(depart(i));
    }
    assert_int_equal(land(10, 12), 0);
    assert_int_equal(land((unsigned)-3, (unsigned)-1), 0);
    assert_int_equal(land(0, 0), 1);
    assert_int_equal(land(0, 0), 0);
    assert_int_equal(land((unsigned)-3, 1), 1);
    assert_int_equal(land(8, 5000), 2);
    assert_int_equal(released[2] + released[7], 0);
    assert_int_equal(land(11, 10), 6); /* all numbers there are */
}

static void there_is_a_bound(void **state) {
    /* A peer that takes nothing would make a sender hold ever more. */
    (void)state;
    for (unsigned i = 0; i < BERTH_FLIGHTS_MAX; i++) {
        assert_true(depart(i));
    }
    assert_false(depart(BERTH_FLIGHTS_MAX));
    assert_int_equal(released[BERTH_FLIGHTS_MAX], 1);
    assert_int_equal(land(1, BERTH_FLIGHTS_MAX - 1), BERTH_FLIGHTS_MAX - 1);
    assert_false(depart(BERTH_FLIGHTS_MAX));
    assert_int_equal(land(0, 0), 1);
    assert_true(depart(BERTH_FLIGHTS_MAX));
    assert_int_equal(land(BERTH_FLIGHTS_MAX, BERTH_FLIGHTS_MAX), 1);
}

static void what_was_sent_in_part_is_held(void **state) {
    /* The kernel has a part of a slice, and its memory would be reused. */
    (void)state;
    append_stream(&chain, 0, 1000);
    append_stream(&chain, 1000, 1000);
    append_stream(&chain, 2000, 1000);
    struct berth__flight *flight = berth__flights_prepare(&flights, 3);
    assert_non_null(flight);
    berth__flights_depart(&flights, flight, &chain, 1001);
    assert_int_equal(flight->count, 2);
    const unsigned char *data = flight->pins[1].data;
    assert_false(berth_slice_is_unique(&chain.inner_[1]));
    assert_true(berth_slice_is_unique(&chain.inner_[2]));
    berth_chain_clear(&chain);
    assert_true(stream_is(data, 1000, 1000));
    assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), -EBUSY);
    assert_int_equal(land(0, 0), 1);
}

#define FLIGHTS_TEST(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        FLIGHTS_TEST(ranges_land_in_any_order),
        FLIGHTS_TEST(strange_numbers_are_passed_over),
        FLIGHTS_TEST(there_is_a_bound),
        FLIGHTS_TEST(what_was_sent_in_part_is_held),
    };
    return UNIT_RUN(tests);
}
