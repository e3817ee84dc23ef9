/* Release callbacks of the shapes that nginx, h2o and others have, called as they call them: memory
 * would be given back too early, twice, or never. docs/adaptors.md shows the same functions. */
#include "adapt.h"

#include <berth/adapt/release.h>
#include <berth/chain.h>

static berth_pool *pool;

/* ---- nginx: a request's pool runs handlers at its end; what is sent is a list of buffers ---- */

struct cleanup {
    void (*handler)(void *data);
    void *data;
    struct cleanup *next;
};

struct request {
    struct cleanup *cleanups;
};

struct output {
    const unsigned char *pos, *last;
    struct output *next;
};

static struct cleanup *cleanup_add(struct request *request) {
    struct cleanup *cleanup = calloc(1, sizeof(*cleanup));
    UNIT_CHECK(cleanup != NULL);
    cleanup->next = request->cleanups;
    request->cleanups = cleanup;
    return cleanup;
}

static void request_end(struct request *request) {
    struct cleanup *next;
    for (struct cleanup *at = request->cleanups; at != NULL; at = next) {
        next = at->next;
        at->handler(at->data);
        free(at);
    }
}

/* What a module does: a buffer and a cleanup for each segment. Both are of the request's pool. */
static struct output *output_chain(struct request *request, struct berth_chain *chain) {
    struct output *first = NULL, **end = &first;
    struct berth_slice slice;
    while (berth_chain_take_slice(chain, &slice) == 0) {
        struct output *output = calloc(1, sizeof(*output));
        UNIT_CHECK(output != NULL);
        output->pos = slice.data;
        output->last = slice.data + slice.length;
        struct cleanup *cleanup = cleanup_add(request);
        cleanup->handler = berth_release_context;
        cleanup->data = berth_slice_detach(&slice);
        *end = output;
        end = &output->next;
    }
    return first;
}

static void message_of(struct berth_chain *chain, unsigned segments) {
    berth_chain_init(chain, pool);
    for (unsigned i = 0; i < segments; i++) {
        struct berth_slice slice;
        UNIT_CHECK(berth_slice_alloc(pool, 1000, &slice) == 0);
        memset(berth_slice_try_write(&slice), (int)i, 1000);
        UNIT_CHECK(berth_chain_append(chain, &slice) == 0);
    }
}

static int begin(void **state) {
    (void)state;
    pool = berth_pool_create("styles", NULL);
    return pool == NULL;
}

static int end(void **state) {
    (void)state;
    check_nothing_lives(pool);
    return berth_pool_destroy(pool, 0);
}

static void a_request_that_ends_releases_what_it_sent(void **state) {
    (void)state;
    struct request request = {NULL};
    struct berth_chain chain;
    message_of(&chain, 3);
    unsigned segments = 0;
    struct output *next, *at = output_chain(&request, &chain);
    assert_int_equal(berth_chain_length(&chain), 0);
    for (; at != NULL; at = next, segments++) {
        next = at->next;
        assert_int_equal(at->last - at->pos, 1000);
        assert_int_equal(at->pos[0], segments);
        assert_int_equal(at->last[-1], segments);
        free(at);
    }
    assert_int_equal(segments, 3);
    berth_thread_flush();
    assert_int_not_equal(figures_of(pool).live_low_bytes, 0);
    request_end(&request);
}

/* ---- h2o: shared memory of a request's pool has a function that disposes of it ---- */

static void memory_that_is_disposed_of_releases_its_reference(void **state) {
    (void)state;
    struct berth_slice slice;
    struct berth_owner *slot;
    void (*dispose)(void *) = berth_release_slot;
    UNIT_CHECK(berth_slice_copy(pool, "body", 4, &slice) == 0);
    struct berth_slice another = berth_slice_retain(&slice);
    slot = berth_slice_detach(&slice);
    assert_null(slice.data);
    assert_memory_equal(another.data, "body", 4);
    assert_false(berth_slice_is_unique(&another));
    dispose(&slot);
    assert_null(slot);
    assert_true(berth_slice_is_unique(&another));
    dispose(&slot); /* nothing is there any more */
    berth_slice_release(&another);
}

/* ---- ZeroMQ and others: where the memory lies, and a hint ---- */

static void wrapped_memory_is_told_of_its_end_through_a_callback(void *context, void *data,
                                                                 size_t length) {
    assert_int_equal(length, 4);
    assert_memory_equal(data, "body", 4);
    ++*(unsigned *)context;
}

static void a_hint_releases_memory_from_elsewhere(void **state) {
    (void)state;
    static char body[] = "body";
    unsigned told = 0;
    struct berth_slice slice;
    UNIT_CHECK(berth_slice_wrap(pool, body, 4, wrapped_memory_is_told_of_its_end_through_a_callback,
                                &told, &slice) == 0);
    void *hint = berth_slice_detach(&slice);
    assert_int_equal(told, 0);
    berth_release_data(body, hint);
    assert_int_equal(told, 1);
    UNIT_CHECK(berth_slice_wrap_static(body, 4, &slice) == 0);
    hint = berth_slice_detach(&slice);
    assert_null(hint); /* nobody counts constants */
    berth_release_data(body, hint);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_request_that_ends_releases_what_it_sent, begin, end),
        cmocka_unit_test_setup_teardown(memory_that_is_disposed_of_releases_its_reference, begin,
                                        end),
        cmocka_unit_test_setup_teardown(a_hint_releases_memory_from_elsewhere, begin, end),
    };
    return UNIT_RUN(tests);
}
