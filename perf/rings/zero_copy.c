/*
 * What a send costs its sender where the kernel really does not copy: datagrams to a device that
 * takes them as they are (ifb), in a network of the process's own. Needs root.
 *
 *   zero-copy [ROUNDS [BYTES]]
 *
 * Five ways, in another order each round: malloc, copy and write; write from the pool;
 * MSG_ZEROCOPY; SEND_ZC; SEND_ZC of registered memory; and write of 16 bytes, which is what a
 * message costs whatever is in it. Medians, with quartiles, of the processor time a message and of
 * the first way's over it in the same round, and the least time of all rounds; and how much the
 * kernel said that it copied. Ends with 77 if there can be no such network, and with 1 if the
 * kernel copied.
 */
#include <berth/berth.h>

#include <arpa/inet.h>
#include <liburing.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGES = 2048, AT_ONCE = 16, MARK = 1, SKIPPED = 77 };
#define USAGE_COPIED (UINT32_C(1) << 31) /* of a notification's result */

static berth_pool *pool;
static struct io_uring ring;
static berth_uring_table *table;
static struct berth_slice message; /* sent again and again */
static uint64_t notified, copied;

static void need(bool condition, const char *what) {
    if (!condition) {
        perror(what);
        exit(1);
    }
}

/* ---- the network ---- */

static bool make_network(void) {
    return unshare(CLONE_NEWNET) == 0 &&
           system("ip link add sink type ifb >/dev/null 2>&1 && ip link set sink mtu 65535 up && "
                  "ip address add 10.9.8.1/24 dev sink") == 0;
}

static int make_socket(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    int bytes = 64 << 20;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    need(fd >= 0 && inet_pton(AF_INET, "10.9.8.7", &to.sin_addr) == 1, "socket");
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
    need(connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0, "connect");
    return fd;
}

/* ---- five ways to send; each sends MESSAGES ---- */

static void by_copy(int fd) {
    for (unsigned i = 0; i < MESSAGES; i++) {
        void *block = malloc(message.length);
        memcpy(block, message.data, message.length);
        need(write(fd, block, message.length) == (ssize_t)message.length, "write");
        free(block);
    }
}

static void by_write(int fd) {
    for (unsigned i = 0; i < MESSAGES; i++) {
        need(write(fd, message.data, message.length) == (ssize_t)message.length, "write");
    }
}

static void by_little(int fd) {
    for (unsigned i = 0; i < MESSAGES; i++) {
        need(write(fd, message.data, 16) == 16, "write");
    }
}

static void append(struct berth_chain *chain) {
    struct berth_slice another = berth_slice_retain(&message);
    need(berth_chain_append(chain, &another) == 0, "append");
}

static void by_zerocopy(int unused) {
    (void)unused; /* it is shut down in the end */
    struct berth_chain chain;
    berth_chain_init(&chain, pool);
    berth_sender *sender = berth_sender_create(pool, make_socket(), 1);
    for (unsigned i = 0; i < MESSAGES; i++) {
        append(&chain);
        need(berth_sender_send(sender, &chain, UINT64_MAX) == message.length, "send");
    }
    need(berth_sender_close(sender, 1000) == 0, "close");
}

static void digest(unsigned *answers) {
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;
    io_uring_for_each_cqe(&ring, head, cqe) {
        struct berth_uring_sent sent;
        if ((cqe->flags & IORING_CQE_F_NOTIF) != 0) {
            notified++;
            copied += ((uint32_t)cqe->res & USAGE_COPIED) != 0;
        }
        berth_uring_sender_complete(cqe->user_data, cqe->res, cqe->flags, &sent);
        need(!sent.answered || sent.result == message.length, "a send");
        *answers += sent.answered;
        count++;
    }
    io_uring_cq_advance(&ring, count);
}

