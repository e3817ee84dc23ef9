#include "http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- requests ---- */

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The path without its query, decoded: 0 or a status. */
static int read_path(const char *text, size_t length, char *path) {
    size_t out = 0;
    for (size_t i = 0; i < length && text[i] != '?' && text[i] != '#'; i++) {
        char c = text[i];
        if (c == '%') {
            int high = i + 2 < length ? hex_digit(text[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
            if (low < 0) {
                return 400;
            }
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (c == '\0') {
            return 400;
        }
        if (out + 1 == HTTP_PATH_MAX) {
            return 414;
        }
        path[out++] = c;
    }
    path[out] = '\0';
    return path[0] != '/' || strstr(path, "/..") != NULL ? 400 : 0;
}

static bool is_named(const char *line, size_t length, const char *name) {
    size_t name_length = strlen(name);
    return length > name_length && line[name_length] == ':' &&
           strncasecmp(line, name, name_length) == 0;
}

/* The text of a field, without blanks before it. */
static void value_of(const char *line, size_t length, char value[64]) {
    const char *at = memchr(line, ':', length);
    size_t begin = (size_t)(at - line) + 1;
    while (begin < length && line[begin] == ' ') {
        begin++;
    }
    size_t bytes = length - begin < 63 ? length - begin : 63;
    for (size_t i = 0; i < bytes; i++) {
        value[i] = line[begin + i];
    }
    value[bytes] = '\0';
}

/* A number of at most 18 digits; NULL if there is none. */
static const char *read_number(const char *at, int64_t *number) {
    const char *begin = at;
    for (*number = 0; *at >= '0' && *at <= '9'; at++) {
        if (at - begin == 18) {
            return NULL;
        }
        *number = *number * 10 + (*at - '0');
    }
    return at == begin ? NULL : at;
}

/* One range of bytes; others are ignored, as the protocol allows. */
static void read_range(const char *value, struct http_request *request) {
    int64_t first = -1, last = -1;
    if (strncmp(value, "bytes=", 6) != 0) {
        return;
    }
    const char *at = value + 6;
    at = *at == '-' ? at : read_number(at, &first);
    if (at == NULL || *at != '-') {
        return;
    }
    at++;
    at = *at == '\0' && first >= 0 ? at : read_number(at, &last);
    if (at != NULL && *at == '\0') {
        request->has_range = true;
        request->range_first = first;
        request->range_last = last;
    }
}

static void read_field(const char *line, size_t length, struct http_request *request) {
    char value[64];
    if (is_named(line, length, "connection")) {
        value_of(line, length, value);
        request->keep_alive = strcasecmp(value, "keep-alive") == 0  ? true
                              : strncasecmp(value, "close", 5) == 0 ? false
                                                                    : request->keep_alive;
    } else if (is_named(line, length, "range")) {
        value_of(line, length, value);
        read_range(value, request);
    } else if (is_named(line, length, "content-length")) {
        value_of(line, length, value);
        request->status = strcmp(value, "0") == 0 ? request->status : 413;
    } else if (is_named(line, length, "transfer-encoding")) {
        request->status = 413;
    }
}

static int read_first_line(const char *line, size_t length, struct http_request *request) {
    const char *path = memchr(line, ' ', length);
    const char *version =
        path == NULL ? NULL : memrchr(path + 1, ' ', length - (size_t)(path + 1 - line));
    if (version == NULL || length - (size_t)(version - line) != strlen(" HTTP/1.1") ||
        strncmp(version, " HTTP/1.", 8) != 0) {
        return 400;
    }
    request->keep_alive = version[8] != '0';
    request->head_only = strncmp(line, "HEAD ", 5) == 0;
    if (!request->head_only && strncmp(line, "GET ", 4) != 0) {
        return 405;
    }
    return read_path(path + 1, (size_t)(version - path - 1), request->path);
}

bool http_read(const char *text, size_t length, struct http_request *request) {
    const char *end = memmem(text, length, "\r\n\r\n", 4);
    request->status = 0;
    request->head_only = request->keep_alive = request->has_range = false;
    request->path[0] = '\0';
    if (end == NULL) {
        request->status = length < HTTP_HEAD_MAX ? 0 : 431;
        request->length = length;
        return request->status != 0;
    }
    request->length = (size_t)(end - text) + 4;
    const char *line_end = memmem(text, request->length, "\r\n", 2);
    int status = read_first_line(text, (size_t)(line_end - text), request);
    while (line_end < end) {
        const char *line = line_end + 2;
        line_end = memmem(line, (size_t)(end + 2 - line), "\r\n", 2);
        read_field(line, (size_t)(line_end - line), request);
    }
    request->status = status != 0 ? status : request->status;
    request->keep_alive = request->keep_alive && request->status == 0;
    return true;
}

int http_range(const struct http_request *request, uint64_t size, uint64_t *first,
               uint64_t *length) {
    *first = 0;
    *length = size;
    if (!request->has_range) {
        return 200;
    }
    if (request->range_first < 0) { /* the last so many bytes */
        uint64_t wanted = (uint64_t)request->range_last;
        *length = wanted < size ? wanted : size;
        *first = size - *length;
        return *length == 0 ? 416 : 206;
    }
    if ((uint64_t)request->range_first >= size ||
        (request->range_last >= 0 && request->range_last < request->range_first)) {
        return 416;
    }
    *first = (uint64_t)request->range_first;
    *length = size - *first;
    if (request->range_last >= 0 && (uint64_t)request->range_last < size) {
        *length = (uint64_t)request->range_last - *first + 1;
    }
    return 206;
}

/* ---- answers ---- */

const char *http_reason(int status) {
    switch (status) {
    case 200: return "OK";
    case 206: return "Partial Content";
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 416: return "Range Not Satisfiable";
    case 431: return "Request Header Fields Too Large";
    default: return "Internal Server Error";
    }
}

const char *http_type(const char *path) {
    static const struct {
        const char *end, *type;
    } types[] = {{".html", "text/html; charset=utf-8"},
                 {".css", "text/css"},
                 {".js", "text/javascript"},
                 {".json", "application/json"},
                 {".txt", "text/plain"},
                 {".md", "text/plain; charset=utf-8"},
                 {".svg", "image/svg+xml"},
                 {".png", "image/png"},
                 {".jpg", "image/jpeg"}};
    const char *end = strrchr(path, '.');
    for (unsigned i = 0; end != NULL && i < sizeof(types) / sizeof(types[0]); i++) {
        if (strcmp(end, types[i].end) == 0) {
            return types[i].type;
        }
    }
    return "application/octet-stream";
}

static void write_time(time_t seconds, char text[32]) {
    struct tm parts;
    gmtime_r(&seconds, &parts);
    strftime(text, 32, "%a, %d %b %Y %H:%M:%S GMT", &parts);
}

size_t http_head(const struct http_answer *answer, char to[HTTP_ANSWER_MAX]) {
    char now[32], modified[32], range[80] = "";
    write_time(answer->now_s, now);
    write_time(answer->modified_s, modified);
    if (answer->status == 206) {
        snprintf(range, sizeof(range), "Content-Range: bytes %ju-%ju/%ju\r\n",
                 (uintmax_t)answer->first, (uintmax_t)(answer->first + answer->length - 1),
                 (uintmax_t)answer->size);
    } else if (answer->status == 416) {
        snprintf(range, sizeof(range), "Content-Range: bytes */%ju\r\n", (uintmax_t)answer->size);
    } else if (answer->status == 405) {
        snprintf(range, sizeof(range), "Allow: GET, HEAD\r\n");
    }
    bool is_file = answer->status == 200 || answer->status == 206;
    int length =
        snprintf(to, HTTP_ANSWER_MAX,
                 "HTTP/1.1 %d %s\r\nServer: berth\r\nDate: %s\r\n%s%s%s%s%s"
                 "Content-Type: %s\r\nContent-Length: %ju\r\nConnection: %s\r\n\r\n",
                 answer->status, http_reason(answer->status), now, is_file ? "Last-Modified: " : "",
                 is_file ? modified : "", is_file ? "\r\n" : "",
                 is_file ? "Accept-Ranges: bytes\r\n" : "", range, answer->type,
                 (uintmax_t)answer->length, answer->keep_alive ? "keep-alive" : "close");
    return (size_t)length;
}
