/* Sending without copying, on real TCP: the kernel reads the pool's memory late, so nothing of it
 * may be reused, and no socket closed, before the kernel says so. */
#include "sockets.h"

#include "io/sender.h"
#include "os/fault.h"

#include <poll.h>
#include <sys/resource.h>

enum { PIECE = 65536, PATIENCE_MS = 20000 };

static berth_pool *pool;
static struct berth_chain out, in;
static struct berth_receiver receiver;
static berth_sender *sender;
static int peer;

/* A sender on a connection whose peer takes little unless it reads. */
static void connect_sender(size_t threshold) {
    int ends[2];
    tcp_pair(ends, 16384);
    int bytes = 4 << 20;
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    sender = berth_sender_create(pool, ends[0], threshold);
    UNIT_CHECK(sender != NULL && berth_sender_fd(sender) == ends[0]);
    peer = ends[1];
}

static int begin(void **state) {
    (void)state;
    pool = berth_pool_create("senders", NULL);
    berth_chain_init(&out, pool);
    berth_chain_init(&in, pool);
    connect_sender(1);
    return berth_receiver_init(&receiver, 0, 0);
}

/* Receives what comes within `ms`, and looks whether it is the stream. 0 at its end, too. */
static uint64_t receive_some(uint64_t from, int ms) {
    struct pollfd ready = {.fd = peer, .events = POLLIN};
    int64_t got = -EAGAIN;
    while (got == -EAGAIN && poll(&ready, 1, ms) > 0) {
        got = berth_io_receive(peer, &in, &receiver);
        UNIT_CHECK(chain_is_stream(&in, from));
    }
    return got > 0 ? (uint64_t)got : 0;
}

/* Waits for `length` bytes, or the end: bytes that came, with what there is beyond that. */
static uint64_t receive_stream(uint64_t from, uint64_t length) {
    uint64_t received = 0, now = 1;
    while (now > 0) {
        now = receive_some(from + received, received < length ? PATIENCE_MS : 0);
        received += now;
    }
    return received;
}

/* Receives so many bytes, whatever they are. */
static void drop_received(size_t length) {
    struct pollfd ready = {.fd = peer, .events = POLLIN};
    while (berth_chain_length(&in) < length && poll(&ready, 1, PATIENCE_MS) > 0) {
        UNIT_CHECK(berth_io_receive(peer, &in, &receiver) != 0);
    }
    UNIT_CHECK(berth_chain_length(&in) == length);
    berth_chain_clear(&in);
}

/* Collects until nothing is in flight. */
static int collect_all(void) {
    int landed = 0;
    for (unsigned i = 0; i < PATIENCE_MS / 2 && berth_sender_in_flight(sender) > 0; i++) {
        landed += berth_sender_collect(sender);
        sleep_ms(berth_sender_in_flight(sender) > 0 ? 2 : 0);
    }
    UNIT_CHECK(berth_sender_in_flight(sender) == 0);
    return landed;
}

static int end(void **state) {
    (void)state;
    berth_chain_clear(&out);
    berth_chain_clear(&in);
    if (sender != NULL) {
        close(peer);
        int error = berth_sender_close(sender, 5000);
        UNIT_CHECK(error == 0);
        sender = NULL;
    }
    check_nothing_lives(pool);
    return berth_pool_destroy(pool, 0);
}

/* Sends the stream in pieces, each by a call of its own, until the socket is full: bytes. */
static uint64_t send_until_full(unsigned pieces) {
    uint64_t sent = 0;
    for (unsigned i = 0; i < pieces; i++) {
        append_stream(&out, (uint64_t)i * PIECE, PIECE);
        int64_t now = berth_sender_send(sender, &out, UINT64_MAX);
        UNIT_CHECK(now >= 0 || now == -EAGAIN);
        sent += now > 0 ? (uint64_t)now : 0;
    }
    return sent;
}

/* Uses all memory of the pool that is free, as other connections would. */
static void scribble(void) {
    enum { BLOCKS = 64 };
    void *blocks[BLOCKS];
    for (unsigned i = 0; i < BLOCKS; i++) {
        blocks[i] = berth_alloc(pool, PIECE);
        UNIT_CHECK(blocks[i] != NULL);
        memset(blocks[i], 0xee, PIECE);
    }
    berth_free_batch(blocks, BLOCKS);
}

