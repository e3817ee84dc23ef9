/*
 * Chains and io_uring: calls that fill in the submission entries of a ring of the caller's, and
 * understand its completions. The ring, its loop and its descriptors are the caller's, made by
 * liburing or by hand; berth submits nothing and waits for nothing.
 *
 *   berth_uring_sender_send(sender, &out, UINT64_MAX, io_uring_get_sqe(ring));     then submit
 *   ...
 *   struct berth_uring_sent sent;                                 for a completion of that entry
 *   berth_uring_sender_complete(cqe->user_data, cqe->res, cqe->flags, &sent);
 *
 * Nothing here needs the headers of io_uring, and what a kernel lacks is done without: see
 * berth_uring_features. A ring, and what is made for it, is used by one thread at a time; a forked
 * child uses none of its parent's.
 *
 * These calls are part of libberth, not of libberth-malloc.
 */
#ifndef BERTH_URING_H
#define BERTH_URING_H

#include <berth/chain.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A submission entry; <liburing.h> and <linux/io_uring.h> say what it is made of. */
struct io_uring_sqe;

/** What a kernel can do, as bits. */
enum {
    BERTH_URING_HAS_RING = 1,         /* io_uring at all */
    BERTH_URING_HAS_SEND_ZC = 2,      /* sends of one slice that do not copy (6.0) */
    BERTH_URING_HAS_SENDMSG_ZC = 4,   /* and of several (6.1) */
    BERTH_URING_HAS_USAGE = 8,        /* it says whether it copied all the same (6.2) */
    BERTH_URING_HAS_BUFFERS = 16,     /* rings of buffers for receiving (5.19) */
    BERTH_URING_HAS_MULTISHOT = 32,   /* one receive for all that comes (6.0) */
    BERTH_URING_HAS_BUNDLES = 64,     /* one completion for several buffers (6.10) */
    BERTH_URING_HAS_PARTS = 128,      /* buffers that are used up part by part (6.12) */
    BERTH_URING_HAS_FIXED = 256,      /* tables of registered memory with gaps (5.19) */
    BERTH_URING_HAS_CLONES = 512,     /* and copies of them for further rings (6.12) */
    BERTH_URING_HAS_FIXED_MANY = 1024 /* and sends of several slices from there (6.15) */
};

/**
 * What the running kernel can do, and lets this process do; 0: nothing, io_uring is not to be had.
 * It is found out by trying, on a small ring of its own, the first time; and again, up to 16 times,
 * if there were too few descriptors, or too little memory that may be locked, to find out all.
 *
 * Threads: any. Blocks: makes system calls the first time, wait-free afterwards. Since: 0.1.
 */
BERTH_API unsigned berth_uring_features(void);

/**
 * Memory that is registered with a ring of io_uring: whole chunks of a pool with the option io, in
 * the ring's one table. Sends of it need neither locked memory nor look-ups each time. Chunks come
 * in as the pool maps them, as far as RLIMIT_MEMLOCK goes; of others, sends do without.
 *
 * A chunk that is registered stays the pool's, even if nothing lives in it, until it is asked back
 * because memory is short: its bytes count as returning, the table gives it up at its next
 * berth_uring_table_sync, and it goes when the ring has said that it is out of use. A pool that has
 * registered chunks cannot be ended.
 *
 * What such a handle is made of is not for users.
 */
typedef struct berth_uring_table berth_uring_table;

/**
 * Makes a table for a ring that has none, with room for `slots` chunks, up to 16384 (0: 1024), and
 * registers what chunks there are. `mark`, 0 to 15, are the lowest bits of the user_data of its
 * completions.
 *
 * Errors: NULL with ENOSYS (the kernel has no such tables), EINVAL, ENOMEM (also of what may be
 * locked), EOWNERDEAD, or what the kernel gives: EBUSY (the ring has a table). Threads: any. Owns:
 * the caller, until berth_uring_table_destroy. Blocks: makes system calls. Since: 0.1.
 */
