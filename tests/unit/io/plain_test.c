/* Chains through sockets: what is sent arrives once and in order, however little fits, and what is
 * not sent is still in the chain. */
#include "sockets.h"

#include "buffer/chain.h"
#include "os/fault.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <sys/ioctl.h>

static berth_pool *pool;
static struct berth_chain out, in;
static struct berth_receiver receiver;
static int ends[2];

static int begin(void **state) {
    (void)state;
    pool = berth_pool_create("sockets", NULL);
    berth_chain_init(&out, pool);
    berth_chain_init(&in, pool);
    ends[0] = ends[1] = -1;
    return berth_receiver_init(&receiver, 0, 0);
}

static int end(void **state) {
    (void)state;
    UNIT_CHECK(berth__chain_is_valid(&out) && berth__chain_is_valid(&in));
    berth_chain_clear(&out);
    berth_chain_clear(&in);
    close(ends[0]);
    close(ends[1]);
    check_nothing_lives(pool);
    return berth_pool_destroy(pool, 0);
}

/* Sends all of `out`, which is the stream from 0 on, and looks at what arrives. Returns the calls
 * that sent less than all. */
static unsigned transfer(uint64_t most) {
    uint64_t length = berth_chain_length(&out), sent = 0, received = 0;
    unsigned partial = 0;
    while (received < length) {
        int64_t now = berth_io_send(ends[0], &out, most);
        UNIT_CHECK(now == -EAGAIN || (now >= 0 && (uint64_t)now <= most));
        sent += now > 0 ? (uint64_t)now : 0;
        UNIT_CHECK(berth_chain_length(&out) == length - sent);
        UNIT_CHECK(berth__chain_is_valid(&out));
        partial += berth_chain_length(&out) > 0;
        int64_t got = berth_io_receive(ends[1], &in, &receiver);
        UNIT_CHECK(got == -EAGAIN || got > 0);
        UNIT_CHECK(berth__chain_is_valid(&in));
        UNIT_CHECK(berth_chain_length(&in) == (got > 0 ? (uint64_t)got : 0));
        UNIT_CHECK(chain_is_stream(&in, received));
        received += got > 0 ? (uint64_t)got : 0;
    }
    return partial;
}

static void many_slices_arrive_in_order(void **state) {
    /* More than one sendmsg can take: the rest would be lost, or sent twice. */
    (void)state;
    unix_pair(ends);
    uint64_t at = 0;
    for (unsigned i = 0; i < 3000; i++) {
        size_t length = BERTH_COALESCE_MAX + 1 + i % 700;
        append_stream(&out, at, length);
        at += length;
    }
    assert_int_equal(berth_chain_count(&out), 3000);
    transfer(UINT64_MAX);
    assert_int_equal(berth_chain_length(&out), 0);
}

static void little_room_sends_in_pieces(void **state) {
    /* A partial write would lose its place in a slice. */
    (void)state;
    tcp_pair(ends, 4096);
    for (unsigned i = 0; i < 40; i++) {
        append_stream(&out, i * 10007, 10007);
    }
    assert_true(transfer(UINT64_MAX) > 3);
}

static void no_more_is_sent_than_allowed(void **state) {
    /* One connection could hold up all others. */
    (void)state;
    unix_pair(ends);
    append_stream(&out, 0, 1000);
    append_stream(&out, 1000, 5000);
    assert_int_equal(berth_io_send(ends[0], &out, 0), 0);
    assert_int_equal(berth_io_send(ends[0], &out, 300), 300);
    assert_int_equal(berth_io_send(ends[0], &out, 701), 701);
    assert_int_equal(berth_chain_length(&out), 4999);
    assert_int_equal(berth_io_receive(ends[1], &in, &receiver), 1001);
    assert_true(chain_is_stream(&in, 0));
    int file = stream_file(1001 + 4999, 1000);
    assert_int_equal(berth_chain_append_file(&out, file, 0, 1000, true), 0);
    assert_int_equal(berth_io_send(ends[0], &out, 5998), 5998);
    assert_int_equal(berth_chain_length(&out), 1);
}

