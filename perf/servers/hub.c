/*
 * A hub before a Redis: a connection that subscribes or publishes is served here, one message for
 * all who want it; what any other connection asks is passed on to Redis over one of its own, and
 * the answers back.
 *
 *   hub REDIS-PORT [PORT]        (0: no Redis; other commands are refused)
 *
 * A connection is of one kind, by its first command: nothing here keeps answers of both in order.
 */
#include "loop.h"
#include "resp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

enum {
    BACKLOG_MAX = 1 << 20,
    SUBSCRIBER_BACKLOG_MAX = 64 << 20,
    NAME_MAX_BYTES = 64,
    CHANNELS = 64
};

enum kind { KIND_UNKNOWN, KIND_ASKS, KIND_PUBLISHES };

struct channel {
    char name[NAME_MAX_BYTES];
    struct client *first;
};

struct client {
    struct watch watch, redis;
    struct stream in, out, to_redis;
    enum kind kind;
    bool has_redis;
    unsigned watches;        /* that have not ended */
    struct channel *channel; /* NULL, or what it has subscribed to */
    struct client *next, **link;
    bool is_due; /* there is something new to send; in `due` */
    struct client *next_due;
};

static uint16_t redis_port;
static struct channel channels[CHANNELS];
static struct client *due;

/* ---- ends ---- */

static void one_ended(struct client *client) {
    if (--client->watches == 0) {
        stream_end(&client->in);
        stream_end(&client->out);
        stream_end(&client->to_redis);
        free(client);
    }
}

static void on_client_ended(struct watch *watch) {
    one_ended(LOOP_OWNER(watch, struct client, watch));
}

static void on_redis_ended(struct watch *watch) {
    one_ended(LOOP_OWNER(watch, struct client, redis));
}

static void end(struct client *client) {
    if (client->channel != NULL) {
        *client->link = client->next;
        if (client->next != NULL) {
            client->next->link = client->link;
        }
        client->channel = NULL;
    }
    for (struct client **at = &due; client->is_due && *at != NULL; at = &(*at)->next_due) {
        if (*at == client) {
            *at = client->next_due;
            client->is_due = false;
            break;
        }
    }
    if (client->has_redis) {
        loop_end(&client->redis);
    }
    loop_end(&client->watch);
}

/* ---- sending ---- */

static void now_due(struct client *client) {
    if (!client->is_due) {
        client->is_due = true;
        client->next_due = due;
        due = client;
    }
}

static void want(struct client *client) {
    uint64_t to_client = stream_unsent(&client->out), to_redis = stream_unsent(&client->to_redis);
    loop_want(&client->watch, to_redis<BACKLOG_MAX, to_client> 0);
    if (client->has_redis) {
        loop_want(&client->redis, to_client<BACKLOG_MAX, to_redis> 0);
    }
}

static void send_what_is_due(void) {
    while (due != NULL) {
        struct client *client = due;
        due = client->next_due;
        client->is_due = false;
        bool alive = stream_send(&client->out, client->watch.fd) &&
                     (!client->has_redis || stream_send(&client->to_redis, client->redis.fd));
        if (!alive || stream_unsent(&client->out) > SUBSCRIBER_BACKLOG_MAX) {
            end(client);
        } else {
            want(client);
        }
    }
}

/* ---- publishing ---- */

static struct channel *channel_of(const struct stream *in, const struct resp_command *command) {
    char name[NAME_MAX_BYTES] = "";
    if (command->word[1].length >= NAME_MAX_BYTES) {
        return NULL;
    }
    stream_peek(in, command->word[1].offset, name, (size_t)command->word[1].length);
    struct channel *unused = NULL;
    for (unsigned i = 0; i < CHANNELS; i++) {
        if (strcmp(channels[i].name, name) == 0) {
            return &channels[i];
        }
        unused = channels[i].first == NULL ? &channels[i] : unused;
    }
    if (unused != NULL) {
        memcpy(unused->name, name, sizeof(name));
    }
    return unused;
}

static void put_error(struct client *client, const char *text) {
    stream_put(&client->out, text, strlen(text));
}

static void subscribe(struct client *client, struct channel *channel) {
    char text[NAME_MAX_BYTES + 64];
    if (client->channel != NULL) {
        put_error(client, "-ERR one channel a connection\r\n");
        return;
    }
    client->channel = channel;
    client->next = channel->first;
    client->link = &channel->first;
    if (channel->first != NULL) {
        channel->first->link = &client->next;
    }
    channel->first = client;
    int length = snprintf(text, sizeof(text), "*3\r\n$9\r\nsubscribe\r\n$%zu\r\n%s\r\n:1\r\n",
                          strlen(channel->name), channel->name);
    stream_put(&client->out, text, (size_t)length);
}

