/* Connections that receive into one block: each would see the others' bytes, or the block would be
 * copied, kept or lost. */
#include "sockets.h"

#include "buffer/chain.h"

enum { PAIRS = 5, ROUNDS = 400 };

static berth_pool *pool;

static int begin(void **state) {
    (void)state;
    pool = berth_pool_create("shared", NULL);
    return pool == NULL;
}

static int end(void **state) {
    (void)state;
    check_nothing_lives(pool);
    return berth_pool_destroy(pool, 0);
}

struct connection {
    int ends[2];
    struct berth_chain in;
    uint64_t sent, seen;
};

static void connections_begin(struct connection *connections) {
    for (unsigned i = 0; i < PAIRS; i++) {
        connections[i].sent = connections[i].seen = i * UINT64_C(1000003);
        unix_pair(connections[i].ends);
        berth_chain_init(&connections[i].in, pool);
    }
}

static void connections_end(struct connection *connections) {
    for (unsigned i = 0; i < PAIRS; i++) {
        berth_chain_clear(&connections[i].in);
        close(connections[i].ends[0]);
        close(connections[i].ends[1]);
    }
}

static void send_stream(struct connection *connection, size_t length) {
    unsigned char bytes[3000];
    stream_fill(bytes, connection->sent, length);
    UNIT_CHECK(send(connection->ends[0], bytes, length, 0) == (ssize_t)length);
    connection->sent += length;
}

static void connections_share_a_block_and_keep_their_bytes(void **state) {
    (void)state;
    struct connection connections[PAIRS];
    struct unit_random random = {1};
    struct berth_slice piece = BERTH_SLICE_EMPTY;
    connections_begin(connections);
    uint64_t received = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct connection *one = &connections[unit_random_below(&random, PAIRS)];
        size_t length = 1 + unit_random_below(&random, 3000);
        send_stream(one, length);
        for (size_t left = length; left > 0;) {
            int64_t got = berth_io_receive_shared(one->ends[1], &one->in, &piece, 16384);
            UNIT_CHECK(got > 0 && (uint64_t)got <= left);
            left -= (size_t)got;
        }
        received += length;
        UNIT_CHECK(berth__chain_is_valid(&one->in));
        if (unit_random_below(&random, 4) == 0) { /* the others stay for long */
            uint64_t held = berth_chain_length(&one->in);
            UNIT_CHECK(chain_is_stream(&one->in, one->seen));
            one->seen += held;
        }
    }
    for (unsigned i = 0; i < PAIRS; i++) {
        UNIT_CHECK(chain_is_stream(&connections[i].in, connections[i].seen));
    }
    struct berth_pool_metrics p = figures_of(pool);
    /* A block of 16 KiB serves at least 12 of them; each block has a record. */
    assert_in_range(p.allocations, 2, 2 * received / 12288 + 200);
    berth_slice_release(&piece);
    connections_end(connections);
}

static void what_arrives_in_pieces_is_one_segment(void **state) {
    /* A message would be a list of crumbs. */
    (void)state;
    struct connection connections[PAIRS];
    struct berth_slice piece = BERTH_SLICE_EMPTY;
    connections_begin(connections);
    for (unsigned i = 0; i < 10; i++) {
        send_stream(&connections[0], 100);
        assert_int_equal(
            berth_io_receive_shared(connections[0].ends[1], &connections[0].in, &piece, 0), 100);
    }
    assert_int_equal(berth_chain_count(&connections[0].in), 1);
    assert_int_equal(berth_chain_length(&connections[0].in), 1000);
    assert_true(chain_is_stream(&connections[0].in, 0));
    berth_slice_release(&piece);
    connections_end(connections);
}

static void nothing_received_changes_nothing(void **state) {
    /* A connection that only waits would use up blocks. */
    (void)state;
    struct connection connections[PAIRS];
    struct berth_slice piece = BERTH_SLICE_EMPTY;
    connections_begin(connections);
    int fd = connections[0].ends[1];
    struct berth_chain *in = &connections[0].in;
    assert_int_equal(berth_io_receive_shared(fd, in, &piece, (size_t)UINT32_MAX + 1), -EINVAL);
    assert_int_equal(berth_io_receive_shared(fd, in, &piece, 0), -EAGAIN);
    const unsigned char *at = piece.data;
    assert_int_equal(piece.length, BERTH_RECEIVE_SHARED);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(berth_io_receive_shared(fd, in, &piece, 0), -EAGAIN);
    }
    assert_ptr_equal(piece.data, at);
    assert_int_equal(piece.length, BERTH_RECEIVE_SHARED);
    assert_int_equal(berth_chain_count(in), 0);
    shutdown(connections[0].ends[0], SHUT_WR);
    assert_int_equal(berth_io_receive_shared(fd, in, &piece, 0), 0);
    assert_int_equal(berth_io_receive_shared(-1, in, &piece, 0), -EBADF);
    berth_slice_release(&piece);
    connections_end(connections);
}

