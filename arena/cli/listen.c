#include "cli/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- the text ---- */

static bool take_port(struct berth__listen *place, const char *text) {
    char *end = NULL;
    unsigned long port = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || port > 65535) {
        return false;
    }
    snprintf(place->port, sizeof(place->port), "%lu", port);
    return true;
}

/* Cuts "HOST:PORT" or "[HOST]:PORT" in two. An IPv6 address needs its brackets. */
static bool split(const char *text, const char **host, size_t *length, const char **port) {
    const char *colon = strrchr(text, ':');
    if (colon == NULL) {
        return false;
    }
    *host = text;
    *length = (size_t)(colon - text);
    *port = colon + 1;
    if (*text == '[') {
        *host = text + 1;
        *length = *length < 2 ? 0 : *length - 2;
        return colon - text > 2 && colon[-1] == ']';
    }
    return strcspn(text, ":]") == *length;
}

bool berth__listen_parse(struct berth__listen *place, const char *text) {
    const char *host;
    const char *port;
    size_t length;
    *place = (struct berth__listen){.fd = -1};
    if (!split(text, &host, &length, &port) || length >= sizeof(place->host) ||
        !take_port(place, port)) {
        snprintf(place->why, sizeof(place->why),
                 "\"%.200s\" is no address to listen at, such as 127.0.0.1:9464 or [::1]:0", text);
        return false;
    }
    memcpy(place->host, host, length);
    if (length == 0) {
        snprintf(place->host, sizeof(place->host), "127.0.0.1");
    }
    return true;
}

/* ---- the socket ---- */

static bool failed(struct berth__listen *place, const char *advice) {
    int error = errno;
    snprintf(place->why, sizeof(place->why), "cannot listen at %s port %s: %s%s", place->host,
             place->port, strerror(error), advice);
    return false;
}

static const char *advice_on(int error) {
    switch (error) {
    case EADDRINUSE:
        return "; another program has the port (--listen 127.0.0.1:0 takes a free one)";
    case EACCES: return "; ports below 1024 are for root";
    case EADDRNOTAVAIL: return "; no interface of this machine has the address";
    default: return "";
    }
}

static bool is_loopback(const struct sockaddr *address) {
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof(v4));
        return ntohl(v4.sin_addr.s_addr) >> 24 == 127;
    }
    struct sockaddr_in6 v6;
    memcpy(&v6, address, sizeof(v6));
    return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
}

static bool open_at(struct berth__listen *place, const struct addrinfo *found) {
    enum { BACKLOG = 64 };
    int yes = 1;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return failed(place, "");
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return failed(place, advice_on(error));
    }
    place->fd = fd;
    return true;
}

/* The port may have been 0: a free one. */
static bool note_name(struct berth__listen *place) {
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof(address);
    char host[64];
    char port[8];
    if (getsockname(place->fd, (struct sockaddr *)&address, &length) != 0 ||
        getnameinfo((struct sockaddr *)&address, length, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        return failed(place, "");
    }
    place->loopback = is_loopback((struct sockaddr *)&address);
    bool v6 = address.ss_family == AF_INET6;
    snprintf(place->shown, sizeof(place->shown), "%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "",
             port);
    return true;
}

bool berth__listen_open(struct berth__listen *place) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int error = getaddrinfo(place->host, place->port, &hints, &found);
    if (error != 0) {
        snprintf(place->why, sizeof(place->why), "there is no address \"%s\": %s", place->host,
                 gai_strerror(error));
        return false;
    }
    bool opened = open_at(place, found) && note_name(place);
    freeaddrinfo(found);
    return opened;
}

/* ---- whom a request is for ---- */

bool berth__listen_is_for(const struct berth__listen *place, const char *host) {
    char name[BERTH_HOST_BYTES];
    unsigned char address[sizeof(struct in6_addr)];
    if (!place->loopback || host == NULL) {
        return true;
    }
    bool bracketed = *host == '[';
    size_t length = bracketed ? strcspn(host + 1, "]") : strcspn(host, ":");
    if (length >= sizeof(name)) {
        return false;
    }
    memcpy(name, bracketed ? host + 1 : host, length);
    name[length] = '\0';
    const char *rest = host + length + (bracketed ? strlen("[]") : 0);
    if ((bracketed && rest[-1] != ']') || (*rest != '\0' && *rest != ':')) {
        return false;
    }
    return strcasecmp(name, "localhost") == 0 || strcasecmp(name, place->host) == 0 ||
           inet_pton(bracketed ? AF_INET6 : AF_INET, name, address) == 1;
}
