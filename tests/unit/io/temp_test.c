/* Temporary buffers: each thread would keep what it ever used, as others' libraries do; or the
 * kernel would send from memory that has another use by then. */
#include "sockets.h"

#include "base/compiler.h"

#include <berth/temp.h>

static uint64_t live(void) {
    berth_thread_flush();
    berth_pool *pool = berth_pool_find("berth.temp");
    return pool == NULL ? 0 : figures_of(pool).live_high_bytes;
}

static int begin(void **state) {
    (void)state;
    berth_temp_flush();
    return berth_temp_bounds_set(BERTH_TEMP_BYTES, BERTH_TEMP_COUNT);
}

static void one_is_used_again(void **state) {
    /* Each operation would cost an allocation. */
    (void)state;
    char *first = berth_temp_take(1000);
    assert_non_null(first);
    memset(first, 1, 1000);
    berth_temp_give(first);
    char *second = berth_temp_take(4096);
    assert_ptr_equal(second, first);
    char *third = berth_temp_take(1);
    assert_ptr_not_equal(third, first);
    berth_temp_give(second);
    berth_temp_give(third);
    berth_temp_give(NULL);
    assert_true(berth_temp_flush() >= 2 * 4096);
    assert_int_equal(berth_temp_flush(), 0);
    assert_int_equal(live(), 0);
}

static void the_shortest_that_suits_is_taken(void **state) {
    /* A long one would be spent on a short message, and allocated anew for the next long one. */
    (void)state;
    void *longest = berth_temp_take(60000), *middle = berth_temp_take(20000);
    void *shortest = berth_temp_take(5000);
    berth_temp_give(longest);
    berth_temp_give(shortest);
    berth_temp_give(middle);
    assert_ptr_equal(berth_temp_take(6000 * 3), middle);
    assert_ptr_equal(berth_temp_take(5000), shortest);
    assert_ptr_equal(berth_temp_take(5000), longest);
    berth_temp_give(longest);
    berth_temp_give(middle);
    berth_temp_give(shortest);
}

static void no_more_is_kept_than_the_bounds_say(void **state) {
    /* Memory would grow with the largest burst there ever was. */
    (void)state;
    void *buffers[100];
    berth_temp_flush();
    berth_temp_give(berth_temp_take(65536));
    uint64_t before = live() - 65536; /* with what the list of them lies in */
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < BERTH_ARRAY_COUNT(buffers); i++) {
            buffers[i] = berth_temp_take(65536);
            assert_non_null(buffers[i]);
        }
        assert_true(live() - before >= 100 * 65536);
        for (unsigned i = 0; i < BERTH_ARRAY_COUNT(buffers); i++) {
            berth_temp_give(buffers[i]);
        }
        assert_int_equal(live() - before, BERTH_TEMP_COUNT * 65536);
    }
    berth_temp_give(berth_temp_take(65537)); /* too long to be kept */
    assert_int_equal(live() - before, BERTH_TEMP_COUNT * 65536);
    assert_int_equal(berth_temp_bounds_set(65536, 2), 0);
    berth_temp_give(berth_temp_take(1));
    assert_int_equal(live() - before, 2 * 65536);
    assert_int_equal(berth_temp_bounds_set(4096, 2), 0);
    assert_int_equal(berth_temp_flush(), 2 * 65536);
    berth_temp_give(berth_temp_take(65536));
    assert_int_equal(live(), before);
    assert_int_equal(berth_temp_bounds_set(0, BERTH_TEMP_COUNT_MAX + 1), -EINVAL);
    assert_int_equal(berth_temp_bounds_set(65536, 0), 0);
    berth_temp_give(berth_temp_take(1));
    assert_int_equal(live() - before, 0);
}

static void *use_and_end(void *unused) {
    for (unsigned i = 0; i < 20; i++) {
        void *buffers[12];
        for (unsigned k = 0; k < 12; k++) {
            buffers[k] = berth_temp_take(10000 + k);
            memset(buffers[k], 1, 10000);
        }
        for (unsigned k = 0; k < 12; k++) {
            berth_temp_give(buffers[k]);
        }
    }
    return unused;
}

static void a_thread_that_ends_gives_all_back(void **state) {
    /* A server with short threads would leak what each kept. */
    (void)state;
    berth_temp_give(berth_temp_take(1));
    berth_temp_flush();
    uint64_t before = live();
    for (unsigned i = 0; i < 5; i++) {
        run_threads(8, use_and_end, NULL);
    }
    assert_int_equal(live(), before);
}

