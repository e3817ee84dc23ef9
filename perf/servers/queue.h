/*
 * What the twins keep unsent messages in: a list of blocks of malloc's, each with its own copy.
 */
#ifndef BERTH_PERF_SERVERS_QUEUE_H
#define BERTH_PERF_SERVERS_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct message {
    struct message *next;
    size_t length, sent;
    char bytes[];
};

struct queue {
    struct message *first, *last;
    uint64_t bytes; /* unsent */
};

/* A block at the end of the list, to be filled. */
char *queue_add(struct queue *queue, size_t length);

/* A copy at the end of the list. */
void queue_copy(struct queue *queue, const void *data, size_t length);

/* Sends what the socket takes; false: the connection has failed. */
bool queue_send(struct queue *queue, int fd);

void queue_clear(struct queue *queue);

#endif
