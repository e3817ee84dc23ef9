/*
 * An echo server. Every second connection sends without copying where that pays, and is drained
 * before it is closed; the others share the blocks that they receive into.
 */
#include "crowd.h"

enum { BACKLOG_MAX = 64 << 10, SENDER_THRESHOLD = 4096, DRAIN_MS = 500, ACCEPTS_MAX = 64 };

struct connection {
    struct connection *next, **link; /* of its thread */
    berth_sender *sender;            /* NULL: the socket is sent to as it is */
    int fd;
    struct berth_chain chain;
    struct berth_receiver receiver;
    uint64_t closing_ms; /* 0: it is not; else since when */
    bool was_reset;
};

struct server {
    struct crowd *crowd;
    int epoll;
    struct berth_slice piece;
    struct connection *all;
    uint64_t accepted;
};

static void watch(struct server *server, struct connection *connection, int operation) {
    uint64_t unsent = berth_chain_length(&connection->chain);
    struct epoll_event event = {.data.ptr = connection};
    event.events = connection->closing_ms != 0 ? 0
                                               : (unsent < BACKLOG_MAX ? (uint32_t)EPOLLIN : 0) |
                                                     (unsent > 0 ? (uint32_t)EPOLLOUT : 0);
    UNIT_CHECK(epoll_ctl(server->epoll, operation, connection->fd, &event) == 0);
}

static void forget(struct connection *connection) {
    *connection->link = connection->next;
    if (connection->next != NULL) {
        connection->next->link = connection->link;
    }
    berth_free(connection);
}

/* Closes it, or tries to: memory may be in flight. */
static void end(struct server *server, struct connection *connection) {
    berth_chain_clear(&connection->chain);
    if (connection->sender == NULL) {
        close(connection->fd);
        forget(connection);
        return;
    }
    if (connection->closing_ms == 0) {
        connection->closing_ms = crowd_now_ms();
        watch(server, connection, EPOLL_CTL_MOD);
    } else if (crowd_now_ms() - connection->closing_ms > DRAIN_MS && !connection->was_reset) {
        connection->was_reset = true;
        berth_sender_reset(connection->sender);
    }
    if (berth_sender_try_close(connection->sender) == 0) {
        forget(connection);
    }
}

static int64_t receive(struct server *server, struct connection *connection) {
    return connection->sender != NULL
               ? berth_io_receive(connection->fd, &connection->chain, &connection->receiver)
               : berth_io_receive_shared(connection->fd, &connection->chain, &server->piece, 16384);
}

static int64_t send_on(struct connection *connection) {
    if (berth_chain_length(&connection->chain) == 0) {
        return 0;
    }
    return connection->sender != NULL
               ? berth_sender_send(connection->sender, &connection->chain, UINT64_MAX)
               : berth_io_send(connection->fd, &connection->chain, UINT64_MAX);
}

static void on_ready(struct server *server, struct connection *connection, uint32_t events) {
    int64_t got = -EAGAIN;
    if (connection->sender != NULL && (events & EPOLLERR) != 0) {
        (void)berth_sender_collect(connection->sender);
    }
    if (connection->closing_ms != 0) {
        end(server, connection);
        return;
    }
    bool reads = berth_chain_length(&connection->chain) < BACKLOG_MAX;
    if (reads && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        got = receive(server, connection);
    }
    int64_t sent = send_on(connection);
    bool failed = (got <= 0 && got != -EAGAIN) || (sent < 0 && sent != -EAGAIN);
    if (failed || (!reads && (events & (EPOLLHUP | EPOLLERR)) == (EPOLLHUP | EPOLLERR))) {
        end(server, connection);
    } else {
        watch(server, connection, EPOLL_CTL_MOD);
    }
}

static void take(struct server *server, int fd) {
    berth_pool *pool = server->crowd->pool;
    struct connection *connection = berth_alloc_flags(pool, sizeof(*connection), BERTH_ZERO);
    if (connection == NULL) {
        close(fd);
        return;
    }
    connection->fd = fd;
    berth_chain_init(&connection->chain, pool);
    UNIT_CHECK(berth_receiver_init(&connection->receiver, 0, 16384) == 0);
    if (server->accepted++ % 2 == 0) {
        connection->sender = berth_sender_create(pool, fd, SENDER_THRESHOLD);
    }
    connection->next = server->all;
    connection->link = &server->all;
    if (server->all != NULL) {
        server->all->link = &connection->next;
    }
    server->all = connection;
    watch(server, connection, EPOLL_CTL_ADD);
}

static void accept_some(struct server *server) {
    for (unsigned i = 0; i < ACCEPTS_MAX; i++) {
        int fd = accept4(server->crowd->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            return;
        }
        take(server, fd);
    }
}

/* Tries again to close those that wait for the kernel. */
static void close_some(struct server *server, bool all) {
    struct connection *next;
    for (struct connection *at = server->all; at != NULL; at = next) {
        next = at->next;
        if (all || at->closing_ms != 0) {
            end(server, at);
        }
    }
}

void *crowd_serve(void *argument) {
    struct server server = {.crowd = argument, .epoll = epoll_create1(EPOLL_CLOEXEC)};
    struct epoll_event events[EVENTS_MAX];
    struct epoll_event listening = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = NULL};
    uint64_t looked_ms = 0;
    UNIT_CHECK(epoll_ctl(server.epoll, EPOLL_CTL_ADD, server.crowd->listener, &listening) == 0);
    while (!atomic_load(&server.crowd->clients_gone) || server.all != NULL) {
        int count = epoll_wait(server.epoll, events, EVENTS_MAX, 20);
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            if (connection == NULL) {
                accept_some(&server);
            } else {
                on_ready(&server, connection, events[i].events);
            }
        }
        uint64_t now_ms = crowd_now_ms();
        if (now_ms - looked_ms > 100) {
            looked_ms = now_ms;
            close_some(&server, atomic_load(&server.crowd->clients_gone));
        }
        berth_thread_idle();
    }
    berth_slice_release(&server.piece);
    close(server.epoll);
    return NULL;
}