static void memory_in_flight_is_not_reused(void **state) {
    /* The peer would get the bytes of other connections. */
    (void)state;
    uint64_t sent = send_until_full(16);
    assert_int_equal(sent, 16 * PIECE);
    assert_int_equal(berth_chain_count(&out), 0);
    assert_int_equal(berth_sender_in_flight(sender), 16);
    scribble();
    assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), -EBUSY);
    assert_int_equal(receive_stream(0, sent), sent);
    assert_int_equal(collect_all(), 16);
}

static void what_is_in_flight_is_not_written(void **state) {
    /* Who holds the same memory could write it while it is sent. */
    (void)state;
    struct berth_slice slice, same;
    assert_int_equal(berth_slice_alloc(pool, PIECE, &slice), 0);
    stream_fill(berth_slice_try_write(&slice), 0, PIECE);
    same = berth_slice_retain(&slice);
    assert_int_equal(berth_chain_append(&out, &slice), 0);
    assert_int_equal(berth_sender_send(sender, &out, UINT64_MAX), PIECE);
    assert_null(berth_slice_try_write(&same));
    assert_int_equal(receive_stream(0, PIECE), PIECE);
    collect_all();
    assert_non_null(berth_slice_try_write(&same));
    berth_slice_release(&same);
}

static void a_full_socket_keeps_the_rest(void **state) {
    /* Bytes would be lost or sent twice where a send was partial. */
    (void)state;
    append_stream(&out, 0, 12 * MiB);
    uint64_t received = 0;
    while (received < 12 * MiB) {
        int64_t sent = berth_sender_send(sender, &out, UINT64_MAX);
        assert_true(sent > 0 || sent == -EAGAIN || berth_chain_length(&out) == 0);
        for (uint64_t now = 1; now > 0; received += now) {
            now = receive_some(received, 5);
        }
        berth_sender_collect(sender);
        assert_true(berth__flights_are_valid(&sender->flights));
    }
    assert_int_equal(received, 12 * MiB);
    collect_all();
}

static void files_go_between_slices(void **state) {
    (void)state;
    int file = stream_file(PIECE, PIECE);
    append_stream(&out, 0, PIECE);
    assert_int_equal(berth_chain_append_file(&out, file, 0, PIECE, true), 0);
    append_stream(&out, 2 * PIECE, PIECE);
    assert_int_equal(berth_sender_send(sender, &out, UINT64_MAX), 3 * PIECE);
    assert_int_equal(berth_sender_in_flight(sender), 2);
    assert_int_equal(receive_stream(0, 3 * PIECE), 3 * PIECE);
    assert_int_equal(collect_all(), 2);
}

/* ---- when it copies ---- */

static void short_sends_copy(void **state) {
    /* Locking pages and reading a notification cost more than the copy. */
    (void)state;
    assert_int_equal(berth_sender_close(sender, 1000), 0);
    close(peer);
    connect_sender(0);
    append_stream(&out, 0, 16383);
    assert_int_equal(berth_sender_send(sender, &out, UINT64_MAX), 16383);
    assert_int_equal(berth_sender_in_flight(sender), 0);
    for (unsigned i = 0; i < 30; i++) {
        append_stream(&out, 16383 + i * 1000, 1000);
    }
    assert_int_equal(berth_sender_send(sender, &out, UINT64_MAX), 30000);
    assert_int_equal(berth_sender_in_flight(sender), 0);
    append_stream(&out, 46383, 16384);
    assert_int_equal(berth_sender_send(sender, &out, 16383), 16383);
    assert_int_equal(berth_sender_in_flight(sender), 0);
    append_stream(&out, 46383 + 16384, 16384);
    assert_int_equal(berth_sender_send(sender, &out, UINT64_MAX), 16385);
    assert_int_equal(berth_sender_in_flight(sender), 1);
    assert_int_equal(receive_stream(0, 46383 + 32768), 46383 + 32768);
    collect_all();
}

