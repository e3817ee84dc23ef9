#include "io/socket.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/sendfile.h>
#include <time.h>

/* The result of a call as -errno; puts errno back. */
static ssize_t result_of(ssize_t result, int saved_errno) {
    ssize_t answer = result < 0 ? -errno : result;
    errno = saved_errno;
    return answer;
}

ssize_t berth__socket_send(int fd, struct iovec *entries, unsigned count, int flags) {
    int saved_errno = errno;
    struct msghdr message = {.msg_iov = entries, .msg_iovlen = count};
    ssize_t sent;
    do {
        sent = berth__os_fails(BERTH_OS_SEND) ? -1 : sendmsg(fd, &message, flags | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return result_of(sent, saved_errno);
}

ssize_t berth__socket_receive(int fd, const struct iovec *entries, unsigned count) {
    int saved_errno = errno;
    ssize_t got;
    do {
        got = berth__os_fails(BERTH_OS_RECEIVE) ? -1 : readv(fd, entries, (int)count);
    } while (got < 0 && errno == EINTR);
    return result_of(got, saved_errno);
}

/* ---- sendfile: the kernel knows no MSG_NOSIGNAL for it ---- */

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
    struct held_signal held;
    hold_signal(&held);
    ssize_t sent;
    do {
        off_t at = offset;
        sent = berth__os_fails(BERTH_OS_SEND_FILE) ? -1 : sendfile(fd, file, &at, length);
    } while (sent < 0 && errno == EINTR);
    ssize_t answer = result_of(sent, saved_errno);
    let_signal_go(&held, answer == -EPIPE);
    errno = saved_errno;
    return answer;
}
