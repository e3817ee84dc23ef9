/*
 * The loop on io_uring: bytes arrive in buffers that the kernel takes by itself, and chains go by
 * entries of the ring; so a turn of the loop is one system call for all that is ready. Regions of
 * files go by sendfile, for which a socket is made non-blocking for the moment: one that is would
 * fail in the ring instead of waiting there.
 */
#include "loop_chain.h"
#include "port.h"
#include "ring.h"
#include "watches.h"

#include <errno.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFERS = 128, GROUP = 1 };

/* What a completion is of: the lowest bits of its user_data. */
enum { OF_SEND = 1, OF_RECEIVE, OF_POLL, OF_ACCEPT, OF_PAUSE, OF_STOP, OF_NOBODY, OF_MASK = 15 };

/* The ring's side of a watch, which it may outlive. */
struct side {
    struct watch *watch; /* NULL: it has ended */
    struct berth_chain arrived;
    berth_uring_sender *sender;
    struct side *next_waiting; /* for a buffer */
    int64_t error;             /* of the connection */
    bool reads, writes;        /* wanted */
    bool receiving, cancelling, waiting, sending, polling;
    bool is_blocked; /* a region of a file found no room */
    bool is_over;    /* the peer sends no more */
};

static berth_pool *pool;
static berth_uring_buffers *buffers;
static int stop_fd, listener = -1;
static bool accepting, stopping;
static void (*accepted_by)(int fd);
static struct side *waiting, **last_waiting = &waiting;
static unsigned waiting_count, sides;
static uint64_t in_flight; /* sends */

/* ---- beginning ---- */

void loop_begin(void) {
    stop_fd = port_begin();
    ring_begin(stop_fd, OF_STOP);
}

void loop_memory(berth_pool *of_bytes) {
    struct berth_uring_buffers_options options = BERTH_URING_BUFFERS_INIT;
    options.group = GROUP;
    options.entries = options.most = BUFFERS;
    pool = of_bytes;
    buffers = berth_uring_buffers_create(pool, ring.ring_fd, &options);
    if (buffers == NULL) {
        port_die("no buffers", errno);
    }
}

void loop_memory_end(void) {
    (void)berth_uring_buffers_destroy(buffers, 0);
    io_uring_queue_exit(&ring);
}

static void accept_all(void) {
    struct io_uring_sqe *sqe = ring_entry();
    io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
    ring_mark(sqe, NULL, OF_ACCEPT);
    accepting = true;
}

void loop_listen(uint16_t port, void (*accepted)(int fd)) {
    listener = port_listen(port, 0);
    accepted_by = accepted;
    accept_all();
}

/* ---- a connection ---- */

static void wait_for_buffer(struct side *side) {
    side->waiting = true;
    side->next_waiting = NULL;
    *last_waiting = side;
    last_waiting = &side->next_waiting;
    waiting_count++;
}

static void receive(struct side *side) {
    struct io_uring_sqe *sqe = ring_entry();
    berth_uring_buffers_receive(buffers, side->watch->fd, sqe);
    ring_mark(sqe, side, OF_RECEIVE);
    side->receiving = true;
}

/* Asks the ring for what is wanted and not under way. */
static void ask(struct side *side) {
    bool reads = side->reads && !side->is_over && side->error == 0;
    if (reads && !side->receiving && !side->waiting) {
        receive(side);
    }
    if (!reads && side->receiving && !side->cancelling) {
        struct io_uring_sqe *sqe = ring_entry();
        io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)side | OF_RECEIVE, 0);
        ring_mark(sqe, NULL, OF_NOBODY);
        side->cancelling = true;
    }
    if (side->writes && side->is_blocked && !side->polling) {
        struct io_uring_sqe *sqe = ring_entry();
        io_uring_prep_poll_add(sqe, side->watch->fd, POLLOUT);
        ring_mark(sqe, side, OF_POLL);
        side->polling = true;
    }
}

