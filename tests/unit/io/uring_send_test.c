/* Sending by io_uring without copying: the kernel reads the pool's memory late, and tells of it in
 * completions whose flags, not results, say when that is over. */
#include "rings.h"

#include <poll.h>
#include <sys/resource.h>

#if BERTH_LIBURING

enum { PIECE = 65536 };

static berth_pool *pool;
static struct berth_chain out, in;
static struct berth_receiver receiver;
static berth_uring_sender *sender;
static int ends[2];
static int context;

static struct berth_uring_sender_options options_with(size_t threshold, uint64_t in_flight_max) {
    struct berth_uring_sender_options options = BERTH_URING_SENDER_INIT;
    options.threshold = threshold;
    options.in_flight_max = in_flight_max;
    options.mark = 5;
    options.context = &context;
    return options;
}

static void make_sender(int fd, size_t threshold, uint64_t in_flight_max) {
    struct berth_uring_sender_options options = options_with(threshold, in_flight_max);
    sender = berth_uring_sender_create(pool, fd, &options);
    UNIT_CHECK(sender != NULL);
}

static int begin(void **state) {
    (void)state;
    pool = berth_pool_create("rings", NULL);
    UNIT_CHECK(pool != NULL);
    berth_chain_init(&out, pool);
    berth_chain_init(&in, pool);
    tcp_pair(ends, 0);
    make_blocking(ends[0]);
    make_sender(ends[0], 1, 0);
    ring_begin();
    return berth_receiver_init(&receiver, 0, 0);
}

static int end(void **state) {
    (void)state;
    ring_end();
    berth_chain_clear(&out);
    berth_chain_clear(&in);
    if (sender != NULL) {
        berth_uring_sender_end(sender);
    }
    for (unsigned i = 0; i < 2; i++) {
        if (ends[i] >= 0) {
            close(ends[i]);
        }
    }
    return berth_pool_destroy(pool, 0); /* nothing live */
}

static void prepare(void) {
    assert_int_equal(berth_uring_sender_send(sender, &out, UINT64_MAX, ring_entry()), 0);
}

/* Digests what the ring says until the send is answered. */
static int64_t send_and_wait(void) {
    struct berth_uring_sent sent = {.answered = false};
    prepare();
    ring_submit();
    while (!sent.answered) {
        struct berth__cqe cqe = ring_wait();
        assert_int_equal(cqe.user_data & 15, 5);
        berth_uring_sender_complete(cqe.user_data, cqe.res, cqe.flags, &sent);
        assert_ptr_equal(sent.context, &context);
    }
    return sent.result;
}

static void land_all(void) {
    while (berth_uring_sender_in_flight(sender) > 0) {
        struct berth_uring_sent sent;
        struct berth__cqe cqe = ring_wait();
        berth_uring_sender_complete(cqe.user_data, cqe.res, cqe.flags, &sent);
    }
}

/* Receives so many bytes of the stream. */
static void receive_stream(uint64_t from, uint64_t length) {
    struct pollfd ready = {.fd = ends[1], .events = POLLIN};
    uint64_t at = from;
    while (at < from + length) {
        UNIT_CHECK(poll(&ready, 1, RING_WAIT_MS) == 1);
        int64_t got = berth_io_receive(ends[1], &in, &receiver);
        UNIT_CHECK(got > 0);
        UNIT_CHECK(chain_is_stream(&in, at));
        at += (uint64_t)got;
    }
    UNIT_CHECK(at == from + length);
}

/* Writes all memory that the pool gives for pieces. */
static void scribble(void) {
    enum { BLOCKS = 64 };
    void *blocks[BLOCKS];
    UNIT_CHECK(berth_alloc_batch(pool, PIECE, BLOCKS, blocks) == BLOCKS);
    for (unsigned i = 0; i < BLOCKS; i++) {
        memset(blocks[i], 0xee, PIECE);
    }
    berth_free_batch((void *const *)blocks, BLOCKS);
}

/* ---- what is sent ---- */

