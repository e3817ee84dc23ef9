/*
 * What the tests of sockets share: connected pairs, a stream whose bytes are known by position, and
 * chains of it.
 */
#ifndef BERTH_UNIT_SOCKETS_H
#define BERTH_UNIT_SOCKETS_H

#include "figures.h"

#include <berth/io.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

static inline void make_non_blocking(int fd) {
    UNIT_CHECK(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0);
}

/* Of those that are open, none is closed. What was allowed before. */
static inline rlim_t allow_descriptors(rlim_t most) {
    struct rlimit limit;
    UNIT_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = most;
    UNIT_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    return before;
}

static inline void unix_pair(int ends[2]) {
    UNIT_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
}

/* Two ends of a connection through the loopback device, with small buffers if bytes are given. */
static inline void tcp_pair(int ends[2], int buffer_bytes) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    ends[0] = socket(AF_INET, SOCK_STREAM, 0);
    UNIT_CHECK(listener >= 0 && ends[0] >= 0);
    if (buffer_bytes > 0) {
        setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof(buffer_bytes));
        setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof(buffer_bytes));
    }
    UNIT_CHECK(bind(listener, (struct sockaddr *)&address, length) == 0);
    UNIT_CHECK(listen(listener, 1) == 0);
    UNIT_CHECK(getsockname(listener, (struct sockaddr *)&address, &length) == 0);
    UNIT_CHECK(connect(ends[0], (struct sockaddr *)&address, length) == 0);
    ends[1] = accept(listener, NULL, NULL);
    UNIT_CHECK(ends[1] >= 0);
    close(listener);
    make_non_blocking(ends[0]);
    make_non_blocking(ends[1]);
}

/* Closes with a reset instead of an end. */
static inline void reset(int fd) {
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    UNIT_CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)) == 0);
    close(fd);
}

/* The byte at a position of the stream: no short period, so that nothing can be out of place. */
static inline unsigned char stream_byte(uint64_t position) {
    uint64_t x = position * UINT64_C(0x9e3779b97f4a7c15);
    return (unsigned char)(x >> 56);
}

static inline void stream_fill(unsigned char *to, uint64_t position, size_t length) {
    for (size_t i = 0; i < length; i++) {
        to[i] = stream_byte(position + i);
    }
}

static inline bool stream_is(const unsigned char *bytes, uint64_t position, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] != stream_byte(position + i)) {
            return false;
        }
    }
    return true;
}

/* Appends `length` bytes of the stream as one slice. */
static inline void append_stream(struct berth_chain *chain, uint64_t position, size_t length) {
    struct berth_slice slice;
    UNIT_CHECK(berth_slice_alloc(chain->pool_, length, &slice) == 0);
    stream_fill(berth_slice_try_write(&slice), position, length);
    UNIT_CHECK(berth_chain_append(chain, &slice) == 0);
}

/* A file in memory with bytes [position, position + length) of the stream. */
static inline int stream_file(uint64_t position, size_t length) {
    int fd = memfd_create("stream", MFD_CLOEXEC);
    unsigned char *bytes = malloc(length);
    UNIT_CHECK(fd >= 0 && bytes != NULL);
    stream_fill(bytes, position, length);
    UNIT_CHECK(pwrite(fd, bytes, length, 0) == (ssize_t)length);
    free(bytes);
    return fd;
}

/* True if the chain has the bytes of the stream from `position` on. Consumes them. */
static inline bool chain_is_stream(struct berth_chain *chain, uint64_t position) {
    struct berth_segment segment;
    while (berth_chain_segment(chain, 0, &segment) == 0) {
        if (!stream_is(segment.data, position, segment.length)) {
            return false;
        }
        position += segment.length;
        UNIT_CHECK(berth_chain_consume(chain, segment.length) == 0);
    }
    return true;
}

#endif
