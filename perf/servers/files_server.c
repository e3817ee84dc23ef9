/*
 * A server of static files, HTTP/1.1: keep-alive, pipelining, ranges, HEAD.
 *
 *   files DIRECTORY [PORT]
 *
 * A request is read where it was received. A response is the file's head, made once a second, and a
 * reference to the file: its mapping if it is short, so that both go in one sendmsg, else a region
 * for sendfile. Nothing is allocated for a response, nor copied.
 */
#include "berth_end.h"
#include "files.h"
#include "http.h"
#include "loop_chain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
    MAPPED_MAX = 256 << 10,
    BACKLOG_MAX = 1 << 20, /* unsent bytes beyond which no further request is looked at */
};

/* What is kept of a file. */
struct content {
    struct berth_chain body;
    struct berth_slice heads[2]; /* for connections that end, and that stay */
    time_t heads_s;
};

struct connection {
    struct watch watch;
    struct berth_chain in, out;
    bool ends; /* when all was sent */
};

static berth_pool *pool;

/* ---- files ---- */

static void *load(struct file *file, int fd) {
    struct content *content = berth_alloc_flags(pool, sizeof(*content), BERTH_ZERO);
    struct berth_slice mapping;
    int error = content == NULL ? -ENOMEM : 0;
    if (error == 0) {
        berth_chain_init(&content->body, pool);
    }
    if (error == 0 && file->size > 0 && file->size <= MAPPED_MAX) {
        error = berth_slice_map_file(pool, fd, 0, file->size, false, &mapping);
        error = error != 0 ? error : berth_chain_append(&content->body, &mapping);
        close(fd);
    } else if (error == 0) {
        error = berth_chain_append_file(&content->body, fd, 0, file->size, true);
    }
    if (error != 0) {
        berth_free(content);
        return NULL;
    }
    return content;
}

static void unload(void *argument) {
    struct content *content = argument;
    berth_chain_clear(&content->body);
    berth_slice_release(&content->heads[0]);
    berth_slice_release(&content->heads[1]);
    berth_free(content);
}

/* ---- responses ---- */

static int put_head(struct berth_chain *out, const struct http_answer *answer) {
    char text[HTTP_ANSWER_MAX];
    struct berth_slice head;
    int error = berth_slice_copy(pool, text, http_head(answer, text), &head);
    return error != 0 ? error : berth_chain_append(out, &head);
}

/* The head of a whole file, as it was made in this second. */
static int put_known_head(struct berth_chain *out, const struct http_answer *answer,
                          struct content *content) {
    if (content->heads_s != answer->now_s) {
        berth_slice_release(&content->heads[0]);
        berth_slice_release(&content->heads[1]);
        content->heads_s = answer->now_s;
    }
    struct berth_slice *known = &content->heads[answer->keep_alive];
    if (known->length == 0) {
        char text[HTTP_ANSWER_MAX];
        int error = berth_slice_copy(pool, text, http_head(answer, text), known);
        if (error != 0) {
            return error;
        }
    }
    struct berth_slice head = berth_slice_retain(known);
    return berth_chain_append(out, &head);
}

static int put_file(struct connection *connection, const struct http_request *request,
                    struct http_answer *answer, struct content *content) {
    struct berth_chain *out = &connection->out;
    int error =
        answer->status == 200 ? put_known_head(out, answer, content) : put_head(out, answer);
    if (error == 0 && !request->head_only) {
        error = berth_chain_share(&content->body, answer->first, answer->length, out);
    }
    return error;
}

/* ---- metrics ---- */

static void into_buf(void *buf, const char *text, size_t length) {
    (void)berth_buf_append(buf, text, length);
}

static int put_metrics(struct connection *connection, const struct http_request *request,
                       struct http_answer *answer) {
    struct berth_buf text;
    berth_buf_init(&text, pool, 16384, 0);
    berth_thread_flush(); /* so that the figures are exact */
    int error =
        berth_metrics_write(BERTH_METRICS_OPENMETRICS, BERTH_METRICS_POOLS, into_buf, &text);
    answer->status = error == 0 ? 200 : 500;
    answer->type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    answer->length = berth_buf_length(&text);
    error = put_head(&connection->out, answer);
    if (error == 0 && !request->head_only) {
        error = berth_buf_take(&text, answer->length, &connection->out);
    }
    berth_buf_clear(&text);
    return error;
}

