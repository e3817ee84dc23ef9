#include "chunk/chunk.h"

#include "base/check.h"
#include "os/pages.h"

#include <string.h>

static uint64_t units_touching(size_t page, size_t pages) {
    return berth__word_mask((unsigned)(page / BERTH_UNIT_PAGES),
                            (unsigned)((page + pages - 1) / BERTH_UNIT_PAGES + 1));
}

static bool unit_is_free(const struct berth__chunk *chunk, unsigned unit) {
    unsigned page = unit * BERTH_UNIT_PAGES;
    return ((chunk->used[page / 64] >> (page % 64)) & UINT16_MAX) == 0;
}

/* Brings free_units up to date for the units at the two ends of a range that became free. */
static void free_units_refresh(struct berth__chunk *chunk, size_t page, size_t pages) {
    unsigned last = (unsigned)((page + pages - 1) / BERTH_UNIT_PAGES);
    for (unsigned unit = (unsigned)(page / BERTH_UNIT_PAGES); unit <= last; unit++) {
        if (unit_is_free(chunk, unit)) {
            chunk->free_units |= UINT64_C(1) << unit;
        }
    }
}

/* ---- free runs in bins ---- */

void berth__run_bins_init(struct berth__run_bins *bins) {
    bins->not_empty = 0;
    for (unsigned b = 0; b < BERTH_RUN_CLASS_COUNT; b++) {
        berth__list_init(&bins->bin[b]);
    }
}

/* The bin of a run: the largest class that it holds. */
static unsigned bin_of(size_t pages) {
    unsigned run_class = berth__run_class(pages);
    return berth__run_class_pages(run_class) > pages ? run_class - 1 : run_class;
}

/* Runs of chunks that are mostly used come first, so that the others can become empty. */
static void link_run(struct berth__chunk *chunk, size_t page, size_t pages) {
    if (pages < BERTH_RUN_CLASS_MIN_PAGES) {
        return;
    }
    unsigned bin = bin_of(pages);
    struct berth__run_link *run = &chunk->run_links[page / BERTH_RUN_LINK_PAGES];
    run->chunk = chunk;
    run->page = (uint32_t)page;
    if (chunk->free_pages < BERTH_CHUNK_PAGES / 2) {
        berth__list_push_front(&chunk->bins->bin[bin], &run->link);
    } else {
        berth__list_push_back(&chunk->bins->bin[bin], &run->link);
    }
    chunk->bins->not_empty |= UINT64_C(1) << bin;
}

static void unlink_run(struct berth__chunk *chunk, size_t page, size_t pages) {
    if (pages < BERTH_RUN_CLASS_MIN_PAGES) {
        return;
    }
    unsigned bin = bin_of(pages);
    berth__list_remove(&chunk->run_links[page / BERTH_RUN_LINK_PAGES].link);
    if (berth__list_empty(&chunk->bins->bin[bin])) {
        chunk->bins->not_empty &= ~(UINT64_C(1) << bin);
    }
}

static size_t run_end(const struct berth__chunk *chunk, size_t page) {
    return berth__bits_next_set(chunk->used, page, BERTH_CHUNK_PAGES);
}

/* The first run of the smallest bin from `bin` on; NULL if there is none. */
static struct berth__run_link *first_from(struct berth__run_bins *bins, unsigned bin) {
    uint64_t candidates = bins->not_empty & berth__word_mask(bin, 64);
    if (candidates == 0) {
        return NULL;
    }
    struct berth__list *first = bins->bin[berth__lowest_bit(candidates)].next;
    return BERTH_LIST_ENTRY(first, struct berth__run_link, link);
}

/* The first page from `page` on whose address is aligned. Slots of lent memory need not be aligned
 * to more than a unit themselves. */
static size_t align_page(const struct berth__chunk *chunk, size_t page, size_t align_pages) {
    size_t before = (uintptr_t)chunk->at / BERTH_PAGE % align_pages;
    return berth__round_up(page + before, align_pages) - before;
}

/* Looks at the first runs of each bin whose runs need not, but may, hold an aligned run. */
static struct berth__run_link *try_aligned(struct berth__run_bins *bins, size_t pages,
                                           size_t align_pages, size_t tries_per_bin) {
    uint64_t candidates = bins->not_empty & berth__word_mask(berth__run_class(pages), 64);
    for (; candidates != 0; candidates &= candidates - 1) {
        struct berth__list *bin = &bins->bin[berth__lowest_bit(candidates)];
        struct berth__list *at = bin->next;
        for (size_t i = 0; i < tries_per_bin && at != bin; i++, at = at->next) {
            struct berth__run_link *run = BERTH_LIST_ENTRY(at, struct berth__run_link, link);
            size_t first = align_page(run->chunk, run->page, align_pages);
            if (first + pages <= run_end(run->chunk, run->page)) {
                return run;
            }
        }
    }
    return NULL;
}

/* Before it is said that there is none, all runs are looked at: who grows the arena relies on
 * finding what it made room for. */