static void files_go_between_slices(void **state) {
    /* A region would be sent from the wrong offset, or around what stands before it. */
    (void)state;
    for (int tcp = 0; tcp < 2; tcp++) {
        if (tcp) {
            close(ends[0]);
            close(ends[1]);
            tcp_pair(ends, 8192);
        } else {
            unix_pair(ends);
        }
        int file = stream_file(0, 300000);
        append_stream(&out, 0, 700);
        assert_int_equal(berth_chain_append_file(&out, file, 700, 250000, false), 0);
        append_stream(&out, 250700, 1300);
        assert_int_equal(berth_chain_append_file(&out, file, 252000, 48000, true), 0);
        assert_true(transfer(tcp ? UINT64_MAX : 6000) > 3);
    }
}

/* Until so many bytes can be read at once. */
static void await_bytes(int fd, int bytes) {
    int waiting = 0;
    for (unsigned i = 0; i < 20000 && waiting < bytes; i++) {
        UNIT_CHECK(ioctl(fd, FIONREAD, &waiting) == 0);
        sleep_ms(waiting < bytes);
    }
    UNIT_CHECK(waiting == bytes);
}

/* Segments that carried data to this end. */
static unsigned segments_received(int fd) {
    struct tcp_info info;
    socklen_t length = sizeof(info);
    UNIT_CHECK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0);
    return info.tcpi_data_segs_in;
}

