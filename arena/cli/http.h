/*
 * A small HTTP server for the tool, over libmicrohttpd: GET and HEAD only, everything bounded.
 *
 * It runs in its caller's thread: the caller waits until the descriptor is readable or the time is
 * up, and calls berth__http_run. Not there in a tool that was built without libmicrohttpd
 * (BERTH_MICROHTTPD is 0).
 */
#ifndef BERTH_CLI_HTTP_H
#define BERTH_CLI_HTTP_H

#include "base/compiler.h"

enum {
    BERTH_HTTP_CONNECTIONS_MAX = 64,
    BERTH_HTTP_SILENCE_S = 15, /* a connection that says nothing is closed then */
};

struct berth__http_request {
    const char *path;
    const char *host, *accept; /* of its head; NULL if it has none */
    void *connection;
};

/* What comes after "name=" in the query; NULL if there is no such. */
const char *berth__http_argument(const struct berth__http_request *request, const char *name);

struct berth__http_answer {
    unsigned status;
    const char *type;
    char policy[320]; /* Content-Security-Policy */
    char file[32];    /* as which it is kept; "": it is to be shown */
    char *body;       /* the server frees it; NULL: an error, which it words itself */
    size_t length;
};

typedef void berth__http_handler(void *context, const struct berth__http_request *request,
                                 struct berth__http_answer *answer);

struct berth__http;

/* Serves at a listening socket, which it closes in the end. NULL, with the reason as a sentence. */
struct berth__http *berth__http_start(int socket, berth__http_handler *handler, void *context,
                                      const char **why);
int berth__http_descriptor(const struct berth__http *http);

/* In how many milliseconds berth__http_run is to be called, if nothing happens; or -1. */
int berth__http_wait_ms(const struct berth__http *http);
bool berth__http_run(struct berth__http *http);
void berth__http_stop(struct berth__http *http);

#endif
