/*
 * What io_uring looks like in memory, and the numbers that it knows: those that are used here.
 *
 * All of it is fixed by the kernel's binary interface, and stated here so that the library builds
 * with any headers, or none; which of it a kernel has is asked at run time (uring_probe.c). A test
 * compares this with <linux/io_uring.h>, as far as that knows it.
 */
#ifndef BERTH_IO_URING_ABI_H
#define BERTH_IO_URING_ABI_H

#include "base/compiler.h"

#include <string.h>

/* A submission entry. It is filled in here and copied over the caller's, whose type is another. */
struct berth__sqe {
    uint8_t opcode;
    uint8_t flags;
    uint16_t ioprio; /* of sends and receives: BERTH_URING_POLL_FIRST .. */
    int32_t fd;
    uint64_t off;
    uint64_t addr;
    uint32_t len;
    uint32_t op_flags; /* MSG_.. */
    uint64_t user_data;
    uint16_t buf_index; /* of a fixed buffer, or a group of provided ones */
    uint16_t personality;
    int32_t file_index;
    uint64_t addr3;
    uint64_t unused;
};
_Static_assert(sizeof(struct berth__sqe) == 64, "the kernel's layout");

/* A completion, as far as rings of any kind have it. */
struct berth__cqe {
    uint64_t user_data;
    int32_t res;
    uint32_t flags;
};

enum {
    BERTH_URING_SETUP = 425, /* system calls, the same on all machines that Linux supports */
    BERTH_URING_ENTER = 426,
    BERTH_URING_REGISTER = 427,
};

enum { /* opcodes */
       BERTH_URING_OP_SENDMSG = 9,
       BERTH_URING_OP_SEND = 26,
       BERTH_URING_OP_RECV = 27,
       BERTH_URING_OP_SEND_ZC = 47,
       BERTH_URING_OP_SENDMSG_ZC = 48,
};

enum { /* a submission's flags and ioprio */
       BERTH_URING_BUFFER_SELECT = 1 << 5,
       BERTH_URING_RECV_MULTISHOT = 1 << 1,
       BERTH_URING_FIXED_BUF = 1 << 2,
       BERTH_URING_REPORT_USAGE = 1 << 3,
       BERTH_URING_BUNDLE = 1 << 4,
};

enum { /* a completion's flags */
       BERTH_URING_F_BUFFER = 1 << 0,
       BERTH_URING_F_MORE = 1 << 1,
       BERTH_URING_F_NOTIF = 1 << 3,
       BERTH_URING_F_BUF_MORE = 1 << 4,
       BERTH_URING_BUFFER_SHIFT = 16,
};
#define BERTH_URING_USAGE_COPIED (UINT32_C(1) << 31) /* in the result of a notification */

enum { /* what is registered */
       BERTH_URING_UNREGISTER_BUFFERS = 1,
       BERTH_URING_REGISTER_BUFFERS2 = 15,
       BERTH_URING_BUFFERS_UPDATE = 16,
       BERTH_URING_REGISTER_RING = 22,
       BERTH_URING_UNREGISTER_RING = 23,
       BERTH_URING_CLONE = 30,
       BERTH_URING_SPARSE = 1 << 0,
       BERTH_URING_RING_INC = 1 << 1,
};

struct berth__uring_buffers { /* REGISTER_BUFFERS2 */
    uint32_t count, flags;
    uint64_t unused;
    uint64_t data, tags;
};

struct berth__uring_update { /* BUFFERS_UPDATE */
    uint32_t offset, unused;
    uint64_t data, tags;
    uint32_t count, unused2;
};

struct berth__uring_clone {
    uint32_t source_fd, flags, source_offset, offset, count;
    uint32_t unused[3];
};

struct berth__uring_ring { /* REGISTER_RING */
    uint64_t at;
    uint32_t entries;
    uint16_t group, flags;
    uint64_t unused[3];
};

struct berth__uring_buf { /* an entry of a ring of buffers */
    uint64_t at;
    uint32_t length;
    uint16_t id;
    uint16_t tail; /* of the first entry: the ring's tail. Of others: not used */
};
_Static_assert(sizeof(struct berth__uring_buf) == 16, "the kernel's layout");

struct io_uring_sqe;

/* Writes an entry of the caller's. Rings with longer entries have the rest cleared. */
BERTH_INLINE void berth__sqe_put(struct io_uring_sqe *to, const struct berth__sqe *sqe) {
    memcpy((void *)to, sqe, sizeof(*sqe));
}

/* io_uring_register: its result, or -errno; keeps errno. */
int berth__uring_register(int ring_fd, unsigned opcode, const void *argument, unsigned count);

/* The errno value for a feature that is missing: ENOSYS, or ENOMEM if what there is could not be
 * found out for lack of memory or descriptors. */
int berth__uring_missing(void);

/* Says what there is from now on, instead of asking the kernel: for tests. UINT32_MAX: asks. */
void berth__uring_pretend(uint32_t features);

#endif