static void publish(struct client *client, const struct resp_command *command,
                    struct channel *channel) {
    char text[NAME_MAX_BYTES + 64];
    unsigned receivers = 0;
    uint64_t length = command->word[2].length;
    int head = snprintf(text, sizeof(text), "*3\r\n$7\r\nmessage\r\n$%zu\r\n%s\r\n$%ju\r\n",
                        strlen(channel->name), channel->name, (uintmax_t)length);
    struct stream_message *message =
        stream_message(text, (size_t)head, &client->in, command->word[2].offset, length + 2);
    for (struct client *at = channel->first; at != NULL; at = at->next, receivers++) {
        stream_put_message(&at->out, message);
        now_due(at);
    }
    stream_message_end(message);
    head = snprintf(text, sizeof(text), ":%u\r\n", receivers);
    stream_put(&client->out, text, (size_t)head);
    loop_counts.messages++;
    loop_counts.bytes += length;
}

/* True if the command was for the hub. */
static bool served_here(struct client *client, const struct resp_command *command) {
    bool subscribes = command->words == 2 && resp_is(&client->in, command, 0, "subscribe");
    bool publishes = command->words == 3 && resp_is(&client->in, command, 0, "publish");
    if ((!subscribes && !publishes) || client->kind == KIND_ASKS) {
        return false;
    }
    struct channel *channel = channel_of(&client->in, command);
    client->kind = KIND_PUBLISHES;
    if (channel == NULL) {
        put_error(client, "-ERR no such channel can be\r\n");
    } else if (subscribes) {
        subscribe(client, channel);
    } else {
        publish(client, command, channel);
    }
    stream_drop(&client->in, command->length);
    return true;
}

/* ---- asking ---- */

static void on_redis_ready(struct watch *watch, uint32_t events) {
    struct client *client = LOOP_OWNER(watch, struct client, redis);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        int64_t got = stream_relay(&client->out, watch->fd);
        if (got == 0 || (got < 0 && got != -EAGAIN)) {
            end(client);
            return;
        }
    }
    now_due(client);
    send_what_is_due();
}

static bool has_redis(struct client *client) {
    if (!client->has_redis) {
        int fd = redis_port == 0 ? -1 : loop_connect(redis_port);
        if (fd < 0) {
            return false;
        }
        client->has_redis = true;
        client->watches++;
        loop_add(&client->redis, fd, on_redis_ready, on_redis_ended);
        loop_want(&client->redis, true, true);
    }
    return true;
}

/* Passes on the commands from the beginning that are not for the hub: 1 if there were any, 0 if
 * more bytes are needed, -1 if they cannot be. */
static int pass_on(struct client *client) {
    struct resp_command command;
    uint64_t length = 0;
    int result = resp_read(&client->in, 0, &command);
    for (; result == 1; result = resp_read(&client->in, length, &command)) {
        length += command.length;
        loop_counts.messages++;
    }
    if (length > 0) {
        client->kind = KIND_ASKS;
        if (!has_redis(client)) {
            return -1;
        }
        stream_move(&client->in, length, &client->to_redis);
        loop_counts.bytes += length;
    }
    return result == -1 ? -1 : length > 0;
}

static bool understand(struct client *client) {
    struct resp_command command;
    int result;
    while (client->kind != KIND_ASKS && (result = resp_read(&client->in, 0, &command)) != 0) {
        if (result == -1) {
            return false;
        }
        if (!served_here(client, &command)) {
            if (client->kind == KIND_PUBLISHES) {
                put_error(client, "-ERR this connection publishes or subscribes\r\n");
                stream_drop(&client->in, command.length);
                continue;
            }
            client->kind = KIND_ASKS;
        }
    }
    return client->kind != KIND_ASKS || pass_on(client) >= 0;
}

static void on_client_ready(struct watch *watch, uint32_t events) {
    struct client *client = LOOP_OWNER(watch, struct client, watch);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        int64_t got = stream_receive(&client->in, watch->fd);
        if (got == 0 || (got < 0 && got != -EAGAIN) || !understand(client)) {
            end(client);
            return;
        }
    }
    now_due(client);
    send_what_is_due();
}

static void on_accepted(int fd) {
    struct client *client = calloc(1, sizeof(*client));
    if (client == NULL) {
        abort();
    }
    stream_begin(&client->in);
    stream_begin(&client->out);
    stream_begin(&client->to_redis);
    client->watches = 1;
    loop_add(&client->watch, fd, on_client_ready, on_client_ended);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: hub REDIS-PORT [PORT]\n");
        return 2;
    }
    redis_port = (uint16_t)atoi(argv[1]);
    streams_begin();
    loop_begin();
    loop_listen(argc > 2 ? (uint16_t)atoi(argv[2]) : 0, on_accepted);
    loop_run();
    return streams_end();
}
