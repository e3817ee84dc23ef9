/* Receiving into buffers that the kernel picks: each byte is in memory of the pool that nobody
 * else has, and the ring goes on when that comes back. */
#include "rings.h"

#include "base/atomics.h"
#include "buffer/chain.h"

#if BERTH_LIBURING

enum { GROUP = 7, BYTES = 4096 };

static berth_pool *pool;
static berth_uring_buffers *buffers;
static struct berth_chain in;
static int ends[2];
static uint64_t position; /* of the stream, that was received */
static _Atomic unsigned returns;

static void count_return(void *context) {
    assert_ptr_equal(context, &returns);
    berth__add_relaxed(&returns, 1);
}

static struct berth_uring_buffers_options options_of(unsigned entries, unsigned most) {
    struct berth_uring_buffers_options options = BERTH_URING_BUFFERS_INIT;
    options.group = GROUP;
    options.entries = entries;
    options.most = most;
    options.bytes = BYTES;
    options.in_parts = 0;
    options.returned = count_return;
    options.context = &returns;
    return options;
}

static void make_buffers(const struct berth_uring_buffers_options *options) {
    buffers = berth_uring_buffers_create(pool, test_ring.ring_fd, options);
    UNIT_CHECK(buffers != NULL);
}

static int begin(void **state) {
    (void)state;
    pool = berth_pool_create("provided", NULL);
    UNIT_CHECK(pool != NULL);
    berth_chain_init(&in, pool);
    tcp_pair(ends, 0);
    ring_begin();
    buffers = NULL;
    position = 0;
    berth__store_relaxed(&returns, 0);
    return 0;
}

static int end(void **state) {
    (void)state;
    berth_chain_clear(&in);
    if (buffers != NULL && berth_uring_buffers_destroy(buffers, 0) != 0) {
        return -1; /* a test has failed in the middle */
    }
    ring_end();
    close(ends[0]);
    close(ends[1]);
    return berth_pool_destroy(pool, 0); /* nothing live */
}

static void receive(void) {
    struct io_uring_sqe *sqe = ring_entry();
    berth_uring_buffers_receive(buffers, ends[1], sqe);
    ring_submit();
}

/* Digests one completion; what came is at the end of `in`. */
static struct berth_uring_received digest(void) {
    struct berth__cqe cqe = ring_wait();
    struct berth_uring_received received;
    berth_uring_buffers_complete(buffers, cqe.res, cqe.flags, &in, &received);
    return received;
}

static void send_stream(uint64_t at, size_t length) {
    unsigned char *bytes = malloc(length);
    UNIT_CHECK(bytes != NULL);
    stream_fill(bytes, at, length);
    UNIT_CHECK(send(ends[0], bytes, length, 0) == (ssize_t)length);
    free(bytes);
}

/* Digests until so many bytes are in `in`. The receive is made again if it was over. */
static void receive_bytes(uint64_t length) {
    while (berth_chain_length(&in) < length) {
        struct berth_uring_received received = digest();
        UNIT_CHECK(received.result > 0);
        if (received.is_over) {
            receive();
        }
    }
    UNIT_CHECK(berth_chain_length(&in) == length);
}

/* Looks through what is in `in`, and releases it. */
static void check_and_release(void) {
    uint64_t length = berth_chain_length(&in);
    UNIT_CHECK(chain_is_stream(&in, position));
    position += length;
}

/* The peer ends, so that the receive does. */
static void finish(void) {
    UNIT_CHECK(shutdown(ends[0], SHUT_WR) == 0);
    struct berth_uring_received received;
    do {
        received = digest();
    } while (!received.is_over);
    UNIT_CHECK(received.result == 0);
}

static void what_arrives_is_memory_of_the_pool(void **state) {
    (void)state;
    struct berth_uring_buffers_options options = options_of(8, 8);
    make_buffers(&options);
    receive();
    for (unsigned i = 0; i < 100; i++) {
        send_stream(i * (uint64_t)1000, 1000);
        receive_bytes(1000);
        struct berth_segment segment;
        assert_int_equal(berth_chain_segment(&in, 0, &segment), 0);
        assert_ptr_equal(berth_pool_of(segment.data), pool);
        assert_int_equal(berth_chain_retained(&in), BYTES);
        check_and_release();
    }
    assert_int_equal(berth_uring_buffers_refill(buffers, 0), 8);
    finish();
}

