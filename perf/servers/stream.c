#include "stream.h"

#include "berth_end.h"

#include <errno.h>
#include <stdlib.h>

static berth_pool *pool;
static struct berth_slice piece;

/* Out of memory is the end: this is to be measured, not to survive. */
static void check(int error) {
    if (error != 0) {
        abort();
    }
}

void streams_begin(void) {
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.one_thread = 1;
    pool = berth_pool_create("hub", &options);
}

int streams_end(void) {
    berth_slice_release(&piece);
    return berth_end(pool);
}

void stream_begin(struct stream *stream) {
    berth_chain_init(&stream->chain, pool);
}

void stream_end(struct stream *stream) {
    berth_chain_clear(&stream->chain);
}

uint64_t stream_length(const struct stream *stream) {
    return berth_chain_length(&stream->chain);
}

uint64_t stream_unsent(const struct stream *stream) {
    return berth_chain_length(&stream->chain);
}

int64_t stream_receive(struct stream *stream, int fd) {
    return berth_io_receive_shared(fd, &stream->chain, &piece, 0);
}

int64_t stream_relay(struct stream *stream, int fd) {
    return berth_io_receive_shared(fd, &stream->chain, &piece, 0);
}

bool stream_send(struct stream *stream, int fd) {
    if (berth_chain_length(&stream->chain) == 0) {
        return true;
    }
    int64_t sent = berth_io_send(fd, &stream->chain, UINT64_MAX);
    return sent >= 0 || sent == -EAGAIN;
}

void stream_peek(const struct stream *stream, uint64_t offset, char *to, size_t length) {
    check(berth_chain_copy_out(&stream->chain, offset, to, length));
}

int64_t stream_find(const struct stream *stream, uint64_t from, const char *text, size_t length) {
    int64_t at = berth_chain_find(&stream->chain, from, text, length);
    return at < 0 ? -1 : at;
}

void stream_drop(struct stream *stream, uint64_t length) {
    check(berth_chain_consume(&stream->chain, length));
}

void stream_move(struct stream *from, uint64_t length, struct stream *to) {
    check(berth_chain_split(&from->chain, length, &to->chain));
}

void stream_put(struct stream *stream, const char *text, size_t length) {
    check(berth_chain_append_bytes(&stream->chain, text, length));
}

struct stream_message {
    struct berth_chain chain;
};

struct stream_message *stream_message(const char *text, size_t text_length,
                                      const struct stream *from, uint64_t offset, uint64_t length) {
    struct stream_message *message = berth_alloc(pool, sizeof(*message));
    struct berth_slice head;
    check(message == NULL ? -ENOMEM : berth_slice_copy(pool, text, text_length, &head));
    berth_chain_init(&message->chain, pool);
    check(berth_chain_append(&message->chain, &head));
    check(berth_chain_share(&from->chain, offset, length, &message->chain));
    return message;
}

void stream_put_message(struct stream *stream, const struct stream_message *message) {
    check(
        berth_chain_share(&message->chain, 0, berth_chain_length(&message->chain), &stream->chain));
}

void stream_message_end(struct stream_message *message) {
    berth_chain_clear(&message->chain);
    berth_free(message);
}
