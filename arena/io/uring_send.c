/*
 * Sends by io_uring, and what they hold.
 *
 *   unanswered    from the entry until its completion. The slices are pinned; the chain keeps its
 *                 bytes until the completion says how many were sent
 *   in flight     the completion had the flag MORE: the kernel still reads. Pinned
 *   landed        the notification came, or the completion had no such flag: unpinned and freed
 *
 * One send of a sender is unanswered at most, so what a chain begins with belongs to one send. Any
 * number is in flight, and lands in any order: each completion names its send by address. Only
 * flags decide: a send that failed may be in flight, one that succeeded need not be.
 */
#include "io/pace.h"
#include "io/send.h"
#include "io/thresholds.h"
#include "io/uring_abi.h"
#include "io/uring_table.h"

#include "base/bits.h"
#include "base/check.h"
#include "buffer/chain.h"
#include "pool/api.h"
#include "pool/gauge.h"

#include <berth/uring.h>

#include <errno.h>
#include <sys/socket.h>

enum {
    ENTRIES_MAX = 64,    /* of one send */
    BYTES_MAX = 1 << 30, /* of one send: a result has 31 bits */
    TRICKLE = 16384,     /* what each sender has in flight beyond the bound of the pool */
    SPARE_SLICES = 4,    /* of the record that a sender keeps for its next send */
    ALONE_MIN = 32768,   /* registered bytes before others that are worth a send of their own */
    MARKS = 16,          /* records are aligned to that */
};

struct berth_uring_sender {
    berth_pool *pool;
    void *context;
    uint64_t in_flight_max;
    size_t threshold_bytes;
    size_t fixed_bytes; /* the same for memory in the table */
    berth_uring_table *table;
    int fd;
    uint32_t mark;
    bool has_ended;
    struct berth__pace pace;
    struct send *unanswered;
    struct send *spare;        /* one that has landed, for SPARE_SLICES slices */
    struct berth_chain *chain; /* of that one */
    uint32_t in_flight;        /* sends that have not landed */
    uint64_t in_flight_bytes;
};

/* In one block: the record, a pin for each slice, the entries for the kernel. */
struct send {
    struct berth_uring_sender *sender;
    uint64_t bytes;
    uint64_t counted; /* of these, in the pool */
    uint32_t count;
    uint32_t capacity; /* slices that there is room for */
    bool copies;       /* nothing is in flight behind its completion */
    bool has_notified; /* before its completion, which the kernel does not promise not to happen */
    struct msghdr message;
    struct berth_slice pins[];
};

static struct iovec *entries_of(struct send *send) {
    return (struct iovec *)(void *)&send->pins[send->count];
}

/* ---- making and ending ---- */

static bool options_are_valid(const struct berth_uring_sender_options *options) {
    return options->struct_size >= sizeof(*options) && options->mark < MARKS;
}

berth_uring_sender *berth_uring_sender_create(berth_pool *pool, int fd,
                                              const struct berth_uring_sender_options *options) {
    static const struct berth_uring_sender_options defaults = BERTH_URING_SENDER_INIT;
    options = options == NULL ? &defaults : options;
    unsigned has = berth_uring_features();
    if (!options_are_valid(options) || (has & BERTH_URING_HAS_RING) == 0) {
        errno = options_are_valid(options) ? berth__uring_missing() : EINVAL;
        return NULL;
    }
    struct berth_uring_sender *sender = berth_alloc(pool, sizeof(*sender));
    if (sender == NULL) {
        return NULL;
    }
    size_t threshold = options->threshold != 0 ? options->threshold : berth__thresholds().send_zc;
    *sender = (struct berth_uring_sender){
        .pool = pool,
        .context = options->context,
        .in_flight_max = options->in_flight_max != 0 ? options->in_flight_max : UINT64_MAX,
        .threshold_bytes = threshold,
        .fixed_bytes = options->threshold != 0 ? options->threshold : berth__thresholds().fixed,
        .table = options->table,
        .fd = fd,
        .mark = options->mark,
        .pace = berth__pace_of((has & BERTH_URING_HAS_SEND_ZC) != 0),
    };
    return sender;
}

unsigned berth_uring_sender_in_flight(const berth_uring_sender *sender) {
    return sender->in_flight;
}

static void drop_spare(struct berth_uring_sender *sender) {
    berth_free(sender->spare);
    sender->spare = NULL;
}

static void free_if_over(struct berth_uring_sender *sender) {
    if (sender->has_ended && sender->in_flight == 0) {
        berth_free(sender);
    }
}

void berth_uring_sender_end(berth_uring_sender *sender) {
    sender->has_ended = true;
    drop_spare(sender);
    sender->chain = NULL;
    sender->context = NULL;
    free_if_over(sender);
}