static struct berth__run_link *find_aligned(struct berth__run_bins *bins, size_t pages,
                                            size_t align_pages) {
    enum { TRIES_PER_BIN = 4 };
    struct berth__run_link *run = try_aligned(bins, pages, align_pages, TRIES_PER_BIN);
    size_t surely = pages + align_pages - 1;
    if (run == NULL && surely <= BERTH_CHUNK_PAGES) {
        run = first_from(bins, berth__run_class(surely));
    }
    return run != NULL ? run : try_aligned(bins, pages, align_pages, SIZE_MAX);
}

struct berth__chunk *berth__run_bins_find(struct berth__run_bins *bins, size_t pages,
                                          size_t align_pages, size_t *page) {
    struct berth__run_link *run = align_pages == 1 ? first_from(bins, berth__run_class(pages))
                                                   : find_aligned(bins, pages, align_pages);
    if (run == NULL) {
        return NULL;
    }
    *page = align_page(run->chunk, run->page, align_pages);
    return run->chunk;
}

/* ---- pages ---- */

/* Pages that may be lent: from the committed bytes to the map's end everything is `used`. */
static void add_free_pages(struct berth__chunk *chunk, size_t page, size_t pages) {
    size_t first = berth__bits_clear_before(chunk->used, page);
    size_t end = run_end(chunk, page + pages);
    unlink_run(chunk, first, page - first);
    unlink_run(chunk, page + pages, end - page - pages);
    berth__bits_clear(chunk->used, page, pages);
    chunk->free_pages += (uint32_t)pages;
    free_units_refresh(chunk, page, pages);
    link_run(chunk, first, end - first);
}

static void set_dirty(struct berth__chunk *chunk, size_t page, size_t pages) {
    size_t already = berth__bits_count(chunk->dirty, page, pages);
    berth__bits_set(chunk->dirty, page, pages);
    chunk->dirty_pages += (uint32_t)(pages - already);
}

static void clear_dirty(struct berth__chunk *chunk, size_t page, size_t pages) {
    size_t already = berth__bits_count(chunk->dirty, page, pages);
    berth__bits_clear(chunk->dirty, page, pages);
    chunk->dirty_pages -= (uint32_t)already;
}

/* Of a chunk that is in no list, and has no page to lend. */
static void init_maps(struct berth__chunk *chunk, struct berth__run_bins *bins) {
    berth__list_init(&chunk->link);
    berth__list_init(&chunk->dirty_link);
    berth__list_init(&chunk->owner_link);
    chunk->bins = bins;
    chunk->free_pages = 0;
    chunk->dirty_pages = 0;
    chunk->bucket = UINT32_MAX;
    chunk->free_units = 0;
    memset(chunk->used, 0xff, sizeof(chunk->used));
    memset(chunk->dirty, 0, sizeof(chunk->dirty));
}

void berth__chunk_init(struct berth__chunk *chunk, struct berth__arena *arena,
                       struct berth__run_bins *bins, size_t committed, bool clean) {
    init_maps(chunk, bins);
    memset((void *)chunk->run_pages, 0, sizeof(chunk->run_pages));
    chunk->arena = arena;
    chunk->committed = committed;
    add_free_pages(chunk, 0, committed / BERTH_PAGE);
    if (!clean) {
        set_dirty(chunk, 0, committed / BERTH_PAGE);
    }
    berth__add_relaxed(&chunk->generation, 1);
    berth__store_release(&chunk->use, BERTH_SLOT_CHUNK);
}

void berth__chunk_set_aside(struct berth__chunk *chunk) {
    init_maps(chunk, NULL);
}

void berth__chunk_retire(struct berth__chunk *chunk) {
    for (size_t page = berth__bits_next_clear(chunk->used, 0, BERTH_CHUNK_PAGES);
         page < BERTH_CHUNK_PAGES;) {
        size_t end = run_end(chunk, page);
        unlink_run(chunk, page, end - page);
        page = berth__bits_next_clear(chunk->used, end, BERTH_CHUNK_PAGES);
    }
}

void berth__chunk_extend(struct berth__chunk *chunk, size_t bytes) {
    size_t first = chunk->committed / BERTH_PAGE;
    chunk->committed += bytes;
    BERTH_ASSERT(chunk->committed <= BERTH_CHUNK);
    add_free_pages(chunk, first, bytes / BERTH_PAGE);
}

/* Marks free pages as lent. What is left of their run on either side goes back to the bins. */
static void lend(struct berth__chunk *chunk, size_t page, size_t pages) {
    size_t first = berth__bits_clear_before(chunk->used, page);
    size_t end = run_end(chunk, page + pages);
    unlink_run(chunk, first, end - first);
    berth__bits_set(chunk->used, page, pages);
    chunk->free_units &= ~units_touching(page, pages);
    chunk->free_pages -= (uint32_t)pages;
    clear_dirty(chunk, page, pages);
    link_run(chunk, first, page - first);
    link_run(chunk, page + pages, end - page - pages);
}

static bool all_zero(const struct berth__chunk *chunk, size_t page, size_t pages) {
    return berth__bits_next_set(chunk->dirty, page, page + pages) == page + pages;
}

