/* Memory that is registered with a ring: found for sends, given back only when the ring has said
 * that it is out of use. */
#include "rings.h"

#include "buffer/chain.h"
#include "heap/io.h"
#include "io/uring_table.h"
#include "pool/api.h"

#include <sys/resource.h>

#if BERTH_LIBURING

enum { PIECE = 65536, MARK = 3 };

static berth_pool *pool;
static berth_uring_table *table;
static int ends[2];

static berth_pool *make_pool(const char *name) {
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.io = 1;
    berth_pool *made = berth_pool_create(name, &options);
    UNIT_CHECK(made != NULL);
    return made;
}

static int begin(void **state) {
    (void)state;
    pool = make_pool("registered");
    tcp_pair(ends, 0);
    make_blocking(ends[0]);
    ring_begin();
    table = berth_uring_table_create(pool, test_ring.ring_fd, 64, MARK);
    return table == NULL;
}

/* Digests completions of the table until it is gone. */
static void end_table(void) {
    while (berth_uring_table_destroy(table, 0) == -EBUSY) {
        struct berth__cqe cqe = ring_wait();
        UNIT_CHECK((cqe.user_data & 15) == MARK);
        berth_uring_table_complete(cqe.user_data);
    }
    table = NULL;
}

static int end(void **state) {
    (void)state;
    if (table != NULL) {
        end_table();
    }
    ring_end();
    close(ends[0]);
    close(ends[1]);
    return berth_pool_destroy(pool, 0); /* nothing live, nothing registered */
}

static size_t registrations(void) {
    struct berth__io_chunk chunks[64];
    return berth_pool_io_list(pool, chunks, 64);
}

static void chunks_come_in_as_they_are_mapped(void **state) {
    (void)state;
    void *blocks[100];
    for (unsigned i = 0; i < 100; i++) {
        blocks[i] = berth_alloc(pool, PIECE);
    }
    assert_int_equal(berth_uring_table_sync(table), registrations());
    assert_int_equal(berth_uring_table_sync(table), registrations());
    assert_true(registrations() >= 4);
    for (unsigned i = 0; i < 100; i++) {
        assert_true(berth_uring_table_has(table, blocks[i], PIECE));
        assert_true(berth_uring_table_has(table, (char *)blocks[i] + 100, 17));
    }
    assert_false(berth_uring_table_has(table, &table, 8));
    void *other = berth_alloc(berth_pool_default(), PIECE);
    assert_false(berth_uring_table_has(table, other, PIECE));
    assert_false(berth_uring_table_has(table, blocks[0], 4 * MiB)); /* beyond the chunk */
    berth_free(other);
    for (unsigned i = 0; i < 100; i++) {
        berth_free(blocks[i]);
    }
    assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), -EBUSY);
}

static void what_is_asked_back_goes_when_the_ring_says_so(void **state) {
    (void)state;
    void *blocks[100];
    for (unsigned i = 0; i < 100; i++) {
        blocks[i] = berth_alloc(pool, PIECE);
    }
    unsigned before = berth_uring_table_sync(table);
    uint64_t bytes = figures_of(pool).chunk_bytes;
    for (unsigned i = 0; i < 100; i++) {
        berth_free(blocks[i]);
    }
    berth_thread_flush();
    berth_trim(pool);
    assert_int_equal(figures_of(pool).chunk_bytes, bytes); /* still registered */
    unsigned after = berth_uring_table_sync(table);
    assert_true(after < before);
    for (unsigned i = after; i < before; i++) {
        struct berth__cqe cqe = ring_wait();
        assert_int_equal(cqe.user_data & 15, MARK);
        berth_uring_table_complete(cqe.user_data);
    }
    assert_true(figures_of(pool).chunk_bytes < bytes);
    void *again = berth_alloc(pool, BERTH_IO_CHUNK);
    assert_int_equal(berth_uring_table_sync(table), after + 1);
    assert_true(berth_uring_table_has(table, again, BERTH_IO_CHUNK));
    berth_free(again);
}

