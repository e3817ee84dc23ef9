/*
 * From how many bytes on a send is tried without copying: the options, read once.
 *
 * Below them the kernel's work for memory that it does not copy costs more than the copy; where
 * that is was measured on a device that sends without copying (docs/decisions/0021-io-uring.md).
 * A system call can be timed while the program runs; what a ring's operations take cannot, for it
 * is the program that submits them, many together.
 */
#ifndef BERTH_IO_THRESHOLDS_H
#define BERTH_IO_THRESHOLDS_H

#include "base/compiler.h"

struct berth__thresholds {
    size_t zerocopy; /* 0: each sender finds out, see io/ways.h */
    size_t send_zc, fixed;
};

/* The process's. Any thread. */
struct berth__thresholds berth__thresholds(void);

/* Of slices on average: below it, copying a slice costs less than another entry. */
enum { BERTH_AVERAGE_MIN = 2048 };

#endif