static void where_the_kernel_copies_it_is_not_tried_again_soon(void **state) {
    /* On loopback each message would pay for both ways. */
    (void)state;
    uint32_t pause = BERTH_PAUSE_COPIED;
    for (unsigned round = 0; round < 3; round++) {
        append_stream(&out, 0, PIECE);
        assert_int_equal(berth_sender_send(sender, &out, UINT64_MAX), PIECE);
        assert_int_equal(berth_sender_in_flight(sender), 1);
        assert_int_equal(receive_stream(0, PIECE), PIECE);
        collect_all();
        for (unsigned i = 0; i < pause; i++) {
            append_stream(&out, 0, 2048);
            assert_int_equal(berth_sender_send(sender, &out, UINT64_MAX), 2048);
            assert_int_equal(berth_sender_in_flight(sender), 0);
            drop_received(2048);
        }
        pause *= 2;
    }
}

static void a_pause_ends_where_the_kernel_does_not_copy(void **state) {
    /* A socket on another device after a change of routes would copy for long. */
    (void)state;
    berth__sender_notified(sender, 0, 0, true);
    assert_int_equal(sender->pace.copies_left, BERTH_PAUSE_COPIED);
    berth__sender_notified(sender, 0, 0, true);
    assert_int_equal(sender->pace.copies_left, BERTH_PAUSE_COPIED);
    for (unsigned i = 0; i < 20; i++) {
        sender->pace.copies_left = 0;
        berth__sender_notified(sender, 0, 0, true);
    }
    assert_int_equal(sender->pace.copies_left, BERTH_PAUSE_COPIED_MAX);
    sender->pace.copies_left = 0;
    berth__sender_notified(sender, 0, 0, false);
    berth__sender_notified(sender, 0, 0, true);
    assert_int_equal(sender->pace.copies_left, BERTH_PAUSE_COPIED);
}

static void send_piece(unsigned in_flight) {
    append_stream(&out, 0, PIECE);
    UNIT_CHECK(berth_sender_send(sender, &out, UINT64_MAX) == PIECE);
    UNIT_CHECK(berth_sender_in_flight(sender) == in_flight);
}

static void both_ways_are_compared_now_and_then(void **state) {
    /* Whoever gave no threshold would have one of another machine. */
    (void)state;
    assert_int_equal(berth_sender_close(sender, 1000), 0);
    close(peer);
    connect_sender(0);
    struct berth__ways_of *of = &sender->ways.of[5]; /* PIECE */
    of->until = 1;
    send_piece(1);
    assert_int_equal(sender->ways.state, BERTH_WAYS_ALOFT);
    drop_received(PIECE);
    collect_all(); /* on loopback the kernel has copied: that says nothing of the other way */
    assert_int_equal(sender->ways.state, BERTH_WAYS_IDLE);
    assert_int_equal(of->pairs, 0);
    sender->pace.copies_left = 0;
    of->until = 1;
    send_piece(1);
    berth__sender_notified(sender, 1, 1, false); /* as a device would have it */
    (void)berth_sender_collect(sender);
    assert_int_equal(sender->ways.state, BERTH_WAYS_LANDED);
    drop_received(PIECE);
    send_piece(0);
    assert_int_equal(of->pairs, 1);
    assert_int_equal(sender->ways.state, BERTH_WAYS_IDLE);
    drop_received(PIECE);
}

/* Without the right to lock more memory than that, which is counted for each user. */
static void send_with_few_locked_pages(void *unused) {
    (void)unused;
    const struct rlimit little = {.rlim_cur = 4 * PIECE, .rlim_max = 4 * PIECE};
    UNIT_CHECK(setrlimit(RLIMIT_MEMLOCK, &little) == 0);
    UNIT_CHECK(geteuid() != 0 || setuid(60000 + (uid_t)getpid() % 5000) == 0);
    uint64_t sent = send_until_full(16);
    UNIT_CHECK(sent == 16 * PIECE);
    unsigned in_flight = berth_sender_in_flight(sender);
    UNIT_CHECK(in_flight > 0 && in_flight < 8 && sender->pace.crowded);
    scribble();
    UNIT_CHECK(receive_stream(0, sent) == sent);
    collect_all();
    UNIT_CHECK(!sender->pace.crowded);
    sender->pace.copies_left = 0; /* of the kernel's copying */
    append_stream(&out, 0, PIECE);
    UNIT_CHECK(berth_sender_send(sender, &out, UINT64_MAX) == PIECE);
    UNIT_CHECK(berth_sender_in_flight(sender) == 1);
}

