/*
 * The server of static files as it is written with malloc: files are kept in memory, and each
 * response is a block with a copy of its head and body. Requests are gathered in a buffer of each
 * connection.
 *
 *   files-twin DIRECTORY [PORT]
 */
#include "files.h"
#include "http.h"
#include "loop.h"
#include "queue.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG_MAX = 1 << 20, RECEIVE_MAX = 65536 };

struct connection {
    struct watch watch;
    char *in; /* what is not yet understood */
    size_t in_length;
    struct queue out;
    bool ends;
};

static char received[RECEIVE_MAX];

static void *load(struct file *file, int fd) {
    char *content = malloc(file->size + 1);
    ssize_t got = content == NULL ? -1 : pread(fd, content, file->size, 0);
    close(fd);
    if (got != (ssize_t)file->size) {
        free(content);
        return NULL;
    }
    return content;
}

static void respond(struct connection *connection, const struct http_request *request) {
    char head[HTTP_ANSWER_MAX];
    struct http_answer answer = {.status = request->status,
                                 .type = "text/plain",
                                 .now_s = time(NULL),
                                 .keep_alive = request->keep_alive};
    struct file *file = request->status == 0 ? files_find(request->path, answer.now_s) : NULL;
    const char *body = NULL;
    connection->ends = !request->keep_alive;
    loop_counts.messages++;
    if (file != NULL) {
        answer.status = http_range(request, file->size, &answer.first, &answer.length);
        answer.size = file->size;
        answer.type = file->type;
        answer.modified_s = file->modified.tv_sec;
        body = answer.status == 416 ? NULL : (char *)file->content + answer.first;
    } else if (request->status == 0) {
        answer.status = 404;
    }
    if (body == NULL) {
        body = http_reason(answer.status);
        answer.length = strlen(body);
    }
    size_t head_length = http_head(&answer, head);
    size_t body_length = request->head_only ? 0 : answer.length;
    char *response = queue_add(&connection->out, head_length + body_length);
    memcpy(response, head, head_length);
    memcpy(response + head_length, body, body_length);
    loop_counts.bytes += head_length + body_length;
}

/* Answers what is there wholly; returns how much that was. */
static size_t respond_all(struct connection *connection, const char *text, size_t length) {
    struct http_request request;
    size_t done = 0;
    while (!connection->ends && done < length && connection->out.bytes < BACKLOG_MAX &&
           http_read(text + done, length - done, &request)) {
        respond(connection, &request);
        done += request.length;
    }
    return done;
}

static void keep_rest(struct connection *connection, const char *text, size_t length) {
    char *rest = length == 0 ? NULL : malloc(length);
    if (length > 0 && rest == NULL) {
        abort();
    }
    if (length > 0) {
        memcpy(rest, text, length);
    }
    free(connection->in);
    connection->in = rest;
    connection->in_length = length;
}

static void understand(struct connection *connection, size_t got) {
    if (connection->in_length == 0) {
        size_t done = respond_all(connection, received, got);
        keep_rest(connection, received + done, got - done);
        return;
    }
    char *all = realloc(connection->in, connection->in_length + got);
    if (all == NULL) {
        abort();
    }
    memcpy(all + connection->in_length, received, got);
    connection->in = all;
    connection->in_length += got;
    size_t done = respond_all(connection, all, connection->in_length);
    if (done > 0) {
        keep_rest(connection, all + done, connection->in_length - done);
    }
}

static void on_ended(struct watch *watch) {
    struct connection *connection = LOOP_OWNER(watch, struct connection, watch);
    queue_clear(&connection->out);
    free(connection->in);
    free(connection);
}

static void on_ready(struct watch *watch, uint32_t events) {
    struct connection *connection = LOOP_OWNER(watch, struct connection, watch);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        ssize_t got = recv(watch->fd, received, sizeof(received), 0);
        if (got == 0 || (got < 0 && errno != EAGAIN)) {
            loop_end(watch);
            return;
        }
        understand(connection, got > 0 ? (size_t)got : 0);
    }
    bool alive = queue_send(&connection->out, watch->fd);
    while (alive && connection->out.bytes == 0 && connection->in_length > 0 && !connection->ends) {
        size_t before = connection->in_length;
        understand(connection, 0);
        alive = queue_send(&connection->out, watch->fd);
        if (connection->in_length == before) {
            break;
        }
    }
    if (!alive || (connection->ends && connection->out.bytes == 0)) {
        loop_end(watch);
        return;
    }
    loop_want(watch, connection->out.bytes < BACKLOG_MAX && !connection->ends,
              connection->out.bytes > 0);
}

static void on_accepted(int fd) {
    struct connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL) {
        abort();
    }
    loop_add(&connection->watch, fd, on_ready, on_ended);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: files-twin DIRECTORY [PORT]\n");
        return 2;
    }
    files_begin(argv[1], load, free);
    loop_begin();
    loop_listen(argc > 2 ? (uint16_t)atoi(argv[2]) : 0, on_accepted);
    loop_run();
    files_end();
    loop_report("");
    return 0;
}
