/*
 * An echo server on io_uring: what the kernel received into a buffer of the pool goes back from
 * there.
 *
 *   echo-uring [PORT [BUFFERS [BYTES [BATCH]]]]
 *
 * One thread, one ring. The ring's buffers, their bytes, and memory for sends that do not copy are
 * of one pool with the option io. A connection that is not read by its peer is not read either; and
 * where all buffers are with such connections, others wait for the first that comes back.
 *
 * It ends upon SIGTERM or SIGINT, says what it did, and whether anything was left: then its status
 * is 1.
 */
#include "port.h"
#include "ring.h"

#include <berth/berth.h>

#include <dirent.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BACKLOG_MAX = 128 << 10, /* unsent bytes from which on a connection is not read */
    GROUP = 1,
};

/* What a completion is of: the lowest bits of its user_data. */
enum { OF_SEND = 1, OF_TABLE, OF_RECEIVE, OF_ACCEPT, OF_PAUSE, OF_STOP, OF_NOBODY, OF_MASK = 15 };

struct connection {
    struct berth_chain out;
    berth_uring_sender *sender;
    struct connection *next, **link; /* of all */
    struct connection *next_waiting;
    int fd;
    bool receiving, sending, waiting; /* for a buffer */
    bool cancelling;                  /* the receive, because too much is unsent */
    bool is_over;                     /* the peer sends no more */
    bool has_failed;
};

static berth_pool *pool;
static berth_uring_buffers *buffers;
static berth_uring_table *table;
static struct connection *all, *waiting, **last_waiting = &waiting;
static unsigned waiting_count;
static unsigned batch_max = 1;
static bool accepting, stopping;
static uint64_t in_flight; /* sends */
static struct { uint64_t connections, messages, bytes, enters, starved; } counts;

/* ---- a connection ---- */

static void receive(struct connection *connection) {
    struct io_uring_sqe *sqe = ring_entry();
    berth_uring_buffers_receive(buffers, connection->fd, sqe);
    ring_mark(sqe, connection, OF_RECEIVE);
    connection->receiving = true;
}

static void wait_for_buffer(struct connection *connection) {
    connection->waiting = true;
    connection->next_waiting = NULL;
    *last_waiting = connection;
    last_waiting = &connection->next_waiting;
    waiting_count++;
    counts.starved++;
}

static void end_connection(struct connection *connection) {
    berth_chain_clear(&connection->out);
    berth_uring_sender_end(connection->sender);
    close(connection->fd);
    *connection->link = connection->next;
    if (connection->next != NULL) {
        connection->next->link = connection->link;
    }
    berth_free(connection);
}

static void fail(struct connection *connection) {
    if (!connection->has_failed) {
        connection->has_failed = true;
        shutdown(connection->fd, SHUT_RDWR); /* what is under way ends */
    }
}

static void send_some(struct connection *connection) {
    struct io_uring_sqe *sqe = ring_entry();
    int error = berth_uring_sender_send(connection->sender, &connection->out, UINT64_MAX, sqe);
    if (error == 0) {
        connection->sending = true;
        in_flight++;
        return;
    }
    io_uring_prep_nop(sqe);
    ring_mark(sqe, NULL, OF_NOBODY);
    if (error != -EAGAIN) { /* else something in flight will land */
        fail(connection);
    }
}

static void cancel_receive(struct connection *connection) {
    struct io_uring_sqe *sqe = ring_entry();
    io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)connection | OF_RECEIVE, 0);
    ring_mark(sqe, NULL, OF_NOBODY);
    connection->cancelling = true;
}

/* Does what is next. The connection may be gone afterwards. */
static void go_on(struct connection *connection) {
    uint64_t unsent = berth_chain_length(&connection->out);
    bool reads = !connection->is_over && !connection->has_failed;
    if (connection->has_failed && !connection->sending) {
        berth_chain_clear(&connection->out); /* others may be waiting for these buffers */
    }
    if (unsent > 0 && !connection->sending && !connection->has_failed) {
        send_some(connection);
    }
    if (reads && connection->receiving && !connection->cancelling && unsent >= BACKLOG_MAX) {
        cancel_receive(connection);
    }
    if (reads && !connection->receiving && !connection->waiting && unsent < BACKLOG_MAX) {
        receive(connection);
    }
    bool done = connection->has_failed || (connection->is_over && unsent == 0);
    bool busy = connection->receiving || connection->sending || connection->waiting;
    if (done && !busy) {
        end_connection(connection);
    }
}

