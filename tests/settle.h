/*
 * For programs that others look into: waits until this process's stats page shows all that the
 * process has done. Allocates nothing, so that this remains so.
 */
#ifndef BERTH_TESTS_SETTLE_H
#define BERTH_TESTS_SETTLE_H

#include "metrics/page_format.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { SETTLE_TURN_US = 5000, SETTLE_TURNS_MAX = 12000, SETTLE_TURNS_WITHOUT_PAGE = 30 };

static inline const char *settle_maps(void) {
    static char text[1 << 18];
    size_t length = 0;
    ssize_t now = 0;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && (now = read(fd, text + length, sizeof(text) - 1 - length)) > 0) {
        length += (size_t)now;
    }
    close(fd);
    text[length] = '\0';
    return text;
}

/* By the kernel: not all that is mapped is for everybody to read, in the sanitizers' view. */
static inline bool settle_read(uintptr_t from, struct berth__stats_head *head) {
    struct iovec here = {head, sizeof(*head)};
    struct iovec there = {(void *)from, sizeof(*head)};
    return process_vm_readv(getpid(), &here, 1, &there, 1, 0) == (ssize_t)sizeof(*head) &&
           head->magic == BERTH_STATS_MAGIC;
}

/* As the tool finds it: a mapping that begins with its magic number. NULL: there is none. */
static inline struct berth__stats_head *settle_page(struct berth__stats_head *head) {
    const char *line = settle_maps();
    while (line != NULL && *line != '\0') {
        char *behind;
        uintptr_t from = (uintptr_t)strtoull(line, &behind, 16);
        uintptr_t to = *behind == '-' ? (uintptr_t)strtoull(behind + 1, &behind, 16) : from;
        if (strncmp(behind, " rw-p 00000000 00:00 0 ", 23) == 0 &&
            to - from >= BERTH_STATS_BYTES_LEAST && to - from <= BERTH_STATS_BYTES_MOST &&
            settle_read(from, head)) {
            return (struct berth__stats_head *)from;
        }
        line = strchr(line, '\n');
        line = line == NULL ? NULL : line + 1;
    }
    return NULL;
}

static inline uint64_t settle_clock_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* False: the page was not written for a minute. True where there is none, after a while. */
static inline bool settle_once(size_t (*trim)(void *pool)) {
    uint64_t asked_ns = settle_clock_ns();
    for (unsigned turn = 0; turn < SETTLE_TURNS_MAX; turn++) {
        struct berth__stats_head head;
        bool is_there = settle_page(&head) != NULL;
        if (is_there ? head.taken_ns > asked_ns : turn > SETTLE_TURNS_WITHOUT_PAGE) {
            return true;
        }
        usleep(SETTLE_TURN_US);
        trim(NULL);
    }
    return false;
}

/* The page itself, and what a trim returns, are on the one after the next. */
static inline bool settle(size_t (*trim)(void *pool)) {
    return settle_once(trim) && settle_once(trim) && settle_once(trim);
}

#endif