static void what_was_sent_has_left_the_chain_and_arrives(void **state) {
    (void)state;
    append_stream(&out, 0, PIECE);
    assert_int_equal(send_and_wait(), PIECE);
    assert_int_equal(berth_chain_length(&out), 0);
    append_stream(&out, PIECE, 3 * PIECE); /* several slices */
    append_stream(&out, 4 * PIECE, PIECE);
    prepare();
    append_stream(&out, 5 * PIECE, 100); /* behind a send that is unanswered */
    ring_submit();
    receive_stream(0, 5 * PIECE);
    land_all();
    assert_int_equal(berth_chain_length(&out), 100);
    assert_int_equal(send_and_wait(), 100);
    receive_stream(5 * PIECE, 100);
    land_all();
}

static void only_one_send_at_a_time_is_unanswered(void **state) {
    /* The same bytes would be sent twice. */
    (void)state;
    struct io_uring_sqe sqe;
    assert_int_equal(berth_uring_sender_send(sender, &out, UINT64_MAX, &sqe), -ENODATA);
    append_stream(&out, 0, PIECE);
    assert_int_equal(berth_uring_sender_send(sender, &out, 0, &sqe), -ENODATA);
    assert_int_equal(berth_uring_sender_send(sender, &out, 1000, &sqe), 0);
    assert_int_equal(sqe.len, 1000);
    assert_int_equal(berth_uring_sender_send(sender, &out, UINT64_MAX, &sqe), -EBUSY);
    struct berth_uring_sent sent;
    berth_uring_sender_complete(sqe.user_data, 600, 0, &sent);
    assert_true(sent.answered && sent.landed && sent.result == 600);
    assert_int_equal(berth_chain_length(&out), PIECE - 600);
}

static void a_region_of_a_file_is_for_other_calls(void **state) {
    (void)state;
    struct io_uring_sqe sqe;
    int file = stream_file(0, PIECE);
    assert_int_equal(berth_chain_append_file(&out, file, 0, PIECE, true), 0);
    assert_int_equal(berth_uring_sender_send(sender, &out, UINT64_MAX, &sqe), -EOPNOTSUPP);
    assert_int_equal(berth_uring_sender_in_flight(sender), 0);
}

/* ---- what is held ---- */

/* An entry that nobody submits: completions are made up. */
static uint64_t unsubmitted(void) {
    struct io_uring_sqe sqe;
    UNIT_CHECK(berth_uring_sender_send(sender, &out, UINT64_MAX, &sqe) == 0);
    return sqe.user_data;
}

static struct berth_uring_sent complete(uint64_t user_data, int32_t res, uint32_t flags) {
    struct berth_uring_sent sent;
    berth_uring_sender_complete(user_data, res, flags, &sent);
    return sent;
}

static void memory_is_held_until_the_notification(void **state) {
    /* It would be written again while the kernel sends it. */
    (void)state;
    struct berth_slice slice;
    assert_int_equal(berth_slice_alloc(pool, PIECE, &slice), 0);
    struct berth_slice mine = berth_slice_retain(&slice);
    assert_int_equal(berth_chain_append(&out, &slice), 0);
    uint64_t send = unsubmitted();
    assert_true(complete(send, PIECE, IORING_CQE_F_MORE).answered);
    assert_int_equal(berth_chain_length(&out), 0);
    assert_int_equal(berth_uring_sender_in_flight(sender), 1);
    assert_int_equal(figures().in_flight_bytes, PIECE);
    assert_null(berth_slice_try_write(&mine));
    assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), -EBUSY);
    struct berth_uring_sent sent = complete(send, 0, IORING_CQE_F_NOTIF);
    assert_true(sent.landed && !sent.answered);
    assert_int_equal(figures().in_flight_bytes, 0);
    assert_non_null(berth_slice_try_write(&mine));
    berth_slice_release(&mine);
}

static void a_send_that_failed_may_hold_memory(void **state) {
    /* A result below 0 says nothing about the notification. */
    (void)state;
    append_stream(&out, 0, PIECE);
    uint64_t send = unsubmitted();
    struct berth_uring_sent sent = complete(send, -ECONNRESET, IORING_CQE_F_MORE);
    assert_true(sent.answered && !sent.landed && sent.result == -ECONNRESET);
    assert_int_equal(berth_chain_length(&out), PIECE);
    assert_int_equal(berth_uring_sender_in_flight(sender), 1);
    assert_true(complete(send, 0, IORING_CQE_F_NOTIF).landed);
    assert_int_equal(berth_uring_sender_in_flight(sender), 0);
}

