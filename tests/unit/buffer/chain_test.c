/* Chains: order, lengths, files among slices, what goes to the kernel, what is copied and what not.
 */
#include "figures.h"

#include "buffer/chain.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

static berth_pool *pool;
static struct berth_chain chain, other;

static int make_pool(void **state) {
    (void)state;
    pool = berth_pool_create("chains", NULL);
    berth_chain_init(&chain, pool);
    berth_chain_init(&other, pool);
    return pool == NULL;
}

static int end_pool(void **state) {
    (void)state;
    UNIT_CHECK(berth__chain_is_valid(&chain) && berth__chain_is_valid(&other));
    berth_chain_clear(&chain);
    berth_chain_clear(&other);
    check_nothing_lives(pool);
    return berth_pool_destroy(pool, 0);
}

static struct berth_slice filled(size_t length, unsigned char with) {
    struct berth_slice slice;
    UNIT_CHECK(berth_slice_alloc(pool, length, &slice) == 0);
    memset(berth_slice_try_write(&slice), with, length);
    return slice;
}

static void append(size_t length, unsigned char with) {
    struct berth_slice slice = filled(length, with);
    UNIT_CHECK(berth_chain_append(&chain, &slice) == 0);
    UNIT_CHECK(slice.owner_ == NULL);
}

static bool reads(const struct berth_chain *which, const char *expected) {
    char bytes[256];
    size_t length = strlen(expected);
    return berth_chain_length(which) == length &&
           berth_chain_copy_out(which, 0, bytes, length) == 0 &&
           memcmp(bytes, expected, length) == 0;
}

static void large_slices_are_not_copied(void **state) {
    /* Zero-copy would be none. */
    (void)state;
    const unsigned char *data[20];
    for (unsigned i = 0; i < 20; i++) {
        struct berth_slice slice = filled(BERTH_COALESCE_MAX + 1, (unsigned char)i);
        data[i] = slice.data;
        int error =
            i % 2 == 0 ? berth_chain_append(&chain, &slice) : berth_chain_prepend(&chain, &slice);
        assert_int_equal(error, 0);
    }
    assert_int_equal(berth_chain_count(&chain), 20);
    assert_int_equal(berth_chain_length(&chain), 20 * (BERTH_COALESCE_MAX + 1));
    for (unsigned i = 0; i < 20; i++) {
        struct berth_segment segment;
        assert_int_equal(berth_chain_segment(&chain, i, &segment), 0);
        assert_ptr_equal(segment.data, data[i < 10 ? 19 - 2 * i : 2 * (i - 10)]);
        assert_int_equal(segment.fd, -1);
    }
    struct berth_segment none;
    assert_int_equal(berth_chain_segment(&chain, 20, &none), -ERANGE);
}

static void small_neighbours_become_one(void **state) {
    /* The kernel would be given hundreds of entries of a few bytes each. */
    (void)state;
    for (unsigned i = 0; i < 200; i++) {
        append(20, (unsigned char)('a' + i % 26));
    }
    assert_true(berth_chain_count(&chain) <= 4);
    assert_true(berth_chain_retained(&chain) <= 2 * 4000 + 512);
    char bytes[20];
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(berth_chain_copy_out(&chain, 20 * i, bytes, 20), 0);
        assert_int_equal(bytes[0], 'a' + i % 26);
        assert_int_equal(bytes[19], 'a' + i % 26);
    }
}

static void neighbours_in_memory_become_one_without_copying(void **state) {
    /* What was cut for parsing would be sent in pieces. */
    (void)state;
    struct berth_slice all = filled(10000, 'x'), part;
    const unsigned char *data = all.data;
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(berth_slice_sub(&all, 100 * i, 100, &part), 0);
        assert_int_equal(berth_chain_append(&chain, &part), 0);
    }
    assert_int_equal(berth_chain_count(&chain), 1);
    assert_int_equal(berth_chain_retained(&chain), 10000);
    assert_ptr_equal(berth_chain_linearise(&chain, 10000), data);
    berth_slice_release(&all);
}

