/*
 * Chunks against a model with one state per page. Their memory is an address that is never touched.
 */
#include "chunk/chunk.h"

#include "os/pages.h"
#include "unit.h"

#include <string.h>

enum { CHUNKS = 3, PAGES = BERTH_CHUNK_PAGES, RUNS_MAX = 2000 };
enum state { FREE, LENT, HIDDEN, MISSING };

struct page {
    enum state state;
    bool dirty;
};

/* What was lent: a run, or a unit with the pages that hold memory. */
struct run {
    unsigned chunk;
    size_t page, pages;
    bool unit;
    uint16_t resident;
};

static struct berth__run_bins bins;
static struct berth__span span;
static struct berth__chunk *chunks[CHUNKS];
static struct page model[CHUNKS][PAGES];
static struct run runs[RUNS_MAX];
static unsigned run_count;
static struct unit_random random_state;

static void start_chunk(unsigned c, size_t committed, bool clean) {
    chunks[c] = calloc(1, sizeof(struct berth__chunk));
    chunks[c]->at = (char *)(uintptr_t)(UINT64_C(0x7f0000000000) + c * BERTH_CHUNK);
    chunks[c]->span = &span;
    berth__chunk_init(chunks[c], NULL, &bins, committed, clean);
    for (size_t page = 0; page < PAGES; page++) {
        bool there = page < committed / BERTH_PAGE;
        model[c][page] = (struct page){there ? FREE : MISSING, there && !clean};
    }
}

static void start(size_t page_bytes) {
    berth__pages_init(page_bytes);
    berth__run_bins_init(&bins);
    run_count = 0;
    start_chunk(0, 1 << 20, true);
    start_chunk(1, BERTH_CHUNK, false);
    start_chunk(2, BERTH_CHUNK, true);
}

static int end(void **state) {
    (void)state;
    berth__pages_init(0);
    for (unsigned c = 0; c < CHUNKS; c++) {
        free(chunks[c]);
        chunks[c] = NULL;
    }
    return 0;
}

/* ---- the model's view ---- */

static void set(unsigned c, size_t page, size_t pages, enum state to, bool dirty) {
    for (size_t i = page; i < page + pages; i++) {
        model[c][i] = (struct page){to, dirty};
    }
}

static bool all_are(unsigned c, size_t page, size_t pages, enum state wanted) {
    for (size_t i = page; i < page + pages; i++) {
        if (i >= PAGES || model[c][i].state != wanted) {
            return false;
        }
    }
    return true;
}

static bool any_dirty(unsigned c, size_t page, size_t pages) {
    for (size_t i = page; i < page + pages; i++) {
        if (model[c][i].dirty) {
            return true;
        }
    }
    return false;
}

/* True if some free run holds that many pages from an aligned one on. */
static bool fits(size_t pages, size_t align_pages) {
    for (unsigned c = 0; c < CHUNKS; c++) {
        for (size_t page = 0; page + pages <= PAGES; page += align_pages) {
            if (all_are(c, page, pages, FREE)) {
                return true;
            }
        }
    }
    return false;
}

static size_t committed_pages(unsigned c) {
    size_t pages = 0;
    while (pages < PAGES && model[c][pages].state != MISSING) {
        pages++;
    }
    return pages;
}

static void compare(void) {
    for (unsigned c = 0; c < CHUNKS; c++) {
        size_t free_pages = 0;
        size_t dirty_pages = 0;
        for (size_t page = 0; page < PAGES; page++) {
            struct page expected = model[c][page];
            free_pages += expected.state == FREE;
            dirty_pages += expected.dirty;
            assert_int_equal(berth__bit_test(chunks[c]->used, page), expected.state != FREE);
            assert_int_equal(berth__bit_test(chunks[c]->dirty, page), expected.dirty);
        }
        assert_true(berth__chunk_is_valid(chunks[c]));
        assert_int_equal(chunks[c]->free_pages, free_pages);
        assert_int_equal(chunks[c]->dirty_pages, dirty_pages);
        assert_int_equal(berth__chunk_pages(chunks[c]), committed_pages(c));
        assert_int_equal(berth__chunk_is_empty(chunks[c]), free_pages == committed_pages(c));
    }
}