static void notifications_come_in_any_order(void **state) {
    (void)state;
    enum { SENDS = 20 };
    uint64_t sends[SENDS];
    for (unsigned i = 0; i < SENDS; i++) {
        append_stream(&out, 0, PIECE);
        sends[i] = unsubmitted();
        complete(sends[i], PIECE, IORING_CQE_F_MORE);
    }
    assert_int_equal(berth_uring_sender_in_flight(sender), SENDS);
    for (unsigned i = 0; i < SENDS; i++) {
        assert_true(complete(sends[i * 7 % SENDS], 0, IORING_CQE_F_NOTIF).landed);
        assert_int_equal(berth_uring_sender_in_flight(sender), SENDS - 1 - i);
    }
    append_stream(&out, 0, PIECE); /* and even before the answer */
    uint64_t send = unsubmitted();
    assert_false(complete(send, 0, IORING_CQE_F_NOTIF).landed);
    assert_true(complete(send, PIECE, IORING_CQE_F_MORE).landed);
}

static void a_sender_that_was_ended_goes_with_its_last_completion(void **state) {
    (void)state;
    append_stream(&out, 0, PIECE);
    uint64_t first = unsubmitted();
    complete(first, PIECE, IORING_CQE_F_MORE);
    append_stream(&out, 0, PIECE);
    uint64_t second = unsubmitted();
    berth_uring_sender_end(sender);
    sender = NULL;
    berth_chain_clear(&out); /* the chain may go at once */
    assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), -EBUSY);
    assert_null(complete(second, PIECE, 0).context);
    assert_true(complete(first, 0, IORING_CQE_F_NOTIF).landed);
}

static void bytes_in_flight_are_bounded(void **state) {
    (void)state;
    berth_uring_sender_end(sender);
    make_sender(ends[0], 1, 2 * PIECE);
    append_stream(&out, 0, PIECE);
    uint64_t sends[2];
    for (unsigned i = 0; i < 2; i++) {
        sends[i] = unsubmitted();
        complete(sends[i], PIECE, IORING_CQE_F_MORE);
        append_stream(&out, 0, PIECE);
    }
    struct io_uring_sqe sqe;
    assert_int_equal(berth_uring_sender_send(sender, &out, UINT64_MAX, &sqe), -EAGAIN);
    assert_true(complete(sends[1], 0, IORING_CQE_F_NOTIF).landed);
    uint64_t third = unsubmitted();
    complete(third, PIECE, 0);
    complete(sends[0], 0, IORING_CQE_F_NOTIF);
}

static void beyond_the_pool_s_bound_each_sender_has_little_in_flight(void **state) {
    /* With many connections that stall, the kernel would hold all memory. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.in_flight = 2 * PIECE;
    berth_pool *bounded = berth_pool_create("bounded", &options);
    berth_uring_sender *first = berth_uring_sender_create(bounded, ends[0], NULL);
    berth_uring_sender *second = berth_uring_sender_create(bounded, ends[0], NULL);
    struct berth_chain chain;
    berth_chain_init(&chain, bounded);
    struct io_uring_sqe of_first, of_second, none;
    append_stream(&chain, 0, 2 * PIECE);
    assert_int_equal(berth_uring_sender_send(first, &chain, UINT64_MAX, &of_first), 0);
    complete(of_first.user_data, 2 * PIECE, IORING_CQE_F_MORE);
    append_stream(&chain, 0, PIECE);
    assert_int_equal(berth_uring_sender_send(first, &chain, UINT64_MAX, &none), -EAGAIN);
    assert_int_equal(berth_uring_sender_send(second, &chain, UINT64_MAX, &of_second), 0);
    assert_int_equal(of_second.len, 16384);
    complete(of_second.user_data, 16384, IORING_CQE_F_MORE);
    assert_int_equal(berth_uring_sender_send(second, &chain, UINT64_MAX, &none), -EAGAIN);
    complete(of_first.user_data, 0, IORING_CQE_F_NOTIF);
    complete(of_second.user_data, 0, IORING_CQE_F_NOTIF);
    assert_int_equal(berth_uring_sender_send(first, &chain, UINT64_MAX, &of_first), 0);
    assert_int_equal(of_first.len, PIECE - 16384);
    complete(of_first.user_data, PIECE - 16384, 0);
    berth_uring_sender_end(first);
    berth_uring_sender_end(second);
    assert_int_equal(berth_pool_destroy(bounded, 0), 0);
}

static void nothing_is_reused_while_the_peer_stalls(void **state) {
    (void)state;
    enum { SENDS = 8 };
    for (unsigned i = 0; i < SENDS; i++) {
        append_stream(&out, i * (uint64_t)PIECE, PIECE);
        assert_int_equal(send_and_wait(), PIECE);
        scribble();
    }
    assert_int_equal(close(ends[0]), 0); /* the ring tells all the same */
    ends[0] = -1;
    scribble();
    receive_stream(0, SENDS * (uint64_t)PIECE);
    land_all();
}