static void what_others_see_is_not_written_by_coalescing(void **state) {
    /* Another holder's bytes, or a file's, would be overwritten. */
    (void)state;
    struct berth_slice block = filled(1000, 'b'), head;
    assert_int_equal(berth_slice_sub(&block, 0, 10, &head), 0);
    assert_int_equal(berth_chain_append(&chain, &head), 0);
    append(10, 'c');
    assert_int_equal(block.data[10], 'b');
    assert_true(reads(&chain, "bbbbbbbbbbcccccccccc"));
    berth_chain_clear(&chain);
    assert_int_equal(berth_slice_sub(&block, 990, 10, &head), 0);
    assert_int_equal(berth_chain_append(&chain, &head), 0);
    assert_int_equal(berth_chain_prepend_bytes(&chain, "before", 6), 0);
    assert_int_equal(block.data[989], 'b');
    berth_chain_clear(&chain);

    char path[] = "/tmp/berth-chain-XXXXXX";
    int fd = mkstemp(path);
    unlink(path);
    assert_int_equal(pwrite(fd, "0123456789", 10, 0), 10);
    struct berth_slice rest;
    assert_int_equal(berth_slice_map_file(pool, fd, 0, 10, true, &rest), 0);
    assert_int_equal(berth_slice_split(&rest, 5, &head), 0);
    berth_slice_release(&rest); /* what is left is unique, and its mapping has room */
    assert_int_equal(berth_chain_append(&chain, &head), 0);
    append(3, 'c');
    char content[10];
    assert_int_equal(pread(fd, content, 10, 0), 10);
    assert_memory_equal(content, "0123456789", 10);
    assert_true(reads(&chain, "01234ccc"));
    close(fd);
    berth_slice_release(&block);
}

static void a_pinned_slice_is_refused(void **state) {
    /* Nobody would unpin it. */
    (void)state;
    struct berth_slice slice = filled(10, 'x'), pinned = berth_slice_pin(&slice);
    assert_int_equal(berth_chain_append(&chain, &pinned), -EINVAL);
    assert_int_equal(berth_chain_prepend(&chain, &pinned), -EINVAL);
    assert_int_equal(berth_chain_append(&chain, &slice), 0);
    append(10, 'y'); /* not into the room behind it */
    berth_slice_unpin(&pinned);
    assert_true(reads(&chain, "xxxxxxxxxxyyyyyyyyyy"));
}

static void bytes_are_put_at_both_ends(void **state) {
    /* Headers would come after bodies. */
    (void)state;
    assert_int_equal(berth_chain_append_bytes(&chain, "body", 4), 0);
    assert_int_equal(berth_chain_prepend_bytes(&chain, "2:", 2), 0);
    assert_int_equal(berth_chain_prepend_bytes(&chain, "1:", 2), 0);
    assert_int_equal(berth_chain_append_bytes(&chain, ".", 1), 0);
    assert_int_equal(berth_chain_append_bytes(&chain, NULL, 0), 0);
    assert_true(reads(&chain, "1:2:body."));
    assert_int_equal(berth_chain_count(&chain), 2);
    assert_int_equal(berth_chain_append_bytes(&chain, "x", (size_t)BERTH_SLICE_MAX + (16 * MiB)),
                     -EMSGSIZE);
    assert_true(reads(&chain, "1:2:body."));
}

static void one_message_goes_to_many_without_copies(void **state) {
    /* Fan-out would cost memory and time for each receiver. */
    (void)state;
    enum { RECEIVERS = 64 };
    static struct berth_chain to[RECEIVERS];
    append(50000, 'm');
    append(50000, 'n');
    uint64_t before = figures_of(pool).live_high_bytes;
    for (unsigned i = 0; i < RECEIVERS; i++) {
        berth_chain_init(&to[i], pool);
        assert_int_equal(berth_chain_share(&chain, 100, 99800, &to[i]), 0);
    }
    assert_true(figures_of(pool).live_high_bytes <= before + 4096);
    assert_int_equal(berth_chain_share(&chain, 100, 99901, &other), -ERANGE);
    assert_int_equal(berth_chain_share(&chain, 100001, 0, &other), -ERANGE);
    assert_int_equal(berth_chain_share(&chain, 0, 1, &chain), -EINVAL);
    berth_chain_clear(&chain);
    for (unsigned i = 0; i < RECEIVERS; i++) {
        char ends[2];
        assert_int_equal(berth_chain_copy_out(&to[i], 0, ends, 1), 0);
        assert_int_equal(berth_chain_copy_out(&to[i], 99799, ends + 1, 1), 0);
        assert_memory_equal(ends, "mn", 2);
        berth_chain_clear(&to[i]);
    }
}

