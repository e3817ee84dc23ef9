/*
 * Receiving into chains, and how much memory that gets.
 *
 * The size of pieces follows a connection as Netty's adaptive receive buffers do: quickly up, since
 * too small a piece costs a system call each time; slowly down, since too large a one costs memory
 * that the chain keeps, and no more than four times what arrived.
 */
#include "io/socket.h"

#include "base/bits.h"
#include "buffer/chain.h"

#include <berth/io.h>

#include <errno.h>

enum {
    PIECE_FIRST = 2048,
    PIECE_LEAST = 64,
    PIECE_MOST = 1 << 30,
    GROWTH = 4,
    SMALL_IN_A_ROW = 2, /* one short message among long ones says nothing */
    SPARSE = 4
};

static uint32_t power_of_two_up(size_t bytes) {
    uint32_t power = PIECE_LEAST;
    while (power < bytes) {
        power *= 2;
    }
    return power;
}

static uint32_t power_of_two_down(size_t bytes) {
    uint32_t power = PIECE_LEAST;
    while (power * (uint64_t)2 <= bytes) {
        power *= 2;
    }
    return power;
}

int berth_receiver_init(struct berth_receiver *receiver, size_t least, size_t most) {
    size_t low = least != 0 ? least : BERTH_RECEIVE_LEAST;
    size_t high = most != 0 ? most : BERTH_RECEIVE_MOST;
    if (low > PIECE_MOST || high > PIECE_MOST || high < PIECE_LEAST) {
        return -EINVAL;
    }
    uint32_t from = power_of_two_up(low);
    uint32_t to = power_of_two_down(high);
    if (from > to) {
        return -EINVAL;
    }
    uint32_t first = from > PIECE_FIRST ? from : PIECE_FIRST;
    *receiver =
        (struct berth_receiver){.next_ = first < to ? first : to, .least_ = from, .most_ = to};
    return 0;
}

size_t berth_receiver_next(const struct berth_receiver *receiver) {
    return receiver->next_;
}

/* Learns from a call that had room for `offered` bytes, at least as many as the next piece's. */
static void learn(struct berth_receiver *receiver, size_t got, size_t offered) {
    uint32_t next = receiver->next_;
    if (got == offered) {
        receiver->next_ = next > receiver->most_ / GROWTH ? receiver->most_ : next * GROWTH;
        receiver->small_ = 0;
    } else if (got > next / 2) {
        receiver->small_ = 0;
    } else if (++receiver->small_ == SMALL_IN_A_ROW) {
        receiver->next_ = next / 2 < receiver->least_ ? receiver->least_ : next / 2;
        receiver->small_ = 0;
    }
}

/* Puts a piece of which `got` bytes were filled at the end of a chain that has room for it. Without
 * memory for a smaller block it keeps the large one. */
static void keep(struct berth_chain *chain, struct berth_slice *piece, size_t got) {
    size_t bytes = piece->length;
    if (got == 0) {
        berth_slice_release(piece);
        return;
    }
    berth__slice_resize(piece, (uint32_t)got);
    if (got < bytes / SPARSE) {
        (void)berth_slice_compact(chain->pool_, piece, SPARSE);
    }
    berth__chain_push_back(chain, *piece);
}

/* A readv into the room behind the last slice, if there is any, and a piece, if there is one. */
static ssize_t fill(int fd, struct berth_chain *chain, size_t room, struct berth_slice *piece) {
    struct berth_slice *last = berth__chain_last(chain);
    struct iovec entries[2];
    unsigned count = 0;
    if (room > 0) {
        unsigned char *end = (unsigned char *)(uintptr_t)last->data + last->length;
        entries[count++] = (struct iovec){.iov_base = end, .iov_len = room};
    }
    if (piece->length > 0) {
        void *start = (void *)(uintptr_t)piece->data;
        entries[count++] = (struct iovec){.iov_base = start, .iov_len = piece->length};
    }
    ssize_t got = berth__socket_receive(fd, entries, count);
    size_t behind = got > 0 ? berth__min((size_t)got, room) : 0;
    if (behind > 0) {
        berth__slice_resize(last, last->length + (uint32_t)behind);
        chain->length_ += behind;
    }
    if (piece->length > 0) {
        keep(chain, piece, got > 0 ? (size_t)got - behind : 0);
    }
    return got;
}

int64_t berth_io_receive(int fd, struct berth_chain *chain, struct berth_receiver *receiver) {
    int error = berth__chain_reserve(chain, 1);
    if (error != 0) {
        return error;
    }
    const struct berth_slice *last = berth__chain_last(chain);
    size_t room = last == NULL ? 0 : berth__segment_room_behind(last);
    struct berth_slice piece = BERTH_SLICE_EMPTY;
    if (room < receiver->next_) {
        error = berth_slice_alloc(chain->pool_, receiver->next_, &piece);
    }
    if (error != 0 && room == 0) {
        return error;
    }
    size_t offered = room + piece.length;
    ssize_t got = fill(fd, chain, room, &piece);
    if (got > 0) {
        learn(receiver, (size_t)got, offered);
    }
    return got;
}

/* The whole block of a piece again, if nobody views any of it any more: it is what the processor's
 * caches have. */
static bool rewound(struct berth_slice *piece) {
    struct berth_owner *owner = berth__slice_owner(piece);
    if (owner == NULL || owner->kind != BERTH_OWNER_BLOCK || !berth__owner_may_write(owner)) {
        return false;
    }
    piece->data = owner->memory;
    berth__slice_resize(piece, (uint32_t)owner->bytes);
    return true;
}

int berth_io_renew(berth_pool *pool, struct berth_slice *piece, size_t bytes) {
    size_t wanted = bytes != 0 ? bytes : (size_t)BERTH_RECEIVE_SHARED;
    bool enough = rewound(piece) ? piece->length >= wanted : piece->length >= wanted / SPARSE;
    if (enough && piece->length > 0) {
        return 0;
    }
    struct berth_slice another;
    int error = berth_slice_alloc(pool, wanted, &another);
    if (error == 0) {
        berth_slice_release(piece);
        *piece = another;
    }
    return error == -EMSGSIZE ? -EINVAL : error;
}

int64_t berth_io_receive_shared(int fd, struct berth_chain *chain, struct berth_slice *piece,
                                size_t bytes) {
    int error = berth__chain_reserve(chain, 1);
    error = error != 0 ? error : berth_io_renew(chain->pool_, piece, bytes);
    if (error != 0) {
        return error;
    }
    struct iovec entry = {.iov_base = (void *)(uintptr_t)piece->data, .iov_len = piece->length};
    ssize_t got = berth__socket_receive(fd, &entry, 1);
    if (got > 0) {
        struct berth_slice filled;
        (void)berth_slice_split(piece, (size_t)got, &filled);
        berth__chain_push_back(chain, filled);
    }
    return got;
}