static void *give(void *buffer) {
    berth_temp_give(buffer);
    return NULL;
}

static void another_thread_may_give_back(void **state) {
    (void)state;
    berth_temp_give(berth_temp_take(1));
    berth_temp_flush();
    uint64_t before = live();
    for (unsigned i = 0; i < 10; i++) {
        join_thread(start_thread(give, berth_temp_take(30000)));
    }
    assert_int_equal(live(), before);
}

static void memory_of_malloc_goes_by_a_sender_and_may_change_at_once(void **state) {
    /* The kernel would send what was written there later. */
    (void)state;
    enum { LENGTH = 40000, MESSAGES = 30 };
    int ends[2];
    uint64_t received = 0;
    berth_pool *pool = berth_pool_create("temp-test", NULL);
    struct berth_chain out, in;
    struct berth_receiver receiver;
    tcp_pair(ends, 0);
    berth_sender *sender = berth_sender_create(pool, ends[0], 4096);
    berth_chain_init(&out, pool);
    berth_chain_init(&in, pool);
    UNIT_CHECK(berth_receiver_init(&receiver, 0, 0) == 0);
    berth_temp_flush();
    uint64_t before = live();
    unsigned char *bytes = malloc(LENGTH);
    for (unsigned i = 0; i < MESSAGES; i++) {
        struct berth_slice slice;
        stream_fill(bytes, i * (uint64_t)LENGTH, LENGTH);
        UNIT_CHECK(berth_temp_copy(bytes, LENGTH, &slice) == 0);
        memset(bytes, 0, LENGTH);
        UNIT_CHECK(berth_chain_append(&out, &slice) == 0);
        while (berth_chain_length(&out) > 0 || received < (i + 1) * (uint64_t)LENGTH) {
            (void)berth_sender_send(sender, &out, UINT64_MAX);
            int64_t got = berth_io_receive(ends[1], &in, &receiver);
            UNIT_CHECK(chain_is_stream(&in, received));
            received += got > 0 ? (uint64_t)got : 0;
        }
    }
    free(bytes);
    UNIT_CHECK(berth_sender_close(sender, 10000) == 0);
    close(ends[1]);
    assert_in_range(live() - before, 1, BERTH_TEMP_COUNT * BERTH_TEMP_BYTES);
    berth_temp_flush();
    assert_int_equal(live(), before);
    check_nothing_lives(pool);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void a_copy_may_be_of_any_length(void **state) {
    (void)state;
    struct berth_slice slice;
    assert_int_equal(berth_temp_copy("", 0, &slice), 0);
    assert_int_equal(slice.length, 0);
    berth_slice_release(&slice);
    assert_int_equal(berth_temp_copy("", (size_t)UINT32_MAX + 1, &slice), -EMSGSIZE);
    assert_null(slice.data);
}

static void give_twice(void *unused) {
    (void)unused;
    void *buffer = berth_temp_take(100);
    berth_temp_give(buffer);
    berth_temp_give(buffer);
}

static void give_a_block_of_another_pool(void *unused) {
    (void)unused;
    berth_temp_give(berth_temp_take(100));
    berth_temp_give(berth_alloc(berth_pool_default(), 100));
}

static void misuse_ends_with_one_line(void **state) {
    (void)state;
    char line[200];
    assert_int_equal(unit_in_child_line(give_twice, NULL, line, sizeof(line)), -SIGABRT);
    assert_memory_equal(line, "berth: giving back a temporary buffer twice: 0x", 47);
    assert_int_equal(unit_in_child_line(give_a_block_of_another_pool, NULL, line, sizeof(line)),
                     -SIGABRT);
    assert_memory_equal(line, "berth: giving back what is no temporary buffer: 0x", 50);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_is_used_again, begin),
        cmocka_unit_test_setup(the_shortest_that_suits_is_taken, begin),
        cmocka_unit_test_setup(no_more_is_kept_than_the_bounds_say, begin),
        cmocka_unit_test_setup(a_thread_that_ends_gives_all_back, begin),
        cmocka_unit_test_setup(another_thread_may_give_back, begin),
        cmocka_unit_test_setup(memory_of_malloc_goes_by_a_sender_and_may_change_at_once, begin),
        cmocka_unit_test_setup(a_copy_may_be_of_any_length, begin),
        cmocka_unit_test_setup(misuse_ends_with_one_line, begin),
    };
    return UNIT_RUN(tests);
}
