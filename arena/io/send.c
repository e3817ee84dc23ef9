/*
 * Sending chains: as much per system call as the kernel takes, and no call that is known to find no
 * room.
 */
#include "io/send.h"

#include "io/socket.h"

#include <berth/io.h>

#include <errno.h>

struct berth__batch berth__batch_of(const struct berth_chain *chain, struct iovec *entries,
                                    unsigned capacity, uint64_t most) {
    struct berth__batch batch = {.count = berth_chain_iovec(chain, entries, capacity)};
    for (unsigned i = 0; i < batch.count; i++) {
        uint64_t left = most - batch.bytes;
        if (entries[i].iov_len >= left) {
            entries[i].iov_len = (size_t)left;
            batch.bytes = most;
            batch.count = i + 1;
            return batch;
        }
        batch.bytes += entries[i].iov_len;
    }
    batch.more = batch.bytes < berth_chain_length(chain);
    return batch;
}

int64_t berth__send_region(int fd, const struct berth_chain *chain, uint64_t most) {
    struct berth_segment region;
    int error = berth_chain_segment(chain, 0, &region);
    if (error != 0) {
        return error;
    }
    uint64_t length = region.length < most ? region.length : most;
    ssize_t sent = berth__socket_send_file(fd, region.fd, region.offset, (size_t)length);
    return sent == 0 ? -ENODATA : sent;
}

/* What there is goes in one packet with what follows at once, be it of a file or not. */
static int64_t send_batch(int fd, const struct berth_chain *chain, uint64_t most,
                          struct iovec *entries, unsigned capacity, uint64_t *offered) {
    struct berth__batch batch = berth__batch_of(chain, entries, capacity, most);
    if (batch.count == 0) {
        struct berth_segment region;
        (void)berth_chain_segment(chain, 0, &region);
        *offered = region.length < most ? region.length : most;
        return berth__send_region(fd, chain, most);
    }
    *offered = batch.bytes;
    return berth__socket_send(fd, entries, batch.count, batch.more ? MSG_MORE : 0);
}

/* 16 KiB of stack, for those who need them. */
static BERTH_NOINLINE int64_t send_many(int fd, const struct berth_chain *chain, uint64_t most,
                                        uint64_t *offered) {
    struct iovec entries[BERTH_CHAIN_IOVEC_MAX];
    return send_batch(fd, chain, most, entries, BERTH_CHAIN_IOVEC_MAX, offered);
}

int64_t berth__send_copying(int fd, const struct berth_chain *chain, uint64_t most,
                            uint64_t *offered) {
    enum { FEW = 32 };
    if (berth_chain_count(chain) > FEW) {
        return send_many(fd, chain, most, offered);
    }
    struct iovec entries[FEW];
    return send_batch(fd, chain, most, entries, FEW, offered);
}

int64_t berth__send_by(berth__send_step *step, void *context, struct berth_chain *chain,
                       uint64_t most) {
    uint64_t bound = most < INT64_MAX ? most : INT64_MAX;
    uint64_t total = 0;
    while (total < bound && berth_chain_length(chain) > 0) {
        uint64_t offered = 0;
        int64_t sent = step(context, chain, bound - total, &offered);
        if (sent < 0) {
            return total > 0 ? (int64_t)total : sent;
        }
        (void)berth_chain_consume(chain, (uint64_t)sent);
        total += (uint64_t)sent;
        if ((uint64_t)sent < offered) {
            break; /* the next call would find no room; the kernel will tell when there is some */
        }
    }
    return (int64_t)total;
}

static int64_t copying_step(void *context, const struct berth_chain *chain, uint64_t most,
                            uint64_t *offered) {
    return berth__send_copying(*(const int *)context, chain, most, offered);
}

int64_t berth_io_send(int fd, struct berth_chain *chain, uint64_t most) {
    return berth__send_by(copying_step, &fd, chain, most);
}

void berth_io_ignore_sigpipe(void) {
    berth__socket_ignore_sigpipe();
}