/* ---- sending ---- */

static struct send *new_send(struct berth_uring_sender *sender, uint32_t slices) {
    struct send *send = sender->spare;
    if (send != NULL && slices <= SPARE_SLICES) {
        sender->spare = NULL;
        return send;
    }
    size_t each = sizeof(struct berth_slice) + sizeof(struct iovec);
    uint32_t capacity = slices < SPARE_SLICES ? SPARE_SLICES : slices;
    send = berth_alloc(sender->pool, sizeof(*send) + capacity * each);
    if (send != NULL) {
        send->capacity = capacity;
    }
    return send;
}

static void end_send(struct send *send) {
    struct berth_uring_sender *sender = send->sender;
    if (!sender->has_ended && sender->spare == NULL && send->capacity == SPARE_SLICES) {
        sender->spare = send;
    } else {
        berth_free(send);
    }
}

/* Pins what a batch views, and copies its entries: the kernel may read those after the submission.
 */
static struct send *begin_send(struct berth_uring_sender *sender, const struct berth_chain *chain,
                               const struct iovec *entries, struct berth__batch batch) {
    struct send *send = new_send(sender, batch.count);
    if (send == NULL) {
        return NULL;
    }
    BERTH_ASSERT((uintptr_t)send % MARKS == 0);
    send->sender = sender;
    send->bytes = batch.bytes;
    send->count = batch.count;
    send->has_notified = false;
    for (unsigned i = 0; i < batch.count; i++) {
        send->pins[i] = berth_slice_pin(berth__chain_at(chain, i));
        entries_of(send)[i] = entries[i];
    }
    send->message = (struct msghdr){.msg_iov = entries_of(send), .msg_iovlen = batch.count};
    return send;
}

/* The entries that a batch begins with and that lie in one slot, as far as the kernel sends
 * several: what there is then. */
static struct berth__batch registered_part(const struct berth_uring_sender *sender,
                                           const struct iovec *entries, struct berth__batch batch,
                                           int slot) {
    bool many = (berth_uring_features() & BERTH_URING_HAS_FIXED_MANY) != 0;
    struct berth__batch part = {.count = 1, .bytes = entries[0].iov_len};
    while (many && part.count < batch.count) {
        const struct iovec *next = &entries[part.count];
        if (berth__uring_table_slot(sender->table, next->iov_base, next->iov_len) != slot) {
            break;
        }
        part.bytes += next->iov_len;
        part.count++;
    }
    return part;
}

/* The slot of the table that a send can use, of all there is, or of what comes first and is worth a
 * send of its own: that is left of the batch then. -1: none. */
static int slot_of(const struct berth_uring_sender *sender, const struct iovec *entries,
                   struct berth__batch *batch) {
    bool can = sender->table != NULL && berth__pace_is_trying(&sender->pace);
    if (!can || batch->bytes < sender->fixed_bytes) {
        return -1;
    }
    int slot = berth__uring_table_slot(sender->table, entries[0].iov_base, entries[0].iov_len);
    if (slot < 0) {
        return -1;
    }
    struct berth__batch part = registered_part(sender, entries, *batch, slot);
    if (part.count < batch->count && part.bytes < ALONE_MIN) {
        return -1;
    }
    *batch = part;
    return slot;
}

static bool should_not_copy(struct berth_uring_sender *sender, struct berth__batch batch,
                            int slot) {
    bool can = batch.count == 1 || (berth_uring_features() & BERTH_URING_HAS_SENDMSG_ZC) != 0;
    size_t threshold = slot >= 0 ? sender->fixed_bytes : sender->threshold_bytes;
    return can && batch.bytes >= threshold && batch.bytes / batch.count >= BERTH_AVERAGE_MIN &&
           berth__pace_tries(&sender->pace);
}

/* For the metrics. */
static void count_uncopied(const struct send *send, int64_t more) {
    if (!send->copies) {
        berth_gauge_add(BERTH_GAUGE_IN_FLIGHT_BYTES, more);
    }
}

static void fill_in(struct send *send, int slot, struct io_uring_sqe *sqe) {
    struct berth_uring_sender *sender = send->sender;
    const struct iovec *first = entries_of(send);
    bool one = send->count == 1;
    struct berth__sqe entry = {
        .fd = sender->fd,
        .addr = (uint64_t)(uintptr_t)(one ? first->iov_base : (void *)&send->message),
        .len = one ? (uint32_t)first->iov_len : 1,
        .op_flags = MSG_NOSIGNAL | MSG_WAITALL,
        .user_data = (uint64_t)(uintptr_t)send | sender->mark,
    };
    if (send->copies) {
        entry.opcode = one ? BERTH_URING_OP_SEND : BERTH_URING_OP_SENDMSG;
    } else {
        entry.opcode = one ? BERTH_URING_OP_SEND_ZC : BERTH_URING_OP_SENDMSG_ZC;
        entry.ioprio =
            (berth_uring_features() & BERTH_URING_HAS_USAGE) != 0 ? BERTH_URING_REPORT_USAGE : 0;
    }
    if (!send->copies && slot >= 0) {
        entry.ioprio |= BERTH_URING_FIXED_BUF;
        entry.buf_index = (uint16_t)slot;
    }
    berth__sqe_put(sqe, &entry);
}

