/*
 * Memory of a file that has no name, which other processes can be given.
 *
 * Its length is sealed, so that nobody can make it shorter under a reader. It cannot be mapped to
 * be written but by who made it, where the kernel knows that seal (5.1). A child of a fork does not
 * have it: what it has in its place after berth__memfd_wipe reads as zero.
 */
#ifndef BERTH_OS_MEMFD_H
#define BERTH_OS_MEMFD_H

#include "base/compiler.h"

struct berth__memfd {
    void *at; /* NULL: there is none */
    size_t bytes;
    int fd;
};

/* Whole 64 KiB, mapped at a multiple of 64 KiB: 0 or -errno. */
int berth__memfd_make(size_t bytes, struct berth__memfd *memfd) BERTH_MUST_USE;
void berth__memfd_end(const struct berth__memfd *memfd);

/* In the child of a fork. Makes system calls that may be made there. */
void berth__memfd_wipe(const struct berth__memfd *memfd);

/* True if a descriptor is of a file with `bytes` bytes at least, which nobody can make shorter. */
bool berth__memfd_is_sealed(int fd, uint64_t bytes);

#endif
