#include "os/memfd.h"

#include "base/bits.h"
#include "os/fault.h"
#include "os/file.h"
#include "os/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

enum { UNIT = 65536 };

static int make_file(size_t bytes) {
    int saved_errno = errno;
    int fd = berth__os_fails(BERTH_OS_FILE)
                 ? -1
                 : memfd_create("berth-pool", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int error = fd < 0 ? -errno : 0;
    if (error == 0 && ftruncate(fd, (off_t)bytes) != 0) {
        error = -errno;
        berth__file_close(fd);
    }
    errno = saved_errno;
    return error != 0 ? error : fd;
}

/* After it was mapped: the last of the seals leaves what is there. */
static int seal(int fd) {
    int saved_errno = errno;
    int error = fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0 ? -errno : 0;
    (void)fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE);
    (void)fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL);
    errno = saved_errno;
    return error;
}

int berth__memfd_make(size_t bytes, struct berth__memfd *memfd) {
    bytes = berth__round_up(bytes, UNIT);
    int fd = make_file(bytes);
    if (fd < 0) {
        return fd;
    }
    char *at = berth__pages_reserve(bytes, UNIT);
    int error = at == NULL ? -ENOMEM : berth__pages_map_file(at, bytes, fd, 0, true);
    if (error == 0) {
        error = berth__pages_leave_out_of_fork(at, bytes) ? seal(fd) : -ENOMEM;
    }
    if (error == 0) {
        *memfd = (struct berth__memfd){.at = at, .bytes = bytes, .fd = fd};
        return 0;
    }
    berth__file_close(fd);
    if (at != NULL && error != -EADDRINUSE) {
        berth__pages_unreserve(at, bytes);
    }
    return error;
}

void berth__memfd_end(const struct berth__memfd *memfd) {
    berth__pages_unreserve(memfd->at, memfd->bytes);
    berth__file_close(memfd->fd);
}

void berth__memfd_wipe(const struct berth__memfd *memfd) {
    if (berth__pages_decommit(memfd->at, memfd->bytes) == 0) {
        int error = berth__pages_commit(memfd->at, memfd->bytes);
        (void)error; /* then it cannot be read, either */
    }
}

bool berth__memfd_is_sealed(int fd, uint64_t bytes) {
    int saved_errno = errno;
    struct stat stat;
    int seals = fcntl(fd, F_GET_SEALS);
    bool sealed = seals >= 0 && (seals & F_SEAL_SHRINK) != 0 && fstat(fd, &stat) == 0 &&
                  (uint64_t)stat.st_size >= bytes;
    errno = saved_errno;
    return sealed;
}