static void at_most_1024_entries_go_to_the_kernel(void **state) {
    /* writev would answer EINVAL. */
    (void)state;
    static struct iovec entries[2000];
    struct berth_slice slice = filled(4, 'x');
    for (unsigned i = 0; i < 1500; i++) {
        struct berth_slice again = berth_slice_retain(&slice);
        assert_int_equal(berth__chain_reserve(&chain, 1), 0);
        berth__chain_push_back(&chain, again);
    }
    berth_slice_release(&slice);
    assert_int_equal(berth_chain_iovec(&chain, entries, 2000), 1024);
    assert_int_equal(berth_chain_iovec(&chain, entries, 10), 10);
    assert_int_equal(entries[9].iov_len, 4);
    assert_memory_equal(entries[9].iov_base, "xxxx", 4);
    assert_int_equal(berth_chain_consume(&chain, 1024 * 4 + 2), 0);
    assert_int_equal(berth_chain_iovec(&chain, entries, 2000), 476);
    assert_int_equal(entries[0].iov_len, 2);
    assert_int_equal(berth_chain_iovec(&other, entries, 2000), 0);
}

static bool is_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0;
}

static void regions_of_files_stand_among_slices(void **state) {
    /* A server would send a file before its header, or leak its descriptor. */
    (void)state;
    int fd = open("/dev/null", O_RDONLY);
    struct iovec entries[8];
    struct berth_segment segment;
    char bytes[16];
    append(10, 'h');
    assert_int_equal(berth_chain_append_file(&chain, -1, 0, 1, true), -EINVAL);
    assert_int_equal(berth_chain_append_file(&chain, fd, -1, 1, true), -EINVAL);
    assert_int_equal(berth_chain_append_file(&chain, fd, 2, INT64_MAX, true), -EINVAL);
    uint64_t length = (UINT64_C(5) << 30) + 7;
    assert_int_equal(berth_chain_append_file(&chain, fd, 1000, length, true), 0);
    append(10, 't');
    assert_int_equal(berth_chain_length(&chain), length + 20);
    assert_int_equal(berth_chain_iovec(&chain, entries, 8), 1);
    assert_int_equal(berth_chain_copy_out(&chain, 0, bytes, 10), 0);
    assert_int_equal(berth_chain_copy_out(&chain, 9, bytes, 2), -ENOTSUP);
    assert_null(berth_chain_linearise(&chain, 11));
    assert_int_equal(errno, ENOTSUP);
    assert_int_equal(berth_chain_find(&chain, 0, "ttt", 3), (int64_t)(length + 10));
    assert_int_equal(berth_chain_find(&chain, 0, "ht", 2), -ENOENT);
    assert_int_equal(berth_chain_split(&chain, 10 + 5, &other), 0);
    assert_int_equal(berth_chain_segment(&other, 1, &segment), 0);
    assert_null(segment.data);
    assert_int_equal(segment.fd, fd);
    assert_int_equal(segment.offset, 1000);
    assert_int_equal(segment.length, 5);
    berth_chain_clear(&other);
    assert_true(is_open(fd));
    assert_int_equal(berth_chain_consume(&chain, UINT64_C(5) << 30), 0);
    assert_int_equal(berth_chain_segment(&chain, 0, &segment), 0);
    assert_int_equal(segment.offset, 1000 + 5 + (INT64_C(5) << 30));
    assert_int_equal(segment.length, 2);
    assert_null(berth_chain_linearise(&chain, 1));
    struct berth_slice slice;
    assert_int_equal(berth_chain_take_slice(&chain, &slice), -ENOTSUP);
    assert_null(slice.data);
    assert_int_equal(berth_chain_length(&chain), 12);
    assert_int_equal(berth_chain_retained(&chain), 10);
    assert_int_equal(berth_chain_compact(&chain, 1), 0);
    berth_chain_clear(&chain);
    assert_false(is_open(fd));

    fd = open("/dev/null", O_RDONLY);
    assert_int_equal(berth_chain_append_file(&chain, fd, 0, 100, false), 0);
    berth_chain_clear(&chain);
    assert_true(is_open(fd));
    assert_int_equal(berth_chain_append_file(&chain, fd, 0, 0, true), 0);
    assert_false(is_open(fd));
}

