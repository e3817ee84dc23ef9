#include "loop.h"

#include "port.h"
#include "watches.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_MAX = 256, ACCEPTS_MAX = 64 };

static int epoll_fd, stop_fd, listener = -1;
static bool is_short; /* the listener is left alone until something has ended, or for a while */
static void (*accepted_by)(int fd);

void loop_begin(void) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &stop_fd};
    stop_fd = port_begin();
    signal(SIGPIPE, SIG_IGN);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, stop_fd, &event) != 0) {
        port_die("epoll", errno);
    }
}

void loop_listen(uint16_t port, void (*accepted)(int fd)) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    listener = port_listen(port, SOCK_NONBLOCK);
    accepted_by = accepted;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event) != 0) {
        port_die("epoll_ctl", errno);
    }
}

static void send_at_once(int fd) {
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

int loop_connect(uint16_t port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
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
    *watch = (struct watch){.fd = fd, .events = EPOLLIN, .ready = ready, .ended = when_ended};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = watch};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        port_die("epoll_ctl", errno);
    }
    watches_add(watch);
}

void loop_want(struct watch *watch, bool read, bool write) {
    uint32_t events = (read ? (uint32_t)EPOLLIN : 0) | (write ? (uint32_t)EPOLLOUT : 0);
    if (watch->fd >= 0 && events != watch->events) {
        struct epoll_event event = {.events = events, .data.ptr = watch};
        watch->events = events;
        if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, watch->fd, &event) != 0) {
            port_die("epoll_ctl", errno);
        }
    }
}

static void set_short(bool now) {
    struct epoll_event event = {.events = now ? 0 : EPOLLIN, .data.ptr = NULL};
    if (now != is_short && epoll_ctl(epoll_fd, EPOLL_CTL_MOD, listener, &event) != 0) {
        port_die("epoll_ctl", errno);
    }
    is_short = now;
}

void loop_end(struct watch *watch) {
    if (watch->fd < 0) {
        return;
    }
    close(watch->fd);
    watch->fd = -1;
    watches_end(watch);
    set_short(false);
}

static void accept_some(void) {
    for (unsigned i = 0; i < ACCEPTS_MAX; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            set_short(port_is_short(errno));
            return;
        }
        send_at_once(fd);
        loop_counts.connections++;
        accepted_by(fd);
    }
}

void loop_run(void) {
    struct epoll_event events[EVENTS_MAX];
    bool goes_on = true;
    while (goes_on) {
        int count = epoll_wait(epoll_fd, events, EVENTS_MAX, is_short ? PORT_PAUSE_MS : -1);
        if (count == 0) {
            set_short(false);
        }
        for (int i = 0; i < count; i++) {
            struct watch *watch = events[i].data.ptr;
            if (events[i].data.ptr == &stop_fd) {
                goes_on = false;
            } else if (watch == NULL) {
                accept_some();
            } else if (watch->fd >= 0) {
                watch->ready(watch, events[i].events);
            }
        }
        watches_free_ended();
    }
    watches_end_all();
    watches_free_ended();
    close(listener);
    close(stop_fd);
    close(epoll_fd);
}