static void a_reset_by_the_peer_gives_all_back(void **state) {
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        append_stream(&out, i * (uint64_t)PIECE, PIECE);
        assert_int_equal(send_and_wait(), PIECE);
    }
    append_stream(&out, 0, 32 * MiB); /* waits for room */
    prepare();
    ring_submit();
    reset(ends[1]);
    ends[1] = -1;
    struct berth_uring_sent sent = {.answered = false};
    while (!sent.answered || berth_uring_sender_in_flight(sender) > 0) {
        struct berth_uring_sent now;
        struct berth__cqe cqe = ring_wait();
        berth_uring_sender_complete(cqe.user_data, cqe.res, cqe.flags, &now);
        sent = now.answered ? now : sent;
    }
    assert_true(sent.result < 0 || sent.result < (int64_t)(32 * MiB));
    int64_t further = send_and_wait();
    assert_true(further == -EPIPE || further == -ECONNRESET);
    land_all();
}

static void a_ring_that_is_torn_down_leaves_memory_pinned(void **state) {
    /* Nobody can tell when the kernel is done: a pool that could be ended would be reused. */
    (void)state;
    berth_pool *other = berth_pool_create("torn", NULL);
    struct berth_chain lost;
    berth_chain_init(&lost, other);
    append_stream(&lost, 0, 32 * MiB);
    berth_uring_sender *doomed = berth_uring_sender_create(other, ends[0], NULL);
    struct io_uring torn;
    UNIT_CHECK(io_uring_queue_init(4, &torn, 0) == 0);
    assert_int_equal(berth_uring_sender_send(doomed, &lost, UINT64_MAX, io_uring_get_sqe(&torn)),
                     0);
    assert_int_equal(io_uring_submit(&torn), 1);
    io_uring_queue_exit(&torn);
    berth_uring_sender_end(doomed);
    berth_chain_clear(&lost);
    assert_int_equal(berth_pool_destroy(other, BERTH_FORCE), -EBUSY);
}

/* ---- when it copies ---- */

static unsigned char opcode_of_next(size_t length) {
    struct io_uring_sqe sqe;
    append_stream(&out, 0, length);
    UNIT_CHECK(berth_uring_sender_send(sender, &out, UINT64_MAX, &sqe) == 0);
    unsigned char opcode = sqe.opcode;
    complete(sqe.user_data, (int32_t)berth_chain_length(&out), 0);
    return opcode;
}

static uint64_t allocations(void) {
    berth_thread_flush(); /* so that all are counted */
    return figures_of(pool).allocations;
}

static void one_send_after_another_allocates_nothing(void **state) {
    /* A record would be made and freed for each message. */
    (void)state;
    static const unsigned char bytes[2000];
    uint64_t before = 0;
    for (unsigned i = 0; i < 20; i++) {
        struct berth_slice slice;
        struct io_uring_sqe sqe;
        assert_int_equal(berth_slice_wrap_static(bytes, sizeof(bytes), &slice), 0);
        assert_int_equal(berth_chain_append(&out, &slice), 0);
        assert_int_equal(berth_uring_sender_send(sender, &out, UINT64_MAX, &sqe), 0);
        complete(sqe.user_data, sizeof(bytes), 0);
        before = i == 0 ? allocations() : before;
    }
    assert_int_equal(allocations(), before);
}

