#include "queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { ENTRIES_MAX = 64 };

char *queue_add(struct queue *queue, size_t length) {
    struct message *message = malloc(sizeof(*message) + length);
    if (message == NULL) {
        abort();
    }
    message->next = NULL;
    message->length = length;
    message->sent = 0;
    if (queue->first == NULL) {
        queue->first = message;
    } else {
        queue->last->next = message;
    }
    queue->last = message;
    queue->bytes += length;
    return message->bytes;
}

void queue_copy(struct queue *queue, const void *data, size_t length) {
    memcpy(queue_add(queue, length), data, length);
}

static void drop_sent(struct queue *queue, size_t sent) {
    queue->bytes -= sent;
    while (sent > 0) {
        struct message *message = queue->first;
        size_t left = message->length - message->sent;
        if (sent < left) {
            message->sent += sent;
            return;
        }
        sent -= left;
        queue->first = message->next;
        free(message);
    }
}

bool queue_send(struct queue *queue, int fd) {
    while (queue->bytes > 0) {
        struct iovec entries[ENTRIES_MAX];
        struct msghdr header = {.msg_iov = entries};
        size_t offered = 0;
        for (struct message *at = queue->first; at != NULL && header.msg_iovlen < ENTRIES_MAX;
             at = at->next) {
            entries[header.msg_iovlen++] =
                (struct iovec){.iov_base = at->bytes + at->sent, .iov_len = at->length - at->sent};
            offered += at->length - at->sent;
        }
        ssize_t sent = sendmsg(fd, &header, MSG_NOSIGNAL);
        if (sent < 0) {
            return errno == EAGAIN;
        }
        drop_sent(queue, (size_t)sent);
        if ((size_t)sent < offered) {
            return true;
        }
    }
    return true;
}

void queue_clear(struct queue *queue) {
    while (queue->first != NULL) {
        struct message *message = queue->first;
        queue->first = message->next;
        free(message);
    }
    *queue = (struct queue){NULL, NULL, 0};
}