static void a_prefix_is_made_contiguous(void **state) {
    /* A header that arrived in pieces could not be parsed. */
    (void)state;
    append(2000, 'a');
    append(2000, 'b');
    append(2000, 'c');
    const unsigned char *data = berth_chain_linearise(&chain, 1);
    assert_int_equal(data[0], 'a');
    assert_int_equal(berth_chain_count(&chain), 3);
    data = berth_chain_linearise(&chain, 4100);
    assert_non_null(data);
    assert_true(data[1999] == 'a' && data[2000] == 'b' && data[4099] == 'c');
    assert_int_equal(berth_chain_length(&chain), 6000);
    assert_int_equal(berth_chain_count(&chain), 2);
    assert_null(berth_chain_linearise(&chain, 6001));
    assert_int_equal(errno, ERANGE);
    assert_non_null(berth_chain_linearise(&other, 0));
    assert_int_equal(berth_chain_copy_out(&chain, 5990, (char[20]){0}, 11), -ERANGE);
    assert_int_equal(berth_chain_consume(&chain, 6001), -ERANGE);
    assert_int_equal(berth_chain_split(&chain, 6001, &other), -ERANGE);
    assert_int_equal(berth_chain_split(&chain, 1, &chain), -EINVAL);
    assert_int_equal(berth_chain_append_chain(&chain, &chain), -EINVAL);
}

static void a_chain_may_be_moved(void **state) {
    /* A connection in an array that grows would lose what it has to send. */
    (void)state;
    append(2000, 'a');
    append(2000, 'b');
    struct berth_chain moved = chain;
    memset(&chain, 0xff, sizeof(chain));
    assert_int_equal(berth_chain_length(&moved), 4000);
    char last;
    assert_int_equal(berth_chain_copy_out(&moved, 3999, &last, 1), 0);
    assert_int_equal(last, 'b');
    berth_chain_clear(&moved);
    berth_chain_init(&chain, pool);
}

static void small_parts_of_big_blocks_are_copied_on_demand(void **state) {
    /* What a slow receiver has not taken yet would keep everything. */
    (void)state;
    append(100000, 'a');
    append(2000, 'b');
    assert_int_equal(berth_chain_consume(&chain, 99000), 0);
    assert_int_equal(berth_chain_retained(&chain), 102000);
    assert_int_equal(berth_chain_compact(&chain, 4), 1);
    assert_int_equal(berth_chain_retained(&chain), 3000);
    assert_int_equal(berth_chain_length(&chain), 3000);
    assert_int_equal(berth_chain_compact(&chain, 4), 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_pool, end_pool)
    const struct CMUnitTest tests[] = {
        TEST(large_slices_are_not_copied),
        TEST(small_neighbours_become_one),
        TEST(neighbours_in_memory_become_one_without_copying),
        TEST(what_others_see_is_not_written_by_coalescing),
        TEST(a_pinned_slice_is_refused),
        TEST(bytes_are_put_at_both_ends),
        TEST(one_message_goes_to_many_without_copies),
        TEST(at_most_1024_entries_go_to_the_kernel),
        TEST(regions_of_files_stand_among_slices),
        TEST(a_prefix_is_made_contiguous),
        TEST(a_chain_may_be_moved),
        TEST(small_parts_of_big_blocks_are_copied_on_demand),
    };
    return UNIT_RUN(tests);
}