static void a_buffer_is_used_in_parts(void **state) {
    /* A short message would take all of it. */
    (void)state;
    UNIT_ONLY_IF((berth_uring_features() & BERTH_URING_HAS_PARTS) != 0);
    struct berth_uring_buffers_options options = options_of(2, 2);
    options.in_parts = 1;
    make_buffers(&options);
    receive();
    for (unsigned i = 0; i < 70; i++) { /* of 40 that fit */
        send_stream(i * (uint64_t)100, 100);
        receive_bytes((i + 1) * (uint64_t)100);
    }
    assert_int_equal(berth_chain_retained(&in), 2 * BYTES);
    assert_non_null(berth_slice_try_write(berth__chain_at(&in, 0))); /* it is used up */
    assert_null(berth_slice_try_write(berth__chain_last(&in)));      /* this one is not */
    check_and_release();
    for (unsigned i = 0; i < 200; i++) {
        send_stream(position, 500);
        receive_bytes(500);
        check_and_release();
    }
    finish();
}

static void several_buffers_are_one_completion(void **state) {
    (void)state;
    UNIT_ONLY_IF((berth_uring_features() & BERTH_URING_HAS_BUNDLES) != 0);
    for (int in_parts = 0; in_parts < 2; in_parts++) {
        struct berth_uring_buffers_options options = options_of(16, 16);
        options.bundles = 1;
        options.in_parts = in_parts;
        make_buffers(&options);
        unsigned completions = 0;
        for (unsigned i = 0; i < 20; i++) {
            send_stream(position, 5 * BYTES + 123);
            if (i == 0) {
                receive();
            }
            while (berth_chain_length(&in) < 5 * BYTES + 123) {
                struct berth_uring_received received = digest();
                UNIT_CHECK(received.result > 0);
                completions++;
                if (received.is_over) {
                    receive();
                }
            }
            check_and_release();
        }
        assert_true(completions < 20 * 5);
        finish();
        assert_int_equal(berth_uring_buffers_destroy(buffers, 0), 0);
        close(ends[0]);
        close(ends[1]);
        tcp_pair(ends, 0);
        position = 0;
    }
    buffers = NULL;
}

/* Fills both buffers of a ring, and more; the receive is over. */
static void starve(void) {
    struct berth_uring_buffers_options options = options_of(2, 2);
    make_buffers(&options);
    receive();
    send_stream(0, 3 * BYTES);
    struct berth_uring_received received;
    do {
        received = digest();
    } while (!received.is_over);
    assert_true(received.is_starved);
    assert_int_equal(received.result, -ENOBUFS);
    assert_int_equal(berth_chain_length(&in), 2 * BYTES);
}

static void *release_one(void *slice) {
    berth_slice_release(slice);
    return NULL;
}

static void an_empty_ring_goes_on_when_a_buffer_returns(void **state) {
    (void)state;
    starve();
    assert_int_equal(berth_uring_buffers_refill(buffers, 1), 0);
    assert_int_equal(berth_uring_buffers_refill(buffers, 1), 0);
    assert_int_equal(berth__load_relaxed(&returns), 0);

    struct berth_slice first = berth__chain_pop_front(&in); /* the other thread's */
    assert_true(stream_is(first.data, 0, first.length));
    position = first.length;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, release_one, &first), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(berth__load_relaxed(&returns), 1);

    assert_int_equal(berth_uring_buffers_refill(buffers, 1), 1);
    receive();
    receive_bytes(2 * BYTES);
    check_and_release(); /* nobody waits: nobody is told */
    assert_int_equal(berth__load_relaxed(&returns), 1);
    assert_int_equal(berth_uring_buffers_refill(buffers, 1), 2);
    finish();
}

static void more_buffers_come_from_the_pool(void **state) {
    (void)state;
    struct berth_uring_buffers_options options = options_of(2, 6);
    make_buffers(&options);
    receive();
    for (unsigned i = 0; i < 6; i++) {
        send_stream(i * (uint64_t)BYTES, BYTES);
        receive_bytes((i + 1) * (uint64_t)BYTES);
    }
    assert_int_equal(berth_uring_buffers_refill(buffers, 1), 0);
    check_and_release();
    assert_int_equal(berth_uring_buffers_refill(buffers, 1), 2);
    finish();
}

