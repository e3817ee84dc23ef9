/*
 * Small files, such as those of /proc and /sys, read whole into the caller's buffer.
 */
#ifndef BERTH_OS_FILE_H
#define BERTH_OS_FILE_H

#include "base/compiler.h"

#include <sys/types.h>

/* Bytes read (at most capacity - 1; a zero byte follows), or -errno. Keeps errno; allocates
 * nothing. */
ssize_t berth__file_read(const char *path, char *buffer, size_t capacity);

/* Closes a descriptor; keeps errno. */
void berth__file_close(int fd);

#endif
