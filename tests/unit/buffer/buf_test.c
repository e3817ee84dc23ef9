/* Buffers: room, growth, head room, integers, what is handed on. */
#include "figures.h"

#include "buffer/buf.h"

#include <errno.h>

static berth_pool *pool;
static struct berth_buf buf;
static struct berth_chain chain;

static int make_pool(void **state) {
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.arenas = 1;
    pool = berth_pool_create("bufs", &options);
    berth_buf_init(&buf, pool, 0, 0);
    berth_chain_init(&chain, pool);
    return pool == NULL;
}

static int end_pool(void **state) {
    (void)state;
    UNIT_CHECK(berth__buf_is_valid(&buf));
    berth_buf_clear(&buf);
    berth_chain_clear(&chain);
    check_nothing_lives(pool);
    return berth_pool_destroy(pool, 0);
}

static void append(const char *text) {
    UNIT_CHECK(berth_buf_append(&buf, text, strlen(text)) == 0);
}

static void append_filler(size_t bytes, int with) {
    void *at = berth_buf_reserve(&buf, bytes);
    UNIT_CHECK(at != NULL);
    memset(at, with, bytes);
    berth_buf_commit(&buf, bytes);
}

static bool reads(const char *expected) {
    return berth_buf_length(&buf) == strlen(expected) &&
           berth_buf_compare(&buf, expected, strlen(expected)) == 0;
}

static void nothing_is_allocated_before_it_is_needed(void **state) {
    /* Idle connections would cost memory. */
    (void)state;
    berth_buf_init(&buf, pool, 16384, 0);
    assert_int_equal(berth_buf_retained(&buf), 0);
    assert_int_equal(berth_buf_length(&buf), 0);
    size_t bytes = 1;
    assert_null(berth_buf_peek(&buf, &bytes));
    assert_int_equal(bytes, 0);
    assert_int_equal(berth_buf_consume(&buf, 0), 0);
    assert_int_equal(berth_buf_consume(&buf, 1), -ERANGE);
    assert_non_null(berth_buf_reserve(&buf, 1));
    assert_int_equal(berth_buf_retained(&buf), 16384);
    assert_int_equal(berth_buf_room(&buf), 16384);
}

static void what_is_written_is_read(void **state) {
    /* Data would be lost or mixed up. */
    (void)state;
    append("hello, ");
    append("world");
    assert_true(reads("hello, world"));
    char bytes[8];
    assert_int_equal(berth_buf_copy_out(&buf, 7, bytes, 5), 0);
    assert_memory_equal(bytes, "world", 5);
    assert_int_equal(berth_buf_copy_out(&buf, 8, bytes, 5), -ERANGE);
    assert_int_equal(berth_buf_read(&buf, bytes, 7), 0);
    assert_memory_equal(bytes, "hello, ", 7);
    assert_int_equal(berth_buf_read(&buf, bytes, 6), -ERANGE);
    assert_int_equal(berth_buf_find(&buf, 0, "rl", 2), 2);
    assert_int_equal(berth_buf_find(&buf, 3, "rl", 2), -ENOENT);
    assert_int_equal(berth_buf_find(&buf, 6, "", 0), -ENOENT);
    assert_true(berth_buf_compare(&buf, "worle", 5) < 0);
    assert_true(berth_buf_compare(&buf, "worl", 4) > 0);
}

static void room_before_the_first_byte_takes_a_header(void **state) {
    /* Each message's header would need a block of its own. */
    (void)state;
    assert_int_equal(berth_buf_set_head_room(&buf, 1 << 17), -EMSGSIZE);
    assert_int_equal(berth_buf_set_head_room(&buf, 8), 0);
    append("body");
    size_t bytes = 0;
    const char *body = berth_buf_peek(&buf, &bytes);
    assert_int_equal(berth_buf_prepend(&buf, "head:", 5), 0);
    assert_ptr_equal(berth_buf_peek(&buf, &bytes), body - 5);
    assert_true(reads("head:body"));
    assert_int_equal(berth_buf_prepend(&buf, "1234", 4), 0); /* 3 are left */
    assert_true(reads("1234head:body"));
    assert_int_equal(berth_buf_prepend(&buf, "0", 1), 0);
    append("!");
    assert_true(reads("01234head:body!"));
}