static unsigned index_of(const struct berth__chunk *chunk) {
    for (unsigned c = 0; c < CHUNKS; c++) {
        if (chunks[c] == chunk) {
            return c;
        }
    }
    fail_msg("a chunk that does not exist");
    return 0;
}

/* ---- steps on both ---- */

static void lend_run(size_t pages, size_t align_pages) {
    size_t page = 0;
    struct berth__chunk *chunk = berth__run_bins_find(&bins, pages, align_pages, &page);
    if (chunk == NULL) {
        assert_false(fits(pages, align_pages));
        return;
    }
    unsigned c = index_of(chunk);
    assert_int_equal(page % align_pages, 0);
    assert_true(all_are(c, page, pages, FREE));
    bool zero = berth__chunk_lend_run(chunk, page, pages);
    assert_int_equal(zero, !any_dirty(c, page, pages));
    assert_int_equal(berth__chunk_run_pages(chunk, page), pages);
    set(c, page, pages, LENT, false);
    runs[run_count++] = (struct run){c, page, pages, false, 0};
}

static void lend_unit(void) {
    unsigned c = (unsigned)unit_random_below(&random_state, CHUNKS);
    size_t expected = 0;
    while (expected < PAGES && !all_are(c, expected, BERTH_UNIT_PAGES, FREE)) {
        expected += BERTH_UNIT_PAGES;
    }
    uint16_t resident = 0;
    int unit = berth__chunk_lend_unit(chunks[c], &resident);
    if (expected >= PAGES) {
        assert_int_equal(unit, -1);
        return;
    }
    assert_int_equal((size_t)unit * BERTH_UNIT_PAGES, expected);
    for (unsigned i = 0; i < BERTH_UNIT_PAGES; i++) {
        assert_int_equal(resident >> i & 1, model[c][expected + i].dirty);
    }
    set(c, expected, BERTH_UNIT_PAGES, LENT, false);
    runs[run_count++] = (struct run){c, expected, BERTH_UNIT_PAGES, true, resident};
}

static void take_back(void) {
    if (run_count == 0) {
        return;
    }
    size_t i = unit_random_below(&random_state, run_count);
    struct run run = runs[i];
    runs[i] = runs[--run_count];
    bool dirty = unit_random_below(&random_state, 4) != 0;
    if (run.unit) {
        uint16_t resident = run.resident | (uint16_t)unit_random_next(&random_state);
        berth__chunk_take_unit(chunks[run.chunk], (unsigned)(run.page / BERTH_UNIT_PAGES),
                               resident);
        for (size_t p = 0; p < BERTH_UNIT_PAGES; p++) {
            set(run.chunk, run.page + p, 1, FREE, (resident >> p & 1) != 0);
        }
        return;
    }
    berth__chunk_take_run(chunks[run.chunk], run.page, run.pages, dirty);
    set(run.chunk, run.page, run.pages, FREE, dirty);
    assert_int_equal(berth__chunk_run_pages(chunks[run.chunk], run.page), 0);
}

static void resize(void) {
    struct run *run = &runs[unit_random_below(&random_state, run_count + (run_count == 0))];
    if (run_count == 0 || run->unit) {
        return;
    }
    size_t behind = run->page + run->pages;
    if (unit_random_below(&random_state, 2) == 0 && run->pages > 1) {
        size_t keep = 1 + unit_random_below(&random_state, run->pages - 1);
        berth__chunk_shrink_run(chunks[run->chunk], run->page, keep);
        set(run->chunk, run->page + keep, run->pages - keep, FREE, true);
        run->pages = keep;
        return;
    }
    size_t more = 1 + unit_random_below(&random_state, 40);
    bool zero = false;
    bool fits = all_are(run->chunk, behind, more, FREE);
    bool clean = fits && !any_dirty(run->chunk, behind, more);
    assert_int_equal(berth__chunk_grow_run(chunks[run->chunk], run->page, more, &zero), fits);
    if (fits) {
        assert_int_equal(zero, clean);
        set(run->chunk, behind, more, LENT, false);
        run->pages += more;
        assert_int_equal(berth__chunk_run_pages(chunks[run->chunk], run->page), run->pages);
    }
}