BERTH_API berth_uring_table *berth_uring_table_create(berth_pool *pool, int ring_fd, unsigned slots,
                                                      unsigned mark);

/**
 * Makes a table for a further ring with what another one has registered by now: no memory is pinned
 * twice, if the kernel can. What comes later is registered with each ring.
 *
 * Errors and the rest as berth_uring_table_create. Threads: nobody may use `table` meanwhile.
 * Since: 0.1.
 */
BERTH_API berth_uring_table *berth_uring_table_clone(berth_uring_table *table, int ring_fd,
                                                     unsigned mark);

/**
 * Registers chunks that have come, and gives up those that are asked back. For the ring's loop,
 * each time around. Returns how many chunks are registered.
 *
 * Threads: one at a time per table; the one that submits, where the ring has but one. Blocks: a few
 * loads if nothing has changed; else may lock, and makes system calls. Since: 0.1.
 */
BERTH_API unsigned berth_uring_table_sync(berth_uring_table *table);

/**
 * Digests a completion that has the table's mark: a chunk is out of use.
 *
 * Threads: one at a time per table. Blocks: as berth_free. Since: 0.1.
 */
BERTH_API void berth_uring_table_complete(uint64_t user_data);

/**
 * Whether a send of these bytes could use the table. Threads: one at a time per table. Blocks:
 * wait-free. Since: 0.1.
 */
BERTH_API bool berth_uring_table_has(const berth_uring_table *table, const void *data,
                                     size_t length);

/**
 * Ends a table: gives all chunks up, and is gone when the ring has said that they are out of use;
 * until then -EBUSY, and it is to be called again after completions. With BERTH_FORCE at once, for
 * a ring of io_uring that was closed.
 *
 * Errors: -EBUSY, -EINVAL (an unknown flag). Threads: one at a time per table, and no sender uses
 * it. Owns: takes the table unless it fails. Blocks: makes system calls. Since: 0.1.
 */
BERTH_API int berth_uring_table_destroy(berth_uring_table *table, unsigned flags);

/**
 * A socket that sends by io_uring. One send at a time is unanswered; of those that were answered,
 * any number may still be in flight: the kernel reads their memory until it says otherwise, and
 * until then the sender holds references that nobody can write through (pins). What such a handle
 * is made of is not for users.
 *
 * It does not copy (SEND_ZC, SENDMSG_ZC) where that pays: long sends, unless the kernel says that
 * it copied all the same (loopback and others), cannot (AF_UNIX), or has no room for more (locked
 * memory); these are tried again ever more rarely, or when something has landed.
 */
typedef struct berth_uring_sender berth_uring_sender;

/** How a sender behaves; begin with BERTH_URING_SENDER_INIT. */
struct berth_uring_sender_options {
    size_t struct_size;       /* for later versions */
    size_t threshold;         /* bytes from which a send does not copy; 0: the option send_zc_min */
    uint64_t in_flight_max;   /* bytes in flight from which on sends wait; 0: no bound */
    unsigned mark;            /* 0 to 15: lowest bits of the user_data of its completions */
    void *context;            /* the caller's, told with every completion */
    berth_uring_table *table; /* of the ring that it sends by: registered memory goes by that, from
                                 the option fixed_min on. NULL: none */
};

#define BERTH_URING_SENDER_INIT                                                                    \
    { sizeof(struct berth_uring_sender_options), 0, 0, 0, NULL, NULL }

/**
 * Makes a sender for a connected socket. `options` may be NULL.
 *
 * Errors: NULL with ENOMEM, EINVAL (an option), ENOSYS (no io_uring). Threads: any. Owns: the
 * caller, until berth_uring_sender_end; borrows the descriptor. Blocks: as berth_alloc. Since: 0.1.
 */
BERTH_API berth_uring_sender *berth_uring_sender_create(
    berth_pool *pool, int fd, const struct berth_uring_sender_options *options);