static void a_table_may_be_smaller_than_the_pool(void **state) {
    /* What is asked back must be found among chunks that are not in it. */
    (void)state;
    end_table();
    table = berth_uring_table_create(pool, test_ring.ring_fd, 2, MARK);
    assert_non_null(table);
    void *blocks[8];
    for (unsigned i = 0; i < 8; i++) {
        blocks[i] = berth_alloc(pool, BERTH_IO_CHUNK);
    }
    assert_int_equal(berth_uring_table_sync(table), 2);
    unsigned found = 0;
    for (unsigned i = 0; i < 8; i++) {
        found += berth_uring_table_has(table, blocks[i], BERTH_IO_CHUNK);
    }
    assert_in_range(found, 1, 2); /* one may be the table's own */
    for (unsigned i = 0; i < 8; i++) {
        berth_free(blocks[i]);
    }
    berth_thread_flush();
    berth_trim(pool);
    assert_true(figures().returning_bytes > 0);
    (void)berth_uring_table_sync(table);
    while (figures().returning_bytes > 0) {
        berth_uring_table_complete(ring_wait().user_data);
    }
}

/* ---- sends of it ---- */

static berth_uring_sender *make_sender(void) {
    struct berth_uring_sender_options options = BERTH_URING_SENDER_INIT;
    options.table = table;
    berth_uring_sender *sender = berth_uring_sender_create(pool, ends[0], &options);
    UNIT_CHECK(sender != NULL);
    return sender;
}

static void complete_one(struct berth_uring_sent *sent) {
    struct berth__cqe cqe = ring_wait();
    if ((cqe.user_data & 15) == MARK) {
        berth_uring_table_complete(cqe.user_data);
        *sent = (struct berth_uring_sent){.answered = false};
    } else {
        berth_uring_sender_complete(cqe.user_data, cqe.res, cqe.flags, sent);
    }
}

static void receive_stream(uint64_t from, size_t length) {
    struct berth_chain in;
    struct berth_receiver receiver;
    berth_chain_init(&in, pool);
    berth_receiver_init(&receiver, 0, 0);
    make_blocking(ends[1]);
    for (uint64_t at = from; at < from + length;) {
        int64_t got = berth_io_receive(ends[1], &in, &receiver);
        UNIT_CHECK(got > 0 && chain_is_stream(&in, at));
        at += (uint64_t)got;
    }
}

static void registered_memory_is_sent_as_such(void **state) {
    (void)state;
    struct berth_chain out;
    berth_chain_init(&out, pool);
    berth_uring_sender *sender = make_sender();
    append_stream(&out, 0, PIECE);
    (void)berth_uring_table_sync(table);
    struct io_uring_sqe *sqe = ring_entry();
    assert_int_equal(berth_uring_sender_send(sender, &out, UINT64_MAX, sqe), 0);
    assert_int_equal(sqe->opcode, IORING_OP_SEND_ZC);
    assert_true((sqe->ioprio & IORING_RECVSEND_FIXED_BUF) != 0);
    ring_submit();
    receive_stream(0, PIECE);
    struct berth_uring_sent sent;
    complete_one(&sent);
    assert_true(sent.answered);
    assert_int_equal(sent.result, PIECE);
    while (berth_uring_sender_in_flight(sender) > 0) {
        complete_one(&sent);
    }
    berth_uring_sender_end(sender);
}

static void a_long_slice_among_others_goes_alone(void **state) {
    /* Where the kernel takes one registered slice at a time. */
    (void)state;
    berth__uring_pretend(berth_uring_features() & ~(unsigned)BERTH_URING_HAS_FIXED_MANY);
    struct berth_chain out;
    berth_chain_init(&out, pool);
    berth_uring_sender *sender = make_sender();
    append_stream(&out, 0, 3000);
    append_stream(&out, 3000, PIECE);
    (void)berth_uring_table_sync(table);
    struct io_uring_sqe sqe;
    struct berth_uring_sent sent;
    assert_int_equal(berth_uring_sender_send(sender, &out, UINT64_MAX, &sqe), 0);
    assert_int_equal(sqe.opcode, IORING_OP_SENDMSG_ZC);
    berth_uring_sender_complete(sqe.user_data, 3000, 0, &sent);
    append_stream(&out, 3000 + PIECE, PIECE);
    assert_int_equal(berth_uring_sender_send(sender, &out, UINT64_MAX, &sqe), 0);
    assert_int_equal(sqe.opcode, IORING_OP_SEND_ZC);
    assert_int_equal(sqe.len, PIECE);
    assert_int_equal(sqe.buf_index,
                     (unsigned)berth__uring_table_slot(table, (void *)(uintptr_t)sqe.addr, PIECE));
    berth_uring_sender_complete(sqe.user_data, PIECE, 0, &sent);
    berth_chain_clear(&out);
    berth_uring_sender_end(sender);
    berth__uring_pretend(UINT32_MAX);
}