void loop_add(struct watch *watch, int fd, void (*ready)(struct watch *, uint32_t),
              void (*when_ended)(struct watch *)) {
    struct side *side = berth_alloc_flags(pool, sizeof(*side), BERTH_ZERO);
    struct berth_uring_sender_options options = BERTH_URING_SENDER_INIT;
    options.mark = OF_SEND;
    options.context = side;
    *watch = (struct watch){.fd = fd, .ready = ready, .ended = when_ended, .side = side};
    if (side == NULL || (side->sender = berth_uring_sender_create(pool, fd, &options)) == NULL) {
        port_die("no memory for a connection", errno);
    }
    watches_add(watch);
    sides++;
    side->watch = watch;
    side->reads = true;
    berth_chain_init(&side->arrived, pool);
    ask(side);
}

void loop_want(struct watch *watch, bool read, bool write) {
    struct side *side = watch->side;
    if (watch->fd >= 0) {
        side->reads = read;
        side->writes = write;
        ask(side);
    }
}

/* Once nothing in the ring names it. */
static void free_if_done(struct side *side) {
    if (side->watch == NULL && !side->receiving && !side->waiting && !side->polling) {
        berth_free(side);
        sides--;
    }
}

void loop_end(struct watch *watch) {
    struct side *side = watch->side;
    if (watch->fd < 0) {
        return;
    }
    shutdown(watch->fd, SHUT_RDWR); /* what is under way ends */
    close(watch->fd);
    watch->fd = -1;
    watches_end(watch);
    side->watch = NULL;
    berth_chain_clear(&side->arrived);
    berth_uring_sender_end(side->sender);
    free_if_done(side);
}

int64_t loop_receive(struct watch *watch, struct berth_chain *chain) {
    struct side *side = watch->side;
    int64_t length = (int64_t)berth_chain_length(&side->arrived);
    if (length == 0) {
        return side->error != 0 ? side->error : side->is_over ? 0 : -EAGAIN;
    }
    int error = berth_chain_append_chain(chain, &side->arrived);
    return error != 0 ? error : length;
}

static int64_t send_region(struct side *side, struct berth_chain *chain) {
    int on = 1, off = 0;
    (void)ioctl(side->watch->fd, FIONBIO, &on);
    int64_t sent = berth_io_send(side->watch->fd, chain, UINT64_MAX);
    (void)ioctl(side->watch->fd, FIONBIO, &off);
    side->is_blocked = berth_chain_length(chain) > 0;
    loop_counts.bytes += sent > 0 ? (uint64_t)sent : 0;
    return sent;
}

int64_t loop_send(struct watch *watch, struct berth_chain *chain) {
    struct side *side = watch->side;
    struct berth_segment first;
    if (side->error != 0 || side->sending || side->polling) {
        return side->error != 0 ? side->error : -EAGAIN;
    }
    if (berth_chain_segment(chain, 0, &first) == 0 && first.data == NULL) {
        return send_region(side, chain);
    }
    struct io_uring_sqe *sqe = ring_entry();
    int error = berth_uring_sender_send(side->sender, chain, UINT64_MAX, sqe);
    if (error != 0) {
        io_uring_prep_nop(sqe);
        ring_mark(sqe, NULL, OF_NOBODY);
        return error;
    }
    side->sending = true;
    in_flight++;
    return 0;
}

/* ---- completions ---- */

static void tell(struct side *side, uint32_t events) {
    struct watch *watch = side->watch;
    watch->ready(watch, events);
    if (watch->fd >= 0) { /* else the side is gone, or about to go */
        ask(side);
    }
}