static void by_ring(int fd, berth_uring_table *with) {
    struct berth_chain chains[AT_ONCE];
    berth_uring_sender *senders[AT_ONCE];
    struct berth_uring_sender_options options = BERTH_URING_SENDER_INIT;
    options.threshold = 1;
    options.table = with;
    unsigned in_flight = 0;
    for (unsigned i = 0; i < AT_ONCE; i++) {
        berth_chain_init(&chains[i], pool);
        senders[i] = berth_uring_sender_create(pool, fd, &options);
    }
    for (unsigned i = 0; i < MESSAGES; i += AT_ONCE) {
        for (unsigned k = 0; k < AT_ONCE; k++) {
            append(&chains[k]);
            need(berth_uring_sender_send(senders[k], &chains[k], UINT64_MAX,
                                         io_uring_get_sqe(&ring)) == 0,
                 "prepare");
        }
        for (unsigned answers = 0; answers < AT_ONCE;) {
            io_uring_submit_and_wait(&ring, 1);
            digest(&answers);
        }
    }
    do {
        in_flight = 0;
        for (unsigned k = 0; k < AT_ONCE; k++) {
            in_flight += berth_uring_sender_in_flight(senders[k]);
        }
        unsigned answers = 0;
        if (in_flight > 0) {
            io_uring_submit_and_wait(&ring, 1);
        }
        digest(&answers);
    } while (in_flight > 0);
    for (unsigned k = 0; k < AT_ONCE; k++) {
        berth_uring_sender_end(senders[k]);
    }
}

static void by_send_zc(int fd) {
    by_ring(fd, NULL);
}

static void by_fixed(int fd) {
    by_ring(fd, table);
}

/* ---- measuring ---- */

static double cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static const struct {
    const char *name;
    void (*send)(int fd);
} ways[] = {{"malloc, copy, write", by_copy},  {"write from the pool", by_write},
            {"MSG_ZEROCOPY", by_zerocopy},     {"SEND_ZC", by_send_zc},
            {"SEND_ZC, registered", by_fixed}, {"write of 16 bytes", by_little}};
enum { WAYS = sizeof(ways) / sizeof(ways[0]), ROUNDS_MAX = 1000 };

static double ns[WAYS][ROUNDS_MAX];

static void run_round(unsigned round, int fd) {
    unsigned order[WAYS];
    for (unsigned i = 0; i < WAYS; i++) {
        unsigned at = (unsigned)rand() % (i + 1);
        order[i] = order[at];
        order[at] = i;
    }
    for (unsigned i = 0; i < WAYS; i++) {
        double before = cpu_ns();
        ways[order[i]].send(fd);
        ns[order[i]][round] = (cpu_ns() - before) / MESSAGES;
    }
}

static int in_order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(unsigned rounds) {
    static double ratios[WAYS][ROUNDS_MAX];
    puts("                       median ns (quartiles)    least   times less (quartiles)");
    for (unsigned way = 0; way < WAYS; way++) {
        for (unsigned i = 0; i < rounds; i++) {
            ratios[way][i] = ns[0][i] / ns[way][i];
        }
    }
    for (unsigned way = 0; way < WAYS; way++) {
        double *time = ns[way], *ratio = ratios[way];
        qsort(time, rounds, sizeof(*time), in_order);
        qsort(ratio, rounds, sizeof(*ratio), in_order);
        printf("%-22s %6.0f (%5.0f to %5.0f)  %6.0f   %.2f (%.2f to %.2f)\n", ways[way].name,
               time[rounds / 2], time[rounds / 4], time[rounds * 3 / 4], time[0], ratio[rounds / 2],
               ratio[rounds / 4], ratio[rounds * 3 / 4]);
    }
}

int main(int argc, char **argv) {
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 21;
    size_t bytes = argc > 2 ? (size_t)atoi(argv[2]) : 61440;
    unsigned needed = BERTH_URING_HAS_SENDMSG_ZC | BERTH_URING_HAS_USAGE | BERTH_URING_HAS_FIXED;
    if ((berth_uring_features() & needed) != needed || !make_network()) {
        puts("skipped: no root, no ifb, or no io_uring that sends without copying");
        return SKIPPED;
    }
    need(rounds > 0 && rounds <= ROUNDS_MAX && bytes >= 16, "1 to 1000 rounds of 16 bytes or more");
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.io = 1;
    pool = berth_pool_create("zero-copy", &options);
    need(io_uring_queue_init(64, &ring, 0) == 0, "ring");
    need(berth_slice_alloc(pool, bytes, &message) == 0, "slice");
    memset(berth_slice_try_write(&message), 'x', bytes);
    table = berth_uring_table_create(pool, ring.ring_fd, 64, MARK);
    need(table != NULL && berth_uring_table_has(table, message.data, bytes), "table");
    int fd = make_socket();
    for (unsigned round = 0; round < rounds; round++) {
        run_round(round, fd);
    }
    print(rounds);
    printf("%ju of %ju sends by the ring were copied\n", (uintmax_t)copied, (uintmax_t)notified);
    return copied == 0 ? 0 : 1;
}