static void capacity_follows_the_rule(void **state) {
    /* Appending would be quadratic, or memory would be wasted. */
    (void)state;
    static const uint64_t rule[][2] = {{1, 64},
                                       {64, 64},
                                       {65, 128},
                                       {1000, 1024},
                                       {4097, 8192},
                                       {(4 << 20) - 1, 4 << 20},
                                       {4 << 20, 4 << 20},
                                       {(4 << 20) + 1, 8 << 20},
                                       {(8 << 20) + 1, 12 << 20}};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(rule); i++) {
        struct berth_buf fresh;
        berth_buf_init(&fresh, pool, 0, 0);
        assert_non_null(berth_buf_reserve(&fresh, rule[i][0]));
        assert_int_equal(berth_buf_retained(&fresh), rule[i][1]);
        berth_buf_clear(&fresh);
    }
    for (unsigned i = 0; i < 100000; i++) {
        append("0123456789");
        assert_true(berth_buf_retained(&buf) <= 4 * berth_buf_length(&buf) + 64);
    }
    assert_int_equal(berth_buf_length(&buf), 1000000);
    assert_true(berth_chain_count(&buf.front_) <= 20);
    char bytes[10];
    for (unsigned i = 0; i < 100000; i++) {
        assert_int_equal(berth_buf_read(&buf, bytes, 10), 0);
        assert_memory_equal(bytes, "0123456789", 10);
    }
}

static void written_bytes_stay_where_they_are(void **state) {
    /* Growth would copy. */
    (void)state;
    append_filler(50000, 'a');
    size_t bytes = 0;
    const unsigned char *first = berth_buf_peek(&buf, &bytes);
    append_filler(50000, 'b');
    append_filler(500000, 'c');
    assert_ptr_equal(berth_buf_peek(&buf, &bytes), first);
    assert_true(bytes >= 50000);
    const unsigned char *all = berth_buf_linearise(&buf, 600000);
    assert_non_null(all);
    assert_true(all[49999] == 'a' && all[50000] == 'b' && all[99999] == 'b' && all[599999] == 'c');
    assert_null(berth_buf_linearise(&buf, 600001));
    assert_int_equal(errno, ERANGE);
}

static void a_block_grows_where_it_lies(void **state) {
    /* A second block would be taken while the first could be longer. */
    (void)state;
    berth_buf_init(&buf, pool, 100, 0); /* of the class of 112 bytes */
    append_filler(100, 'a');
    assert_int_equal(berth_buf_room(&buf), 0);
    append_filler(12, 'b');
    assert_int_equal(berth_buf_retained(&buf), 112);
    assert_int_equal(berth_chain_count(&buf.front_), 0);
    berth_buf_clear(&buf);
    append_filler(65536, 'c'); /* pages, and free ones behind them */
    append_filler(65536, 'd');
    assert_int_equal(berth_chain_count(&buf.front_), 0);
    assert_true(berth_buf_retained(&buf) >= 131072);
}

static void what_was_read_makes_room(void **state) {
    /* A connection's buffer would grow for ever. */
    (void)state;
    berth_buf_init(&buf, pool, 4096, 0);
    char bytes[1000];
    append_filler(500, 'x');
    for (unsigned i = 0; i < 1000; i++) {
        append_filler(1000, 'a' + (int)(i % 26));
        assert_int_equal(berth_buf_read(&buf, bytes, 1000), 0);
    }
    assert_int_equal(berth_buf_length(&buf), 500);
    assert_int_equal(berth_buf_retained(&buf), 4096);
}

