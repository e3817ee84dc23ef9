/* Operations on a buffer at random, against a flat array of bytes; in plenty, and where memory is
 * short. What was taken from it must stay as it was. */
#include "figures.h"

#include "buffer/buf.h"

#include <errno.h>

enum { FLAT_MAX = 1 << 18, TAKEN = 16, STEPS = 100000 };

static struct berth_buf buf;
static unsigned char flat[FLAT_MAX];
static size_t length;
static struct {
    struct berth_chain chain;
    unsigned char *flat;
} taken[TAKEN];
static berth_pool *pool;
static struct unit_random seed;
static unsigned refusals;

static size_t below(size_t bound) {
    return unit_random_below(&seed, bound);
}

static size_t random_length(void) {
    size_t kind = below(10);
    return kind < 6 ? below(100) : kind < 9 ? below(3000) : below(30000);
}

static bool done(int error) {
    UNIT_CHECK(error == 0 || error == -ENOMEM);
    refusals += error != 0;
    return error == 0;
}

static void erase_front(size_t bytes) {
    length -= bytes;
    memmove(flat, flat + bytes, length);
}

static void append(void) {
    unsigned char bytes[30000];
    size_t count = random_length();
    memset(bytes, (int)below(256), count);
    if (below(2) == 0) {
        void *at = berth_buf_reserve(&buf, count + below(100));
        if (!done(at == NULL ? -errno : 0)) {
            return;
        }
        memcpy(at, bytes, count);
        berth_buf_commit(&buf, count);
    } else if (!done(berth_buf_append(&buf, bytes, count))) {
        return;
    }
    memcpy(flat + length, bytes, count);
    length += count;
}

static void prepend(void) {
    unsigned char bytes[30];
    size_t count = below(sizeof(bytes));
    memset(bytes, (int)below(256), count);
    if (done(berth_buf_prepend(&buf, bytes, count))) {
        memmove(flat + count, flat, length);
        memcpy(flat, bytes, count);
        length += count;
    }
}

static void put_integer(void) {
    uint64_t value = unit_random_next(&seed);
    unsigned bytes = 1 + (unsigned)below(8);
    bool big = below(2) == 0;
    if (done(big ? berth_buf_put_be(&buf, value, bytes) : berth_buf_put_le(&buf, value, bytes))) {
        for (unsigned i = 0; i < bytes; i++) {
            unsigned shift = 8 * (big ? bytes - 1 - i : i);
            flat[length++] = (unsigned char)(value >> shift);
        }
    }
}

static void get_integer(void) {
    uint64_t value = 0, expected = 0;
    unsigned bytes = 1 + (unsigned)below(8);
    bool big = below(2) == 0;
    int error = big ? berth_buf_get_be(&buf, &value, bytes) : berth_buf_get_le(&buf, &value, bytes);
    if (length < bytes) {
        UNIT_CHECK(error == -ERANGE);
        return;
    }
    for (unsigned i = 0; i < bytes; i++) {
        expected |= (uint64_t)flat[i] << (8 * (big ? bytes - 1 - i : i));
    }
    UNIT_CHECK(error == 0 && value == expected);
    erase_front(bytes);
}

static void overwrite(void) {
    unsigned char bytes[100];
    memset(bytes, (int)below(256), sizeof(bytes));
    size_t offset = below(length + 1);
    size_t count = below(sizeof(bytes));
    int error = berth_buf_overwrite(&buf, offset, bytes, count);
    UNIT_CHECK(count <= length - offset ? error == 0 || error == -EBUSY : error == -ERANGE);
    if (error == 0) {
        memcpy(flat + offset, bytes, count);
    }
}

static void let_go(size_t i) {
    size_t bytes = (size_t)berth_chain_length(&taken[i].chain);
    unsigned char *copy = malloc(bytes + 1);
    UNIT_CHECK(berth_chain_copy_out(&taken[i].chain, 0, copy, bytes) == 0);
    UNIT_CHECK(bytes == 0 || memcmp(copy, taken[i].flat, bytes) == 0);
    free(copy);
    free(taken[i].flat);
    taken[i].flat = NULL;
    berth_chain_clear(&taken[i].chain);
}

