#include "loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_MAX = 256, BACKLOG = 4096, ACCEPTS_MAX = 64 };

struct loop_counts loop_counts;

static int epoll_fd, listener = -1;
static void (*accepted_by)(int fd);
static struct watch *all, *ended;
static volatile sig_atomic_t stop;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void on_signal(int number) {
    (void)number;
    stop = 1;
}

void loop_begin(void) {
    const struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0) {
        die("epoll_create1");
    }
}

static struct sockaddr_in loopback(uint16_t port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

void loop_listen(uint16_t port, void (*accepted)(int fd)) {
    struct sockaddr_in address = loopback(port);
    socklen_t length = sizeof(address);
    int one = 1;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    accepted_by = accepted;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
        bind(listener, (struct sockaddr *)&address, length) != 0 ||
        listen(listener, BACKLOG) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0 ||
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event) != 0) {
        die("cannot listen");
    }
    printf("{\"port\": %u}\n", ntohs(address.sin_port));
    fflush(stdout);
}

static void send_at_once(int fd) {
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

int loop_connect(uint16_t port) {
    struct sockaddr_in address = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0 &&
        errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    if (fd >= 0) {
        send_at_once(fd);
    }
    return fd;
}

void loop_add(struct watch *watch, int fd, void (*ready)(struct watch *, uint32_t),
              void (*when_ended)(struct watch *)) {
    *watch = (struct watch){.fd = fd,
                            .events = EPOLLIN,
                            .ready = ready,
                            .ended = when_ended,
                            .next = all,
                            .link = &all};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = watch};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        die("epoll_ctl");
    }
    if (all != NULL) {
        all->link = &watch->next;
    }
    all = watch;
}

void loop_want(struct watch *watch, bool read, bool write) {
    uint32_t events = (read ? (uint32_t)EPOLLIN : 0) | (write ? (uint32_t)EPOLLOUT : 0);
    if (watch->fd >= 0 && events != watch->events) {
        struct epoll_event event = {.events = events, .data.ptr = watch};
        watch->events = events;
        if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, watch->fd, &event) != 0) {
            die("epoll_ctl");
        }
    }
}

void loop_end(struct watch *watch) {
    if (watch->fd < 0) {
        return;
    }
    close(watch->fd);
    watch->fd = -1;
    *watch->link = watch->next;
    if (watch->next != NULL) {
        watch->next->link = watch->link;
    }
    watch->next = ended;
    ended = watch;
}

static void free_ended(void) {
    while (ended != NULL) {
        struct watch *watch = ended;
        ended = watch->next;
        watch->ended(watch);
    }
}

static void accept_some(void) {
    for (unsigned i = 0; i < ACCEPTS_MAX; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            return;
        }
        send_at_once(fd);
        loop_counts.connections++;
        accepted_by(fd);
    }
}

void loop_run(void) {
    struct epoll_event events[EVENTS_MAX];
    while (!stop) {
        int count = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);
        for (int i = 0; i < count; i++) {
            struct watch *watch = events[i].data.ptr;
            if (watch == NULL) {
                accept_some();
            } else if (watch->fd >= 0) {
                watch->ready(watch, events[i].events);
            }
        }
        free_ended();
    }
    while (all != NULL) {
        loop_end(all);
    }
    free_ended();
    close(listener);
    close(epoll_fd);
}

void loop_report(const char *more) {
    printf("{\"connections\": %ju, \"messages\": %ju, \"bytes\": %ju%s%s}\n",
           (uintmax_t)loop_counts.connections, (uintmax_t)loop_counts.messages,
           (uintmax_t)loop_counts.bytes, more[0] == '\0' ? "" : ", ", more);
}
