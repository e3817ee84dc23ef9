/*
 * The clients that have no program of their own: of echo servers, and of publishing. They look at
 * every byte that comes back.
 *
 *   load echo PORT CONNECTIONS BYTES SECONDS       each connection has one message under way
 *   load fan PORT SUBSCRIBERS BYTES SECONDS WINDOW one publisher with a window of messages
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_MAX = 256, PIECE_MAX = 1 << 18, PATTERN_BYTES = 1 << 12 };

struct client {
    int fd;
    uint64_t sent, got; /* bytes of the stream */
    uint64_t messages;
    uint32_t events; /* that it is watched for */
};

static unsigned char pattern[PATTERN_BYTES + PIECE_MAX];
static struct client *clients;
static int epoll_fd;
static uint64_t messages;

static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int connect_to(uint16_t port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0) {
        fail("cannot connect");
    }
    return fd;
}

static void watch(struct client *client, uint32_t events, int operation) {
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (client->events == events) {
        return;
    }
    client->events = events;
    if (epoll_ctl(epoll_fd, operation, client->fd, &event) != 0) {
        fail("epoll_ctl");
    }
}

/* Sends on, up to a position of the stream; true if it got there. */
static bool send_until(struct client *client, uint64_t end) {
    while (client->sent < end) {
        uint64_t left = end - client->sent;
        size_t length = left < PIECE_MAX ? (size_t)left : PIECE_MAX;
        ssize_t now = send(client->fd, pattern + client->sent % PATTERN_BYTES, length,
                           MSG_NOSIGNAL | MSG_DONTWAIT);
        if (now < 0 && errno != EAGAIN) {
            fail("send");
        }
        if (now <= 0) {
            return false;
        }
        client->sent += (uint64_t)now;
    }
    return true;
}

/* What has arrived, which must be the stream. */
static void receive(struct client *client) {
    static unsigned char piece[PIECE_MAX];
    ssize_t got = recv(client->fd, piece, sizeof(piece), MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN)) {
        fail("the server has ended");
    }
    if (got > 0 && memcmp(piece, pattern + client->got % PATTERN_BYTES, (size_t)got) != 0) {
        fprintf(stderr, "load: what came back is not what was sent\n");
        exit(3);
    }
    client->got += got > 0 ? (uint64_t)got : 0;
}

static void echo_ready(struct client *client, uint64_t bytes) {
    if (client->got < (client->messages + 1) * bytes) {
        receive(client);
    }
    if (client->got == (client->messages + 1) * bytes) {
        client->messages++;
        messages++;
    }
    bool done = send_until(client, (client->messages + 1) * bytes);
    watch(client, EPOLLIN | (done ? 0 : (uint32_t)EPOLLOUT), EPOLL_CTL_MOD);
}

static double echo(uint16_t port, unsigned count, uint64_t bytes, double seconds) {
    struct epoll_event events[EVENTS_MAX];
    for (unsigned i = 0; i < count; i++) {
        clients[i].fd = connect_to(port);
        watch(&clients[i], EPOLLIN | EPOLLOUT, EPOLL_CTL_ADD);
    }
    double begun_s = now_s(), end_s = begun_s + seconds;
    while (now_s() < end_s) {
        int ready = epoll_wait(epoll_fd, events, EVENTS_MAX, 100);
        for (int i = 0; i < ready; i++) {
            echo_ready(events[i].data.ptr, bytes);
        }
    }
    return now_s() - begun_s;
}

/* ---- publishing ---- */

static void expect(int fd, const char *text) {
    char got[128];
    size_t length = strlen(text);
    if (recv(fd, got, length, MSG_WAITALL) != (ssize_t)length || memcmp(got, text, length) != 0) {
        fail("the hub answers something else");
    }
}

static void say(int fd, const char *text, size_t length) {
    if (send(fd, text, length, MSG_NOSIGNAL) != (ssize_t)length) {
        fail("send");
    }
}

static const char subscribe[] = "*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\n";
static const char subscribed[] = "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n";