bool berth__chunk_lend_run(struct berth__chunk *chunk, size_t page, size_t pages) {
    bool zero = all_zero(chunk, page, pages);
    lend(chunk, page, pages);
    berth__store_relaxed(&chunk->run_pages[page], (uint16_t)pages);
    return zero;
}

int berth__chunk_lend_unit(struct berth__chunk *chunk, uint16_t *resident) {
    if (chunk->free_units == 0) {
        return -1;
    }
    unsigned unit = berth__lowest_bit(chunk->free_units);
    unsigned page = unit * BERTH_UNIT_PAGES;
    *resident = (uint16_t)(chunk->dirty[page / 64] >> (page % 64));
    lend(chunk, page, BERTH_UNIT_PAGES);
    return (int)unit;
}

void berth__chunk_take_run(struct berth__chunk *chunk, size_t page, size_t pages, bool dirty) {
    berth__store_relaxed(&chunk->run_pages[page], 0);
    if (dirty) {
        set_dirty(chunk, page, pages);
    }
    add_free_pages(chunk, page, pages);
}

void berth__chunk_take_unit(struct berth__chunk *chunk, unsigned unit, uint16_t resident) {
    size_t page = (size_t)unit * BERTH_UNIT_PAGES;
    berth__chunk_take_run(chunk, page, BERTH_UNIT_PAGES, false);
    chunk->dirty[page / 64] |= (uint64_t)resident << (page % 64);
    chunk->dirty_pages += berth__bit_count(resident);
}

bool berth__chunk_grow_run(struct berth__chunk *chunk, size_t page, size_t more, bool *zero) {
    size_t from = page + berth__chunk_run_pages(chunk, page);
    size_t end = berth__chunk_pages(chunk);
    if (from + more > end || berth__bits_next_set(chunk->used, from, from + more) != from + more) {
        return false;
    }
    *zero = all_zero(chunk, from, more);
    lend(chunk, from, more);
    berth__store_relaxed(&chunk->run_pages[page], (uint16_t)(from + more - page));
    return true;
}

void berth__chunk_shrink_run(struct berth__chunk *chunk, size_t page, size_t keep_pages) {
    size_t pages = berth__chunk_run_pages(chunk, page);
    berth__store_relaxed(&chunk->run_pages[page], (uint16_t)keep_pages);
    set_dirty(chunk, page + keep_pages, pages - keep_pages);
    add_free_pages(chunk, page + keep_pages, pages - keep_pages);
}

bool berth__chunk_next_dirty(const struct berth__chunk *chunk, size_t from, size_t *page,
                             size_t *pages) {
    const size_t end = berth__chunk_pages(chunk);
    const size_t step = berth__page_bytes / BERTH_PAGE;
    for (size_t at = berth__bits_next_set(chunk->dirty, from, end); at < end;) {
        size_t stop = berth__bits_next_clear(chunk->dirty, at, end);
        size_t first = berth__round_up(at, step);
        size_t last = berth__round_down(stop, step);
        if (first < last) {
            *page = first;
            *pages = last - first;
            return true;
        }
        at = berth__bits_next_set(chunk->dirty, stop, end);
    }
    return false;
}

void berth__chunk_hide(struct berth__chunk *chunk, size_t page, size_t pages) {
    lend(chunk, page, pages);
}

void berth__chunk_show(struct berth__chunk *chunk, size_t page, size_t pages, bool purged) {
    berth__chunk_take_run(chunk, page, pages, !purged);
}

size_t berth__chunk_free_tail(const struct berth__chunk *chunk) {
    size_t end = berth__chunk_pages(chunk);
    size_t first = berth__bits_clear_before(chunk->used, end);
    size_t from = berth__round_up(first * BERTH_PAGE, berth__page_bytes);
    return from < chunk->committed ? chunk->committed - from : 0;
}

void berth__chunk_drop_tail(struct berth__chunk *chunk, size_t bytes) {
    chunk->committed -= bytes; /* what is not committed counts as used, and so does a hidden run */
}

bool berth__chunk_is_valid(const struct berth__chunk *chunk) {
    size_t end = berth__chunk_pages(chunk);
    size_t used = berth__bits_count(chunk->used, 0, end);
    bool tail_used = berth__bits_next_clear(chunk->used, end, BERTH_CHUNK_PAGES) ==
                     (end < BERTH_CHUNK_PAGES ? BERTH_CHUNK_PAGES : end);
    bool dirty_free = true;
    for (unsigned w = 0; w < BERTH_CHUNK_WORDS; w++) {
        dirty_free = dirty_free && (chunk->dirty[w] & chunk->used[w]) == 0;
    }
    bool units_right = true;
    for (unsigned unit = 0; unit < BERTH_CHUNK_UNITS; unit++) {
        units_right = units_right && unit_is_free(chunk, unit) == (chunk->free_units >> unit & 1);
    }
    return chunk->free_pages == end - used && tail_used && dirty_free && units_right &&
           berth__bits_count(chunk->dirty, 0, BERTH_CHUNK_PAGES) == chunk->dirty_pages;
}
