/*
 * Rings of buffers for receiving: memory of a pool, in the kernel's hands, in the program's, or on
 * its way back.
 *
 * A buffer is a block of the pool, pinned from its making to its end. It is
 *   spare       in a list of the ring's thread
 *   provided    in a place of the ring, as a wrapped slice (place.whole): the kernel may write it
 *   in use      its slices are the program's. A buffer that is used in parts is provided as well:
 *               place.whole is a reference among those of its slices
 *   returned    the last slice was released, by any thread: in the stack `returned`
 *
 * Places are filled in turn, and the kernel empties them in turn, so that a buffer's number is its
 * place; a place is filled again when the completion that emptied it was digested. The buffers of
 * one completion are in places one after another.
 *
 * `returned` is one word: NULL; WANTED (empty, and who puts something there calls the hook); CLOSED
 * (the ring has ended; who comes frees his buffer); or the first of a list of buffers, linked in
 * their own memory.
 *
 *   from               to        by
 *   NULL, list         list      any thread, a buffer comes back: compare-and-set, release (P1)
 *   WANTED             list      the same; that thread calls the hook
 *   list               NULL      the ring's thread takes all: exchange, acquire (P2)
 *   NULL               WANTED    the ring's thread: compare-and-set, so it has missed nothing
 *   NULL, WANTED, list CLOSED    the ring's thread, once: exchange, acquire (P2)
 *
 * Nothing is ever taken from the middle, and all at once: no ABA. P2 reads what P1 wrote, or what
 * came later in its release sequence. What was read or written through slices came before by their
 * counts (B2, B3 in buffer/owner.h), and so before the kernel writes the buffer again.
 *
 * The record lives as long as buffers do: holds = 1 while the ring is open + buffers that there
 * are. Who frees the last one frees it. A thread that dies has nothing here; in the child of a fork
 * the ring is the parent's, and buffers that come back wait for good.
 */
#include "io/uring_abi.h"

#include "base/atomics.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/poison.h"
#include "buffer/chain.h"
#include "os/pages.h"

#include <berth/uring.h>

#include <errno.h>
#include <unistd.h>

enum {
    ENTRIES_DEFAULT = 256,
    ENTRIES_MAX = 32768,
    BYTES_DEFAULT = 16384,
    BYTES_MIN = 64,
    BYTES_MAX = 1 << 30,
    GROUP_MAX = 65535,
};

/* A buffer that is spare or returned. */
struct node {
    struct node *next;
};

static struct node wanted_mark, closed_mark;
#define WANTED (&wanted_mark)
#define CLOSED (&closed_mark)

struct place {
    struct berth_slice whole; /* empty: nothing is provided here */
    uint32_t used;            /* bytes of it that were received */
};

struct berth_uring_buffers {
    berth_pool *pool;
    void (*hook)(void *context);
    void *context;
    struct berth__uring_buf *ring; /* what the kernel reads */
    int ring_fd;
    uint16_t group;
    uint16_t receive_flags;
    uint32_t mask; /* places - 1 */
    uint32_t tail; /* the next place to fill, modulo 2^32 */
    uint32_t provided;
    uint32_t total, most; /* buffers */
    uint32_t receiving;   /* receives that are not over */
    size_t bytes;
    struct node *spare;
    _Atomic(struct node *) returned;
    _Atomic uint32_t holds;
    struct place places[];
};

/* ---- buffers ---- */

static void let_go(struct berth_uring_buffers *buffers) {
    if (berth__sub_acq_rel(&buffers->holds, 1) == 1) {
        berth_free(buffers);
    }
}

static void free_buffer(struct berth_uring_buffers *buffers, void *data) {
    berth__unpoison(data, buffers->bytes);
    berth_unpin(data);
    berth_free(data);
    let_go(buffers);
}

static void free_list(struct berth_uring_buffers *buffers, struct node *node) {
    while (node != NULL) {
        struct node *next = node->next;
        free_buffer(buffers, node);
        node = next;
    }
}

/* The last slice of a buffer was released. The record may be gone as soon as the buffer is in the
 * stack. */