static const struct msghdr *message_of(const struct io_uring_sqe *sqe) {
    return (const struct msghdr *)(uintptr_t)sqe->addr;
}

static void several_slices_of_a_chunk_go_at_once(void **state) {
    /* Messages of a head and a body would cost two sends, or be looked up page by page. */
    (void)state;
    struct berth_chain out;
    berth_chain_init(&out, pool);
    berth_uring_sender *sender = make_sender();
    for (unsigned i = 0; i < 3; i++) {
        append_stream(&out, i * UINT64_C(8000), 8000);
    }
    struct berth_slice aside; /* in no slot, and so not part of it */
    static unsigned char elsewhere[3000];
    stream_fill(elsewhere, 24000, sizeof(elsewhere));
    assert_int_equal(berth_slice_wrap_static(elsewhere, sizeof(elsewhere), &aside), 0);
    (void)berth_uring_table_sync(table);
    const struct berth_slice *first = berth__chain_at(&out, 0);
    int slot = berth__uring_table_slot(table, first->data, first->length);
    bool many = (berth_uring_features() & BERTH_URING_HAS_FIXED_MANY) != 0;
    struct io_uring_sqe *sqe = ring_entry();
    assert_int_equal(berth_uring_sender_send(sender, &out, UINT64_MAX, sqe), 0);
    assert_int_equal(sqe->opcode, IORING_OP_SENDMSG_ZC);
    assert_int_equal((sqe->ioprio & IORING_RECVSEND_FIXED_BUF) != 0, many);
    assert_int_equal(sqe->buf_index, many ? slot : 0);
    ring_submit();
    receive_stream(0, 24000);
    struct berth_uring_sent sent;
    do {
        complete_one(&sent);
    } while (berth_uring_sender_in_flight(sender) > 0);
    assert_int_equal(berth_chain_length(&out), 0);
    berth_uring_sender_end(sender);
    sender = make_sender();
    for (unsigned i = 0; i < 5; i++) {
        append_stream(&out, i * UINT64_C(8000), 8000);
    }
    assert_int_equal(berth_chain_append(&out, &aside), 0);
    struct io_uring_sqe other;
    assert_int_equal(berth_uring_sender_send(sender, &out, UINT64_MAX, &other), 0);
    assert_int_equal((other.ioprio & IORING_RECVSEND_FIXED_BUF) != 0, many);
    assert_int_equal(message_of(&other)->msg_iovlen, many ? 5 : 6);
    berth_uring_sender_complete(other.user_data, -ECONNRESET, 0, &sent);
    berth_chain_clear(&out);
    berth_uring_sender_end(sender);
}

static void beyond_the_pool_s_bound_no_slot_is_named(void **state) {
    /* What a sender sends in spite of the bound is another batch than the one that was looked up.
     */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.io = 1;
    options.in_flight = 1;
    berth_pool *bounded = berth_pool_create("bounded", &options);
    berth_uring_table *of_bounded = berth_uring_table_create(bounded, test_ring.ring_fd, 64, MARK);
    assert_null(of_bounded); /* the ring has a table: the sender has that of another pool */
    struct berth_uring_sender_options with = BERTH_URING_SENDER_INIT;
    with.table = table;
    berth_uring_sender *sender = berth_uring_sender_create(bounded, ends[0], &with);
    struct berth_chain out;
    berth_chain_init(&out, pool);
    append_stream(&out, 0, PIECE);
    append_stream(&out, PIECE, PIECE);
    (void)berth_uring_table_sync(table);
    struct io_uring_sqe sqe;
    struct berth_uring_sent sent;
    assert_int_equal(berth_uring_sender_send(sender, &out, UINT64_MAX, &sqe), 0);
    assert_int_equal(sqe.ioprio & IORING_RECVSEND_FIXED_BUF, 0);
    berth_uring_sender_complete(sqe.user_data, -ECONNRESET, 0, &sent);
    berth_uring_sender_end(sender);
    berth_chain_clear(&out);
    assert_int_equal(berth_pool_destroy(bounded, 0), 0);
}