static void short_sends_copy(void **state) {
    (void)state;
    berth_uring_sender_end(sender);
    make_sender(ends[0], 0, 0);
    assert_int_equal(opcode_of_next(8191), IORING_OP_SEND);
    assert_int_equal(opcode_of_next(8192), IORING_OP_SEND_ZC);
    for (unsigned i = 0; i < 20; i++) {
        append_stream(&out, 0, 1500); /* another entry costs more than its copy */
    }
    assert_int_equal(opcode_of_next(1500), IORING_OP_SENDMSG);
    append_stream(&out, 0, 4096);
    assert_int_equal(opcode_of_next(8192), IORING_OP_SENDMSG_ZC);
}

static void where_the_kernel_copies_it_is_not_tried_again_soon(void **state) {
    /* On loopback each message would pay for both ways. */
    (void)state;
    UNIT_ONLY_IF((berth_uring_features() & BERTH_URING_HAS_USAGE) != 0);
    append_stream(&out, 0, PIECE);
    assert_int_equal(send_and_wait(), PIECE);
    receive_stream(0, PIECE);
    land_all();
    for (unsigned i = 0; i < 256; i++) {
        assert_int_equal(opcode_of_next(PIECE), IORING_OP_SEND);
    }
    assert_int_equal(opcode_of_next(PIECE), IORING_OP_SEND_ZC);
}

static void a_socket_that_cannot_is_answered_by_copying(void **state) {
    (void)state;
    berth_uring_sender_end(sender);
    close(ends[0]);
    close(ends[1]);
    unix_pair(ends);
    make_blocking(ends[0]);
    make_sender(ends[0], 1, 0);
    append_stream(&out, 0, PIECE);
    assert_int_equal(send_and_wait(), 0);
    assert_int_equal(berth_chain_length(&out), PIECE);
    assert_int_equal(send_and_wait(), PIECE);
    receive_stream(0, PIECE);
    land_all();
    assert_int_equal(opcode_of_next(PIECE), IORING_OP_SEND);
}

static void send_with_few_locked_pages(void *unused) {
    (void)unused;
    ring_end(); /* the parent's */
    const struct rlimit little = {.rlim_cur = 4 * PIECE, .rlim_max = 4 * PIECE};
    UNIT_CHECK(setrlimit(RLIMIT_MEMLOCK, &little) == 0);
    UNIT_CHECK(geteuid() != 0 || setuid(60000 + (uid_t)getpid() % 5000) == 0);
    ring_begin();
    append_stream(&out, 0, 32 * PIECE);
    UNIT_CHECK(send_and_wait() == 0); /* more than may be locked */
    prepare();
    ring_submit();
    receive_stream(0, 32 * PIECE);
    land_all();
    UNIT_CHECK(berth_chain_length(&out) == 0);
}

static void too_many_locked_pages_copy(void **state) {
    /* A send would fail with ENOMEM, and the connection with it. */
    (void)state;
    assert_int_equal(unit_in_child(send_with_few_locked_pages, NULL), 0);
}

static void what_the_kernel_lacks_is_done_without(void **state) {
    (void)state;
    berth_uring_sender_end(sender);
    berth__uring_pretend(BERTH_URING_HAS_RING);
    make_sender(ends[0], 1, 0);
    assert_int_equal(opcode_of_next(PIECE), IORING_OP_SEND);
    berth_uring_sender_end(sender);
    berth__uring_pretend(BERTH_URING_HAS_RING | BERTH_URING_HAS_SEND_ZC);
    make_sender(ends[0], 1, 0);
    append_stream(&out, 0, PIECE);
    assert_int_equal(opcode_of_next(PIECE), IORING_OP_SENDMSG);
    assert_int_equal(opcode_of_next(PIECE), IORING_OP_SEND_ZC);
    berth__uring_pretend(0);
    assert_null(berth_uring_sender_create(pool, ends[0], NULL));
    assert_int_equal(errno, ENOSYS);
    berth__uring_pretend(UINT32_MAX);
    struct berth_uring_sender_options options = options_with(0, 0);
    options.mark = 16;
    assert_null(berth_uring_sender_create(pool, ends[0], &options));
    assert_int_equal(errno, EINVAL);
}

