#include "loop_chain.h"

static struct berth_slice piece;

void loop_memory(berth_pool *pool) {
    (void)pool; /* a chain knows its own */
}

void loop_memory_end(void) {
    berth_slice_release(&piece);
}

int64_t loop_receive(struct watch *watch, struct berth_chain *chain) {
    return berth_io_receive_shared(watch->fd, chain, &piece, 0);
}

int64_t loop_send(struct watch *watch, struct berth_chain *chain) {
    int64_t sent = berth_io_send(watch->fd, chain, UINT64_MAX);
    loop_counts.bytes += sent > 0 ? (uint64_t)sent : 0;
    return sent;
}