static void begin_connection(int fd) {
    int one = 1;
    struct connection *connection = berth_alloc_flags(pool, sizeof(*connection), BERTH_ZERO);
    struct berth_uring_sender_options options = BERTH_URING_SENDER_INIT;
    options.mark = OF_SEND;
    options.table = table;
    options.context = connection;
    berth_uring_sender *sender = berth_uring_sender_create(pool, fd, &options);
    if (connection == NULL || sender == NULL) {
        port_die("no memory for a connection", errno);
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    connection->fd = fd;
    connection->sender = sender;
    berth_chain_init(&connection->out, pool);
    connection->next = all;
    connection->link = &all;
    if (all != NULL) {
        all->link = &connection->next;
    }
    all = connection;
    counts.connections++;
    if (stopping) {
        fail(connection);
    }
    go_on(connection);
}

/* ---- completions ---- */

static void on_received(struct connection *connection, const struct io_uring_cqe *cqe) {
    struct berth_uring_received received;
    berth_uring_buffers_complete(buffers, cqe->res, cqe->flags, &connection->out, &received);
    counts.messages += received.result > 0;
    counts.bytes += received.result > 0 ? (uint64_t)received.result : 0;
    if (received.is_over) {
        connection->receiving = false;
        connection->cancelling = false;
    }
    if (received.is_starved) {
        wait_for_buffer(connection);
    } else if (received.result == 0) {
        connection->is_over = true;
    } else if (received.result < 0 && received.result != -ECANCELED) {
        connection->is_over = true;
        fail(connection);
    }
    go_on(connection);
}

static void on_sent(const struct io_uring_cqe *cqe) {
    struct berth_uring_sent sent;
    berth_uring_sender_complete(cqe->user_data, cqe->res, cqe->flags, &sent);
    struct connection *connection = sent.context;
    in_flight -= sent.landed;
    if (connection == NULL) {
        return;
    }
    if (sent.answered) {
        connection->sending = false;
    }
    if (sent.answered && sent.result < 0) {
        fail(connection);
    }
    go_on(connection);
}

static void accept_all(int listener) {
    struct io_uring_sqe *sqe = ring_entry();
    io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
    ring_mark(sqe, NULL, OF_ACCEPT);
    accepting = true;
}

static void on_accepted(const struct io_uring_cqe *cqe, int listener) {
    accepting = (cqe->flags & IORING_CQE_F_MORE) != 0;
    if (cqe->res >= 0) {
        begin_connection(cqe->res);
    }
    if (!accepting && port_is_short(-cqe->res)) {
        ring_pause(OF_PAUSE);
    } else if (!accepting && !stopping) {
        accept_all(listener);
    }
}

static void on_paused(int listener) {
    if (!stopping) {
        accept_all(listener);
    }
}

static void digest(const struct io_uring_cqe *cqe, int listener) {
    void *whose = (void *)(uintptr_t)(cqe->user_data & ~(uint64_t)OF_MASK);
    switch (cqe->user_data & OF_MASK) {
    case OF_SEND: on_sent(cqe); break;
    case OF_TABLE: berth_uring_table_complete(cqe->user_data); break;
    case OF_RECEIVE: on_received(whose, cqe); break;
    case OF_ACCEPT: on_accepted(cqe, listener); break;
    case OF_PAUSE: on_paused(listener); break;
    case OF_STOP: stopping = true; break;
    default: break;
    }
}

/* As many of those that wait receive again as there are buffers. */
static void feed_waiting(void) {
    unsigned ready = waiting == NULL ? 0 : berth_uring_buffers_refill(buffers, waiting_count);
    for (; waiting != NULL && (ready > 0 || stopping); ready -= ready > 0) {
        struct connection *connection = waiting;
        waiting = connection->next_waiting;
        if (waiting == NULL) {
            last_waiting = &waiting;
        }
        waiting_count--;
        connection->waiting = false;
        go_on(connection);
    }
}

/* Submits, and waits for one completion; or, with a batch, for as many as keep coming within
 * moments: twice as many as last time, or as few as came. That makes fewer system calls, and
 * clients wait. */
static void submit_and_wait(void) {
    static unsigned wanted = 1;
    struct __kernel_timespec moment = {.tv_nsec = 200000};
    struct io_uring_cqe *first;
    counts.enters++;
    int error = wanted == 1
                    ? io_uring_submit_and_wait(&ring, 1)
                    : io_uring_submit_and_wait_timeout(&ring, &first, wanted, &moment, NULL);
    if (error < 0 && error != -EINTR && error != -EBUSY && error != -ETIME) {
        port_die("io_uring_enter", -error);
    }
    unsigned ready = io_uring_cq_ready(&ring);
    if (ready >= wanted) {
        wanted = 2 * wanted < batch_max ? 2 * wanted : batch_max;
    } else {
        wanted = ready > 1 ? ready : 1;
    }
}

static void turn(int listener) {
    struct io_uring_cqe *cqe;
    submit_and_wait();
    unsigned head, count = 0;
    io_uring_for_each_cqe(&ring, head, cqe) {
        digest(cqe, listener);
        count++;
    }
    io_uring_cq_advance(&ring, count);
    feed_waiting();
    (void)berth_uring_table_sync(table);
}

/* ---- beginning and end ---- */

static void make_memory(unsigned buffer_count, size_t buffer_bytes) {
    struct berth_pool_options of_pool = BERTH_POOL_OPTIONS_INIT;
    of_pool.io = 1;
    of_pool.one_thread = 1;
    struct berth_uring_buffers_options of_buffers = BERTH_URING_BUFFERS_INIT;
    of_buffers.group = GROUP;
    of_buffers.entries = buffer_count;
    of_buffers.most = buffer_count;
    of_buffers.bytes = buffer_bytes;
    pool = berth_pool_create("echo", &of_pool);
    buffers = pool == NULL ? NULL : berth_uring_buffers_create(pool, ring.ring_fd, &of_buffers);
    table = buffers == NULL ? NULL : berth_uring_table_create(pool, ring.ring_fd, 0, OF_TABLE);
    if (table == NULL) {
        port_die("no buffers", errno);
    }
}

static unsigned open_descriptors(void) {
    unsigned count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (directory != NULL && readdir(directory) != NULL) {
        count++;
    }
    closedir(directory);
    return count;
}

/* Ends all connections, and waits until the kernel has given back all that it holds. */
static void wind_up(int listener) {
    for (struct connection *connection = all, *next; connection != NULL; connection = next) {
        next = connection->next;
        fail(connection);
        go_on(connection);
    }
    struct io_uring_sqe *sqe = ring_entry();
    io_uring_prep_cancel64(sqe, OF_ACCEPT, 0);
    ring_mark(sqe, NULL, OF_NOBODY);
    while (all != NULL || accepting || in_flight > 0) {
        turn(listener);
    }
    while (berth_uring_table_destroy(table, 0) == -EBUSY) {
        struct io_uring_cqe *cqe;
        if (io_uring_submit_and_wait(&ring, 1) >= 0 && io_uring_peek_cqe(&ring, &cqe) == 0) {
            digest(cqe, listener);
            io_uring_cqe_seen(&ring, cqe);
        }
    }
}

int main(int argc, char **argv) {
    unsigned descriptors = open_descriptors();
    int stop = port_begin();
    batch_max = argc > 4 ? (unsigned)atoi(argv[4]) : 1;
    ring_begin(stop, OF_STOP);
    make_memory(argc > 2 ? (unsigned)atoi(argv[2]) : 128, argc > 3 ? (size_t)atoi(argv[3]) : 0);
    int listener = port_listen(argc > 1 ? (uint16_t)atoi(argv[1]) : 0, 0);
    accept_all(listener);
    while (!stopping) {
        turn(listener);
    }
    wind_up(listener);
    close(listener);
    close(stop);
    int left = berth_uring_buffers_destroy(buffers, 0);
    io_uring_queue_exit(&ring);
    berth_thread_flush();
    struct berth_pool_metrics metrics;
    (void)berth_metrics_read_pool(pool, &metrics, sizeof(metrics));
    bool lost = open_descriptors() != descriptors;
    printf("{\"connections\": %ju, \"messages\": %ju, \"bytes\": %ju, \"enters\": %ju, "
           "\"starved\": %ju, \"pool_allocations\": %ju, \"pool_live\": %ju}\n",
           (uintmax_t)counts.connections, (uintmax_t)counts.messages, (uintmax_t)counts.bytes,
           (uintmax_t)(counts.enters + ring_overruns), (uintmax_t)counts.starved,
           (uintmax_t)metrics.allocations, (uintmax_t)metrics.live_high_bytes);
    return left == 0 && !lost && berth_pool_destroy(pool, 0) == 0 ? 0 : 1;
}