/**
 * Fills in an entry that sends a chain from its beginning: up to 64 slices, at most `most` bytes,
 * all of them unless the connection fails (MSG_WAITALL). The entry is complete, and has to be
 * submitted; flags, such as IOSQE_FIXED_FILE, and the descriptor may be changed first. `user_data`
 * is what berth_uring_sender_complete wants: who needs another one keeps it.
 *
 * The chain stays where it is and as it is until the send is answered; things may be put at its end
 * meanwhile.
 *
 * Errors: the entry is as it was: -EBUSY (a send is unanswered), -EAGAIN (in_flight_max bytes, or
 * those of the pool, are in flight: prepare again when a completion has said `landed`), -ENODATA
 * (the chain is empty), -EOPNOTSUPP (it begins with a region of a file: berth_io_send), -ENOMEM.
 * Threads: one at a time per sender. Owns: borrows the chain. Blocks: as berth_alloc. Since: 0.1.
 */
BERTH_API int berth_uring_sender_send(berth_uring_sender *sender, struct berth_chain *chain,
                                      uint64_t most, struct io_uring_sqe *sqe);

/** What a completion said. */
struct berth_uring_sent {
    void *context;  /* of the sender; NULL after berth_uring_sender_end */
    int64_t result; /* if answered: bytes that were sent and have left the chain, 0 (none: prepare
                       the send again, it will copy), or -errno */
    bool answered;  /* the next send may be prepared */
    bool landed;    /* the kernel has given the memory of a send back */
};

/**
 * Digests a completion of a sender's entry: res and flags as the kernel gave them, user_data as
 * berth_uring_sender_send had set it. All completions, in the order of the ring, are to be
 * digested, also those after berth_uring_sender_end. Callbacks of wrapped memory run in it.
 *
 * Which completion is the last of a send is for the kernel's flags to say, not for its result: a
 * send that failed may still hold memory.
 *
 * A socket that does not block answers -EAGAIN when it has no room.
 *
 * Threads: one at a time per sender. Blocks: as berth_free. Since: 0.1.
 */
BERTH_API void berth_uring_sender_complete(uint64_t user_data, int32_t res, uint32_t flags,
                                           struct berth_uring_sent *sent);

/**
 * How many sends hold memory, an unanswered one included. Threads: one at a time per sender.
 * Blocks: wait-free. Since: 0.1.
 */
BERTH_API unsigned berth_uring_sender_in_flight(const berth_uring_sender *sender);

/**
 * Ends a sender: it sends no more, and is gone with its last completion. The chain of an unanswered
 * send may go now, too. To speed things up, shut the socket down or cancel the send; the descriptor
 * may be closed at any time, for the ring tells of memory without it.
 *
 * A ring that is closed before all completions came never tells: memory that was in flight stays
 * pinned for good, and its pool cannot be ended.
 *
 * Threads: one at a time per sender. Owns: takes the sender. Blocks: as berth_free. Since: 0.1.
 */
BERTH_API void berth_uring_sender_end(berth_uring_sender *sender);

/**
 * Buffers that the kernel takes as bytes arrive, a ring of them for each group of a ring of
 * io_uring. They are memory of a pool: what was received is a slice of it, nothing is copied, and
 * the buffer comes back into the ring when the last reference to it has gone, on whatever thread.
 * What such a handle is made of is not for users.
 */
typedef struct berth_uring_buffers berth_uring_buffers;

/** How buffers are provided; begin with BERTH_URING_BUFFERS_INIT. */
struct berth_uring_buffers_options {
    size_t struct_size; /* for later versions */
    unsigned group;     /* the caller's number for them, up to 65535; one ring has each once */
    unsigned entries;   /* buffers in the ring, a power of two up to 32768; 0: 256 */
    unsigned most;      /* buffers altogether, with those that are in use; 0: twice the entries */
    size_t bytes;       /* of a buffer, 64 to 1 GiB; 0: 16 KiB */
    int in_parts;       /* 1: a buffer takes what comes for several receives, one behind the other,
                           until it is full, if the kernel can; 0: a receive each */
    int bundles;        /* 1: what fills several buffers is one completion, if the kernel can */
    void (*returned)(void *context); /* see berth_uring_buffers_refill; NULL: nobody is told */
    void *context;
};

