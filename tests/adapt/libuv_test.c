/* An echo server as one writes it on libuv, with berth's adaptor: its memory would be copied, lost
 * or given back too early. */
#include "adapt.h"

#include <berth/adapt/libuv.h>

struct connection {
    uv_tcp_t tcp;
    struct berth_chain chain;
};

struct server {
    uv_loop_t loop;
    uv_tcp_t listener;
    struct berth_uv_reader reader; /* of all connections */
    unsigned to_come, open;
};

static berth_pool *pool;

static void on_closed(uv_handle_t *handle) {
    struct connection *connection = handle->data;
    struct server *server = handle->loop->data;
    berth_chain_clear(&connection->chain);
    berth_free(connection);
    if (--server->open == 0 && server->to_come == 0) {
        uv_close((uv_handle_t *)&server->listener, NULL);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *to) {
    (void)suggested;
    berth_uv_alloc(&((struct server *)handle->loop->data)->reader, to);
}

static void on_written(void *context, int status) {
    uv_handle_t *handle = context;
    if (status != 0 && !uv_is_closing(handle)) {
        uv_close(handle, on_closed);
    }
}

static void on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *from) {
    struct connection *connection = stream->data;
    struct server *server = stream->loop->data;
    (void)from;
    int error = berth_uv_take(&server->reader, got, &connection->chain);
    if (error == 0 && berth_chain_length(&connection->chain) > 0) {
        error = berth_uv_write(stream, &connection->chain, on_written, stream);
    }
    if (error != 0 && !uv_is_closing((uv_handle_t *)stream)) {
        uv_close((uv_handle_t *)stream, on_closed);
    }
}

static void on_connection(uv_stream_t *listener, int status) {
    struct server *server = listener->data;
    struct connection *connection = berth_alloc(pool, sizeof(*connection));
    UNIT_CHECK(status == 0 && connection != NULL);
    UNIT_CHECK(uv_tcp_init(&server->loop, &connection->tcp) == 0);
    connection->tcp.data = connection;
    berth_chain_init(&connection->chain, pool);
    UNIT_CHECK(uv_accept(listener, (uv_stream_t *)&connection->tcp) == 0);
    UNIT_CHECK(uv_read_start((uv_stream_t *)&connection->tcp, on_alloc, on_read) == 0);
    server->to_come--;
    server->open++;
}

static in_port_t server_begin(struct server *server) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in bound;
    int length = sizeof(bound);
    server->to_come = CLIENTS;
    UNIT_CHECK(uv_loop_init(&server->loop) == 0);
    server->loop.data = server;
    UNIT_CHECK(uv_tcp_init(&server->loop, &server->listener) == 0);
    server->listener.data = server;
    UNIT_CHECK(uv_tcp_bind(&server->listener, (struct sockaddr *)&address, 0) == 0);
    UNIT_CHECK(uv_listen((uv_stream_t *)&server->listener, 128, on_connection) == 0);
    UNIT_CHECK(uv_tcp_getsockname(&server->listener, (struct sockaddr *)&bound, &length) == 0);
    return bound.sin_port;
}

static void a_server_on_libuv_copies_and_keeps_nothing(void **state) {
    (void)state;
    struct client clients[CLIENTS];
    struct server server = {.open = 0};
    uv_loop_t first; /* libuv keeps a pipe from then on */
    UNIT_CHECK(uv_loop_init(&first) == 0 && uv_loop_close(&first) == 0);
    unsigned descriptors = open_descriptors();
    pool = berth_pool_create("libuv", NULL);
    berth_free(berth_alloc(pool, 1)); /* this thread's cache: its making is no copying */
    berth_uv_reader_init(&server.reader, pool, 0);
    clients_start(clients, server_begin(&server));
    uint64_t copied = adapt_copied_bytes;
    UNIT_CHECK(uv_run(&server.loop, UV_RUN_DEFAULT) == 0);
    assert_int_equal(adapt_copied_bytes - copied, 0);
    clients_join(clients);
    UNIT_CHECK(uv_loop_close(&server.loop) == 0);
    berth_uv_reader_end(&server.reader);
    check_nothing_lives(pool);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
    assert_int_equal(open_descriptors(), descriptors);
}

static void what_cannot_be_written_stays_in_the_chain(void **state) {
    /* A caller would lose a message that it was told is still its own. */
    (void)state;
    struct berth_chain chain;
    struct berth_slice slice;
    uv_loop_t loop;
    uv_tcp_t closed;
    pool = berth_pool_create("libuv", NULL);
    UNIT_CHECK(uv_loop_init(&loop) == 0 && uv_tcp_init(&loop, &closed) == 0);
    berth_chain_init(&chain, pool);
    for (unsigned i = 0; i < 100; i++) {
        UNIT_CHECK(berth_slice_alloc(pool, 1000, &slice) == 0);
        UNIT_CHECK(berth_chain_append(&chain, &slice) == 0);
    }
    assert_int_equal(berth_uv_write((uv_stream_t *)&closed, &chain, NULL, NULL), UV_EBADF);
    assert_int_equal(berth_chain_length(&chain), 100000);
    assert_int_equal(berth_chain_append_file(&chain, 0, 0, 1, false), 0);
    assert_int_equal(berth_uv_write((uv_stream_t *)&closed, &chain, NULL, NULL), UV_ENOTSUP);
    assert_int_equal(berth_chain_length(&chain), 100001);
    berth_chain_clear(&chain);
    uv_close((uv_handle_t *)&closed, NULL);
    UNIT_CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0 && uv_loop_close(&loop) == 0);
    check_nothing_lives(pool);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_on_libuv_copies_and_keeps_nothing),
        cmocka_unit_test(what_cannot_be_written_stays_in_the_chain),
    };
    return UNIT_RUN(tests);
}
