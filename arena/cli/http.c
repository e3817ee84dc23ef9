#include "cli/http.h"

#if BERTH_MICROHTTPD
#include "base/bits.h"

#include <microhttpd.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct berth__http {
    struct MHD_Daemon *daemon;
    berth__http_handler *handler;
    void *context;
};

const char *berth__http_argument(const struct berth__http_request *request, const char *name) {
    return MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, name);
}

/* ---- answers ---- */

static const char *error_text(unsigned status) {
    switch (status) {
    case MHD_HTTP_BAD_REQUEST: return "The request is not understood.\n";
    case MHD_HTTP_FORBIDDEN:
        return "This server answers to addresses and to localhost only, not to other names.\n";
    case MHD_HTTP_NOT_FOUND: return "There is nothing here. The page / leads to the rest.\n";
    case MHD_HTTP_METHOD_NOT_ALLOWED: return "Only GET and HEAD.\n";
    case MHD_HTTP_CONTENT_TOO_LARGE: return "A request has no body here.\n";
    default: return "This cannot be answered now.\n";
    }
}

/* Nothing that this server says is to be kept, framed, or taken for something else. */
static bool add_headers(struct MHD_Response *response, const struct berth__http_answer *answer) {
    const char *const headers[][2] = {
        {MHD_HTTP_HEADER_CONTENT_TYPE, answer->type},
        {"Content-Security-Policy", answer->policy},
        {MHD_HTTP_HEADER_CACHE_CONTROL, "no-store"},
        {MHD_HTTP_HEADER_VARY, MHD_HTTP_HEADER_ACCEPT},
        {"X-Content-Type-Options", "nosniff"},
        {"Referrer-Policy", "no-referrer"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
    };
    bool added = true;
    for (size_t i = 0; i < BERTH_ARRAY_COUNT(headers); i++) {
        added = MHD_add_response_header(response, headers[i][0], headers[i][1]) == MHD_YES && added;
    }
    if (*answer->file != '\0') {
        char as_file[64];
        snprintf(as_file, sizeof(as_file), "attachment; filename=\"%s\"", answer->file);
        added = MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_DISPOSITION, as_file) ==
                    MHD_YES &&
                added;
    }
    if (answer->status == MHD_HTTP_METHOD_NOT_ALLOWED) {
        added = MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD") == MHD_YES &&
                added;
    }
    return added;
}

static enum MHD_Result send_answer(struct MHD_Connection *connection,
                                   struct berth__http_answer *answer) {
    struct MHD_Response *response;
    if (answer->body != NULL) {
        response =
            MHD_create_response_from_buffer(answer->length, answer->body, MHD_RESPMEM_MUST_FREE);
    } else {
        const char *text = error_text(answer->status);
        answer->type = "text/plain; charset=utf-8";
        response = MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text,
                                                   MHD_RESPMEM_PERSISTENT);
    }
    if (response == NULL) {
        free(answer->body);
        return MHD_NO;
    }
    enum MHD_Result sent = MHD_NO;
    if (add_headers(response, answer)) {
        sent = MHD_queue_response(connection, answer->status, response);
    }
    MHD_destroy_response(response);
    return sent;
}

/* ---- requests ---- */

static const char *header(struct MHD_Connection *connection, const char *name) {
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static bool has_body(struct MHD_Connection *connection) {
    const char *length = header(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return header(connection, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL ||
           (length != NULL && strcmp(length, "0") != 0);
}

/* libmicrohttpd says which parameters there are. */
/* NOLINTBEGIN(readability-function-size,readability-non-const-parameter) */
static enum MHD_Result on_request(void *context, struct MHD_Connection *connection,
                                  const char *path, const char *method, const char *version,
                                  const char *upload, size_t *upload_bytes, void **state) {
    static char seen;
    struct berth__http *http = context;
    (void)version;
    (void)upload;
    (void)upload_bytes;
    struct berth__http_answer answer = {.policy = "default-src 'none'; frame-ancestors 'none'"};
    bool readable =
        strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    if (!readable || has_body(connection)) { /* at once: what comes is not read, it is closed */
        answer.status = readable ? MHD_HTTP_CONTENT_TOO_LARGE : MHD_HTTP_METHOD_NOT_ALLOWED;
        return send_answer(connection, &answer);
    }
    if (*state == NULL) { /* the head has come; all of it is handled when the request is complete */
        *state = &seen;
        return MHD_YES;
    }
    struct berth__http_request request = {
        .path = path,
        .host = header(connection, MHD_HTTP_HEADER_HOST),
        .accept = header(connection, MHD_HTTP_HEADER_ACCEPT),
        .connection = connection,
    };
    http->handler(http->context, &request, &answer);
    return send_answer(connection, &answer);
}
/* NOLINTEND(readability-function-size,readability-non-const-parameter) */

/* ---- the server ---- */

struct berth__http *berth__http_start(int socket, berth__http_handler *handler, void *context,
                                      const char **why) {
    struct berth__http *http = calloc(1, sizeof(*http));
    if (http != NULL) {
        http->handler = handler;
        http->context = context;
        http->daemon = MHD_start_daemon(
            MHD_USE_EPOLL, 0, NULL, NULL, on_request, http, MHD_OPTION_LISTEN_SOCKET, socket,
            MHD_OPTION_CONNECTION_LIMIT, (unsigned)BERTH_HTTP_CONNECTIONS_MAX,
            MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)BERTH_HTTP_SILENCE_S,
            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)(32 << 10), MHD_OPTION_END);
    }
    if (http == NULL || http->daemon == NULL) {
        *why = "libmicrohttpd could not start a server";
        close(socket);
        free(http);
        return NULL;
    }
    return http;
}

int berth__http_descriptor(const struct berth__http *http) {
    return MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
}

int berth__http_wait_ms(const struct berth__http *http) {
    MHD_UNSIGNED_LONG_LONG wait_ms = 0;
    return MHD_get_timeout(http->daemon, &wait_ms) == MHD_YES ? (int)berth__min(wait_ms, 60000)
                                                              : -1;
}

bool berth__http_run(struct berth__http *http) {
    return MHD_run(http->daemon) == MHD_YES;
}

void berth__http_stop(struct berth__http *http) {
    MHD_stop_daemon(http->daemon);
    free(http);
}

#endif
