/*
 * HTTP/1.1 as a server of static files needs it: requests from text, heads of responses to text.
 */
#ifndef BERTH_PERF_SERVERS_HTTP_H
#define BERTH_PERF_SERVERS_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum { HTTP_HEAD_MAX = 8192, HTTP_PATH_MAX = 1024, HTTP_ANSWER_MAX = 512 };

struct http_request {
    size_t length; /* of its head, the empty line included */
    int status;    /* 0: it is in order; else what to answer, and the connection ends */
    bool head_only, keep_alive;
    bool has_range;
    int64_t range_first, range_last; /* -1: left out */
    char path[HTTP_PATH_MAX];        /* decoded, from '/' on, never with ".." in it */
};

/* Reads a request; false if more bytes are needed. */
bool http_read(const char *text, size_t length, struct http_request *request);

/* The bytes of a file that a request wants: the status, 200, 206 or 416. */
int http_range(const struct http_request *request, uint64_t size, uint64_t *first,
               uint64_t *length);

struct http_answer {
    int status;
    uint64_t size; /* of the file */
    uint64_t first, length;
    const char *type;
    time_t modified_s, now_s;
    bool keep_alive;
};

/* Writes a head; returns its length. */
size_t http_head(const struct http_answer *answer, char to[HTTP_ANSWER_MAX]);

/* The body of an answer that is no file. */
const char *http_reason(int status);

/* By the name's end. */
const char *http_type(const char *path);

#endif