static void a_block_that_nobody_views_is_used_again(void **state) {
    /* The processor's caches would be swept for nothing; or, with views, what they see changed. */
    (void)state;
    struct connection connections[PAIRS];
    struct berth_slice piece = BERTH_SLICE_EMPTY;
    connections_begin(connections);
    struct berth_chain *in = &connections[0].in;
    assert_int_equal(berth_io_renew(pool, &piece, 4096), 0);
    const unsigned char *begin = piece.data;
    for (unsigned i = 0; i < 20; i++) {
        send_stream(&connections[0], 1000);
        assert_int_equal(berth_io_receive_shared(connections[0].ends[1], in, &piece, 4096), 1000);
        struct berth_segment segment;
        assert_int_equal(berth_chain_segment(in, 0, &segment), 0);
        assert_ptr_equal(segment.data, begin);
        UNIT_CHECK(chain_is_stream(in, i * UINT64_C(1000)));
    }
    send_stream(&connections[0], 1000);
    assert_int_equal(berth_io_receive_shared(connections[0].ends[1], in, &piece, 4096), 1000);
    assert_int_equal(berth_io_renew(pool, &piece, 4096), 0);
    assert_ptr_equal(piece.data, begin + 1000);
    struct berth_slice pinned = berth_slice_pin(&piece);
    UNIT_CHECK(chain_is_stream(in, 20000));
    assert_int_equal(berth_io_renew(pool, &piece, 4096), 0);
    assert_ptr_equal(piece.data, begin + 1000);
    berth_slice_unpin(&pinned);
    assert_int_equal(berth_io_renew(pool, &piece, 8192), 0);
    assert_int_equal(piece.length, 8192);
    berth_slice_release(&piece);
    connections_end(connections);
}

static void without_memory_nothing_is_lost(void **state) {
    (void)state;
    struct connection connections[PAIRS];
    struct berth_slice piece = BERTH_SLICE_EMPTY;
    connections_begin(connections);
    send_stream(&connections[0], 500);
    int fd = connections[0].ends[1];
    berth_pool *strict = berth_pool_create(
        "strict", &(struct berth_pool_options){sizeof(struct berth_pool_options), .limit = 1 << 20,
                                               .chunk = 256 << 10, .decay_ms = -1, .wait_ms = 0,
                                               .reclaim = 0});
    struct berth_chain in;
    berth_chain_init(&in, strict);
    assert_int_equal(berth_io_receive_shared(fd, &in, &piece, 64 << 20), -ENOMEM);
    assert_null(piece.data);
    assert_int_equal(berth_io_receive_shared(fd, &in, &piece, 16384), 500);
    assert_true(chain_is_stream(&in, 0));
    berth_slice_release(&piece);
    berth_chain_clear(&in);
    check_nothing_lives(strict);
    assert_int_equal(berth_pool_destroy(strict, 0), 0);
    connections_end(connections);
}

static void a_block_goes_on_without_its_connections(void **state) {
    /* Released too early: what was received would change. */
    (void)state;
    struct connection connections[PAIRS];
    struct berth_slice piece = BERTH_SLICE_EMPTY;
    connections_begin(connections);
    for (unsigned i = 0; i < PAIRS; i++) {
        send_stream(&connections[i], 2000);
        UNIT_CHECK(berth_io_receive_shared(connections[i].ends[1], &connections[i].in, &piece, 0) ==
                   2000);
    }
    berth_slice_release(&piece);
    for (unsigned i = 0; i < PAIRS; i++) {
        assert_int_equal(berth_chain_compact(&connections[i].in, 2), 1);
        assert_true(chain_is_stream(&connections[i].in, connections[i].seen));
    }
    connections_end(connections);
}

#define SHARED_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        SHARED_TEST(connections_share_a_block_and_keep_their_bytes),
        SHARED_TEST(what_arrives_in_pieces_is_one_segment),
        SHARED_TEST(nothing_received_changes_nothing),
        SHARED_TEST(a_block_that_nobody_views_is_used_again),
        SHARED_TEST(without_memory_nothing_is_lost),
        SHARED_TEST(a_block_goes_on_without_its_connections),
    };
    return UNIT_RUN(tests);
}