static int respond(struct connection *connection, const struct http_request *request) {
    struct http_answer answer = {.status = request->status,
                                 .type = "text/plain",
                                 .now_s = time(NULL),
                                 .keep_alive = request->keep_alive};
    connection->ends = !request->keep_alive;
    loop_counts.messages++;
    if (request->status == 0 && strcmp(request->path, "/-/metrics") == 0) {
        return put_metrics(connection, request, &answer);
    }
    struct file *file = request->status == 0 ? files_find(request->path, answer.now_s) : NULL;
    if (file != NULL) {
        answer.status = http_range(request, file->size, &answer.first, &answer.length);
        answer.size = file->size;
        answer.type = file->type;
        answer.modified_s = file->modified.tv_sec;
        if (answer.status != 416) {
            return put_file(connection, request, &answer, file->content);
        }
    } else if (request->status == 0) {
        answer.status = 404;
    }
    const char *body = http_reason(answer.status);
    answer.length = strlen(body);
    int error = put_head(&connection->out, &answer);
    return error != 0 || request->head_only
               ? error
               : berth_chain_append_bytes(&connection->out, body, answer.length);
}

/* Answers what has come in wholly. */
static int respond_all(struct connection *connection) {
    struct http_request request;
    while (!connection->ends && berth_chain_length(&connection->in) > 0 &&
           berth_chain_length(&connection->out) < BACKLOG_MAX) {
        struct berth_segment text;
        (void)berth_chain_segment(&connection->in, 0, &text);
        if (!http_read((const char *)text.data, text.length, &request)) {
            uint64_t all = berth_chain_length(&connection->in);
            if (text.length == all) {
                return 0; /* more is to come */
            }
            if (berth_chain_linearise(&connection->in, (size_t)all) == NULL) {
                return -errno;
            }
            continue;
        }
        int error = respond(connection, &request);
        if (error != 0) {
            return error;
        }
        (void)berth_chain_consume(&connection->in, request.length);
    }
    return 0;
}

/* ---- connections ---- */

static void on_ended(struct watch *watch) {
    struct connection *connection = LOOP_OWNER(watch, struct connection, watch);
    berth_chain_clear(&connection->in);
    berth_chain_clear(&connection->out);
    berth_free(connection);
}

/* Answers and sends until one of both has to wait: 0, or the end of the connection. */
static int go_on(struct connection *connection) {
    for (;;) {
        int error = respond_all(connection);
        uint64_t unsent = berth_chain_length(&connection->out);
        if (error != 0 || unsent == 0) {
            return error == 0 && connection->ends ? -ECONNRESET : error;
        }
        int64_t sent = loop_send(&connection->watch, &connection->out);
        if (sent < 0 && sent != -EAGAIN) {
            return (int)sent;
        }
        if (berth_chain_length(&connection->out) > 0) {
            return 0;
        }
    }
}

static void on_ready(struct watch *watch, uint32_t events) {
    struct connection *connection = LOOP_OWNER(watch, struct connection, watch);
    int64_t result = -EAGAIN;
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        result = loop_receive(watch, &connection->in);
    }
    if (result == 0 || (result < 0 && result != -EAGAIN) || go_on(connection) != 0) {
        loop_end(watch);
        return;
    }
    uint64_t unsent = berth_chain_length(&connection->out);
    loop_want(watch, unsent < BACKLOG_MAX && !connection->ends, unsent > 0);
}

static void on_accepted(int fd) {
    struct connection *connection = berth_alloc(pool, sizeof(*connection));
    if (connection == NULL) {
        abort();
    }
    connection->ends = false;
    berth_chain_init(&connection->in, pool);
    berth_chain_init(&connection->out, pool);
    loop_add(&connection->watch, fd, on_ready, on_ended);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: files DIRECTORY [PORT]\n");
        return 2;
    }
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.one_thread = 1;
    pool = berth_pool_create("files", &options);
    files_begin(argv[1], load, unload);
    loop_begin();
    loop_memory(pool);
    berth_io_ignore_sigpipe();
    loop_listen(argc > 2 ? (uint16_t)atoi(argv[2]) : 0, on_accepted);
    loop_run();
    files_end();
    loop_memory_end();
    return berth_end(pool);
}