static void what_is_there_may_be_read_while_room_is_filled(void **state) {
    /* A receive that is under way would end up elsewhere than it is committed. */
    (void)state;
    berth_buf_init(&buf, pool, 4096, 0);
    struct berth_slice slice;
    for (unsigned i = 0; i < 100; i++) {
        append("before");
        char *room = berth_buf_reserve(&buf, 5);
        assert_int_equal(berth_buf_consume(&buf, i % 2 == 0 ? 6 : 3), 0);
        assert_int_equal(berth_buf_take_slice(&buf, i % 2 == 0 ? 0 : 3, &slice), 0);
        memcpy(room, "after", 5);
        berth_buf_commit(&buf, 5);
        assert_true(reads("after"));
        assert_int_equal(berth_buf_consume(&buf, 5), 0);
        berth_slice_release(&slice);
    }
    assert_int_equal(berth_buf_retained(&buf), 4096);
}

static void a_bound_holds(void **state) {
    /* A peer could make a server hold all memory. */
    (void)state;
    berth_buf_init(&buf, pool, 100, 1000);
    append_filler(990, 'x');
    errno = 0;
    assert_null(berth_buf_reserve(&buf, 11));
    assert_int_equal(errno, EMSGSIZE);
    assert_int_equal(berth_buf_append(&buf, "12345678901", 11), -EMSGSIZE);
    assert_int_equal(berth_buf_prepend(&buf, "12345678901", 11), -EMSGSIZE);
    assert_int_equal(berth_buf_put_u64be(&buf, 1), 0);
    assert_int_equal(berth_buf_put_u32be(&buf, 1), -EMSGSIZE);
    assert_int_equal(berth_buf_put_u16be(&buf, 1), 0);
    assert_int_equal(berth_buf_length(&buf), 1000);
    assert_true(berth_buf_retained(&buf) <= 1024);
    assert_null(berth_buf_reserve(&buf, (size_t)BERTH_SLICE_MAX + 1));
    berth_buf_clear(&buf);
    berth_buf_init(&buf, pool, 65536, 70000); /* the block grows to more than that */
    append_filler(65536, 'x');
    append_filler(70000 - 65536 - 2, 'x');
    assert_true(berth_buf_room(&buf) > 8);
    assert_int_equal(berth_buf_put_u32be(&buf, 1), -EMSGSIZE);
    assert_int_equal(berth_buf_put_u16be(&buf, 1), 0);
}

static void what_is_taken_stays_as_it_is(void **state) {
    /* A message would change while it waits to be sent. */
    (void)state;
    berth_buf_init(&buf, pool, 4096, 0);
    append("first");
    append("second");
    assert_int_equal(berth_buf_take(&buf, 12, &chain), -ERANGE);
    assert_int_equal(berth_buf_take(&buf, 5, &chain), 0);
    assert_int_equal(berth_buf_take(&buf, 0, &chain), 0);
    append("third");
    assert_int_equal(berth_buf_prepend(&buf, "XXXXX", 5), 0);
    assert_true(reads("XXXXXsecondthird"));
    char bytes[5];
    assert_int_equal(berth_chain_copy_out(&chain, 0, bytes, 5), 0);
    assert_memory_equal(bytes, "first", 5);
    struct berth_slice slice;
    assert_int_equal(berth_buf_take_slice(&buf, 17, &slice), -ERANGE);
    assert_int_equal(berth_buf_take_slice(&buf, 11, &slice), 0);
    assert_memory_equal(slice.data, "XXXXXsecond", 11);
    for (unsigned i = 0; i < 1000; i++) {
        append_filler(100, 'z');
        assert_int_equal(berth_buf_consume(&buf, 100), 0);
    }
    assert_memory_equal(slice.data, "XXXXXsecond", 11);
    assert_int_equal(berth_chain_copy_out(&chain, 0, bytes, 5), 0);
    assert_memory_equal(bytes, "first", 5);
    berth_slice_release(&slice);
    assert_int_equal(berth_buf_take_slice(&buf, 0, &slice), 0);
    assert_null(slice.owner_);
}