/* A message as subscribers get it, whose length is returned; all messages are alike. */
static size_t make_message(char *to, size_t bytes) {
    int head = sprintf(to, "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$%zu\r\n", bytes);
    for (size_t i = 0; i < bytes; i++) {
        to[(size_t)head + i] = (char)('a' + (i * 7 + i / 251) % 26);
    }
    memcpy(to + head + bytes, "\r\n", 2);
    return (size_t)head + bytes + 2;
}

static void fan_receive(struct client *client, const char *message, size_t length) {
    static char piece[PIECE_MAX];
    ssize_t got = recv(client->fd, piece, sizeof(piece), MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN)) {
        fail("the hub has ended");
    }
    for (size_t done = 0; got > 0 && done < (size_t)got;) {
        size_t at = (size_t)(client->got % length);
        size_t part = length - at < (size_t)got - done ? length - at : (size_t)got - done;
        if (memcmp(piece + done, message + at, part) != 0) {
            fprintf(stderr, "load: a subscriber got something else\n");
            exit(3);
        }
        client->got += part;
        done += part;
    }
    client->messages = client->got / length;
}

static uint64_t least_messages(unsigned count) {
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < count; i++) {
        least = clients[i].messages < least ? clients[i].messages : least;
    }
    return least;
}

static double fan(uint16_t port, unsigned count, size_t bytes, double seconds, unsigned window) {
    struct epoll_event events[EVENTS_MAX];
    char *message = malloc(bytes + 128), *command = malloc(bytes + 128);
    if (message == NULL || command == NULL) {
        fail("malloc");
    }
    size_t length = make_message(message, bytes);
    int head = sprintf(command, "*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n$%zu\r\n", bytes);
    memcpy(command + head, message + length - bytes - 2, bytes + 2);
    for (unsigned i = 0; i < count; i++) {
        clients[i].fd = connect_to(port);
        say(clients[i].fd, subscribe, sizeof(subscribe) - 1);
        expect(clients[i].fd, subscribed);
        watch(&clients[i], EPOLLIN, EPOLL_CTL_ADD);
    }
    int publisher = connect_to(port);
    char answer[16];
    snprintf(answer, sizeof(answer), ":%u\r\n", count);
    uint64_t published = 0;
    double begun_s = now_s(), end_s = begun_s + seconds;
    while (now_s() < end_s || messages < published) {
        for (; now_s() < end_s && published < messages + window; published++) {
            say(publisher, command, (size_t)head + bytes + 2);
            expect(publisher, answer);
        }
        int ready = epoll_wait(epoll_fd, events, EVENTS_MAX, 100);
        for (int i = 0; i < ready; i++) {
            fan_receive(events[i].data.ptr, message, length);
        }
        messages = least_messages(count);
    }
    close(publisher);
    free(message);
    free(command);
    return now_s() - begun_s;
}

int main(int argc, char **argv) {
    bool is_fan = argc > 1 && strcmp(argv[1], "fan") == 0;
    if (argc != (is_fan ? 7 : 6) || (!is_fan && strcmp(argv[1], "echo") != 0)) {
        fprintf(stderr, "usage: load echo PORT CONNECTIONS BYTES SECONDS\n"
                        "       load fan PORT SUBSCRIBERS BYTES SECONDS WINDOW\n");
        return 2;
    }
    unsigned count = (unsigned)atoi(argv[3]);
    size_t bytes = (size_t)atol(argv[4]);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    clients = calloc(count, sizeof(*clients));
    if (epoll_fd < 0 || clients == NULL || bytes == 0) {
        fail("cannot begin");
    }
    for (size_t i = 0; i < sizeof(pattern); i++) {
        pattern[i] = (unsigned char)(((i % PATTERN_BYTES) * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
    }
    uint16_t port = (uint16_t)atoi(argv[2]);
    double seconds = atof(argv[5]);
    double took_s = is_fan ? fan(port, count, bytes, seconds, (unsigned)atoi(argv[6]))
                           : echo(port, count, bytes, seconds);
    printf("{\"messages\": %ju, \"seconds\": %.6f, \"per_s\": %.1f}\n", (uintmax_t)messages, took_s,
           (double)messages / took_s);
    free(clients);
    return 0;
}
