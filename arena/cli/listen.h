/*
 * Where a server of the tool listens: "127.0.0.1:9464", "[::1]:0", "name:port".
 */
#ifndef BERTH_CLI_LISTEN_H
#define BERTH_CLI_LISTEN_H

#include "base/compiler.h"

enum { BERTH_HOST_BYTES = 256 };

struct berth__listen {
    char host[BERTH_HOST_BYTES]; /* without brackets; never empty */
    char port[8];
    int fd; /* of the socket; -1: it could not be opened */
    bool loopback;
    char shown[BERTH_HOST_BYTES + 16]; /* as in a URL, with the port that it got */
    char why[512];                     /* where it failed: a sentence without a full stop */
};

/* Understands an address. Without a host it is the loopback's. */
bool berth__listen_parse(struct berth__listen *place, const char *text);

/* Opens the socket. False, with the reason, if that cannot be. */
bool berth__listen_open(struct berth__listen *place);

/* True if a request for this "Host:" may be answered (NULL: it has none). Behind a loopback
 * address, only what is called so: a page from elsewhere, whose name was made to lead to this
 * machine, must not read what we serve. */
bool berth__listen_is_for(const struct berth__listen *place, const char *host);

#endif