static void come_back(void *context, void *data, size_t length) {
    struct berth_uring_buffers *buffers = context;
    void (*hook)(void *) = buffers->hook;
    void *hook_context = buffers->context;
    struct node *node = data;
    berth__poison((char *)data + sizeof(*node), length - sizeof(*node));
    struct node *head = berth__load_acquire(&buffers->returned);
    do {
        if (head == CLOSED) {
            free_buffer(buffers, data);
            return;
        }
        node->next = head == WANTED ? NULL : head;
    } while (!berth__cas_acq_rel(&buffers->returned, &head, node)); /* P1 */
    if (head == WANTED && hook != NULL) {
        hook(hook_context);
    }
}

/* A buffer, spare, returned or new; NULL: there is none to be had. */
static struct node *get_buffer(struct berth_uring_buffers *buffers) {
    struct node *head = berth__load_relaxed(&buffers->returned);
    if (buffers->spare == NULL && head != NULL && head != WANTED) {
        buffers->spare = berth__exchange_acquire(&buffers->returned, NULL); /* P2 */
    }
    struct node *node = buffers->spare;
    if (node != NULL) {
        buffers->spare = node->next;
    } else if (buffers->total < buffers->most) {
        node = berth_alloc(buffers->pool, buffers->bytes);
        if (node != NULL) {
            berth_pin(node);
            berth__poison((char *)node + sizeof(*node), buffers->bytes - sizeof(*node));
            berth__add_relaxed(&buffers->holds, 1);
            buffers->total++;
        }
    }
    return node;
}

/* The next place is empty: its completion was digested. */
static bool can_provide(const struct berth_uring_buffers *buffers) {
    return buffers->places[buffers->tail & buffers->mask].whole.owner_ == NULL;
}

/* Fills the next place; false: it is not empty, or there is no buffer. */
static bool provide_one(struct berth_uring_buffers *buffers) {
    uint32_t at = buffers->tail & buffers->mask;
    struct place *place = &buffers->places[at];
    struct node *node = can_provide(buffers) ? get_buffer(buffers) : NULL;
    if (node == NULL) {
        return false;
    }
    int error =
        berth_slice_wrap(buffers->pool, node, buffers->bytes, come_back, buffers, &place->whole);
    if (error != 0) {
        node->next = buffers->spare;
        buffers->spare = node;
        return false;
    }
    place->used = 0;
    struct berth__uring_buf *entry = &buffers->ring[at]; /* not its `tail` */
    entry->at = (uint64_t)(uintptr_t)node;
    entry->length = (uint32_t)buffers->bytes;
    entry->id = (uint16_t)at;
    buffers->tail++;
    buffers->provided++;
    return true;
}

static void provide(struct berth_uring_buffers *buffers) {
    uint32_t before = buffers->tail;
    while (provide_one(buffers)) {
    }
    if (buffers->tail != before) {
        _Atomic uint16_t *tail = (_Atomic uint16_t *)(void *)&buffers->ring[0].tail;
        berth__store_release(tail, (uint16_t)buffers->tail); /* pairs with the kernel's load */
    }
}

unsigned berth_uring_buffers_refill(berth_uring_buffers *buffers, unsigned wanted) {
    provide(buffers);
    while (buffers->provided < wanted && can_provide(buffers)) {
        struct node *head = NULL;
        if (berth__cas_acq_rel(&buffers->returned, &head, WANTED) || head == WANTED) {
            break; /* else one came back meanwhile */
        }
        provide(buffers);
    }
    return buffers->provided;
}

/* ---- making and ending ---- */

static bool is_within(size_t value, size_t least, size_t most) {
    return value >= least && value <= most;
}

