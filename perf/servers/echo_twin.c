/*
 * The echo server as it is written with malloc: each message is copied from the buffer that it was
 * received in to a block of its own, which waits in a list until it is sent.
 *
 *   echo-twin [PORT]
 */
#include "loop.h"
#include "queue.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { BACKLOG_MAX = 1 << 20, RECEIVE_MAX = 65536 };

struct connection {
    struct watch watch;
    struct queue queue;
};

static char received[RECEIVE_MAX];

static void on_ended(struct watch *watch) {
    struct connection *connection = LOOP_OWNER(watch, struct connection, watch);
    queue_clear(&connection->queue);
    free(connection);
}

static void on_ready(struct watch *watch, uint32_t events) {
    struct connection *connection = LOOP_OWNER(watch, struct connection, watch);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        ssize_t got = recv(watch->fd, received, sizeof(received), 0);
        if (got == 0 || (got < 0 && errno != EAGAIN)) {
            loop_end(watch);
            return;
        }
        if (got > 0) {
            queue_copy(&connection->queue, received, (size_t)got);
            loop_counts.messages++;
            loop_counts.bytes += (uint64_t)got;
        }
    }
    if (!queue_send(&connection->queue, watch->fd)) {
        loop_end(watch);
        return;
    }
    loop_want(watch, connection->queue.bytes<BACKLOG_MAX, connection->queue.bytes> 0);
}

static void on_accepted(int fd) {
    struct connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL) {
        abort();
    }
    loop_add(&connection->watch, fd, on_ready, on_ended);
}

int main(int argc, char **argv) {
    loop_begin();
    loop_listen(argc > 1 ? (uint16_t)atoi(argv[1]) : 0, on_accepted);
    loop_run();
    loop_report("");
    return 0;
}
