#include "io/rights.h"

#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CONTROL_BYTES = CMSG_SPACE(8 * sizeof(int)) };

int berth__rights_send(int socket, const void *bytes, size_t length,
                       const int fds[BERTH_RIGHTS_COUNT]) {
    int saved_errno = errno;
    char control[CONTROL_BYTES] __attribute__((aligned(sizeof(struct cmsghdr)))) = {0};
    struct iovec entry = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &entry,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = CMSG_SPACE(BERTH_RIGHTS_COUNT * sizeof(int))};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(BERTH_RIGHTS_COUNT * sizeof(int));
    memcpy(CMSG_DATA(header), fds, BERTH_RIGHTS_COUNT * sizeof(int));
    ssize_t sent;
    do {
        sent = berth__os_fails(BERTH_OS_SEND) ? -1 : sendmsg(socket, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    int error = sent < 0 ? -errno : (size_t)sent < length ? -EMSGSIZE : 0;
    errno = saved_errno;
    return error;
}

/* Takes the descriptors of a message: 0 if they are as many as they should be. There is room for
 * more of them, so if the kernel says that it has cut some off, it could not make them. */
static int take_rights(struct msghdr *message, int fds[BERTH_RIGHTS_COUNT]) {
    unsigned count = 0;
    struct cmsghdr *header = CMSG_FIRSTHDR(message);
    for (; header != NULL; header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t here = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < here; i++, count++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(fd));
            if (count < BERTH_RIGHTS_COUNT) {
                fds[count] = fd;
            } else {
                berth__file_close(fd);
            }
        }
    }
    bool cut = (message->msg_flags & MSG_CTRUNC) != 0;
    if (count == BERTH_RIGHTS_COUNT && !cut) {
        return 0;
    }
    for (unsigned i = 0; i < count && i < BERTH_RIGHTS_COUNT; i++) {
        berth__file_close(fds[i]);
    }
    return cut && count < BERTH_RIGHTS_COUNT ? -EMFILE : -EPROTO;
}

ssize_t berth__rights_receive(int socket, void *bytes, size_t length, int fds[BERTH_RIGHTS_COUNT]) {
    int saved_errno = errno;
    char control[CONTROL_BYTES] __attribute__((aligned(sizeof(struct cmsghdr)))) = {0};
    struct iovec entry = {.iov_base = bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &entry,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    ssize_t got;
    do {
        got = berth__os_fails(BERTH_OS_RECEIVE) ? -1 : recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    ssize_t answer = got < 0 ? -errno : got;
    errno = saved_errno;
    int error = answer > 0 ? take_rights(&message, fds) : 0;
    return error != 0 ? error : answer;
}

int berth__tether_make(int ends[2]) {
    int saved_errno = errno;
    int error = pipe2(ends, O_CLOEXEC) != 0 ? -errno : 0;
    errno = saved_errno;
    return error;
}

bool berth__tether_is_cut(int fd) {
    int saved_errno = errno;
    struct pollfd end = {.fd = fd};
    bool cut = poll(&end, 1, 0) == 1 && (end.revents & (POLLHUP | POLLERR)) != 0;
    errno = saved_errno;
    return cut;
}
