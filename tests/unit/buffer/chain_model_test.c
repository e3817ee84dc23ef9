/*
 * Operations on chains at random, against flat arrays of bytes that say what the chains must hold;
 * in plenty, and where memory is short.
 */
#include "figures.h"

#include "buffer/chain.h"

#include <errno.h>

enum { CHAINS = 3, FLAT_MAX = 1 << 18, STEPS = 30000 };

struct model {
    struct berth_chain chain;
    unsigned char flat[FLAT_MAX];
    size_t length;
};

static struct model models[CHAINS];
static berth_pool *pool;
static struct unit_random seed;
static unsigned releases, wraps, refusals;

static size_t below(size_t bound) {
    return unit_random_below(&seed, bound);
}

/* Mostly short, around the bounds of coalescing, sometimes long. */
static size_t random_length(void) {
    size_t kind = below(10);
    return kind < 5 ? below(64) : kind < 8 ? below(2 * BERTH_COALESCE_MAX) : below(20000);
}

static void fill_random(unsigned char *at, size_t length) {
    unsigned char byte = (unsigned char)below(256);
    for (size_t i = 0; i < length; i++) {
        at[i] = (unsigned char)(byte + i * 7);
    }
}

static void on_release(void *context, void *data, size_t length) {
    (void)context;
    memset(data, 0xdd, length); /* who still views it will differ from the model */
    free(data);
    releases++;
}

/* A refusal for lack of memory is none of the model's business: nothing may have changed. */
static bool done(int error) {
    UNIT_CHECK(error == 0 || error == -ENOMEM);
    refusals += error != 0;
    return error == 0;
}

static void insert(struct model *to, size_t at, const unsigned char *bytes, size_t length) {
    memmove(to->flat + at + length, to->flat + at, to->length - at);
    memcpy(to->flat + at, bytes, length);
    to->length += length;
}

static void erase_front(struct model *from, size_t length) {
    from->length -= length;
    memmove(from->flat, from->flat + length, from->length);
}

/* A slice of random bytes, of any kind; false if there is no memory. */
static bool random_slice(struct berth_slice *slice, size_t length) {
    if (below(4) == 0) {
        unsigned char *data = malloc(length + 1);
        fill_random(data, length);
        bool made = done(berth_slice_wrap(pool, data, length, on_release, NULL, slice));
        wraps += made;
        if (!made) {
            free(data);
        }
        return made;
    }
    size_t margin = below(3) * below(300); /* a view of a part */
    struct berth_slice whole;
    if (!done(berth_slice_alloc(pool, length + 2 * margin, &whole))) {
        return false;
    }
    fill_random(berth_slice_try_write(&whole), length + 2 * margin);
    UNIT_CHECK(berth_slice_sub(&whole, margin, length, slice) == 0);
    if (below(8) == 0) {
        berth_slice_set_read_only(slice);
    }
    berth_slice_release(&whole);
    return true;
}

static void put_slice(struct model *model, bool at_the_end) {
    struct berth_slice slice, kept;
    if (!random_slice(&slice, random_length())) {
        return;
    }
    bool keep = below(3) == 0; /* another reference, alive over the call */
    kept = keep ? berth_slice_retain(&slice) : (struct berth_slice)BERTH_SLICE_EMPTY;
    static unsigned char copy[20000];
    size_t length = slice.length;
    memcpy(copy, slice.data, length);
    bool put = done(at_the_end ? berth_chain_append(&model->chain, &slice)
                               : berth_chain_prepend(&model->chain, &slice));
    if (put) {
        insert(model, at_the_end ? model->length : 0, copy, length);
    }
    UNIT_CHECK(!keep || memcmp(kept.data, copy, length) == 0);
    berth_slice_release(&slice);
    berth_slice_release(&kept);
}

static void put_bytes(struct model *model, bool at_the_end) {
    static unsigned char bytes[20000];
    size_t length = random_length();
    fill_random(bytes, length);
    if (done(at_the_end ? berth_chain_append_bytes(&model->chain, bytes, length)
                        : berth_chain_prepend_bytes(&model->chain, bytes, length))) {
        insert(model, at_the_end ? model->length : 0, bytes, length);
    }
}

static void move(struct model *from, struct model *to, bool share) {
    size_t offset = share ? below(from->length + 1) : 0;
    size_t length = below(from->length - offset + 1);
    if (to->length + length > FLAT_MAX - 50000) {
        return;
    }
    int error = share ? berth_chain_share(&from->chain, offset, length, &to->chain)
                      : berth_chain_split(&from->chain, length, &to->chain);
    if (done(error)) {
        insert(to, to->length, from->flat + offset, length);
        erase_front(from, share ? 0 : length);
    }
}

static void join(struct model *from, struct model *to) {
    if (to->length + from->length <= FLAT_MAX - 50000 &&
        done(berth_chain_append_chain(&to->chain, &from->chain))) {
        insert(to, to->length, from->flat, from->length);
        from->length = 0;
    }
}