static void nothing_is_out_of_use_while_it_is_in_flight(void **state) {
    /* The kernel goes on reading what a slot held when the send was submitted. */
    (void)state;
    struct berth_chain out;
    berth_chain_init(&out, pool);
    berth_uring_sender *sender = make_sender();
    append_stream(&out, 0, PIECE);
    (void)berth_uring_table_sync(table);
    struct io_uring_sqe *sqe = ring_entry();
    assert_int_equal(berth_uring_sender_send(sender, &out, UINT64_MAX, sqe), 0);
    ring_submit(); /* the peer does not receive: loopback gives nothing back until then */
    struct berth_uring_sent sent;
    complete_one(&sent);
    assert_true(sent.answered);
    assert_int_equal(berth_uring_sender_in_flight(sender), 1);
    assert_int_equal(berth_uring_table_destroy(table, 0), -EBUSY);
    struct berth__cqe cqe;
    while (ring_next(&cqe, 50)) { /* other chunks */
        assert_int_equal(cqe.user_data & 15, MARK);
        berth_uring_table_complete(cqe.user_data);
    }
    assert_int_equal(berth_uring_table_destroy(table, 0), -EBUSY);
    receive_stream(0, PIECE);
    while (berth_uring_sender_in_flight(sender) > 0) {
        complete_one(&sent);
    }
    berth_uring_sender_end(sender);
}

/* ---- rings ---- */

static void a_further_ring_has_the_same(void **state) {
    (void)state;
    void *block = berth_alloc(pool, PIECE);
    (void)berth_uring_table_sync(table);
    struct io_uring further;
    UNIT_CHECK(io_uring_queue_init(4, &further, 0) == 0);
    berth_uring_table *clone = berth_uring_table_clone(table, further.ring_fd, MARK);
    assert_non_null(clone);
    assert_true(berth_uring_table_has(clone, block, PIECE));
    assert_int_equal(berth_uring_table_sync(clone), berth_uring_table_sync(table));
    int error = berth_uring_table_destroy(clone, 0);
    if (error == -EBUSY) { /* where it had to be registered again */
        struct io_uring_cqe *cqe;
        while (berth_uring_table_destroy(clone, 0) == -EBUSY) {
            UNIT_CHECK(io_uring_wait_cqe(&further, &cqe) == 0);
            berth_uring_table_complete(cqe->user_data);
            io_uring_cqe_seen(&further, cqe);
        }
    }
    io_uring_queue_exit(&further);
    assert_true(berth_uring_table_has(table, block, PIECE));
    berth_free(block);
}

static void what_comes_after_a_clone_is_in_both(void **state) {
    /* The further ring would go without registered memory as the pool grows. */
    (void)state;
    void *first = berth_alloc(pool, PIECE);
    (void)berth_uring_table_sync(table);
    struct io_uring further;
    UNIT_CHECK(io_uring_queue_init(4, &further, 0) == 0);
    berth_uring_table *clone = berth_uring_table_clone(table, further.ring_fd, MARK);
    assert_non_null(clone);
    unsigned before = berth_uring_table_sync(clone);
    void *later[64];
    for (unsigned i = 0; i < 64; i++) { /* more than a chunk */
        later[i] = berth_alloc(pool, PIECE);
    }
    assert_true(berth_uring_table_sync(clone) > before);
    assert_int_equal(berth_uring_table_sync(table), berth_uring_table_sync(clone));
    for (unsigned i = 0; i < 64; i++) {
        assert_true(berth_uring_table_has(table, later[i], PIECE));
        assert_true(berth_uring_table_has(clone, later[i], PIECE));
    }
    int slot = berth__uring_table_slot(clone, later[63], PIECE);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&further);
    stream_fill(later[63], 0, PIECE);
    io_uring_prep_send_zc_fixed(sqe, ends[0], later[63], PIECE, MSG_WAITALL, 0, (unsigned)slot);
    sqe->user_data = 0;
    UNIT_CHECK(io_uring_submit(&further) == 1);
    receive_stream(0, PIECE);
    for (unsigned turn = 0; turn < 2; turn++) {
        struct io_uring_cqe *cqe;
        UNIT_CHECK(io_uring_wait_cqe(&further, &cqe) == 0);
        assert_true(cqe->user_data == 0 && (turn == 1 || cqe->res == PIECE));
        io_uring_cqe_seen(&further, cqe);
    }
    berth_free(first);
    for (unsigned i = 0; i < 64; i++) {
        berth_free(later[i]);
    }
    while (berth_uring_table_destroy(clone, 0) == -EBUSY) {
        struct io_uring_cqe *cqe;
        UNIT_CHECK(io_uring_wait_cqe(&further, &cqe) == 0);
        berth_uring_table_complete(cqe->user_data);
        io_uring_cqe_seen(&further, cqe);
    }
    io_uring_queue_exit(&further);
}