#define BERTH_URING_BUFFERS_INIT                                                                   \
    { sizeof(struct berth_uring_buffers_options), 0, 0, 0, 0, 1, 0, NULL, NULL }

/**
 * Makes a ring of buffers, all of them there, and registers it with a ring of io_uring. `options`
 * may be NULL.
 *
 * Errors: NULL with ENOSYS (the kernel has no such rings), EINVAL (an option), ENOMEM (also of what
 * may be locked), or what the kernel gives: EEXIST (the group is there). Threads: any. Owns: the
 * caller, until berth_uring_buffers_destroy, which comes before the ring of io_uring is closed.
 * Blocks: as berth_alloc, and makes system calls. Since: 0.1.
 */
BERTH_API berth_uring_buffers *berth_uring_buffers_create(
    berth_pool *pool, int ring_fd, const struct berth_uring_buffers_options *options);

/**
 * Fills in an entry that receives from a stream's socket: all that comes, with a completion each
 * time (multishot), if the kernel can; else once. `user_data` is left 0, for the caller to set; it
 * may change the descriptor and flags, too.
 *
 * Threads: one at a time per ring. Blocks: wait-free. Since: 0.1.
 */
BERTH_API void berth_uring_buffers_receive(berth_uring_buffers *buffers, int fd,
                                           struct io_uring_sqe *sqe);

/** What a completion of a receive said. */
struct berth_uring_received {
    int64_t result;  /* bytes that are at the chain's end now; 0: the peer has ended; -errno.
                        -ENOMEM: bytes arrived and are lost, for the chain had no room */
    bool is_over;    /* the receive has ended: there is no more completion for it */
    bool is_starved; /* it ended because the ring was empty: receive again after
                        berth_uring_buffers_refill has said that there are buffers */
};

/**
 * Digests a completion of such an entry: puts what came at the end of a chain, and what has come
 * back into the ring. All completions are to be digested, in the order of the ring of io_uring,
 * those for connections that are gone, too: with a chain that is cleared then.
 *
 * Threads: one at a time per ring. Blocks: as berth_alloc. Since: 0.1.
 */
BERTH_API void berth_uring_buffers_complete(berth_uring_buffers *buffers, int32_t res,
                                            uint32_t flags, struct berth_chain *chain,
                                            struct berth_uring_received *received);

/**
 * Puts buffers that have come back, or new ones as far as `most` and the pool allow, into the ring.
 * Returns how many it has. If those are fewer than `wanted`, the next buffer that comes back makes
 * berth call `returned`, once, by the thread that released it, in that release; a loop that sleeps
 * is to be woken then, and to call this again: for as many receives as this returns there are
 * buffers, others go on waiting.
 *
 * Threads: one at a time per ring. Blocks: as berth_alloc. Since: 0.1.
 */
BERTH_API unsigned berth_uring_buffers_refill(berth_uring_buffers *buffers, unsigned wanted);

/**
 * Ends a ring of buffers. Slices of received bytes live on; their memory goes back to the pool with
 * them. With BERTH_FORCE it is for a ring of io_uring that was closed, or that nothing is known of:
 * buffers that the kernel may still write to stay pinned for good then, and the pool cannot be
 * ended.
 *
 * Errors: -EBUSY (without force: receives are not over; cancel them, or shut their sockets down),
 * -EINVAL (an unknown flag), or what the kernel gives: nothing has changed. Threads: one at a time
 * per ring. Owns: takes the buffers, if it succeeds. Blocks: as berth_free, and makes a system
 * call. Since: 0.1.
 */
BERTH_API int berth_uring_buffers_destroy(berth_uring_buffers *buffers, unsigned flags);

#ifdef __cplusplus
}
#endif

#endif
