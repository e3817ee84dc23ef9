/*
 * What a chain begins with, as one system call's worth.
 */
#ifndef BERTH_IO_SEND_H
#define BERTH_IO_SEND_H

#include "base/compiler.h"

#include <berth/chain.h>

/* Slices at a chain's beginning. */
struct berth__batch {
    unsigned count; /* of entries; 0: a region of a file comes first */
    bool more;      /* the chain goes on behind them, within the bound */
    uint64_t bytes;
};

/* Fills in at most `capacity` entries of together at most `most` bytes, at least 1. The chain is
 * not empty. */
struct berth__batch berth__batch_of(const struct berth_chain *chain, struct iovec *entries,
                                    unsigned capacity, uint64_t most);

/* Sends from the region of a file that a chain begins with: bytes, or -errno. Consumes nothing. */
int64_t berth__send_region(int fd, const struct berth_chain *chain, uint64_t most);

/* One system call for what a chain begins with. Sends at most `most` bytes and consumes nothing;
 * *offered is what it tried to send. */
typedef int64_t berth__send_step(void *context, const struct berth_chain *chain, uint64_t most,
                                 uint64_t *offered);

/* Takes steps and consumes what they sent, as berth_io_send says. */
int64_t berth__send_by(berth__send_step *step, void *context, struct berth_chain *chain,
                       uint64_t most);

/* The step that copies. */
int64_t berth__send_copying(int fd, const struct berth_chain *chain, uint64_t most,
                            uint64_t *offered);

#endif
