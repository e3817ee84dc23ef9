/*
 * Clients that behave, and some that do not. Each sends its own stream and looks at what returns:
 * it must be that stream, wherever the server ends it.
 */
#include "crowd.h"

#include <inttypes.h>

enum {
    PIECE_MAX = 32 << 10,
    STALL_MS = 300,
    LATE_MS = 60000, /* so much longer on a machine that is too slow for it all */
    LENGTH_MAX = 200 << 10,
    SOURCES = 16, /* addresses, 127.0.0.2 and on: each has ports of its own */
};

enum plan { ECHOES, STALLS, RESETS, LEAVES_UNREAD, HALF_CLOSES, PLANS };

struct client {
    int fd; /* -1: there is none at the moment */
    enum plan plan;
    uint64_t start, length; /* of its stream */
    uint64_t sent, got;
    uint64_t stalled_until_ms;
    bool has_stalled;
};

struct visit {
    struct crowd *crowd;
    int epoll;
    unsigned count, open;
    struct client *clients;
    struct unit_random random;
};

/* What the clients saw, by kinds of what they do. */
static struct {
    _Atomic uint64_t come, most, ended_by_server, stalled, reset, half_closed, verified_bytes;
    _Atomic unsigned open;
} counts;

static bool have_seen_all(const struct crowd *crowd) {
    return counts.come > crowd->connections && counts.most > crowd->connections / 2 &&
           counts.stalled > 0 && counts.reset > 0 && counts.half_closed > 0 &&
           counts.verified_bytes > crowd->connections * (uint64_t)1000;
}

/* Whether new ones come. */
static bool goes_on(const struct crowd *crowd) {
    uint64_t now_ms = crowd_now_ms();
    return now_ms < crowd->end_ms || (now_ms < crowd->end_ms + LATE_MS && !have_seen_all(crowd));
}

static void watch(struct visit *visit, struct client *client, int operation) {
    struct epoll_event event = {.data.ptr = client};
    bool waits = client->stalled_until_ms != 0;
    event.events =
        (waits ? 0 : (uint32_t)EPOLLIN) | (client->sent < client->length ? (uint32_t)EPOLLOUT : 0);
    UNIT_CHECK(epoll_ctl(visit->epoll, operation, client->fd, &event) == 0);
}

static void count_open(void) {
    uint64_t now = atomic_fetch_add(&counts.open, 1) + 1, most = atomic_load(&counts.most);
    while (now > most && !atomic_compare_exchange_weak(&counts.most, &most, now)) {
    }
}

static void come(struct visit *visit, struct client *client) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) { /* those that the server still drains have the descriptors: later */
        UNIT_CHECK(errno == EMFILE || errno == ENFILE || errno == ENOBUFS);
        return;
    }
    int late = 1; /* a port is chosen when it is known to whom */
    struct sockaddr_in from = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + atomic_load(&counts.come) % SOURCES);
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &late, sizeof(late));
    (void)bind(fd, (struct sockaddr *)&from, sizeof(from)); /* else it has the one address */
    if (connect(fd, (struct sockaddr *)&visit->crowd->address, sizeof(visit->crowd->address)) !=
            0 &&
        errno != EINPROGRESS) {
        close(fd); /* no port, or no room in the backlog: later */
        return;
    }
    uint64_t number = atomic_fetch_add(&counts.come, 1);
    *client = (struct client){.fd = fd,
                              .plan = (enum plan)unit_random_below(&visit->random, PLANS),
                              .start = number * UINT64_C(1000003),
                              .length = 1 + unit_random_below(&visit->random, LENGTH_MAX)};
    visit->open++;
    count_open();
    watch(visit, client, EPOLL_CTL_ADD);
}

static void go(struct visit *visit, struct client *client, bool by_reset) {
    if (by_reset) {
        reset(client->fd);
    } else {
        close(client->fd);
    }
    client->fd = -1;
    visit->open--;
    atomic_fetch_sub(&counts.open, 1);
}

/* False: the server has ended it, which it may. */
static bool send_some(struct client *client) {
    unsigned char piece[PIECE_MAX];
    uint64_t left = client->length - client->sent;
    size_t length = left < sizeof(piece) ? (size_t)left : sizeof(piece);
    stream_fill(piece, client->start + client->sent, length);
    ssize_t now = length == 0 ? 0 : send(client->fd, piece, length, MSG_NOSIGNAL);
    client->sent += now > 0 ? (uint64_t)now : 0;
    return now >= 0 || errno == EAGAIN || errno == ENOTCONN;
}