static void take(void) {
    size_t i = below(TAKEN);
    size_t bytes = below(length + 1);
    let_go(i);
    if (below(3) == 0) {
        struct berth_slice slice;
        if (done(berth_buf_take_slice(&buf, bytes, &slice)) &&
            !done(berth_chain_append(&taken[i].chain, &slice))) {
            berth_slice_release(&slice);
            erase_front(bytes);
            return;
        }
    } else {
        (void)done(berth_buf_take(&buf, bytes, &taken[i].chain));
    }
    size_t got = (size_t)berth_chain_length(&taken[i].chain);
    UNIT_CHECK(got == bytes || got == 0);
    taken[i].flat = malloc(got + 1);
    memcpy(taken[i].flat, flat, got);
    erase_front(got);
}

static void read_some(void) {
    static unsigned char bytes[FLAT_MAX];
    size_t count = below(length + 1);
    if (below(2) == 0) {
        UNIT_CHECK(berth_buf_read(&buf, bytes, count) == 0);
        UNIT_CHECK(memcmp(bytes, flat, count) == 0);
    } else {
        UNIT_CHECK(berth_buf_consume(&buf, count) == 0);
    }
    erase_front(count);
}

static void look(void) {
    size_t bytes = 0;
    const void *first = berth_buf_peek(&buf, &bytes);
    UNIT_CHECK((first == NULL) == (length == 0) && bytes <= length);
    UNIT_CHECK(first == NULL || memcmp(first, flat, bytes) == 0);
    size_t offset = below(length + 1), count = below(20), from = below(offset + 1);
    count = count < length - offset ? count : length - offset;
    int64_t found = berth_buf_find(&buf, from, flat + offset, count);
    const unsigned char *expected =
        count == 0 ? flat + from : memmem(flat + from, length - from, flat + offset, count);
    UNIT_CHECK(expected != NULL && found == expected - flat);
    size_t prefix = below(length + 1);
    const void *data = berth_buf_linearise(&buf, prefix);
    UNIT_CHECK(data != NULL || errno == ENOMEM);
    UNIT_CHECK(data == NULL || memcmp(data, flat, prefix) == 0);
}

static void step(void) {
    switch (length > FLAT_MAX - 40000 ? 9 : below(16)) {
    case 0:
    case 1:
    case 2: append(); break;
    case 3: prepend(); break;
    case 4:
    case 5: put_integer(); break;
    case 6:
    case 7: get_integer(); break;
    case 8: overwrite(); break;
    case 9: read_some(); break;
    case 10:
    case 11: take(); break;
    case 12: look(); break;
    case 13: let_go(below(TAKEN)); break;
    case 14: UNIT_CHECK(berth_buf_set_head_room(&buf, below(100)) == 0); break;
    default: {
        int error = below(4) == 0 ? berth_buf_compact(&buf, (unsigned)below(20)) : 0;
        UNIT_CHECK(error >= 0 || error == -ENOMEM);
    }
    }
    UNIT_CHECK(berth__buf_is_valid(&buf));
    UNIT_CHECK(berth_buf_length(&buf) == length);
    UNIT_CHECK(berth_buf_compare(&buf, flat, length) == 0);
}

static void run(uint64_t limit, uint64_t start) {
    seed.state = start;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.limit = limit;
    options.wait_ms = 0;
    options.arenas = 1;
    pool = berth_pool_create("model", &options);
    refusals = 0;
    length = 0;
    berth_buf_init(&buf, pool, below(5000), 0);
    for (unsigned i = 0; i < TAKEN; i++) {
        berth_chain_init(&taken[i].chain, pool);
        taken[i].flat = malloc(1);
    }
    for (unsigned i = 0; i < (UNIT_SANITIZED ? STEPS / 6 : STEPS); i++) {
        step();
    }
    for (unsigned i = 0; i < TAKEN; i++) {
        let_go(i);
    }
    berth_buf_clear(&buf);
    assert_int_equal(refusals > 0, limit != 0);
    check_nothing_lives(pool);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void a_buffer_holds_what_flat_bytes_would(void **state) {
    /* A connection would read what was never sent to it. */
    (void)state;
    run(0, 1);
    run(0, 2);
}

static void a_call_that_finds_no_memory_changes_nothing(void **state) {
    /* Under pressure, connections would lose bytes. */
    (void)state;
    run(512 * KiB, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buffer_holds_what_flat_bytes_would),
        cmocka_unit_test(a_call_that_finds_no_memory_changes_nothing),
    };
    return UNIT_RUN(tests);
}
