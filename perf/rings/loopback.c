/*
 * What sending without copying costs where it cannot be had: on loopback the kernel copies all the
 * same, so whoever tries is slower unless he notices.
 *
 *   loopback [ROUNDS [MESSAGES]]
 *
 * All ways share one connection, to a thread that drops what comes: connections differ by where
 * their peer runs. In each round each sends so many messages of each size, 16 at a time in random
 * order: berth_io_send, and berth_sender, which begins with MSG_ZEROCOPY; a ring's plain sends by
 * hand; a sender by that ring that was told to copy, one that was not, and one with memory that the
 * ring has registered. Prints medians over the rounds of the ratio to the plain way (berth_io_send,
 * or the sender that copies) in the same round: bytes a second, and bytes per second of the
 * sender's processor time, with quartiles. Ends with 77 if there is no io_uring.
 */
#include <berth/berth.h>

#include <arpa/inet.h>
#include <liburing.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MARK = 1, SKIPPED = 77, SIZES = 9, ROUNDS_MAX = 1000, BURST = 16 };

static berth_pool *pool;
static struct io_uring ring;
static struct berth_slice message;
static struct berth_chain chain;

static void need(bool condition, const char *what) {
    if (!condition) {
        perror(what);
        exit(1);
    }
}

/* ---- connections ---- */

static void *drop(void *peer) {
    int fd = *(int *)peer;
    static _Thread_local char into[1 << 18];
    while (recv(fd, into, sizeof(into), 0) > 0) {
    }
    close(fd);
    free(peer);
    return NULL;
}

static int connect_dropped(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
    int *peer = malloc(sizeof(*peer));
    need(bind(listener, (struct sockaddr *)&at, length) == 0 && listen(listener, 1) == 0 &&
             getsockname(listener, (struct sockaddr *)&at, &length) == 0 &&
             connect(fd, (struct sockaddr *)&at, length) == 0,
         "connect");
    *peer = accept(listener, NULL, NULL);
    close(listener);
    pthread_t thread = 0;
    need(*peer >= 0 && pthread_create(&thread, NULL, drop, peer) == 0, "thread");
    pthread_detach(thread);
    return fd;
}

/* ---- the ways: each sends one message ---- */

struct way {
    const char *name;
    void (*send)(struct way *way);
    berth_sender *sender;
    berth_uring_sender *ring_sender;
};

static int connection;

static void append(void) {
    struct berth_slice another = berth_slice_retain(&message);
    need(berth_chain_append(&chain, &another) == 0, "append");
}

static void by_plain_send(struct way *way) {
    (void)way;
    append();
    need(berth_io_send(connection, &chain, UINT64_MAX) == message.length, "send");
}

static void by_sender(struct way *way) {
    append();
    need(berth_sender_send(way->sender, &chain, UINT64_MAX) == message.length, "send");
    if (berth_sender_in_flight(way->sender) > 0) {
        (void)berth_sender_collect(way->sender);
    }
}

/* What is told of a sender's sends; true: one was answered. */
static bool digest(void) {
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;
    bool answered = false;
    io_uring_for_each_cqe(&ring, head, cqe) {
        struct berth_uring_sent sent;
        berth_uring_sender_complete(cqe->user_data, cqe->res, cqe->flags, &sent);
        need(!sent.answered || sent.result == message.length, "a send");
        answered |= sent.answered;
        count++;
    }
    io_uring_cq_advance(&ring, count);
    return answered;
}

static void by_ring(struct way *way) {
    append();
    need(berth_uring_sender_send(way->ring_sender, &chain, UINT64_MAX, io_uring_get_sqe(&ring)) ==
             0,
         "prepare");
    do {
        need(io_uring_submit_and_wait(&ring, 1) >= 0, "submit");
    } while (!digest());
    while (berth_uring_sender_in_flight(way->ring_sender) > 0) {
        need(io_uring_submit_and_wait(&ring, 1) >= 0, "submit");
        (void)digest();
    }
}

static void by_raw_ring(struct way *way) {
    (void)way;
    struct io_uring_cqe *cqe = NULL;
    io_uring_prep_send(io_uring_get_sqe(&ring), connection, message.data, message.length,
                       MSG_WAITALL);
    need(io_uring_submit_and_wait(&ring, 1) >= 0 && io_uring_peek_cqe(&ring, &cqe) == 0 &&
             (unsigned)cqe->res == message.length,
         "send");
    io_uring_cqe_seen(&ring, cqe);
}