static bool receive_some(struct client *client) {
    unsigned char piece[PIECE_MAX];
    ssize_t now = recv(client->fd, piece, sizeof(piece), 0);
    if (now > 0) {
        UNIT_CHECK(client->got + (uint64_t)now <= client->sent);
        UNIT_CHECK(stream_is(piece, client->start + client->got, (size_t)now));
        client->got += (uint64_t)now;
        atomic_fetch_add(&counts.verified_bytes, (uint64_t)now);
    }
    return now > 0 || (now < 0 && errno == EAGAIN);
}

/* What it does besides, about half way; false: it has gone. */
static bool misbehave(struct visit *visit, struct client *client) {
    if (client->has_stalled || client->sent < client->length / 2) {
        return true;
    }
    client->has_stalled = true;
    switch (client->plan) {
    case STALLS:
        atomic_fetch_add(&counts.stalled, 1);
        client->stalled_until_ms =
            crowd_now_ms() + STALL_MS + unit_random_below(&visit->random, STALL_MS);
        return true;
    case RESETS:
    case LEAVES_UNREAD:
        atomic_fetch_add(&counts.reset, 1);
        go(visit, client, client->plan == RESETS);
        return false;
    case HALF_CLOSES:
        atomic_fetch_add(&counts.half_closed, 1);
        client->length = client->sent;
        UNIT_CHECK(shutdown(client->fd, SHUT_WR) == 0 || errno == ENOTCONN);
        return true;
    default: return true;
    }
}

static void on_ready(struct visit *visit, struct client *client, uint32_t events) {
    bool alive = true;
    if ((events & EPOLLOUT) != 0 && client->sent < client->length) {
        alive = send_some(client);
    }
    if (alive && client->stalled_until_ms == 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        alive = receive_some(client);
    }
    if (!alive || (client->stalled_until_ms != 0 && (events & EPOLLERR) != 0)) {
        atomic_fetch_add(&counts.ended_by_server, 1);
        go(visit, client, false);
    } else if (client->got == client->length) {
        go(visit, client, false);
    } else if (misbehave(visit, client)) {
        watch(visit, client, EPOLL_CTL_MOD);
    }
}

/* Those that have stalled long enough go on; new ones come in the place of those that went. */
static void look_around(struct visit *visit) {
    uint64_t now_ms = crowd_now_ms();
    bool new_ones = goes_on(visit->crowd);
    for (unsigned i = 0; i < visit->count; i++) {
        struct client *client = &visit->clients[i];
        if (client->fd < 0 && new_ones) {
            come(visit, client);
        } else if (client->fd >= 0 && client->stalled_until_ms != 0 &&
                   now_ms >= client->stalled_until_ms) {
            client->stalled_until_ms = 0;
            watch(visit, client, EPOLL_CTL_MOD);
        }
    }
}

static void *visit_some(void *argument) {
    struct visit visit = {.crowd = argument, .epoll = epoll_create1(EPOLL_CLOEXEC)};
    struct epoll_event events[EVENTS_MAX];
    uint64_t looked_ms = 0;
    visit.count = visit.crowd->connections / CLIENT_THREADS;
    visit.clients = calloc(visit.count, sizeof(*visit.clients));
    visit.random.state = (uintptr_t)&visit;
    UNIT_CHECK(visit.epoll >= 0 && visit.clients != NULL);
    for (unsigned i = 0; i < visit.count; i++) {
        visit.clients[i].fd = -1;
    }
    while (goes_on(visit.crowd) || visit.open > 0) {
        uint64_t now_ms = crowd_now_ms();
        if (now_ms - looked_ms > 20) {
            looked_ms = now_ms;
            look_around(&visit);
        }
        int count = epoll_wait(visit.epoll, events, EVENTS_MAX, 20);
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            if (client->fd >= 0) {
                on_ready(&visit, client, events[i].events);
            }
        }
    }
    free(visit.clients);
    close(visit.epoll);
    return NULL;
}

void crowd_visit_all(struct crowd *crowd) {
    pthread_t clients[CLIENT_THREADS];
    for (unsigned i = 0; i < CLIENT_THREADS; i++) {
        clients[i] = start_thread(visit_some, crowd);
    }
    for (unsigned i = 0; i < CLIENT_THREADS; i++) {
        join_thread(clients[i]);
    }
    printf("%" PRIu64 " connections at once, %" PRIu64 " in all; %" PRIu64 " stalled, %" PRIu64
           " reset, %" PRIu64 " closed by half, %" PRIu64 " ended by the server; %" PRIu64
           " bytes verified\n",
           counts.most, counts.come, counts.stalled, counts.reset, counts.half_closed,
           counts.ended_by_server, counts.verified_bytes);
    fflush(stdout);
    UNIT_CHECK(have_seen_all(crowd));
}