/* Fills in the defaults; false: an option is out of range. */
static bool complete_options(struct berth_uring_buffers_options *options) {
    options->entries = options->entries != 0 ? options->entries : ENTRIES_DEFAULT;
    options->most = options->most != 0 ? options->most : 2 * options->entries;
    options->bytes = options->bytes != 0 ? options->bytes : BYTES_DEFAULT;
    return options->struct_size >= sizeof(*options) && options->group <= GROUP_MAX &&
           is_within(options->entries, 1, ENTRIES_MAX) && berth__is_power_of_2(options->entries) &&
           options->most >= options->entries && is_within(options->bytes, BYTES_MIN, BYTES_MAX);
}

static uint16_t flags_of_receives(const struct berth_uring_buffers_options *options) {
    unsigned has = berth_uring_features();
    uint16_t flags = (has & BERTH_URING_HAS_MULTISHOT) != 0 ? BERTH_URING_RECV_MULTISHOT : 0;
    bool bundles = options->bundles != 0 && (has & BERTH_URING_HAS_BUNDLES) != 0;
    return bundles ? (uint16_t)(flags | BERTH_URING_BUNDLE) : flags;
}

/* The record and the ring's memory; NULL without memory. */
static struct berth_uring_buffers *allocate(berth_pool *pool, int ring_fd,
                                            const struct berth_uring_buffers_options *options) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t ring_bytes = berth__round_up(options->entries * sizeof(struct berth__uring_buf), page);
    size_t bytes = sizeof(struct berth_uring_buffers) + options->entries * sizeof(struct place);
    struct berth_uring_buffers *buffers = berth_alloc_flags(pool, bytes, BERTH_ZERO);
    void *ring = buffers == NULL ? NULL : berth_alloc_aligned(pool, page, ring_bytes);
    if (ring == NULL) {
        berth_free(buffers);
        return NULL;
    }
    memset(ring, 0, ring_bytes);
    berth_pin(ring);
    buffers->pool = pool;
    buffers->hook = options->returned;
    buffers->context = options->context;
    buffers->ring = ring;
    buffers->ring_fd = ring_fd;
    buffers->group = (uint16_t)options->group;
    buffers->receive_flags = flags_of_receives(options);
    buffers->mask = options->entries - 1;
    buffers->most = options->most;
    buffers->bytes = options->bytes;
    berth__store_relaxed(&buffers->holds, 1);
    return buffers;
}

/* The kernel has no place of the ring any more. */
static void close_buffers(struct berth_uring_buffers *buffers) {
    berth_unpin(buffers->ring);
    berth_free(buffers->ring);
    struct node *head = berth__exchange_acquire(&buffers->returned, CLOSED); /* P2 */
    free_list(buffers, head == WANTED ? NULL : head);
    free_list(buffers, buffers->spare);
    for (uint32_t i = 0; i <= buffers->mask; i++) {
        berth_slice_release(&buffers->places[i].whole);
    }
    let_go(buffers);
}

static int register_ring(const struct berth_uring_buffers *buffers, bool in_parts) {
    const struct berth__uring_ring ring = {
        .at = (uint64_t)(uintptr_t)buffers->ring,
        .entries = buffers->mask + 1,
        .group = buffers->group,
        .flags = in_parts ? BERTH_URING_RING_INC : 0,
    };
    return berth__uring_register(buffers->ring_fd, BERTH_URING_REGISTER_RING, &ring, 1);
}

static int unregister_ring(const struct berth_uring_buffers *buffers) {
    const struct berth__uring_ring ring = {.group = buffers->group};
    return berth__uring_register(buffers->ring_fd, BERTH_URING_UNREGISTER_RING, &ring, 1);
}

berth_uring_buffers *berth_uring_buffers_create(berth_pool *pool, int ring_fd,
                                                const struct berth_uring_buffers_options *options) {
    static const struct berth_uring_buffers_options defaults = BERTH_URING_BUFFERS_INIT;
    struct berth_uring_buffers_options wish = options == NULL ? defaults : *options;
    unsigned has = berth_uring_features();
    if (!complete_options(&wish) || (has & BERTH_URING_HAS_BUFFERS) == 0) {
        errno = complete_options(&wish) ? berth__uring_missing() : EINVAL;
        return NULL;
    }
    struct berth_uring_buffers *buffers = allocate(pool, ring_fd, &wish);
    if (buffers == NULL) {
        return NULL;
    }
    provide(buffers);
    bool in_parts = wish.in_parts != 0 && (has & BERTH_URING_HAS_PARTS) != 0;
    int error = buffers->provided <= buffers->mask ? -ENOMEM : register_ring(buffers, in_parts);
    if (error != 0) {
        close_buffers(buffers);
        errno = -error;
        return NULL;
    }
    return buffers;
}