static void on_received(struct side *side, const struct io_uring_cqe *cqe) {
    struct berth_uring_received received;
    berth_uring_buffers_complete(buffers, cqe->res, cqe->flags, &side->arrived, &received);
    if (received.is_over) {
        side->receiving = false;
        side->cancelling = false;
    }
    if (side->watch == NULL) {
        berth_chain_clear(&side->arrived);
        free_if_done(side);
        return;
    }
    if (received.is_starved) {
        wait_for_buffer(side);
        return;
    }
    if (received.result == -ECANCELED) {
        ask(side);
        return;
    }
    side->is_over = received.result == 0;
    side->error = received.result < 0 ? received.result : side->error;
    tell(side, EPOLLIN);
}

static void on_sent(const struct io_uring_cqe *cqe) {
    struct berth_uring_sent sent;
    berth_uring_sender_complete(cqe->user_data, cqe->res, cqe->flags, &sent);
    struct side *side = sent.context;
    in_flight -= sent.landed;
    if (side == NULL) {
        return;
    }
    if (sent.answered) {
        side->sending = false;
        side->error = sent.result < 0 ? sent.result : side->error;
        loop_counts.bytes += sent.result > 0 ? (uint64_t)sent.result : 0;
    }
    if (side->writes && !side->sending) {
        tell(side, EPOLLOUT);
    }
}

static void on_room(struct side *side) {
    side->polling = false;
    side->is_blocked = false;
    if (side->watch == NULL) {
        free_if_done(side);
    } else {
        tell(side, EPOLLOUT);
    }
}

static void on_accepted(const struct io_uring_cqe *cqe) {
    int one = 1;
    accepting = (cqe->flags & IORING_CQE_F_MORE) != 0;
    if (cqe->res >= 0 && stopping) {
        close(cqe->res);
    } else if (cqe->res >= 0) {
        (void)setsockopt(cqe->res, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        loop_counts.connections++;
        accepted_by(cqe->res);
    }
    if (!accepting && port_is_short(-cqe->res)) {
        ring_pause(OF_PAUSE);
    } else if (!accepting && !stopping) {
        accept_all();
    }
}

static void on_paused(void) {
    if (!stopping) {
        accept_all();
    }
}

static void digest(const struct io_uring_cqe *cqe) {
    void *whose = (void *)(uintptr_t)(cqe->user_data & ~(uint64_t)OF_MASK);
    switch (cqe->user_data & OF_MASK) {
    case OF_SEND: on_sent(cqe); break;
    case OF_RECEIVE: on_received(whose, cqe); break;
    case OF_POLL: on_room(whose); break;
    case OF_ACCEPT: on_accepted(cqe); break;
    case OF_PAUSE: on_paused(); break;
    case OF_STOP: stopping = true; break;
    default: break;
    }
}

/* ---- the loop ---- */

/* As many of those that wait receive again as there are buffers; those that have ended go. */
static void feed_waiting(void) {
    unsigned ready = waiting == NULL ? 0 : berth_uring_buffers_refill(buffers, waiting_count);
    for (; waiting != NULL && (ready > 0 || stopping); ready -= ready > 0) {
        struct side *side = waiting;
        waiting = side->next_waiting;
        last_waiting = waiting == NULL ? &waiting : last_waiting;
        waiting_count--;
        side->waiting = false;
        if (side->watch != NULL) {
            ask(side);
        } else {
            free_if_done(side);
        }
    }
}

static void turn(void) {
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;
    int error = io_uring_submit_and_wait(&ring, 1);
    if (error < 0 && error != -EINTR && error != -EBUSY) {
        port_die("io_uring_enter", -error);
    }
    io_uring_for_each_cqe(&ring, head, cqe) {
        digest(cqe);
        count++;
    }
    io_uring_cq_advance(&ring, count);
    feed_waiting();
    watches_free_ended();
}

void loop_run(void) {
    while (!stopping) {
        turn();
    }
    watches_end_all();
    struct io_uring_sqe *sqe = ring_entry();
    io_uring_prep_cancel64(sqe, OF_ACCEPT, 0);
    ring_mark(sqe, NULL, OF_NOBODY);
    while (sides > 0 || accepting || in_flight > 0) {
        turn();
    }
    close(listener);
    close(stop_fd);
}