static void slices_outlive_the_ring(void **state) {
    (void)state;
    struct berth_uring_buffers_options options = options_of(4, 4);
    options.in_parts = 1;
    make_buffers(&options);
    receive();
    send_stream(0, 3000);
    receive_bytes(3000);
    assert_int_equal(berth_uring_buffers_destroy(buffers, 0), -EBUSY); /* a receive is not over */
    finish();
    assert_int_equal(berth_uring_buffers_destroy(buffers, 2), -EINVAL);
    assert_int_equal(berth_uring_buffers_destroy(buffers, 0), 0);
    buffers = NULL;
    void *other = berth_alloc(pool, BYTES);
    memset(other, 0xee, BYTES);
    berth_free(other);
    assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), -EBUSY); /* a buffer is pinned */
    check_and_release();
    assert_int_equal(position, 3000);
}

static void a_ring_that_is_gone_leaves_its_buffers_pinned(void **state) {
    (void)state;
    berth_pool *other = berth_pool_create("lost", NULL);
    struct io_uring torn;
    UNIT_CHECK(io_uring_queue_init(4, &torn, 0) == 0);
    struct berth_uring_buffers_options options = options_of(4, 4);
    berth_uring_buffers *lost = berth_uring_buffers_create(other, torn.ring_fd, &options);
    assert_non_null(lost);
    berth_uring_buffers_receive(lost, ends[1], io_uring_get_sqe(&torn));
    assert_int_equal(io_uring_submit(&torn), 1);
    io_uring_queue_exit(&torn);
    assert_int_equal(berth_uring_buffers_destroy(lost, 0), -EBUSY);
    assert_int_equal(berth_uring_buffers_destroy(lost, BERTH_FORCE), 0);
    assert_int_equal(berth_pool_destroy(other, BERTH_FORCE), -EBUSY);
}

static void what_cannot_be_is_refused(void **state) {
    (void)state;
    const struct berth_uring_buffers_options bad[] = {
        {.struct_size = 1},
        {.struct_size = sizeof(bad[0]), .entries = 3},
        {.struct_size = sizeof(bad[0]), .entries = 65536},
        {.struct_size = sizeof(bad[0]), .entries = 4, .most = 3},
        {.struct_size = sizeof(bad[0]), .bytes = 32},
        {.struct_size = sizeof(bad[0]), .group = 65536},
    };
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(bad); i++) {
        assert_null(berth_uring_buffers_create(pool, test_ring.ring_fd, &bad[i]));
        assert_int_equal(errno, EINVAL);
    }
    struct berth_uring_buffers_options options = options_of(2, 2);
    assert_null(berth_uring_buffers_create(pool, ends[0], &options));
    assert_int_equal(errno, EOPNOTSUPP); /* no ring */
    make_buffers(&options);
    assert_null(berth_uring_buffers_create(pool, test_ring.ring_fd, &options));
    assert_int_equal(errno, EEXIST);
}

static void what_the_kernel_lacks_is_done_without(void **state) {
    (void)state;
    struct berth_uring_buffers_options options = options_of(4, 4);
    options.in_parts = 1;
    options.bundles = 1;
    berth__uring_pretend(BERTH_URING_HAS_RING);
    assert_null(berth_uring_buffers_create(pool, test_ring.ring_fd, &options));
    assert_int_equal(errno, ENOSYS);
    berth__uring_pretend(BERTH_URING_HAS_RING | BERTH_URING_HAS_BUFFERS);
    make_buffers(&options);
    berth__uring_pretend(UINT32_MAX);
    receive();
    for (unsigned i = 0; i < 10; i++) { /* a receive each */
        send_stream(i * (uint64_t)700, 700);
        assert_true(digest().is_over);
        check_and_release();
        receive();
    }
    assert_int_equal(position, 7000);
    finish();
}

/* ---- releases by another thread ---- */

enum { MAILS = 64 };

static struct {
    struct berth_slice slice[MAILS];
    _Atomic unsigned written, read;
    _Atomic bool over;
} mail;