static void what_slices_view_is_not_overwritten(void **state) {
    /* A length that is patched in would show in what was sent before. */
    (void)state;
    append("0000body");
    assert_int_equal(berth_buf_overwrite(&buf, 0, "0004", 4), 0);
    assert_true(reads("0004body"));
    assert_int_equal(berth_buf_overwrite(&buf, 5, "xxxx", 4), -ERANGE);
    struct berth_slice slice;
    assert_int_equal(berth_buf_take_slice(&buf, 4, &slice), 0);
    assert_int_equal(berth_buf_overwrite(&buf, 0, "B", 1), -EBUSY);
    struct berth_slice pinned = berth_slice_pin(&slice);
    struct berth_process_metrics figures;
    assert_int_equal(berth_metrics_read(&figures, sizeof(figures)), 0);
    assert_true(figures.pinned_bytes == 4 && figures.pinned_blocks == 1);
    berth_slice_release(&slice);
    assert_int_equal(berth_buf_overwrite(&buf, 0, "B", 1), -EBUSY);
    berth_slice_unpin(&pinned);
    assert_int_equal(berth_metrics_read(&figures, sizeof(figures)), 0);
    assert_true(figures.pinned_bytes == 0 && figures.pinned_blocks == 0);
    assert_int_equal(berth_buf_overwrite(&buf, 0, "B", 1), 0);
    assert_true(reads("Body"));
    berth_buf_clear(&buf);
    append_filler(5000, 'a');
    append_filler(50000, 'b'); /* another block */
    assert_int_equal(berth_buf_find(&buf, 0, "ab", 2), 4999);
    assert_int_equal(berth_buf_overwrite(&buf, 4998, "1234", 4), 0);
    assert_int_equal(berth_buf_find(&buf, 0, "a1234b", 6), 4997);
    assert_non_null(berth_buf_linearise(&buf, 55000)); /* gathered, and still its own */
    assert_int_equal(berth_buf_overwrite(&buf, 4998, "5678", 4), 0);
    assert_int_equal(berth_buf_overwrite(&buf, 54998, "90", 2), 0);
}

static void integers_have_both_byte_orders_and_bounds(void **state) {
    /* Protocols would be written wrongly, or read beyond the end. */
    (void)state;
    static const unsigned char expected[] = {0x01, 0x12, 0x34, 0x34, 0x12, 0xab, 0xcd,
                                             0xef, 0xef, 0xcd, 0xab, 0x01, 0x02, 0x03,
                                             0x04, 0x04, 0x03, 0x02, 0x01};
    /* Once with room for words behind, once where each integer is the block's last. */
    for (unsigned tight = 0; tight < 2; tight++) {
        berth_buf_init(&buf, pool, tight ? 0 : 4096, 0);
        append_filler(tight ? 64 - 3 : 1, 'x');
        assert_int_equal(berth_buf_consume(&buf, tight ? 64 - 3 : 1), 0);
        assert_int_equal(berth_buf_put_u8(&buf, 0x01), 0);
        assert_int_equal(berth_buf_put_u16be(&buf, 0x1234), 0);
        assert_int_equal(berth_buf_put_u16le(&buf, 0x1234), 0);
        assert_int_equal(berth_buf_put_be(&buf, 0xffabcdef, 3), 0);
        assert_int_equal(berth_buf_put_le(&buf, 0xffabcdef, 3), 0);
        assert_int_equal(berth_buf_put_u32be(&buf, 0x01020304), 0);
        assert_int_equal(berth_buf_put_u32le(&buf, 0x01020304), 0);
        assert_int_equal(berth_buf_compare(&buf, expected, sizeof(expected)), 0);
        uint8_t u8;
        uint16_t u16;
        uint32_t u32;
        uint64_t u64 = 77;
        assert_int_equal(berth_buf_get_u8(&buf, &u8), 0);
        assert_int_equal(u8, 1);
        assert_int_equal(berth_buf_get_u16be(&buf, &u16), 0);
        assert_int_equal(u16, 0x1234);
        assert_int_equal(berth_buf_get_u16le(&buf, &u16), 0);
        assert_int_equal(u16, 0x1234);
        assert_int_equal(berth_buf_get_be(&buf, &u64, 3), 0);
        assert_int_equal(u64, 0xabcdef);
        assert_int_equal(berth_buf_get_le(&buf, &u64, 3), 0);
        assert_int_equal(u64, 0xabcdef);
        assert_int_equal(berth_buf_get_u64be(&buf, &u64), 0);
        assert_true(u64 == UINT64_C(0x0102030404030201));
        assert_int_equal(berth_buf_get_u8(&buf, &u8), -ERANGE);
        assert_int_equal(berth_buf_put_u64be(&buf, UINT64_C(0x1122334455667788)), 0);
        assert_int_equal(berth_buf_put_u64le(&buf, UINT64_C(0x1122334455667788)), 0);
        assert_int_equal(berth_buf_get_u32be(&buf, &u32), 0);
        assert_int_equal(u32, 0x11223344);
        assert_int_equal(berth_buf_consume(&buf, 4), 0);
        assert_int_equal(berth_buf_get_u32le(&buf, &u32), 0);
        assert_int_equal(u32, 0x55667788);
        u64 = 77;
        assert_int_equal(berth_buf_get_u64le(&buf, &u64), -ERANGE);
        assert_int_equal(berth_buf_get_be(&buf, &u64, 0), -EINVAL);
        assert_int_equal(berth_buf_get_le(&buf, &u64, 9), -EINVAL);
        assert_int_equal(berth_buf_put_be(&buf, 0, 0), -EINVAL);
        assert_int_equal(berth_buf_put_le(&buf, 0, 9), -EINVAL);
        assert_true(u64 == 77 && berth_buf_length(&buf) == 4);
        berth_buf_clear(&buf);
    }
}

