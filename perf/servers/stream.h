/*
 * The bytes of a connection of the hub, in one direction. Made twice: of chains (stream.c), and of
 * malloc and memcpy (stream_twin.c); the hub itself is the same.
 */
#ifndef BERTH_PERF_SERVERS_STREAM_H
#define BERTH_PERF_SERVERS_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if STREAM_TWIN
#include "queue.h"
struct stream {
    char *flat; /* what was received */
    size_t begin, end, capacity;
    struct queue out; /* what is to be sent */
};
#else
#include <berth/berth.h>
struct stream {
    struct berth_chain chain;
};
#endif

void streams_begin(void);
int streams_end(void); /* the exit status */

void stream_begin(struct stream *stream);
void stream_end(struct stream *stream);

/* Bytes that were received; those to be sent. */
uint64_t stream_length(const struct stream *stream);
uint64_t stream_unsent(const struct stream *stream);

/* As recv: bytes, 0, or -errno. stream_relay receives what is to be sent on. */
int64_t stream_receive(struct stream *stream, int fd);
int64_t stream_relay(struct stream *stream, int fd);

/* Sends what the socket takes; false: the connection has failed. */
bool stream_send(struct stream *stream, int fd);

/* Of what was received: looking, searching (-1: nowhere), dropping, passing on, which drops it. */
void stream_peek(const struct stream *stream, uint64_t offset, char *to, size_t length);
int64_t stream_find(const struct stream *stream, uint64_t from, const char *text, size_t length);
void stream_drop(struct stream *stream, uint64_t length);
void stream_move(struct stream *from, uint64_t length, struct stream *to);

/* A short text to be sent. */
void stream_put(struct stream *stream, const char *text, size_t length);

/* One message for many: a short text, and a part of what was received. */
struct stream_message;
struct stream_message *stream_message(const char *text, size_t text_length,
                                      const struct stream *from, uint64_t offset, uint64_t length);
void stream_put_message(struct stream *stream, const struct stream_message *message);
void stream_message_end(struct stream_message *message);

#endif