int berth_uring_sender_send(berth_uring_sender *sender, struct berth_chain *chain, uint64_t most,
                            struct io_uring_sqe *sqe) {
    if (sender->unanswered != NULL) {
        return -EBUSY;
    }
    if (most == 0 || berth_chain_length(chain) == 0) {
        return -ENODATA;
    }
    if (sender->in_flight_bytes >= sender->in_flight_max) {
        return -EAGAIN;
    }
    struct iovec entries[ENTRIES_MAX];
    uint64_t bound = berth__min(most, (uint64_t)BYTES_MAX);
    struct berth__batch batch = berth__batch_of(chain, entries, ENTRIES_MAX, bound);
    if (batch.count == 0) {
        return -EOPNOTSUPP;
    }
    int slot = slot_of(sender, entries, &batch);
    bool counted = berth_pool_flight_begin(sender->pool, batch.bytes);
    if (!counted && sender->in_flight > 0) {
        return -EAGAIN;
    }
    if (!counted) {
        batch = berth__batch_of(chain, entries, ENTRIES_MAX, berth__min(bound, (uint64_t)TRICKLE));
        slot = -1; /* that was of another batch */
    }
    struct send *send = begin_send(sender, chain, entries, batch);
    if (send == NULL) {
        berth_pool_flight_end(sender->pool, counted ? batch.bytes : 0);
        return -ENOMEM;
    }
    send->counted = counted ? batch.bytes : 0;
    send->copies = !should_not_copy(sender, batch, slot);
    sender->unanswered = send;
    sender->chain = chain;
    sender->in_flight++;
    sender->in_flight_bytes += send->bytes;
    count_uncopied(send, (int64_t)send->bytes);
    fill_in(send, slot, sqe);
    return 0;
}

/* ---- completions ---- */

/* A callback of wrapped memory may send, and may end the sender: so the bytes are off first, and
 * the sends last. */
static void land(struct send *send) {
    struct berth_uring_sender *sender = send->sender;
    sender->in_flight_bytes -= send->bytes;
    count_uncopied(send, -(int64_t)send->bytes);
    berth_pool_flight_end(sender->pool, send->counted);
    for (uint32_t i = 0; i < send->count; i++) {
        berth_slice_unpin(&send->pins[i]);
    }
    end_send(send);
    sender->in_flight--;
    free_if_over(sender);
}

/* What a failed try to send without copying means: true if the send is to be tried again. */
static bool is_of_the_way(struct berth_uring_sender *sender, int32_t error) {
    if (error == -EOPNOTSUPP) {
        sender->pace.zero_copy = false;
    } else if (error == -ENOMEM || error == -ENOBUFS) {
        berth__pace_crowd(&sender->pace);
    } else {
        return false;
    }
    return true;
}

static int64_t answer(struct send *send, int32_t res) {
    struct berth_uring_sender *sender = send->sender;
    BERTH_CHECK(sender->unanswered == send, "a completion of a send came twice");
    sender->unanswered = NULL;
    if (res > 0 && sender->chain != NULL) {
        (void)berth_chain_consume(sender->chain, (uint64_t)res);
    }
    sender->chain = NULL;
    return res < 0 && !send->copies && is_of_the_way(sender, res) ? 0 : res;
}

void berth_uring_sender_complete(uint64_t user_data, int32_t res, uint32_t flags,
                                 struct berth_uring_sent *sent) {
    struct send *send = (struct send *)(uintptr_t)(user_data & ~(uint64_t)(MARKS - 1));
    struct berth_uring_sender *sender = send->sender;
    *sent = (struct berth_uring_sent){.context = sender->context};
    bool more;
    if ((flags & BERTH_URING_F_NOTIF) != 0) {
        berth__pace_landed(&sender->pace, ((uint32_t)res & BERTH_URING_USAGE_COPIED) != 0);
        send->has_notified = true;
        more = sender->unanswered == send;
    } else {
        sent->result = answer(send, res);
        sent->answered = true;
        more = (flags & BERTH_URING_F_MORE) != 0 && !send->has_notified;
    }
    sent->landed = !more;
    if (!more) {
        land(send);
    }
}
