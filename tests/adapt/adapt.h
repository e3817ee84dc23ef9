/*
 * What the tests of adaptors share: clients that send messages of all lengths to an echo server and
 * look at what comes back, and a count of the bytes that anybody in the process copies meanwhile.
 *
 * The count is of memcpy and memmove as shared libraries call them, of 256 bytes and more: payload,
 * not structures. Under a sanitizer, whose own they are, nothing is counted.
 */
#ifndef BERTH_TESTS_ADAPT_H
#define BERTH_TESTS_ADAPT_H

#include "unit/figures.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <sys/socket.h>

enum { CLIENTS = 16, ROUNDS = 150, MESSAGE_MAX = 60000 };

extern _Atomic uint64_t adapt_copied_bytes;

/* ---- clients ---- */

struct client {
    pthread_t thread;
    unsigned number;
    in_port_t port; /* of the server, in network order */
};

static inline unsigned char message_byte(unsigned client, unsigned round, size_t i) {
    return (unsigned char)(((client * 131 + round * 31 + i) * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

static inline int client_connect(in_port_t port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    UNIT_CHECK(fd >= 0);
    UNIT_CHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0);
    UNIT_CHECK(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    return fd;
}

/* Sends and receives at once, so that neither side waits for room. */
static inline void client_exchange(int fd, const unsigned char *out, unsigned char *in,
                                   size_t length) {
    size_t sent = 0, got = 0;
    while (got < length) {
        if (sent < length) {
            ssize_t now = send(fd, out + sent, length - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
            UNIT_CHECK(now > 0 || errno == EAGAIN);
            sent += now > 0 ? (size_t)now : 0;
        }
        ssize_t now = recv(fd, in + got, length - got, sent < length ? MSG_DONTWAIT : 0);
        UNIT_CHECK(now > 0 || (now < 0 && errno == EAGAIN));
        got += now > 0 ? (size_t)now : 0;
    }
}

/* One in four goes without an end, by a reset. */
static inline void client_leave(int fd, unsigned number) {
    struct linger now = {.l_onoff = number % 4 == 3, .l_linger = 0};
    UNIT_CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)) == 0);
    UNIT_CHECK(close(fd) == 0);
}

static inline void *client_run(void *argument) {
    const struct client *client = argument;
    static __thread unsigned char out[MESSAGE_MAX], in[MESSAGE_MAX];
    struct unit_random random = {client->number};
    int fd = client_connect(client->port);
    for (unsigned round = 0; round < ROUNDS; round++) {
        size_t length = 1 + unit_random_below(&random, round % 3 ? 700 : MESSAGE_MAX - 1);
        for (size_t i = 0; i < length; i++) {
            out[i] = message_byte(client->number, round, i);
        }
        client_exchange(fd, out, in, length);
        for (size_t i = 0; i < length; i++) {
            UNIT_CHECK(in[i] == message_byte(client->number, round, i));
        }
    }
    client_leave(fd, client->number);
    return NULL;
}

static inline void clients_start(struct client *clients, in_port_t port) {
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i].number = i;
        clients[i].port = port;
        clients[i].thread = start_thread(client_run, &clients[i]);
    }
}

static inline void clients_join(struct client *clients) {
    for (unsigned i = 0; i < CLIENTS; i++) {
        join_thread(clients[i].thread);
    }
}

/* ---- what is left ---- */

static inline unsigned open_descriptors(void) {
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    UNIT_CHECK(folder != NULL);
    while (readdir(folder) != NULL) {
        count++;
    }
    closedir(folder);
    return count;
}

#endif
