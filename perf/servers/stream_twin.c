#include "loop.h"
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { RECEIVE_MAX = 65536 };

static char received[RECEIVE_MAX];

void streams_begin(void) {
}

int streams_end(void) {
    loop_report("");
    return 0;
}

void stream_begin(struct stream *stream) {
    *stream = (struct stream){.flat = NULL};
}

void stream_end(struct stream *stream) {
    free(stream->flat);
    queue_clear(&stream->out);
}

uint64_t stream_length(const struct stream *stream) {
    return stream->end - stream->begin;
}

uint64_t stream_unsent(const struct stream *stream) {
    return stream->out.bytes;
}

static void make_room(struct stream *stream, size_t bytes) {
    size_t length = stream->end - stream->begin;
    if (stream->begin > 0) {
        memmove(stream->flat, stream->flat + stream->begin, length);
        stream->begin = 0;
        stream->end = length;
    }
    if (stream->capacity - length < bytes) {
        stream->capacity = 2 * (length + bytes);
        stream->flat = realloc(stream->flat, stream->capacity);
    }
    if (stream->flat == NULL) {
        abort();
    }
}

static int64_t receive_some(int fd) {
    ssize_t got = recv(fd, received, sizeof(received), 0);
    return got < 0 ? -errno : got;
}

int64_t stream_receive(struct stream *stream, int fd) {
    int64_t got = receive_some(fd);
    if (got > 0) {
        make_room(stream, (size_t)got);
        memcpy(stream->flat + stream->end, received, (size_t)got);
        stream->end += (size_t)got;
    }
    return got;
}

int64_t stream_relay(struct stream *stream, int fd) {
    int64_t got = receive_some(fd);
    if (got > 0) {
        queue_copy(&stream->out, received, (size_t)got);
    }
    return got;
}

bool stream_send(struct stream *stream, int fd) {
    return queue_send(&stream->out, fd);
}

void stream_peek(const struct stream *stream, uint64_t offset, char *to, size_t length) {
    memcpy(to, stream->flat + stream->begin + offset, length);
}

int64_t stream_find(const struct stream *stream, uint64_t from, const char *text, size_t length) {
    const char *begin = stream->flat + stream->begin;
    const char *at = memmem(begin + from, stream->end - stream->begin - from, text, length);
    return at == NULL ? -1 : at - begin;
}

void stream_drop(struct stream *stream, uint64_t length) {
    stream->begin += length;
    if (stream->begin == stream->end) {
        stream->begin = stream->end = 0;
    }
}

void stream_move(struct stream *from, uint64_t length, struct stream *to) {
    queue_copy(&to->out, from->flat + from->begin, length);
    stream_drop(from, length);
}

void stream_put(struct stream *stream, const char *text, size_t length) {
    queue_copy(&stream->out, text, length);
}

struct stream_message {
    const char *text, *body;
    size_t text_length, length;
};

/* It is copied for each who gets it; until then it is where it was received. */
struct stream_message *stream_message(const char *text, size_t text_length,
                                      const struct stream *from, uint64_t offset, uint64_t length) {
    static struct stream_message message;
    message = (struct stream_message){.text = text,
                                      .body = from->flat + from->begin + offset,
                                      .text_length = text_length,
                                      .length = length};
    return &message;
}

void stream_put_message(struct stream *stream, const struct stream_message *message) {
    char *copy = queue_add(&stream->out, message->text_length + message->length);
    memcpy(copy, message->text, message->text_length);
    memcpy(copy + message->text_length, message->body, message->length);
}

void stream_message_end(struct stream_message *message) {
    (void)message;
}