enum { PLAIN, SENDER, BY_HAND, COPYING, RING, FIXED, WAYS };
static struct way ways[WAYS] = {
    [BY_HAND] = {.name = "ring, by hand", .send = by_raw_ring},
    [COPYING] = {.name = "ring, told to copy", .send = by_ring},
    [PLAIN] = {.name = "berth_io_send", .send = by_plain_send},
    [SENDER] = {.name = "berth_sender", .send = by_sender},
    [RING] = {.name = "ring, berth", .send = by_ring},
    [FIXED] = {.name = "ring, registered", .send = by_ring},
};

static void make_ways(berth_uring_table *table) {
    struct berth_uring_sender_options options = BERTH_URING_SENDER_INIT;
    connection = connect_dropped();
    ways[SENDER].sender = berth_sender_create(pool, connection, 0);
    for (unsigned i = COPYING; i < WAYS; i++) {
        options.table = i == FIXED ? table : NULL;
        options.threshold = i == COPYING ? SIZE_MAX : 0;
        ways[i].ring_sender = berth_uring_sender_create(pool, connection, &options);
    }
}

/* ---- measuring ---- */

static double now_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

struct figures {
    double wall_ns, cpu_ns;
};

static void shuffle(unsigned order[WAYS]) {
    for (unsigned i = WAYS; i > 1; i--) {
        unsigned other = (unsigned)rand() % i, last = order[i - 1];
        order[i - 1] = order[other];
        order[other] = last;
    }
}

/* In pieces, so that each way meets the same machine, and follows each other way as often. */
static void run_round(unsigned messages, struct figures *figures) {
    unsigned order[WAYS] = {PLAIN, SENDER, BY_HAND, COPYING, RING, FIXED};
    memset(figures, 0, WAYS * sizeof(*figures));
    for (unsigned done = 0; done < messages; done += BURST) {
        shuffle(order);
        for (unsigned k = 0; k < WAYS; k++) {
            unsigned way = order[k];
            double wall = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_THREAD_CPUTIME_ID);
            for (unsigned i = 0; i < BURST; i++) {
                ways[way].send(&ways[way]);
            }
            figures[way].cpu_ns += now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
            figures[way].wall_ns += now_ns(CLOCK_MONOTONIC) - wall;
        }
    }
}

static int in_order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_ratios(double *ratios, unsigned count) {
    qsort(ratios, count, sizeof(*ratios), in_order);
    printf("  %5.2f (%.2f-%.2f)", ratios[count / 2], ratios[count / 4], ratios[count * 3 / 4]);
}

static void measure(size_t bytes, unsigned rounds, unsigned messages) {
    static struct figures figures[ROUNDS_MAX][WAYS];
    static double ratios[ROUNDS_MAX];
    for (unsigned round = 0; round < rounds; round++) {
        run_round(messages, figures[round]);
    }
    for (unsigned way = 0; way < WAYS; way++) {
        printf("%4zu KiB  %-20s", bytes / 1024, ways[way].name);
        unsigned plain = way < BY_HAND ? PLAIN : COPYING;
        for (unsigned i = 0; i < rounds; i++) {
            ratios[i] = figures[i][plain].wall_ns / figures[i][way].wall_ns;
        }
        print_ratios(ratios, rounds);
        for (unsigned i = 0; i < rounds; i++) {
            ratios[i] = figures[i][plain].cpu_ns / figures[i][way].cpu_ns;
        }
        print_ratios(ratios, rounds);
        for (unsigned i = 0; i < rounds; i++) {
            ratios[i] = figures[i][way].cpu_ns / messages;
        }
        qsort(ratios, rounds, sizeof(*ratios), in_order);
        printf("  %8.0f\n", ratios[rounds / 2]);
    }
}

int main(int argc, char **argv) {
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 31;
    unsigned messages = argc > 2 ? (unsigned)atoi(argv[2]) : 512;
    if ((berth_uring_features() & BERTH_URING_HAS_RING) == 0) {
        puts("skipped: no io_uring");
        return SKIPPED;
    }
    need(rounds > 0 && rounds <= ROUNDS_MAX && messages >= BURST, "1 to 1000 rounds of 16 or more");
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.io = 1;
    pool = berth_pool_create("loopback", &options);
    need(pool != NULL && io_uring_queue_init(64, &ring, 0) == 0, "ring");
    berth_chain_init(&chain, pool);
    berth_uring_table *table = berth_uring_table_create(pool, ring.ring_fd, 64, MARK);
    make_ways(table);
    printf("size      way                   bytes/s              bytes per CPU s        CPU ns "
           "each\n");
    for (unsigned i = 0; i < SIZES; i++) {
        need(berth_slice_alloc(pool, (size_t)1024 << i, &message) == 0, "slice");
        memset(berth_slice_try_write(&message), 'x', message.length);
        (void)berth_uring_table_sync(table);
        measure(message.length, rounds, messages);
        berth_slice_release(&message);
    }
    return 0;
}