/* The first stretch of machine pages whose every part is dirty. */
static bool expected_dirty(unsigned c, size_t from, size_t *page, size_t *pages) {
    const size_t step = berth__page_bytes / BERTH_PAGE;
    for (size_t at = from; at < PAGES; at++) {
        size_t stop = at;
        while (stop < PAGES && model[c][stop].dirty) {
            stop++;
        }
        *page = (at + step - 1) / step * step;
        if (stop > *page && (stop - *page) / step > 0) {
            *pages = (stop - *page) / step * step;
            return true;
        }
    }
    return false;
}

static void purge(void) {
    unsigned c = (unsigned)unit_random_below(&random_state, CHUNKS);
    size_t from = unit_random_below(&random_state, PAGES);
    size_t page = 0;
    size_t pages = 0;
    size_t wanted_page = 0;
    size_t wanted_pages = 0;
    bool found = berth__chunk_next_dirty(chunks[c], from, &page, &pages);
    assert_int_equal(found, expected_dirty(c, from, &wanted_page, &wanted_pages));
    if (!found) {
        return;
    }
    assert_int_equal(page, wanted_page);
    assert_int_equal(pages, wanted_pages);
    berth__chunk_hide(chunks[c], page, pages);
    set(c, page, pages, HIDDEN, false);
    compare();
    lend_run(8, 1); /* others go on meanwhile */
    take_back();
    bool purged = unit_random_below(&random_state, 3) != 0;
    berth__chunk_show(chunks[c], page, pages, purged);
    set(c, page, pages, FREE, !purged);
}

static void change_end(void) {
    unsigned c = (unsigned)unit_random_below(&random_state, CHUNKS);
    size_t pages = committed_pages(c);
    size_t step = berth__page_bytes / BERTH_PAGE;
    if (pages < PAGES && unit_random_below(&random_state, 2) == 0) {
        size_t more = step * (1 + unit_random_below(&random_state, (PAGES - pages) / step));
        berth__chunk_extend(chunks[c], more * BERTH_PAGE);
        set(c, pages, more, FREE, false);
        return;
    }
    size_t first = pages;
    while (first > 0 && model[c][first - 1].state == FREE) {
        first--;
    }
    first = (first + step - 1) / step * step;
    size_t tail = first < pages ? pages - first : 0;
    assert_int_equal(berth__chunk_free_tail(chunks[c]), tail * BERTH_PAGE);
    if (tail > 0 && tail < pages) {
        berth__chunk_hide(chunks[c], first, tail);
        berth__chunk_drop_tail(chunks[c], tail * BERTH_PAGE);
        set(c, first, tail, MISSING, false);
    }
}

static void any_step(void) {
    size_t pages = berth__run_class_pages((unsigned)unit_random_below(
        &random_state, unit_random_below(&random_state, 8) == 0 ? BERTH_RUN_CLASS_COUNT : 24));
    switch (unit_random_below(&random_state, 10)) {
    case 0:
    case 1:
    case 2: lend_run(pages, 1); break;
    case 3: lend_run(pages, (size_t)1 << unit_random_below(&random_state, 7)); break;
    case 4: lend_unit(); break;
    case 5:
    case 6: take_back(); break;
    case 7: resize(); break;
    case 8: purge(); break;
    default: change_end(); break;
    }
}

static void steps_at(size_t page_bytes, unsigned steps) {
    start(page_bytes);
    compare();
    for (unsigned i = 0; i < steps && run_count < RUNS_MAX; i++) {
        any_step();
        compare();
    }
    while (run_count > 0) {
        take_back();
    }
    compare();
    for (unsigned c = 0; c < CHUNKS; c++) {
        assert_true(berth__chunk_is_empty(chunks[c]));
        berth__chunk_retire(chunks[c]);
    }
    assert_int_equal(bins.not_empty, 0);
}

static void any_sequence_of_steps_leaves_each_page_in_its_state(void **state) {
    /* Runs would overlap or be lost, or a page with old data be taken for a zero one. */
    (void)state;
    random_state.state = 1;
    steps_at(0, 4000);
}

static void so_it_is_with_pages_of_16_and_64_kib(void **state) {
    /* Part of a machine's page would be purged, or unmapped, with somebody's data in it. */
    (void)state;
    random_state.state = 2;
    steps_at(16384, 1500);
    end(NULL);
    steps_at(65536, 1500);
}