static void *check_and_release_all(void *unused) {
    (void)unused;
    uint64_t at = 0;
    for (;;) {
        bool over = berth__load_acquire(&mail.over);
        unsigned next = berth__load_relaxed(&mail.read);
        if (next == berth__load_acquire(&mail.written)) {
            if (over) {
                return NULL;
            }
            sched_yield();
            continue;
        }
        struct berth_slice slice = mail.slice[next % MAILS];
        UNIT_CHECK(stream_is(slice.data, at, slice.length));
        at += slice.length;
        berth_slice_release(&slice);
        berth__store_release(&mail.read, next + 1);
    }
}

static void *send_all(void *length) {
    unsigned char bytes[1000];
    for (uint64_t at = 0; at < *(const uint64_t *)length;) {
        size_t some = 1 + at % sizeof(bytes);
        stream_fill(bytes, at, some);
        ssize_t sent = send(ends[0], bytes, some, 0);
        UNIT_CHECK(sent > 0 || errno == EAGAIN);
        at += sent > 0 ? (uint64_t)sent : 0;
    }
    UNIT_CHECK(shutdown(ends[0], SHUT_WR) == 0);
    return NULL;
}

/* The ring's loop: it looks again for buffers when it is starved, as others release them. */
static void pass_on_all(void) {
    bool ended = false;
    bool waits = false;
    while (!ended) {
        if (waits && berth_uring_buffers_refill(buffers, 1) > 0) {
            waits = false;
            receive();
        }
        if (waits) {
            sched_yield();
            continue;
        }
        struct berth_uring_received received = digest();
        while (berth_chain_count(&in) > 0) {
            unsigned next = berth__load_relaxed(&mail.written);
            while (next - berth__load_acquire(&mail.read) == MAILS) {
                sched_yield();
            }
            mail.slice[next % MAILS] = berth__chain_pop_front(&in);
            berth__store_release(&mail.written, next + 1);
        }
        ended = received.result == 0;
        waits = received.is_starved;
        if (received.is_over && !ended && !waits) {
            receive();
        }
    }
}

static void buffers_come_back_from_other_threads(void **state) {
    /* Run it under ThreadSanitizer. */
    (void)state;
    uint64_t length = 2 * MiB;
    for (int in_parts = 0; in_parts < 2; in_parts++) {
        struct berth_uring_buffers_options options = options_of(4, 8);
        options.in_parts = in_parts;
        make_buffers(&options);
        berth__store_relaxed(&mail.over, false);
        pthread_t sender, reader;
        UNIT_CHECK(pthread_create(&sender, NULL, send_all, &length) == 0);
        UNIT_CHECK(pthread_create(&reader, NULL, check_and_release_all, NULL) == 0);
        receive();
        pass_on_all();
        berth__store_release(&mail.over, true);
        pthread_join(sender, NULL);
        pthread_join(reader, NULL);
        assert_int_equal(berth_uring_buffers_refill(buffers, 4), 4);
        assert_int_equal(berth_uring_buffers_destroy(buffers, 0), 0);
        buffers = NULL;
        close(ends[0]);
        close(ends[1]);
        tcp_pair(ends, 0);
    }
}

#define BUFFERS_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
    RINGS_OR_SKIP();
    if ((berth_uring_features() & BERTH_URING_HAS_BUFFERS) == 0) {
        puts("skipped: the kernel has no rings of buffers");
        return UNIT_SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        BUFFERS_TEST(what_arrives_is_memory_of_the_pool),
        BUFFERS_TEST(a_buffer_is_used_in_parts),
        BUFFERS_TEST(several_buffers_are_one_completion),
        BUFFERS_TEST(an_empty_ring_goes_on_when_a_buffer_returns),
        BUFFERS_TEST(more_buffers_come_from_the_pool),
        BUFFERS_TEST(slices_outlive_the_ring),
        BUFFERS_TEST(a_ring_that_is_gone_leaves_its_buffers_pinned),
        BUFFERS_TEST(what_cannot_be_is_refused),
        BUFFERS_TEST(what_the_kernel_lacks_is_done_without),
        BUFFERS_TEST(buffers_come_back_from_other_threads),
    };
    return UNIT_RUN(tests);
}

#else

int main(void) {
    puts("skipped: liburing was not found");
    return UNIT_SKIPPED;
}

#endif