static void the_layout_is_the_kernel_s(void **state) {
    /* The kernel would read other fields than were written. */
    (void)state;
    struct io_uring_sqe theirs;
    struct berth__sqe ours = {.opcode = 1, .flags = 2, .ioprio = 3, .fd = 4, .off = 5, .addr = 6};
    ours.len = 7;
    ours.op_flags = 8;
    ours.user_data = 9;
    ours.buf_index = 10;
    berth__sqe_put(&theirs, &ours);
    assert_true(theirs.opcode == 1 && theirs.flags == 2 && theirs.ioprio == 3 && theirs.fd == 4);
    assert_true(theirs.off == 5 && theirs.addr == 6 && theirs.len == 7 && theirs.msg_flags == 8);
    assert_true(theirs.user_data == 9 && theirs.buf_index == 10);
    assert_int_equal(BERTH_URING_OP_SEND, IORING_OP_SEND);
    assert_int_equal(BERTH_URING_OP_RECV, IORING_OP_RECV);
    assert_int_equal(BERTH_URING_OP_SENDMSG, IORING_OP_SENDMSG);
    assert_int_equal(BERTH_URING_OP_SEND_ZC, IORING_OP_SEND_ZC);
    assert_int_equal(BERTH_URING_OP_SENDMSG_ZC, IORING_OP_SENDMSG_ZC);
    assert_int_equal(BERTH_URING_BUFFER_SELECT, IOSQE_BUFFER_SELECT);
    assert_int_equal(BERTH_URING_F_NOTIF, IORING_CQE_F_NOTIF);
    assert_int_equal(BERTH_URING_F_MORE, IORING_CQE_F_MORE);
    assert_int_equal(BERTH_URING_REGISTER_RING, IORING_REGISTER_PBUF_RING);
    assert_int_equal(BERTH_URING_REGISTER_BUFFERS2, IORING_REGISTER_BUFFERS2);
    assert_int_equal(sizeof(struct berth__uring_ring), sizeof(struct io_uring_buf_reg));
    assert_int_equal(sizeof(struct berth__uring_update), sizeof(struct io_uring_rsrc_update2));
    assert_int_equal(sizeof(struct berth__uring_buffers), sizeof(struct io_uring_rsrc_register));
}

#define SEND_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
    RINGS_OR_SKIP();
    const struct CMUnitTest tests[] = {
        SEND_TEST(what_was_sent_has_left_the_chain_and_arrives),
        SEND_TEST(only_one_send_at_a_time_is_unanswered),
        SEND_TEST(a_region_of_a_file_is_for_other_calls),
        SEND_TEST(memory_is_held_until_the_notification),
        SEND_TEST(a_send_that_failed_may_hold_memory),
        SEND_TEST(notifications_come_in_any_order),
        SEND_TEST(a_sender_that_was_ended_goes_with_its_last_completion),
        SEND_TEST(bytes_in_flight_are_bounded),
        SEND_TEST(beyond_the_pool_s_bound_each_sender_has_little_in_flight),
        SEND_TEST(nothing_is_reused_while_the_peer_stalls),
        SEND_TEST(a_reset_by_the_peer_gives_all_back),
        SEND_TEST(a_ring_that_is_torn_down_leaves_memory_pinned),
        SEND_TEST(one_send_after_another_allocates_nothing),
        SEND_TEST(short_sends_copy),
        SEND_TEST(where_the_kernel_copies_it_is_not_tried_again_soon),
        SEND_TEST(a_socket_that_cannot_is_answered_by_copying),
        SEND_TEST(too_many_locked_pages_copy),
        SEND_TEST(what_the_kernel_lacks_is_done_without),
        SEND_TEST(the_layout_is_the_kernel_s),
    };
    return UNIT_RUN(tests);
}

#else

int main(void) {
    puts("skipped: liburing was not found");
    return UNIT_SKIPPED;
}

#endif
