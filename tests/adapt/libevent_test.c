/* An echo server as one writes it on libevent, with berth's adaptor: its memory would be copied,
 * lost or given back too early. */
#include "adapt.h"

#include <berth/adapt/libevent.h>
#include <berth/io.h>

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

struct server {
    struct event_base *base;
    struct evconnlistener *listener;
    bool by_bufferevents;
    struct berth_slice piece; /* what connections receive into */
    unsigned to_come, open;
};

struct connection {
    struct server *server;
    struct event *readable, *writable;
    struct berth_chain in;
    struct evbuffer *out;
};

static berth_pool *pool;

static void one_closed(struct server *server) {
    if (--server->open == 0 && server->to_come == 0) {
        event_base_loopbreak(server->base);
    }
}

/* ---- events: berth receives, libevent sends ---- */

static void end_connection(struct connection *connection) {
    int fd = event_get_fd(connection->readable);
    event_free(connection->readable);
    event_free(connection->writable);
    close(fd);
    evbuffer_free(connection->out);
    berth_chain_clear(&connection->in);
    one_closed(connection->server);
    berth_free(connection);
}

static bool send_some(struct connection *connection, int fd) {
    int sent = evbuffer_get_length(connection->out) == 0 ? 0 : evbuffer_write(connection->out, fd);
    if (sent < 0 && errno != EAGAIN) {
        return false;
    }
    if (evbuffer_get_length(connection->out) > 0) {
        event_add(connection->writable, NULL);
    }
    return true;
}

static void on_readable(evutil_socket_t fd, short what, void *argument) {
    struct connection *connection = argument;
    (void)what;
    int64_t got = berth_io_receive_shared(fd, &connection->in, &connection->server->piece, 0);
    if (got == -EAGAIN) {
        return;
    }
    if (got <= 0 || berth_evbuffer_add_chain(connection->out, &connection->in) != 0 ||
        !send_some(connection, fd)) {
        end_connection(connection);
    }
}

static void on_writable(evutil_socket_t fd, short what, void *argument) {
    struct connection *connection = argument;
    (void)what;
    if (!send_some(connection, fd)) {
        end_connection(connection);
    }
}

static void begin_events(struct server *server, evutil_socket_t fd) {
    struct connection *connection = berth_alloc(pool, sizeof(*connection));
    UNIT_CHECK(connection != NULL);
    connection->server = server;
    connection->out = evbuffer_new();
    connection->readable =
        event_new(server->base, fd, EV_READ | EV_PERSIST, on_readable, connection);
    connection->writable = event_new(server->base, fd, EV_WRITE, on_writable, connection);
    berth_chain_init(&connection->in, pool);
    UNIT_CHECK(event_add(connection->readable, NULL) == 0);
}

/* ---- bufferevents: libevent receives and sends, slices are between ---- */

static void on_input(struct bufferevent *events, void *argument) {
    struct berth_chain chain;
    (void)argument;
    berth_chain_init(&chain, pool);
    UNIT_CHECK(berth_evbuffer_take(bufferevent_get_input(events), pool, &chain) == 0);
    UNIT_CHECK(berth_evbuffer_add_chain(bufferevent_get_output(events), &chain) == 0);
}

static void on_event(struct bufferevent *events, short what, void *argument) {
    (void)what;
    bufferevent_free(events);
    one_closed(argument);
}

static void begin_bufferevent(struct server *server, evutil_socket_t fd) {
    struct bufferevent *events = bufferevent_socket_new(server->base, fd, BEV_OPT_CLOSE_ON_FREE);
    UNIT_CHECK(events != NULL);
    bufferevent_setcb(events, on_input, NULL, on_event, server);
    UNIT_CHECK(bufferevent_enable(events, EV_READ | EV_WRITE) == 0);
}

/* ---- both ---- */

static void on_connection(struct evconnlistener *listener, evutil_socket_t fd,
                          struct sockaddr *address, int length, void *argument) {
    struct server *server = argument;
    (void)listener, (void)address, (void)length;
    server->to_come--;
    server->open++;
    (server->by_bufferevents ? begin_bufferevent : begin_events)(server, fd);
}

static in_port_t server_begin(struct server *server) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    server->to_come = CLIENTS;
    server->base = event_base_new();
    server->listener = evconnlistener_new_bind(server->base, on_connection, server,
                                               LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 128,
                                               (struct sockaddr *)&address, sizeof(address));
    UNIT_CHECK(server->listener != NULL);
    UNIT_CHECK(getsockname(evconnlistener_get_fd(server->listener), (struct sockaddr *)&address,
                           &length) == 0);
    return address.sin_port;
}

static void serve(bool by_bufferevents) {
    struct client clients[CLIENTS];
    struct server server = {.by_bufferevents = by_bufferevents, .piece = BERTH_SLICE_EMPTY};
    unsigned descriptors = open_descriptors();
    pool = berth_pool_create("libevent", NULL);
    berth_free(berth_alloc(pool, 1)); /* this thread's cache: its making is no copying */
    clients_start(clients, server_begin(&server));
    uint64_t copied = adapt_copied_bytes;
    UNIT_CHECK(event_base_dispatch(server.base) == 0);
    assert_int_equal(adapt_copied_bytes - copied, 0);
    clients_join(clients);
    evconnlistener_free(server.listener);
    berth_slice_release(&server.piece);
    event_base_free(server.base);
    check_nothing_lives(pool);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
    assert_int_equal(open_descriptors(), descriptors);
}

static void a_server_on_events_copies_and_keeps_nothing(void **state) {
    (void)state;
    serve(false);
}

static void a_server_on_bufferevents_copies_and_keeps_nothing(void **state) {
    (void)state;
    serve(true);
}

static void files_and_static_memory_go_through_an_evbuffer(void **state) {
    /* The region would be sent from the wrong place, or its descriptor closed too early. */
    (void)state;
    static const char text[] = "0123456789";
    char got[sizeof(text) + 4];
    struct berth_chain chain;
    struct berth_slice slice;
    int ends[2];
    unsigned descriptors = open_descriptors();
    pool = berth_pool_create("libevent", NULL);
    FILE *file = tmpfile();
    struct evbuffer *evbuffer = evbuffer_new();
    UNIT_CHECK(file != NULL && fwrite(text, 1, 10, file) == 10 && fflush(file) == 0);
    UNIT_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    berth_chain_init(&chain, pool);
    UNIT_CHECK(berth_slice_wrap_static(text, 10, &slice) == 0);
    UNIT_CHECK(berth_chain_append(&chain, &slice) == 0);
    UNIT_CHECK(berth_chain_append_file(&chain, dup(fileno(file)), 3, 4, true) == 0);
    assert_int_equal(berth_evbuffer_add_chain(evbuffer, &chain), 0);
    assert_int_equal(berth_chain_length(&chain), 0);
    while (evbuffer_get_length(evbuffer) > 0) {
        UNIT_CHECK(evbuffer_write(evbuffer, ends[0]) > 0);
    }
    UNIT_CHECK(recv(ends[1], got, 14, MSG_WAITALL) == 14);
    assert_memory_equal(got, "01234567893456", 14);
    evbuffer_free(evbuffer);
    fclose(file);
    close(ends[0]);
    close(ends[1]);
    check_nothing_lives(pool);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
    assert_int_equal(open_descriptors(), descriptors);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_on_events_copies_and_keeps_nothing),
        cmocka_unit_test(a_server_on_bufferevents_copies_and_keeps_nothing),
        cmocka_unit_test(files_and_static_memory_go_through_an_evbuffer),
    };
    return UNIT_RUN(tests);
}
