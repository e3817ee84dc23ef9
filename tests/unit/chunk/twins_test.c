/* Twins: two blocks that share a run. */
#include "chunk/twins.h"

#include "os/pages.h"
#include "unit.h"

#include <string.h>

enum { PAGES = BERTH_CHUNK_PAGES };

static struct berth__run_bins bins;
static struct berth__twins twins;
static struct berth__span span;
static struct berth__chunk *chunk; /* its memory is an address that is never touched */

static int start_of_test(void **state) {
    (void)state;
    berth__pages_init(0);
    berth__run_bins_init(&bins);
    berth__twins_init(&twins);
    chunk = calloc(1, sizeof(*chunk));
    chunk->at = (char *)(uintptr_t)UINT64_C(0x7f0000000000);
    chunk->span = &span;
    berth__chunk_init(chunk, NULL, &bins, BERTH_CHUNK, true);
    return 0;
}

static int end_of_test(void **state) {
    (void)state;
    bool clean = berth__chunk_is_valid(chunk) && berth__chunk_is_empty(chunk);
    for (unsigned c = 0; c < BERTH_TWIN_CLASS_COUNT; c++) {
        clean = clean && berth__list_empty(&twins.free[c]);
    }
    free(chunk);
    return !clean;
}

static char *lend(unsigned twin_class, bool *zero) {
    char *twin = berth__twins_lend(&twins, twin_class, zero);
    if (twin == NULL) {
        size_t page = 0;
        size_t pages = berth__twin_pages(twin_class);
        assert_ptr_equal(berth__run_bins_find(&bins, pages, 1, &page), chunk);
        *zero = berth__chunk_lend_run(chunk, page, pages);
        berth__twins_cut(&twins, chunk, page, twin_class, *zero);
        twin = chunk->at + page * BERTH_PAGE;
    }
    assert_int_equal(berth__run_bytes_at(chunk, twin), berth__twin_bytes(twin_class));
    return twin;
}

static void take(char *twin) {
    size_t pages = 2 * berth__run_bytes_at(chunk, twin) / BERTH_PAGE;
    size_t page = 0;
    if (berth__twins_take(&twins, chunk, twin, &page)) {
        berth__chunk_take_run(chunk, page, pages, true);
    }
    assert_int_equal(berth__run_bytes_at(chunk, twin), 0);
}

static void the_second_follows_the_first_without_a_gap(void **state) {
    /* They would overlap, or the run be longer than both. */
    (void)state;
    for (unsigned c = 0; c < BERTH_TWIN_CLASS_COUNT; c++) {
        bool zero = false;
        char *first = lend(c, &zero);
        assert_int_equal(chunk->free_pages, PAGES - berth__twin_pages(c));
        char *second = lend(c, &zero);
        assert_int_equal(second - first, berth__twin_bytes(c));
        assert_int_equal(chunk->free_pages, PAGES - berth__twin_pages(c));
        take(c % 2 == 0 ? first : second);
        assert_int_equal(chunk->free_pages, PAGES - berth__twin_pages(c));
        take(c % 2 == 0 ? second : first);
        assert_int_equal(chunk->free_pages, PAGES);
    }
}

static void only_what_was_never_lent_reads_as_zero(void **state) {
    /* A block that must be zero would hold another's data. */
    (void)state;
    bool zero = false;
    char *first = lend(0, &zero);
    assert_true(zero);
    char *second = lend(0, &zero);
    assert_true(zero);
    take(second);
    assert_ptr_equal(lend(0, &zero), second);
    assert_false(zero);
    take(first);
    assert_ptr_equal(lend(0, &zero), first);
    assert_false(zero);
    take(first);
    take(second);
    first = lend(0, &zero); /* the same pages, dirty by now */
    assert_false(zero);
    second = lend(0, &zero);
    assert_false(zero);
    take(first);
    take(second);
}

static void nothing_else_in_a_run_is_a_block(void **state) {
    /* A wrong pointer would be taken for a block. */
    (void)state;
    bool zero = false;
    for (unsigned c = 0; c < BERTH_TWIN_CLASS_COUNT; c++) {
        char *first = lend(c, &zero);
        char *second = lend(c, &zero);
        for (char *at = first; at < second + berth__twin_bytes(c) + 64; at += 16) {
            bool starts = at == first || at == second;
            assert_int_equal(berth__run_bytes_at(chunk, at), starts ? berth__twin_bytes(c) : 0);
        }
        take(second);
        for (char *at = first + 16; at < second + berth__twin_bytes(c); at += 16) {
            assert_int_equal(berth__run_bytes_at(chunk, at), 0);
        }
        assert_true(berth__chunk_run_is_freed(chunk, (size_t)(second - chunk->at) / BERTH_PAGE));
        take(first);
    }
}

static void any_order_of_lending_and_taking_keeps_them_apart(void **state) {
    /* Two owners would get the same bytes, or bytes be lost. */
    (void)state;
    enum { HELD_MAX = 64, STEPS = 20000 };
    static char owner[BERTH_CHUNK / (BERTH_PAGE / 2)]; /* by half pages */
    struct {
        char *at;
        unsigned twin_class;
    } held[HELD_MAX];
    unsigned count = 0;
    struct unit_random random = {7};
    memset(owner, 0, sizeof(owner));
    for (unsigned step = 0; step < STEPS || count > 0; step++) {
        bool lends = step < STEPS && count < HELD_MAX && unit_random_below(&random, 2) == 0;
        if (lends && unit_random_below(&random, 4) == 0) { /* a run among them */
            size_t page = 0;
            assert_ptr_equal(berth__run_bins_find(&bins, 5, 1, &page), chunk);
            berth__chunk_lend_run(chunk, page, 5);
            held[count].at = chunk->at + page * BERTH_PAGE;
            held[count++].twin_class = BERTH_TWIN_CLASS_COUNT;
        } else if (lends) {
            bool zero = false;
            unsigned twin_class = (unsigned)unit_random_below(&random, BERTH_TWIN_CLASS_COUNT);
            held[count].at = lend(twin_class, &zero);
            held[count++].twin_class = twin_class;
        }
        size_t i = lends ? count - 1 : unit_random_below(&random, count + (count == 0));
        if (!lends && count == 0) {
            continue;
        }
        bool is_run = held[i].twin_class == BERTH_TWIN_CLASS_COUNT;
        size_t bytes = is_run ? 5 * BERTH_PAGE : berth__twin_bytes(held[i].twin_class);
        size_t first = (size_t)(held[i].at - chunk->at) / (BERTH_PAGE / 2);
        for (size_t half = first; half < first + bytes / (BERTH_PAGE / 2); half++) {
            assert_int_equal(owner[half], !lends);
            owner[half] = lends;
        }
        if (!lends) {
            if (is_run) {
                berth__chunk_take_run(chunk, first / 2, 5, true);
            } else {
                take(held[i].at);
            }
            held[i] = held[--count];
        }
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start_of_test, end_of_test)
    const struct CMUnitTest tests[] = {
        TEST(the_second_follows_the_first_without_a_gap),
        TEST(only_what_was_never_lent_reads_as_zero),
        TEST(nothing_else_in_a_run_is_a_block),
        TEST(any_order_of_lending_and_taking_keeps_them_apart),
    };
#undef TEST
    return UNIT_RUN(tests);
}