static void consume(struct model *model) {
    size_t length = below(model->length + 1);
    length = below(4) == 0 ? length : length < 3000 ? length : below(3000);
    UNIT_CHECK(berth_chain_consume(&model->chain, length) == 0);
    erase_front(model, length);
}

static void take_first(struct model *model) {
    struct berth_slice slice;
    int error = berth_chain_take_slice(&model->chain, &slice);
    UNIT_CHECK(error == (model->length == 0 ? -ERANGE : 0));
    UNIT_CHECK(slice.length == 0 || memcmp(slice.data, model->flat, slice.length) == 0);
    erase_front(model, slice.length);
    berth_slice_release(&slice);
}

static void linearise(struct model *model) {
    size_t length = below(model->length + 1);
    length = length < 5000 ? length : below(5000);
    const void *data = berth_chain_linearise(&model->chain, length);
    UNIT_CHECK(data != NULL || errno == ENOMEM);
    UNIT_CHECK(data == NULL || memcmp(data, model->flat, length) == 0);
}

static void look_for(struct model *model) {
    size_t offset = below(model->length + 1);
    size_t count = below(berth_chain_count(&model->chain) < 50 ? 40 : 4);
    count = count < model->length - offset ? count : model->length - offset;
    size_t from = below(offset + 1);
    const unsigned char *needle = model->flat + offset;
    int64_t found = berth_chain_find(&model->chain, from, needle, count);
    const unsigned char *expected =
        count == 0 ? model->flat + from
                   : memmem(model->flat + from, model->length - from, needle, count);
    UNIT_CHECK(expected != NULL && found == expected - model->flat);
}

static void check(struct model *model) {
    static unsigned char copy[FLAT_MAX];
    UNIT_CHECK(berth__chain_is_valid(&model->chain));
    UNIT_CHECK(berth_chain_length(&model->chain) == model->length);
    UNIT_CHECK(berth_chain_copy_out(&model->chain, 0, copy, model->length) == 0);
    UNIT_CHECK(memcmp(copy, model->flat, model->length) == 0);
    struct iovec entries[64];
    unsigned count = berth_chain_iovec(&model->chain, entries, 64);
    size_t at = 0;
    for (unsigned i = 0; i < count; i++) {
        UNIT_CHECK(memcmp(entries[i].iov_base, model->flat + at, entries[i].iov_len) == 0);
        at += entries[i].iov_len;
    }
    UNIT_CHECK(count == 64 || at == model->length);
}

static void step(void) {
    struct model *one = &models[below(CHAINS)];
    struct model *two = &models[(size_t)(one - models + 1) % CHAINS];
    bool full = one->length > FLAT_MAX - 100000;
    switch (full ? 8 + below(2) : below(15)) {
    case 0:
    case 1:
    case 2: put_slice(one, true); break;
    case 3: put_slice(one, false); break;
    case 4:
    case 5: put_bytes(one, true); break;
    case 6: put_bytes(one, false); break;
    case 7: move(one, two, true); break;
    case 8: move(one, two, false); break;
    case 9: consume(one); break;
    case 10: linearise(one); break;
    case 11: look_for(one); break;
    case 12: take_first(one); break;
    case 13: below(8) == 0 ? join(one, two) : consume(one); break;
    default: {
        int copied = berth_chain_compact(&one->chain, (unsigned)below(20));
        UNIT_CHECK(copied >= 0 || copied == -ENOMEM);
    }
    }
    check(one);
    check(two);
}

/* With a limit, and another holder of most of it now and then, calls fail half way. */
static void run(uint64_t limit, uint64_t start) {
    seed.state = start;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.limit = limit;
    options.wait_ms = 0;
    options.arenas = 1;
    pool = berth_pool_create("model", &options);
    releases = wraps = refusals = 0;
    for (unsigned i = 0; i < CHAINS; i++) {
        models[i].length = 0;
        berth_chain_init(&models[i].chain, pool);
    }
    for (unsigned i = 0; i < (UNIT_SANITIZED ? STEPS / 6 : STEPS); i++) {
        step();
    }
    for (unsigned i = 0; i < CHAINS; i++) {
        berth_chain_clear(&models[i].chain);
    }
    assert_int_equal(releases, wraps);
    assert_true(wraps > 100);
    assert_int_equal(refusals > 0, limit != 0);
    check_nothing_lives(pool);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void chains_hold_what_flat_bytes_would(void **state) {
    /* A peer would be sent other bytes than were meant for it. */
    (void)state;
    run(0, 1);
    run(0, 2);
}

static void a_call_that_finds_no_memory_changes_nothing(void **state) {
    /* Under pressure, messages would be sent in part or twice. */
    (void)state;
    run(512 * KiB, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains_hold_what_flat_bytes_would),
        cmocka_unit_test(a_call_that_finds_no_memory_changes_nothing),
    };
    return UNIT_RUN(tests);
}
