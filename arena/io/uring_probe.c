/*
 * What the kernel can do with rings.
 *
 * Asked by trying, on a ring of this file's own: an operation on descriptor -1 answers -EBADF if
 * all else about it is known, and -EINVAL if not. That also finds what has no number to ask for,
 * such as flags.
 */
#include "io/uring_abi.h"

#include "base/atomics.h"
#include "base/bits.h"
#include "os/file.h"

#include <berth/uring.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ENTRIES = 2, OFFSET_OF_ENTRIES = 0x10000000, SINGLE_MAP = 1 };

/* What io_uring_setup fills in. */
struct parameters {
    uint32_t entries, completions, flags, cpu, idle, features, wq_fd, unused[3];
    struct {
        uint32_t head, tail, mask, entries, flags, dropped, array, unused;
        uint64_t at;
    } sq;
    struct {
        uint32_t head, tail, mask, entries, overflow, cqes, flags, unused;
        uint64_t at;
    } cq;
};
_Static_assert(sizeof(struct parameters) == 120, "the kernel's layout");

struct ring {
    int fd;
    struct parameters is;
    char *map;
    size_t map_bytes;
    struct berth__sqe *sqes;
    bool was_short; /* of memory or descriptors: what it said it cannot do, it may do later */
};

static long result_of(long result, int saved_errno) {
    long answer = result < 0 ? -errno : result;
    errno = saved_errno;
    return answer;
}

int berth__uring_register(int ring_fd, unsigned opcode, const void *argument, unsigned count) {
    int saved_errno = errno;
    return (int)result_of(syscall(BERTH_URING_REGISTER, ring_fd, opcode, argument, count),
                          saved_errno);
}

/* Whether a failure is for a reason that passes. */
static bool may_pass(int error) {
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == EAGAIN;
}

/* ---- a ring ---- */

static void close_ring(struct ring *ring) {
    if (ring->sqes != MAP_FAILED) {
        munmap(ring->sqes, ENTRIES * sizeof(*ring->sqes));
    }
    if (ring->map != MAP_FAILED) {
        munmap(ring->map, ring->map_bytes);
    }
    berth__file_close(ring->fd);
}

static void *map(const struct ring *ring, size_t bytes, off_t offset) {
    return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd, offset);
}

static bool open_ring(struct ring *ring) {
    *ring = (struct ring){.fd = -1, .map = MAP_FAILED, .sqes = MAP_FAILED};
    ring->fd = (int)syscall(BERTH_URING_SETUP, ENTRIES, &ring->is);
    ring->was_short = ring->fd < 0 && may_pass(errno);
    if (ring->fd < 0 || (ring->is.features & SINGLE_MAP) == 0) {
        berth__file_close(ring->fd);
        return false;
    }
    size_t submissions = ring->is.sq.array + ring->is.entries * sizeof(uint32_t);
    size_t completions = ring->is.cq.cqes + ring->is.completions * sizeof(struct berth__cqe);
    ring->map_bytes = berth__max(submissions, completions);
    ring->map = map(ring, ring->map_bytes, 0);
    ring->sqes = map(ring, ENTRIES * sizeof(*ring->sqes), OFFSET_OF_ENTRIES);
    if (ring->map == MAP_FAILED || ring->sqes == MAP_FAILED) {
        ring->was_short = true;
        close_ring(ring);
        return false;
    }
    return true;
}

static _Atomic uint32_t *word(const struct ring *ring, uint32_t offset) {
    return (_Atomic uint32_t *)(void *)(ring->map + offset);
}

/* Takes completions off, and looks for the result of an entry. Sends may have another one each, the
 * notification, whenever it comes. */
static int32_t result_in(const struct ring *ring, uint64_t user_data) {
    _Atomic uint32_t *head = word(ring, ring->is.cq.head);
    uint32_t mask = berth__load_relaxed(word(ring, ring->is.cq.mask));
    uint32_t at = berth__load_relaxed(head);
    int32_t result = 0;
    for (; at != berth__load_acquire(word(ring, ring->is.cq.tail)); at++) {
        struct berth__cqe cqe;
        memcpy(&cqe, ring->map + ring->is.cq.cqes + (at & mask) * sizeof(cqe), sizeof(cqe));
        if (cqe.user_data == user_data && (cqe.flags & BERTH_URING_F_NOTIF) == 0) {
            result = cqe.res;
        }
    }
    berth__store_release(head, at);
    return result;
}

/* Whether the kernel knows an operation. It is done, and has failed, when the call returns. */
static bool knows(struct ring *ring, struct berth__sqe sqe) {
    _Atomic uint32_t *tail = word(ring, ring->is.sq.tail);
    uint32_t mask = berth__load_relaxed(word(ring, ring->is.sq.mask));
    uint32_t at = berth__load_relaxed(tail);
    sqe.fd = -1;
    sqe.user_data = at + 1;
    ring->sqes[0] = sqe;
    *((uint32_t *)(void *)(ring->map + ring->is.sq.array) + (at & mask)) = 0;
    berth__store_release(tail, at + 1);
    enum { WAIT = 1 };
    return syscall(BERTH_URING_ENTER, ring->fd, 1, 1, WAIT, NULL, 0) == 1 &&
           result_in(ring, sqe.user_data) == -EBADF;
}