static void a_header_and_its_file_share_a_packet(void **state) {
    /* Every response would cost a packet more, and with Nagle's algorithm a round trip. */
    (void)state;
    tcp_pair(ends, 0);
    int one = 1;
    setsockopt(ends[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    int file = stream_file(100, 1000);
    append_stream(&out, 0, 100);
    assert_int_equal(berth_chain_append_file(&out, file, 0, 1000, true), 0);
    assert_int_equal(berth_io_send(ends[0], &out, UINT64_MAX), 1100);
    await_bytes(ends[1], 1100);
    assert_int_equal(berth_io_receive(ends[1], &in, &receiver), 1100);
    assert_true(chain_is_stream(&in, 0));
    assert_int_equal(segments_received(ends[1]), 1);
}

static void the_last_bytes_do_not_wait(void **state) {
    /* The kernel would hold the end of each message back for 200 ms. */
    (void)state;
    tcp_pair(ends, 0);
    int one = 1, unsent = -1;
    setsockopt(ends[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    append_stream(&out, 0, 1000);
    assert_int_equal(berth_io_send(ends[0], &out, 400), 400);
    assert_int_equal(ioctl(ends[0], SIOCOUTQNSD, &unsent), 0);
    assert_int_equal(unsent, 0);
    assert_int_equal(berth_io_send(ends[0], &out, UINT64_MAX), 600);
    assert_int_equal(ioctl(ends[0], SIOCOUTQNSD, &unsent), 0);
    assert_int_equal(unsent, 0);
}

static void a_file_that_ends_early_is_an_error(void **state) {
    /* The call would go on for ever. */
    (void)state;
    unix_pair(ends);
    int file = stream_file(0, 1000);
    assert_int_equal(berth_chain_append_file(&out, file, 0, 5000, true), 0);
    assert_int_equal(berth_io_send(ends[0], &out, UINT64_MAX), 1000);
    assert_int_equal(berth_io_send(ends[0], &out, UINT64_MAX), -ENODATA);
    assert_int_equal(berth_chain_length(&out), 4000);
}

static void an_empty_chain_sends_nothing(void **state) {
    (void)state;
    unix_pair(ends);
    errno = 77;
    assert_int_equal(berth_io_send(ends[0], &out, UINT64_MAX), 0);
    assert_int_equal(berth_io_receive(ends[1], &in, &receiver), -EAGAIN);
    assert_int_equal(errno, 77);
    assert_int_equal(berth_chain_count(&in), 0);
}

/* ---- errors ---- */

static void send_to_nobody(void *what) {
    bool file = what != NULL;
    signal(SIGPIPE, SIG_DFL);
    unix_pair(ends);
    close(ends[1]);
    append_stream(&out, 0, 1000);
    if (file) {
        berth_chain_clear(&out);
        UNIT_CHECK(berth_chain_append_file(&out, stream_file(0, 1000), 0, 1000, true) == 0);
    }
    UNIT_CHECK(berth_io_send(ends[0], &out, UINT64_MAX) == -EPIPE);
    UNIT_CHECK(berth_chain_length(&out) == 1000);
    sigset_t signals;
    UNIT_CHECK(sigpending(&signals) == 0 && !sigismember(&signals, SIGPIPE));
    UNIT_CHECK(pthread_sigmask(SIG_SETMASK, NULL, &signals) == 0);
    UNIT_CHECK(!sigismember(&signals, SIGPIPE));
}

static void a_peer_that_is_gone_raises_no_signal(void **state) {
    /* The server would die of a client. */
    (void)state;
    static char file;
    assert_int_equal(unit_in_child(send_to_nobody, NULL), 0);
    assert_int_equal(unit_in_child(send_to_nobody, &file), 0);
}

static volatile sig_atomic_t pipe_signals;

static void on_pipe_signal(int number) {
    (void)number;
    pipe_signals++;
}

static void send_to_nobody_with_the_signal_ignored(void *unused) {
    (void)unused;
    struct sigaction now;
    berth_io_ignore_sigpipe();
    UNIT_CHECK(sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_IGN);
    unix_pair(ends);
    close(ends[1]);
    UNIT_CHECK(berth_chain_append_file(&out, stream_file(0, 1000), 0, 1000, true) == 0);
    UNIT_CHECK(berth_io_send(ends[0], &out, UINT64_MAX) == -EPIPE);
    signal(SIGPIPE, on_pipe_signal); /* which is forbidden, and shows that nobody holds it back */
    UNIT_CHECK(berth_io_send(ends[0], &out, UINT64_MAX) == -EPIPE);
    UNIT_CHECK(pipe_signals == 1);
}

static void a_signal_that_is_ignored_need_not_be_held(void **state) {
    /* Each region of a file would cost two system calls more. */
    (void)state;
    assert_int_equal(unit_in_child(send_to_nobody_with_the_signal_ignored, NULL), 0);
}

static void a_signal_that_was_held_stays(void **state) {
    /* A SIGPIPE of the program's own would vanish in a call of ours, or one of ours be left. */
    (void)state;
    sigset_t held, before, pending;
    sigemptyset(&held);
    sigaddset(&held, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &held, &before);
    for (int raised = 0; raised < 2; raised++) {
        unix_pair(ends);
        close(ends[1]);
        if (raised) {
            pthread_kill(pthread_self(), SIGPIPE);
        }
        assert_int_equal(berth_chain_append_file(&out, stream_file(0, 9), 0, 9, true), 0);
        assert_int_equal(berth_io_send(ends[0], &out, UINT64_MAX), -EPIPE);
        berth_chain_clear(&out);
        sigpending(&pending);
        assert_int_equal(sigismember(&pending, SIGPIPE), raised);
        close(ends[0]);
    }
    const struct timespec now = {0, 0};
    assert_int_equal(sigtimedwait(&held, NULL, &now), SIGPIPE);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    unix_pair(ends);
}

static void a_reset_leaves_the_chain(void **state) {
    /* What the peer never got would be lost, and could not be sent elsewhere. */
    (void)state;
    tcp_pair(ends, 0);
    append_stream(&in, 0, 700);
    append_stream(&out, 0, 7000);
    reset(ends[1]);
    ends[1] = -1;
    assert_int_equal(berth_io_send(ends[0], &out, UINT64_MAX), -ECONNRESET);
    assert_int_equal(berth_io_send(ends[0], &out, UINT64_MAX), -EPIPE);
    assert_int_equal(berth_chain_length(&out), 7000);
    assert_int_equal(berth_io_receive(ends[0], &in, &receiver), 0);
    assert_int_equal(berth_chain_length(&in), 700);
    assert_true(chain_is_stream(&out, 0) && chain_is_stream(&in, 0));
}

static void an_end_is_told(void **state) {
    (void)state;
    unix_pair(ends);
    append_stream(&out, 0, 100);
    assert_int_equal(berth_io_send(ends[0], &out, UINT64_MAX), 100);
    shutdown(ends[0], SHUT_WR);
    assert_int_equal(berth_io_receive(ends[1], &in, &receiver), 100);
    assert_int_equal(berth_io_receive(ends[1], &in, &receiver), 0);
    assert_int_equal(berth_chain_length(&in), 100);
    assert_int_equal(berth_io_receive(-1, &in, &receiver), -EBADF);
    assert_int_equal(berth_io_send(-1, &in, UINT64_MAX), -EBADF);
    assert_true(chain_is_stream(&in, 0));
}

static void failures_leave_the_chain(void **state) {
    /* A call that fails in the middle would take bytes with it. */
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS);
#if BERTH_FAULTS
    unix_pair(ends);
    append_stream(&out, 0, 600);
    assert_int_equal(berth_chain_append_file(&out, stream_file(600, 600), 0, 600, true), 0);
    berth__os_fail_after(BERTH_OS_SEND, 0, 1);
    assert_int_equal(berth_io_send(ends[0], &out, UINT64_MAX), -ENOMEM);
    assert_int_equal(berth_chain_length(&out), 1200);
    berth__os_fail_after(BERTH_OS_SEND_FILE, 0, 1);
    assert_int_equal(berth_io_send(ends[0], &out, UINT64_MAX), 600);
    assert_int_equal(berth_io_send(ends[0], &out, UINT64_MAX), 600);
    berth__os_fail_after(BERTH_OS_RECEIVE, 0, 1);
    assert_int_equal(berth_io_receive(ends[1], &in, &receiver), -ENOMEM);
    assert_int_equal(berth_chain_count(&in), 0);
    assert_int_equal(berth_io_receive(ends[1], &in, &receiver), 1200);
    assert_true(chain_is_stream(&in, 0));
#endif
}

static void without_memory_nothing_is_received(void **state) {
    /* What was received would have nowhere to go. */
    (void)state;
    static unsigned char memory[1 << 20];
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.memory = memory;
    options.memory_size = sizeof(memory);
    options.chunk = 256 * KiB;
    options.wait_ms = 0;
    berth_pool *small = berth_pool_create("small", &options);
    assert_non_null(small);
    struct berth_chain chain;
    berth_chain_init(&chain, small);
    unix_pair(ends);
    append_stream(&out, 0, 5000);
    assert_int_equal(berth_io_send(ends[0], &out, UINT64_MAX), 5000);
    void *blocks[4096];
    size_t count = 0;
    while (count < 4096 && (blocks[count] = berth_alloc(small, 2048)) != NULL) {
        count++;
    }
    assert_true(count < 4096);
    assert_int_equal(berth_io_receive(ends[1], &chain, &receiver), -ENOMEM);
    berth_free_batch(blocks, count);
    assert_int_equal(berth_io_receive(ends[1], &chain, &receiver), 2048);
    assert_true(chain_is_stream(&chain, 0));
    berth_chain_clear(&chain);
    assert_int_equal(berth_pool_destroy(small, 0), 0);
}

/* ---- sizes ---- */

/* One message of so many bytes through the pair: the next piece's size after it. */
static size_t after_message(size_t length) {
    append_stream(&out, 0, length);
    UNIT_CHECK(berth_io_send(ends[0], &out, UINT64_MAX) == (int64_t)length);
    while (berth_io_receive(ends[1], &in, &receiver) > 0) {
    }
    UNIT_CHECK(chain_is_stream(&in, 0));
    return berth_receiver_next(&receiver);
}

static void pieces_follow_the_traffic(void **state) {
    /* Long messages would take many calls, short ones keep much memory. */
    (void)state;
    unix_pair(ends);
    assert_int_equal(berth_receiver_next(&receiver), 2048);
    size_t next = 0;
    for (unsigned i = 0; i < 4; i++) {
        next = after_message(100000);
    }
    assert_int_equal(next, 65536);
    assert_int_equal(after_message(100), 65536);
    assert_int_equal(after_message(40000), 65536);
    assert_int_equal(after_message(100), 65536);
    assert_int_equal(after_message(100), 32768);
    for (unsigned i = 0; i < 40; i++) {
        next = after_message(100);
    }
    assert_int_equal(next, 512);
}

static void what_is_kept_is_in_proportion(void **state) {
    /* A few bytes would hold 64 KiB each: memory for a hundred times as many connections. */
    (void)state;
    unix_pair(ends);
    assert_int_equal(berth_receiver_init(&receiver, 65536, 65536), 0);
    struct berth_chain kept;
    berth_chain_init(&kept, pool);
    uint64_t at = 0;
    for (unsigned i = 0; i < 50; i++) {
        size_t length = 100 + i * 1000;
        append_stream(&out, at, length);
        at += length;
        assert_int_equal(berth_io_send(ends[0], &out, UINT64_MAX), length);
        assert_int_equal(berth_io_receive(ends[1], &in, &receiver), length);
        assert_true(berth_chain_retained(&in) <= 4 * length);
        assert_int_equal(berth_chain_append_chain(&kept, &in), 0);
    }
    assert_true(chain_is_stream(&kept, 0));
    berth_chain_clear(&kept);
}

static void room_behind_is_used_unless_shared(void **state) {
    /* Another holder of the block would see bytes change; or each call would take a block. */
    (void)state;
    unix_pair(ends);
    append_stream(&out, 0, 1500);
    assert_int_equal(berth_io_send(ends[0], &out, 1100), 1100);
    assert_int_equal(berth_io_receive(ends[1], &in, &receiver), 1100);
    assert_int_equal(berth_io_send(ends[0], &out, 200), 200);
    assert_int_equal(berth_io_receive(ends[1], &in, &receiver), 200);
    assert_int_equal(berth_chain_count(&in), 1);

    struct berth_chain other;
    berth_chain_init(&other, pool);
    assert_int_equal(berth_chain_share(&in, 0, 1300, &other), 0);
    assert_int_equal(berth_io_send(ends[0], &out, 200), 200);
    assert_int_equal(berth_io_receive(ends[1], &in, &receiver), 200);
    assert_int_equal(berth_chain_count(&in), 2);
    assert_true(chain_is_stream(&in, 0) && chain_is_stream(&other, 0));
}

static void bounds_are_checked(void **state) {
    (void)state;
    assert_int_equal(berth_receiver_init(&receiver, 4096, 2048), -EINVAL);
    assert_int_equal(berth_receiver_init(&receiver, 0, 63), -EINVAL);
    assert_int_equal(berth_receiver_init(&receiver, SIZE_MAX, 0), -EINVAL);
    assert_int_equal(berth_receiver_init(&receiver, 0, SIZE_MAX), -EINVAL);
    assert_int_equal(berth_receiver_init(&receiver, 2049, 4095), -EINVAL);
    assert_int_equal(berth_receiver_init(&receiver, 3000, 5000), 0);
    assert_int_equal(berth_receiver_next(&receiver), 4096);
    assert_int_equal(berth_receiver_init(&receiver, 1, 1024), 0);
    assert_int_equal(berth_receiver_next(&receiver), 1024);
}

/* ---- signals ---- */

static void ignore(int unused) {
    (void)unused;
}

/* Signals the thread until something is in the pipe, then sends to it. */
static void *disturb(void *thread) {
    for (unsigned i = 0; i < 50; i++) {
        pthread_kill(*(pthread_t *)thread, SIGUSR1);
        sleep_ms(1);
    }
    UNIT_CHECK(write(ends[0], "abc", 3) == 3);
    return NULL;
}

static void a_signal_does_not_end_a_call(void **state) {
    /* Every caller would need a loop. */
    (void)state;
    struct sigaction action = {.sa_handler = ignore}, before;
    sigaction(SIGUSR1, &action, &before);
    unix_pair(ends);
    fcntl(ends[1], F_SETFL, 0);
    pthread_t self = pthread_self();
    pthread_t thread = start_thread(disturb, &self);
    assert_int_equal(berth_io_receive(ends[1], &in, &receiver), 3);
    join_thread(thread);
    sigaction(SIGUSR1, &before, NULL);
}

#define SOCKET_TEST(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        SOCKET_TEST(many_slices_arrive_in_order),
        SOCKET_TEST(little_room_sends_in_pieces),
        SOCKET_TEST(no_more_is_sent_than_allowed),
        SOCKET_TEST(files_go_between_slices),
        SOCKET_TEST(a_header_and_its_file_share_a_packet),
        SOCKET_TEST(the_last_bytes_do_not_wait),
        SOCKET_TEST(a_file_that_ends_early_is_an_error),
        SOCKET_TEST(an_empty_chain_sends_nothing),
        SOCKET_TEST(a_peer_that_is_gone_raises_no_signal),
        SOCKET_TEST(a_signal_that_is_ignored_need_not_be_held),
        SOCKET_TEST(a_signal_that_was_held_stays),
        SOCKET_TEST(a_reset_leaves_the_chain),
        SOCKET_TEST(an_end_is_told),
        SOCKET_TEST(failures_leave_the_chain),
        SOCKET_TEST(without_memory_nothing_is_received),
        SOCKET_TEST(pieces_follow_the_traffic),
        SOCKET_TEST(what_is_kept_is_in_proportion),
        SOCKET_TEST(room_behind_is_used_unless_shared),
        SOCKET_TEST(bounds_are_checked),
        SOCKET_TEST(a_signal_does_not_end_a_call),
    };
    return UNIT_RUN(tests);
}