static void send_more_than_may_be_locked(void *unused) {
    (void)unused;
    const struct rlimit little = {.rlim_cur = 4 * PIECE, .rlim_max = 4 * PIECE};
    UNIT_CHECK(setrlimit(RLIMIT_MEMLOCK, &little) == 0);
    UNIT_CHECK(geteuid() != 0 || setuid(65000 + (uid_t)getpid() % 5000) == 0);
    connect_sender(1);
    append_stream(&out, 0, 16 * PIECE);
    UNIT_CHECK(berth_sender_send(sender, &out, UINT64_MAX) == 16 * PIECE);
    UNIT_CHECK(berth_sender_in_flight(sender) == 0 && sender->pace.crowded);
    UNIT_CHECK(receive_stream(0, 16 * PIECE) == 16 * PIECE);
}

static void too_many_locked_pages_copy(void **state) {
    /* A send would fail with ENOBUFS, and the connection with it. */
    (void)state;
    assert_int_equal(unit_in_child(send_with_few_locked_pages, NULL), 0);
    assert_int_equal(unit_in_child(send_more_than_may_be_locked, NULL), 0);
}

static void too_many_notifications_copy(void **state) {
    /* The same, for the kernel's memory for notifications, or our bound. */
    (void)state;
    assert_int_equal(berth_sender_close(sender, 1000), 0);
    close(peer);
    connect_sender(1);
    uint64_t sent = 0;
    uint64_t most = 0; /* the last send may have met notifications for nearly all */
    for (unsigned i = 0; i < 600; i++) {
        append_stream(&out, i * UINT64_C(4096), 4096);
        int64_t now = berth_sender_send(sender, &out, UINT64_MAX);
        sent += now > 0 ? (uint64_t)now : 0;
        uint64_t in_flight = berth_sender_in_flight(sender);
        most = in_flight > most ? in_flight : most;
    }
    assert_in_range(most, 2, BERTH_FLIGHTS_MAX); /* a kernel with time to spare tells at once */
    scribble();
    assert_int_equal(receive_stream(0, sent), sent);
    collect_all();
}

static void beyond_the_pool_s_bound_it_copies(void **state) {
    /* The kernel would hold all memory for peers that stall; copies wait in the socket. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.in_flight = 2 * PIECE;
    berth_pool *bounded = berth_pool_create("bounded", &options);
    int fds[2];
    tcp_pair(fds, 0);
    berth_sender *other = berth_sender_create(bounded, fds[0], 1);
    struct berth_chain chain;
    berth_chain_init(&chain, bounded);
    for (unsigned i = 0; i < 4; i++) {
        append_stream(&chain, 0, PIECE);
        assert_int_equal(berth_sender_send(other, &chain, UINT64_MAX), PIECE);
        assert_int_equal(berth_sender_in_flight(other), i < 2 ? i + 1 : 2);
    }
    berth_sender_reset(other);
    assert_int_not_equal(berth_sender_close(other, 1000), -EBUSY);
    close(fds[1]);
    assert_int_equal(berth_pool_destroy(bounded, 0), 0);
}

static void a_socket_that_cannot_copies(void **state) {
    /* AF_UNIX ignores the flag: memory would be held for ever. */
    (void)state;
    int ends[2];
    unix_pair(ends);
    berth_sender *other = berth_sender_create(pool, ends[0], 1);
    append_stream(&out, 0, PIECE);
    assert_int_equal(berth_sender_send(other, &out, UINT64_MAX), PIECE);
    assert_int_equal(berth_sender_in_flight(other), 0);
    assert_int_equal(berth_sender_try_close(other), 0);
    assert_int_equal(fcntl(ends[0], F_GETFD), -1);
    close(ends[1]);
}