int berth_uring_buffers_destroy(berth_uring_buffers *buffers, unsigned flags) {
    if ((flags & ~(unsigned)BERTH_FORCE) != 0) {
        return -EINVAL;
    }
    if ((flags & BERTH_FORCE) != 0) {
        return 0; /* all stays as it is: nobody says when the kernel is done */
    }
    int error = buffers->receiving > 0 ? -EBUSY : unregister_ring(buffers);
    if (error == 0) {
        close_buffers(buffers);
    }
    return error;
}

/* ---- receiving ---- */

void berth_uring_buffers_receive(berth_uring_buffers *buffers, int fd, struct io_uring_sqe *sqe) {
    const struct berth__sqe entry = {
        .opcode = BERTH_URING_OP_RECV,
        .flags = BERTH_URING_BUFFER_SELECT,
        .ioprio = buffers->receive_flags,
        .fd = fd,
        .buf_index = buffers->group,
    };
    buffers->receiving++;
    berth__sqe_put(sqe, &entry);
}

/* The next `bytes` of the buffer in a place, as a slice; `is_last`: the kernel writes it no more.
 */
static struct berth_slice take_part(struct berth_uring_buffers *buffers, struct place *place,
                                    uint32_t bytes, bool is_last) {
    struct berth_slice part = is_last ? place->whole : berth_slice_retain(&place->whole);
    part.data += place->used;
    berth__slice_resize(&part, bytes);
    berth__unpoison(part.data, bytes);
    place->used += bytes;
    if (is_last) {
        place->whole = (struct berth_slice)BERTH_SLICE_EMPTY;
        buffers->provided--;
    }
    return part;
}

/* Takes what a completion named: `bytes` from the buffer with a number, and those behind it.
 * `more`: of the last one, something is left to the kernel. */
static int64_t take(struct berth_uring_buffers *buffers, uint32_t id, uint32_t bytes, bool more,
                    struct berth_chain *chain) {
    uint32_t left = bytes;
    int error = 0;
    do {
        struct place *place = &buffers->places[id++ & buffers->mask];
        BERTH_CHECK(place->whole.owner_ != NULL, "a completion names a buffer that is not there");
        uint32_t part_bytes = (uint32_t)berth__min(left, place->whole.length - place->used);
        left -= part_bytes;
        struct berth_slice part = take_part(buffers, place, part_bytes, left > 0 || !more);
        error = error != 0 ? error : berth__chain_reserve(chain, 1);
        if (error != 0 || part_bytes == 0) {
            berth_slice_release(&part);
        } else {
            berth__chain_push_back(chain, part);
        }
    } while (left > 0);
    return error != 0 ? error : (int64_t)bytes;
}

void berth_uring_buffers_complete(berth_uring_buffers *buffers, int32_t res, uint32_t flags,
                                  struct berth_chain *chain,
                                  struct berth_uring_received *received) {
    *received = (struct berth_uring_received){.result = res};
    if ((flags & BERTH_URING_F_BUFFER) != 0) {
        bool more = (flags & BERTH_URING_F_BUF_MORE) != 0;
        int64_t taken = take(buffers, flags >> BERTH_URING_BUFFER_SHIFT,
                             res > 0 ? (uint32_t)res : 0, more, chain);
        received->result = res > 0 ? taken : res;
    }
    if ((flags & BERTH_URING_F_MORE) == 0) {
        received->is_over = true;
        received->is_starved = res == -ENOBUFS;
        BERTH_CHECK(buffers->receiving > 0, "a receive was over twice");
        buffers->receiving--;
    }
    provide(buffers);
}
