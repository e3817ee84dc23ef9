/*
 * An echo server on epoll: what is received goes back, in the memory that it was received in.
 *
 *   echo [PORT]
 */
#include "berth_end.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

/* Unsent bytes beyond which a connection is not read. */
enum { BACKLOG_MAX = 1 << 20 };

struct connection {
    struct watch watch;
    struct berth_chain chain;
};

static berth_pool *pool;
static struct berth_slice piece;

static void on_ended(struct watch *watch) {
    struct connection *connection = LOOP_OWNER(watch, struct connection, watch);
    berth_chain_clear(&connection->chain);
    berth_free(connection);
}

static void on_ready(struct watch *watch, uint32_t events) {
    struct connection *connection = LOOP_OWNER(watch, struct connection, watch);
    struct berth_chain *chain = &connection->chain;
    int64_t result = 0;
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        result = berth_io_receive_shared(watch->fd, chain, &piece, 0);
        if (result == 0 || (result < 0 && result != -EAGAIN)) {
            loop_end(watch);
            return;
        }
        loop_counts.messages += result > 0;
        loop_counts.bytes += result > 0 ? (uint64_t)result : 0;
    }
    if (berth_chain_length(chain) > 0) {
        result = berth_io_send(watch->fd, chain, UINT64_MAX);
        if (result < 0 && result != -EAGAIN) {
            loop_end(watch);
            return;
        }
    }
    loop_want(watch, berth_chain_length(chain) < BACKLOG_MAX, berth_chain_length(chain) > 0);
}

static void on_accepted(int fd) {
    struct connection *connection = berth_alloc(pool, sizeof(*connection));
    if (connection == NULL) {
        abort();
    }
    berth_chain_init(&connection->chain, pool);
    loop_add(&connection->watch, fd, on_ready, on_ended);
}

int main(int argc, char **argv) {
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.one_thread = 1;
    pool = berth_pool_create("echo", &options);
    loop_begin();
    loop_listen(argc > 1 ? (uint16_t)atoi(argv[1]) : 0, on_accepted);
    loop_run();
    berth_slice_release(&piece);
    return berth_end(pool);
}