static void a_ring_that_is_gone_gives_its_chunks_up(void **state) {
    (void)state;
    void *block = berth_alloc(pool, PIECE);
    assert_true(berth_uring_table_sync(table) > 0);
    ring_end();
    assert_int_equal(berth_uring_table_destroy(table, 2), -EINVAL);
    assert_int_equal(berth_uring_table_destroy(table, BERTH_FORCE), 0);
    table = NULL;
    berth_free(block);
    ring_begin();
}

static void register_with_few_locked_pages(void *unused) {
    (void)unused;
    const struct rlimit little = {.rlim_cur = 5 * MiB, .rlim_max = 5 * MiB};
    UNIT_CHECK(setrlimit(RLIMIT_MEMLOCK, &little) == 0);
    UNIT_CHECK(geteuid() != 0 || setuid(60000 + (uid_t)getpid() % 5000) == 0);
    ring_begin();
    pool = make_pool("poor"); /* the other one is the parent's */
    table = berth_uring_table_create(pool, test_ring.ring_fd, 64, MARK);
    UNIT_CHECK(table != NULL);
    void *blocks[100];
    for (unsigned i = 0; i < 100; i++) {
        blocks[i] = berth_alloc(pool, PIECE);
        UNIT_CHECK(blocks[i] != NULL);
    }
    unsigned registered = berth_uring_table_sync(table);
    UNIT_CHECK(registered > 0 && registered < registrations());
    unsigned found = 0;
    for (unsigned i = 0; i < 100; i++) {
        found += berth_uring_table_has(table, blocks[i], PIECE);
    }
    UNIT_CHECK(found > 0 && found < 100);
}

static void beyond_the_limit_of_locked_memory_it_does_without(void **state) {
    (void)state;
    assert_int_equal(unit_in_child(register_with_few_locked_pages, NULL), 0);
}

static void make_in_a_child(void *unused) {
    (void)unused;
    ring_begin();
    UNIT_CHECK(berth_uring_table_create(pool, test_ring.ring_fd, 0, 0) == NULL);
    UNIT_CHECK(errno == EOWNERDEAD);
}

static void what_cannot_be_is_refused(void **state) {
    (void)state;
    assert_null(berth_uring_table_create(pool, test_ring.ring_fd, 16385, 0));
    assert_int_equal(errno, EINVAL);
    assert_null(berth_uring_table_create(pool, test_ring.ring_fd, 1, 16));
    assert_int_equal(errno, EINVAL);
    assert_null(berth_uring_table_create(pool, test_ring.ring_fd, 1, 0));
    assert_int_equal(errno, EBUSY);
    assert_null(berth_uring_table_clone(table, test_ring.ring_fd, 0));
    assert_int_equal(errno, EBUSY);
    berth__uring_pretend(BERTH_URING_HAS_RING);
    assert_null(berth_uring_table_create(pool, test_ring.ring_fd, 1, 0));
    assert_int_equal(errno, ENOSYS);
    berth__uring_pretend(UINT32_MAX);
    assert_int_equal(unit_in_child(make_in_a_child, NULL), 0);
}

#define TABLE_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
    RINGS_OR_SKIP();
    if ((berth_uring_features() & BERTH_URING_HAS_FIXED) == 0) {
        puts("skipped: the kernel has no tables with gaps");
        return UNIT_SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        TABLE_TEST(chunks_come_in_as_they_are_mapped),
        TABLE_TEST(what_is_asked_back_goes_when_the_ring_says_so),
        TABLE_TEST(a_table_may_be_smaller_than_the_pool),
        TABLE_TEST(registered_memory_is_sent_as_such),
        TABLE_TEST(a_long_slice_among_others_goes_alone),
        TABLE_TEST(several_slices_of_a_chunk_go_at_once),
        TABLE_TEST(beyond_the_pool_s_bound_no_slot_is_named),
        TABLE_TEST(nothing_is_out_of_use_while_it_is_in_flight),
        TABLE_TEST(a_further_ring_has_the_same),
        TABLE_TEST(what_comes_after_a_clone_is_in_both),
        TABLE_TEST(a_ring_that_is_gone_gives_its_chunks_up),
        TABLE_TEST(beyond_the_limit_of_locked_memory_it_does_without),
        TABLE_TEST(what_cannot_be_is_refused),
    };
    return UNIT_RUN(tests);
}

#else

int main(void) {
    puts("skipped: liburing was not found");
    return UNIT_SKIPPED;
}

#endif
