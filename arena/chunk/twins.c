#include "chunk/twins.h"

#include "base/check.h"

void berth__twins_init(struct berth__twins *twins) {
    for (unsigned c = 0; c < BERTH_TWIN_CLASS_COUNT; c++) {
        berth__list_init(&twins->free[c]);
    }
}

/* A link that no free run uses while the pages are lent: its four pages are all of the run's. */
static struct berth__run_link *link_of(struct berth__chunk *chunk, size_t first_page) {
    return &chunk->run_links[(first_page + BERTH_RUN_LINK_PAGES) / BERTH_RUN_LINK_PAGES];
}

/* The page that the second twin begins in. */
static size_t second_page(size_t first_page, size_t pages) {
    return first_page + pages / 2;
}

static unsigned class_of(size_t pages) {
    return (unsigned)(pages - BERTH_TWIN_MIN_PAGES) / BERTH_TWIN_STEP_PAGES;
}

static void list_twin(struct berth__twins *twins, struct berth__chunk *chunk, size_t first_page,
                      size_t pages, size_t free_page) {
    struct berth__run_link *link = link_of(chunk, first_page);
    link->chunk = chunk;
    link->page = (uint32_t)free_page;
    berth__list_push_front(&twins->free[class_of(pages)], &link->link);
}

void *berth__twins_lend(struct berth__twins *twins, unsigned twin_class, bool *zero) {
    struct berth__list *first = berth__list_first(&twins->free[twin_class]);
    if (first == NULL) {
        return NULL;
    }
    berth__list_remove(first);
    struct berth__run_link *link = BERTH_LIST_ENTRY(first, struct berth__run_link, link);
    _Atomic uint16_t *mark = &link->chunk->run_pages[link->page];
    unsigned was = berth__load_relaxed(mark);
    berth__store_relaxed(mark, (uint16_t)(was & ~(unsigned)(BERTH_RUN_FREE | BERTH_RUN_CLEAN)));
    *zero = (was & BERTH_RUN_CLEAN) != 0;
    return link->chunk->at + link->page * (size_t)BERTH_PAGE +
           ((was & BERTH_RUN_SECOND) != 0 ? BERTH_PAGE / 2 : 0);
}

void berth__twins_cut(struct berth__twins *twins, struct berth__chunk *chunk, size_t page,
                      unsigned twin_class, bool zero) {
    unsigned pages = (unsigned)berth__twin_pages(twin_class);
    size_t second = second_page(page, pages);
    unsigned clean = zero ? BERTH_RUN_CLEAN : 0;
    berth__store_relaxed(&chunk->run_pages[page], (uint16_t)(pages | BERTH_RUN_TWIN));
    berth__store_relaxed(
        &chunk->run_pages[second],
        (uint16_t)(pages | BERTH_RUN_TWIN | BERTH_RUN_SECOND | BERTH_RUN_FREE | clean));
    list_twin(twins, chunk, page, pages, second);
}

bool berth__twins_take(struct berth__twins *twins, struct berth__chunk *chunk, void *block,
                       size_t *page) {
    size_t at = (size_t)((char *)block - chunk->at) / BERTH_PAGE;
    unsigned mark = berth__load_relaxed(&chunk->run_pages[at]);
    size_t pages = mark & BERTH_RUN_LENGTH;
    bool is_second = (mark & BERTH_RUN_SECOND) != 0;
    size_t first = is_second ? at - pages / 2 : at;
    size_t other = is_second ? first : second_page(first, pages);
    BERTH_ASSERT((mark & BERTH_RUN_TWIN) != 0);
    if ((berth__load_relaxed(&chunk->run_pages[other]) & BERTH_RUN_FREE) == 0) {
        berth__store_relaxed(&chunk->run_pages[at], (uint16_t)(mark | BERTH_RUN_FREE));
        list_twin(twins, chunk, first, pages, at);
        return false;
    }
    berth__list_remove(&link_of(chunk, first)->link);
    berth__store_relaxed(&chunk->run_pages[at], 0);
    berth__store_relaxed(&chunk->run_pages[other], 0);
    *page = first;
    return true;
}