/* ---- the questions ---- */

static unsigned ask_of_sends(struct ring *ring) {
    struct msghdr nothing = {.msg_iovlen = 0};
    struct berth__sqe send = {.opcode = BERTH_URING_OP_SEND_ZC};
    struct berth__sqe sendmsg = {
        .opcode = BERTH_URING_OP_SENDMSG_ZC, .addr = (uint64_t)(uintptr_t)&nothing, .len = 1};
    unsigned has = knows(ring, send) ? BERTH_URING_HAS_SEND_ZC : 0;
    send.ioprio = BERTH_URING_REPORT_USAGE;
    has |= knows(ring, send) ? BERTH_URING_HAS_USAGE : 0;
    has |= knows(ring, sendmsg) ? BERTH_URING_HAS_SENDMSG_ZC : 0;
    sendmsg.ioprio = BERTH_URING_FIXED_BUF;
    return has | (knows(ring, sendmsg) ? BERTH_URING_HAS_FIXED_MANY : 0);
}

static unsigned ask_of_receives(struct ring *ring) {
    struct berth__sqe receive = {.opcode = BERTH_URING_OP_RECV,
                                 .flags = BERTH_URING_BUFFER_SELECT,
                                 .ioprio = BERTH_URING_RECV_MULTISHOT};
    unsigned has = knows(ring, receive) ? BERTH_URING_HAS_MULTISHOT : 0;
    receive.ioprio = BERTH_URING_BUNDLE;
    return has | (knows(ring, receive) ? BERTH_URING_HAS_BUNDLES : 0);
}

/* Registers something for the time being: true if that was possible. */
static bool can_register(struct ring *ring, unsigned opcode, const void *argument, unsigned count) {
    int error = berth__uring_register(ring->fd, opcode, argument, count);
    ring->was_short |= error < 0 && may_pass(-error);
    return error == 0;
}

/* A ring of one buffer: whether there are any, and of the kind that `flags` say. */
static bool can_register_ring(struct ring *ring, void *page, uint16_t flags) {
    struct berth__uring_ring asked = {
        .at = (uint64_t)(uintptr_t)page, .entries = 1, .flags = flags};
    bool can = can_register(ring, BERTH_URING_REGISTER_RING, &asked, 1);
    if (can) {
        asked = (struct berth__uring_ring){.entries = 0};
        (void)berth__uring_register(ring->fd, BERTH_URING_UNREGISTER_RING, &asked, 1);
    }
    return can;
}

static unsigned ask_of_registering(struct ring *ring) {
    unsigned has = 0;
    size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page != MAP_FAILED) {
        has |= can_register_ring(ring, page, 0) ? BERTH_URING_HAS_BUFFERS : 0;
        has |= can_register_ring(ring, page, BERTH_URING_RING_INC) ? BERTH_URING_HAS_PARTS : 0;
        munmap(page, bytes);
    } else {
        ring->was_short = true;
    }
    struct berth__uring_clone clone = {.source_fd = UINT32_MAX};
    if (berth__uring_register(ring->fd, BERTH_URING_CLONE, &clone, 1) == -EBADF) {
        has |= BERTH_URING_HAS_CLONES;
    }
    struct berth__uring_buffers table = {.count = 1, .flags = BERTH_URING_SPARSE};
    if (can_register(ring, BERTH_URING_REGISTER_BUFFERS2, &table, sizeof(table))) {
        has |= BERTH_URING_HAS_FIXED;
    }
    return has;
}

/* *was_short: the answer may be another one later. */
static unsigned ask(bool *was_short) {
    struct ring ring;
    unsigned has = 0;
    if (open_ring(&ring)) {
        has = BERTH_URING_HAS_RING | ask_of_sends(&ring) | ask_of_receives(&ring) |
              ask_of_registering(&ring);
        close_ring(&ring);
    }
    *was_short = ring.was_short;
    return has;
}

/* Two threads that come at once find the same, or the one that was not short. A limit that stays
 * is not asked about for ever. */
enum { UNKNOWN = UINT32_MAX, TIMES_SHORT_MAX = 16 };
static _Atomic uint32_t known = UNKNOWN;
static _Atomic uint32_t times_short;
static _Atomic bool is_short; /* the last answer */

unsigned berth_uring_features(void) {
    uint32_t features = berth__load_relaxed(&known);
    if (features == UNKNOWN) {
        int saved_errno = errno;
        bool was_short;
        features = ask(&was_short);
        errno = saved_errno;
        berth__store_relaxed(&is_short, was_short);
        if (!was_short || berth__add_relaxed(&times_short, 1) + 1 >= TIMES_SHORT_MAX) {
            berth__store_relaxed(&known, features);
        }
    }
    return features;
}

int berth__uring_missing(void) {
    return berth__load_relaxed(&is_short) ? ENOMEM : ENOSYS;
}

void berth__uring_pretend(uint32_t features) {
    berth__store_relaxed(&known, features);
}