static void failures_do_not_lose_count(void **state) {
    /* The numbers would differ from the kernel's: memory released too early. */
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS);
#if BERTH_FAULTS
    append_stream(&out, 0, PIECE);
    berth__os_fail_after(BERTH_OS_SEND, 0, 2);
    assert_int_equal(berth_sender_send(sender, &out, UINT64_MAX), -ENOMEM);
    assert_int_equal(berth_chain_length(&out), PIECE);
    assert_int_equal(berth_sender_in_flight(sender), 0);
    berth__os_fail_after(BERTH_OS_SEND, 0, 0);
    sender->pace.copies_left = 0;
    berth__os_fail_after(BERTH_OS_SEND, 0, 1);
    assert_int_equal(berth_sender_send(sender, &out, UINT64_MAX), PIECE);
    assert_int_equal(berth_sender_in_flight(sender), 0);
    sender->pace.copies_left = 0;
    append_stream(&out, PIECE, PIECE);
    assert_int_equal(berth_sender_send(sender, &out, UINT64_MAX), PIECE);
    assert_int_equal(berth_sender_in_flight(sender), 1);
    assert_int_equal(receive_stream(0, 2 * PIECE), 2 * PIECE);
    assert_int_equal(collect_all(), 1);
#endif
}

/* ---- ends ---- */

static void closing_waits_for_what_is_in_flight(void **state) {
    /* The kernel would send from memory that is somebody else's by then. */
    (void)state;
    uint64_t sent = send_until_full(8);
    int fd = berth_sender_fd(sender);
    assert_int_equal(berth_sender_try_close(sender), -EBUSY);
    assert_int_not_equal(fcntl(fd, F_GETFD), -1);
    scribble();
    assert_int_equal(receive_stream(0, sent), sent);
    assert_int_equal(berth_io_receive(peer, &in, &receiver), 0);
    assert_int_equal(berth_sender_try_close(sender), 0);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    sender = NULL;
    close(peer);
}

static void *read_later(void *length) {
    sleep_ms(30);
    *(uint64_t *)length = receive_stream(0, *(uint64_t *)length);
    return NULL;
}

static void a_slow_peer_gets_everything(void **state) {
    /* Closing would cut the end of a response off. */
    (void)state;
    uint64_t sent = send_until_full(8), received = sent;
    pthread_t thread = start_thread(read_later, &received);
    assert_int_equal(berth_sender_close(sender, 10000), 0);
    join_thread(thread);
    assert_int_equal(received, sent);
    sender = NULL;
    close(peer);
}

static void a_peer_that_stalls_is_reset(void **state) {
    /* It would hold memory for as long as it likes. */
    (void)state;
    send_until_full(8);
    assert_int_equal(berth_sender_close(sender, 20), -ETIMEDOUT);
    sender = NULL;
    check_nothing_lives(pool);
    scribble();
    receive_stream(0, UINT64_MAX); /* what had arrived is right */
    char byte;
    assert_true(read(peer, &byte, 1) <= 0);
    close(peer);
}

static void a_reset_by_the_peer_gives_all_back(void **state) {
    /* The memory of each connection that breaks would be lost. */
    (void)state;
    send_until_full(8);
    assert_true(berth_sender_in_flight(sender) > 0);
    reset(peer);
    collect_all();
    append_stream(&out, 0, PIECE);
    assert_int_equal(berth_sender_send(sender, &out, UINT64_MAX), -ECONNRESET);
    assert_int_equal(berth_sender_send(sender, &out, UINT64_MAX), -EPIPE);
    assert_int_equal(berth_chain_length(&out), PIECE);
    assert_int_equal(berth_sender_in_flight(sender), 0);
    peer = -1;
}

#define SENDER_TEST(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        SENDER_TEST(memory_in_flight_is_not_reused),
        SENDER_TEST(what_is_in_flight_is_not_written),
        SENDER_TEST(a_full_socket_keeps_the_rest),
        SENDER_TEST(files_go_between_slices),
        SENDER_TEST(short_sends_copy),
        SENDER_TEST(where_the_kernel_copies_it_is_not_tried_again_soon),
        SENDER_TEST(a_pause_ends_where_the_kernel_does_not_copy),
        SENDER_TEST(both_ways_are_compared_now_and_then),
        SENDER_TEST(too_many_locked_pages_copy),
        SENDER_TEST(too_many_notifications_copy),
        SENDER_TEST(beyond_the_pool_s_bound_it_copies),
        SENDER_TEST(a_socket_that_cannot_copies),
        SENDER_TEST(failures_do_not_lose_count),
        SENDER_TEST(closing_waits_for_what_is_in_flight),
        SENDER_TEST(a_slow_peer_gets_everything),
        SENDER_TEST(a_peer_that_stalls_is_reset),
        SENDER_TEST(a_reset_by_the_peer_gives_all_back),
    };
    return UNIT_RUN(tests);
}