static void an_integer_is_read_over_the_end_of_a_block(void **state) {
    /* A length that falls between two receives would be wrong. */
    (void)state;
    for (unsigned cut = 1; cut < 8; cut++) {
        append_filler(5000, 0);
        assert_int_equal(berth_buf_take(&buf, 5000 - cut, &chain), 0);
        append_filler(100000, 1);
        uint64_t value = 0, expected = UINT64_C(0x0101010101010101) >> (8 * cut);
        assert_int_equal(berth_buf_get_u64be(&buf, &value), 0);
        assert_true(value == expected);
        berth_buf_clear(&buf);
        berth_chain_clear(&chain);
    }
}

static void an_idle_buffer_gives_its_memory_back(void **state) {
    /* Thousands of waiting connections would each keep their largest message's memory. */
    (void)state;
    append_filler(100000, 'x');
    assert_int_equal(berth_buf_consume(&buf, 99990), 0);
    assert_int_equal(berth_buf_compact(&buf, 100000), 0);
    assert_int_equal(berth_buf_compact(&buf, (unsigned)(berth_buf_retained(&buf) / 10 + 1)), 0);
    assert_int_equal(berth_buf_compact(&buf, 4), 1);
    assert_int_equal(berth_buf_retained(&buf), 10);
    assert_true(reads("xxxxxxxxxx"));
    append("y");
    assert_true(reads("xxxxxxxxxxy"));
    assert_int_equal(berth_buf_compact(&buf, 4), 0);
    assert_int_equal(berth_buf_consume(&buf, 11), 0);
    assert_int_equal(berth_buf_compact(&buf, 4), 1);
    assert_int_equal(berth_buf_retained(&buf), 0);
    assert_int_equal(berth_buf_compact(&buf, 4), 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_pool, end_pool)
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_allocated_before_it_is_needed),
        TEST(what_is_written_is_read),
        TEST(room_before_the_first_byte_takes_a_header),
        TEST(capacity_follows_the_rule),
        TEST(written_bytes_stay_where_they_are),
        TEST(a_block_grows_where_it_lies),
        TEST(what_was_read_makes_room),
        TEST(what_is_there_may_be_read_while_room_is_filled),
        TEST(a_bound_holds),
        TEST(what_is_taken_stays_as_it_is),
        TEST(what_slices_view_is_not_overwritten),
        TEST(integers_have_both_byte_orders_and_bounds),
        TEST(an_integer_is_read_over_the_end_of_a_block),
        TEST(an_idle_buffer_gives_its_memory_back),
    };
    return UNIT_RUN(tests);
}