static void neighbours_that_are_free_become_one_run(void **state) {
    /* A chunk whose every page is free would not serve a run of its size. */
    (void)state;
    start(0);
    size_t page = 0;
    size_t pages[8];
    for (unsigned i = 0; i < 8; i++) {
        assert_non_null(berth__run_bins_find(&bins, 128, 1, &page));
        pages[i] = i * 128;
        berth__chunk_lend_run(chunks[1], pages[i], 128);
    }
    static const unsigned order[] = {3, 1, 2, 7, 0, 5, 4, 6};
    for (unsigned i = 0; i < 8; i++) {
        berth__chunk_take_run(chunks[1], pages[order[i]], 128, true);
        assert_true(berth__chunk_is_valid(chunks[1]));
    }
    assert_true(berth__chunk_is_empty(chunks[1]));
    berth__chunk_lend_run(chunks[2], 0, PAGES);
    assert_ptr_equal(berth__run_bins_find(&bins, PAGES, 1, &page), chunks[1]);
    assert_int_equal(page, 0);
}

static void an_aligned_run_is_found_behind_many_that_do_not_fit(void **state) {
    /* There would be no memory, while there is some; or growing would find that there is enough,
     * and lending that there is not, for ever. */
    (void)state;
    enum { RUN = 20, ALIGN = 16 };
    start(0);
    size_t page = 0;
    berth__chunk_lend_run(chunks[0], 0, berth__chunk_pages(chunks[0]));
    berth__chunk_lend_run(chunks[1], 0, PAGES);
    berth__chunk_lend_run(chunks[2], 0, PAGES);
    berth__chunk_take_run(chunks[1], 10 * ALIGN, RUN, true);
    for (size_t i = 0; i < 9; i++) { /* in front of it, each from just behind an aligned page */
        berth__chunk_take_run(chunks[2], (1 + 3 * i) * ALIGN + 1, RUN, true);
    }
    assert_ptr_equal(berth__run_bins_find(&bins, ALIGN, ALIGN, &page), chunks[1]);
    assert_int_equal(page, 10 * ALIGN);
    berth__chunk_lend_run(chunks[1], page, ALIGN);
    assert_null(berth__run_bins_find(&bins, ALIGN, ALIGN, &page));
}

static void a_chunk_that_the_kernel_may_use_is_held(void **state) {
    /* Memory would be unmapped under a device. */
    (void)state;
    start(0);
    assert_false(berth__chunk_is_held(chunks[0]));
    berth__add_relaxed(&chunks[0]->pins, 1);
    assert_true(berth__chunk_is_held(chunks[0]));
    berth__sub_relaxed(&chunks[0]->pins, 1);
    berth__add_relaxed(&chunks[0]->registrations, 1);
    assert_true(berth__chunk_is_held(chunks[0]));
}

static void a_chunk_that_is_damaged_is_not_valid(void **state) {
    /* Audits would see nothing. */
    (void)state;
    start(0);
    chunks[0]->free_pages++;
    assert_false(berth__chunk_is_valid(chunks[0]));
    chunks[0]->free_pages--;
    chunks[0]->dirty_pages++;
    assert_false(berth__chunk_is_valid(chunks[0]));
    chunks[0]->dirty_pages--;
    chunks[0]->free_units ^= 2;
    assert_false(berth__chunk_is_valid(chunks[0]));
    chunks[0]->free_units ^= 2;
    assert_true(berth__chunk_is_valid(chunks[0]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(any_sequence_of_steps_leaves_each_page_in_its_state, end),
        cmocka_unit_test_teardown(so_it_is_with_pages_of_16_and_64_kib, end),
        cmocka_unit_test_teardown(neighbours_that_are_free_become_one_run, end),
        cmocka_unit_test_teardown(an_aligned_run_is_found_behind_many_that_do_not_fit, end),
        cmocka_unit_test_teardown(a_chunk_that_the_kernel_may_use_is_held, end),
        cmocka_unit_test_teardown(a_chunk_that_is_damaged_is_not_valid, end),
    };
    return UNIT_RUN(tests);
}
