#include "io/socket.h"

#include "base/atomics.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/sendfile.h>
#include <time.h>
#include <unistd.h>

#include <linux/errqueue.h>

/* The result of a call as -errno; puts errno back. */
static ssize_t result_of(ssize_t result, int saved_errno) {
    ssize_t answer = result < 0 ? -errno : result;
    errno = saved_errno;
    return answer;
}

/* Most sends and receives are of one piece of memory: the kernel need not look for a list then. */
static ssize_t send_once(int fd, struct iovec *entries, unsigned count, int flags) {
    if (count == 1) {
        return send(fd, entries->iov_base, entries->iov_len, flags);
    }
    struct msghdr message = {.msg_iov = entries, .msg_iovlen = count};
    return sendmsg(fd, &message, flags);
}

static ssize_t receive_once(int fd, const struct iovec *entries, unsigned count) {
    return count == 1 ? read(fd, entries->iov_base, entries->iov_len)
                      : readv(fd, entries, (int)count);
}

ssize_t berth__socket_send(int fd, struct iovec *entries, unsigned count, int flags) {
    int saved_errno = errno;
    ssize_t sent;
    do {
        sent = berth__os_fails(BERTH_OS_SEND) ? -1
                                              : send_once(fd, entries, count, flags | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return result_of(sent, saved_errno);
}

ssize_t berth__socket_receive(int fd, const struct iovec *entries, unsigned count) {
    int saved_errno = errno;
    ssize_t got;
    do {
        got = berth__os_fails(BERTH_OS_RECEIVE) ? -1 : receive_once(fd, entries, count);
    } while (got < 0 && errno == EINTR);
    return result_of(got, saved_errno);
}

/* ---- sendfile: the kernel knows no MSG_NOSIGNAL for it ---- */

static _Atomic bool is_ignored; /* by the whole process */

void berth__socket_ignore_sigpipe(void) {
    (void)signal(SIGPIPE, SIG_IGN);
    berth__store_relaxed(&is_ignored, true);
}

/* SIGPIPE held back in this thread. If one was pending before, the next is none: leave it. */
struct held_signal {
    sigset_t pipe, before;
    bool was_held, was_pending;
};

static void hold_signal(struct held_signal *held) {
    sigemptyset(&held->pipe);
    sigaddset(&held->pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &held->pipe, &held->before);
    held->was_held = sigismember(&held->before, SIGPIPE) == 1;
    held->was_pending = false;
    sigset_t pending;
    if (held->was_held && sigpending(&pending) == 0) { /* else it would have been delivered */
        held->was_pending = sigismember(&pending, SIGPIPE) == 1;
    }
}

static void let_signal_go(const struct held_signal *held, bool raised) {
    if (raised && !held->was_pending) {
        const struct timespec now = {0, 0};
        while (sigtimedwait(&held->pipe, NULL, &now) < 0 && errno == EINTR) {
        }
    }
    if (!held->was_held) {
        pthread_sigmask(SIG_SETMASK, &held->before, NULL);
    }
}

ssize_t berth__socket_send_file(int fd, int file, int64_t offset, size_t length) {
    int saved_errno = errno;
    bool ignored = berth__load_relaxed(&is_ignored);
    struct held_signal held;
    if (!ignored) {
        hold_signal(&held);
    }
    ssize_t sent;
    do {
        off_t at = offset;
        sent = berth__os_fails(BERTH_OS_SEND_FILE) ? -1 : sendfile(fd, file, &at, length);
    } while (sent < 0 && errno == EINTR);
    ssize_t answer = result_of(sent, saved_errno);
    if (!ignored) {
        let_signal_go(&held, answer == -EPIPE);
    }
    errno = saved_errno;
    return answer;
}

/* ---- sends that do not copy ---- */

int berth__socket_enable_zero_copy(int fd) {
    int saved_errno = errno;
    int one = 1;
    return (int)result_of(setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)), saved_errno);
}

static bool is_of_the_error_queue(const struct cmsghdr *header) {
    return (header->cmsg_level == SOL_IP && header->cmsg_type == IP_RECVERR) ||
           (header->cmsg_level == SOL_IPV6 && header->cmsg_type == IPV6_RECVERR);
}

static int read_notification(struct msghdr *message, struct berth__notification *notification) {
    struct cmsghdr *header = CMSG_FIRSTHDR(message);
    for (; header != NULL; header = CMSG_NXTHDR(message, header)) {
        struct sock_extended_err said;
        if (!is_of_the_error_queue(header) || header->cmsg_len < CMSG_LEN(sizeof(said))) {
            continue;
        }
        memcpy(&said, CMSG_DATA(header), sizeof(said));
        if (said.ee_errno == 0 && said.ee_origin == SO_EE_ORIGIN_ZEROCOPY) {
            notification->first = said.ee_info;
            notification->last = said.ee_data;
            notification->copied = (said.ee_code & SO_EE_CODE_ZEROCOPY_COPIED) != 0;
            return 0;
        }
    }
    return -ENOMSG;
}

int berth__socket_notification(int fd, struct berth__notification *notification) {
    int saved_errno = errno;
    char control[256] __attribute__((aligned(sizeof(struct cmsghdr))));
    struct msghdr message = {.msg_control = control, .msg_controllen = sizeof(control)};
    ssize_t got;
    do {
        got = recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    ssize_t result = result_of(got, saved_errno);
    return result < 0 ? (int)result : read_notification(&message, notification);
}

/* ---- the end ---- */

void berth__socket_shut(int fd) {
    int saved_errno = errno;
    (void)shutdown(fd, SHUT_WR);
    errno = saved_errno;
}

void berth__socket_disconnect(int fd) {
    int saved_errno = errno;
    const struct sockaddr nobody = {.sa_family = AF_UNSPEC};
    int failed = connect(fd, &nobody, sizeof(nobody));
    (void)failed; /* it was not connected */
    errno = saved_errno;
}

void berth__socket_wait(int fd, uint64_t wait_ms) {
    int saved_errno = errno;
    struct pollfd ready = {.fd = fd}; /* errors are always asked for */
    if (poll(&ready, 1, wait_ms < INT_MAX ? (int)wait_ms : INT_MAX) > 0) {
        const struct timespec moment = {.tv_nsec = 1000000};
        nanosleep(&moment, NULL);
    }
    errno = saved_errno;
}
