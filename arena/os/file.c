#include "os/file.h"

#include "os/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

static ssize_t read_all(int fd, char *buffer, size_t capacity) {
    size_t length = 0;
    while (length < capacity - 1) {
        ssize_t got = read(fd, buffer + length, capacity - 1 - length);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return -errno;
        }
        if (got == 0) {
            break;
        }
        length += (size_t)got;
    }
    buffer[length] = '\0';
    return (ssize_t)length;
}

/* Allocations read files once in a while, and must not end a thread that is being cancelled. */
ssize_t berth__file_read(const char *path, char *buffer, size_t capacity) {
    int saved_errno = errno;
    int cancel_state = 0;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    int fd = berth__os_fails(BERTH_OS_FILE) ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -errno : read_all(fd, buffer, capacity);
    if (fd >= 0) {
        close(fd);
    }
    pthread_setcancelstate(cancel_state, NULL);
    errno = saved_errno;
    return length;
}

void berth__file_close(int fd) {
    int saved_errno = errno;
    close(fd);
    errno = saved_errno;
}
