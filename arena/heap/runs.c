/*
 * Normal blocks: runs of pages, and twins that share one.
 */
#include "heap/request.h"

#include "base/check.h"
#include "heap/decay.h"
#include "heap/io.h"
#include "heap/misuse.h"
#include "heap/stash.h"
#include "size/color.h"

#include <string.h>

/* By the thread's cache, which is made if need be: asking the machine costs a system call. */
struct berth__arena *berth__arena_of_thread(struct berth__arenas *arenas) {
    struct berth__cache *cache = berth__cache_get(arenas);
    if (cache == NULL) {
        return berth__arenas_here(arenas);
    }
    berth__cache_look_around(cache);
    return cache->arena;
}

/* The same for a thread whose CPU's cache has nothing for it. */
static struct berth__arena *arena_for_more(struct berth__arenas *arenas) {
    struct berth__cache *cache = berth__cache_get(arenas);
    if (cache != NULL) {
        berth__cache_count_refill(cache);
        berth__cache_pay_dues(cache);
        return cache->arena;
    }
    return berth__arenas_here(arenas);
}

/* What a request needs. */
struct need {
    size_t bytes;        /* of the block */
    size_t pages;        /* of the run that it is, or that it shares with its twin */
    size_t align_pages;  /* the run's alignment */
    unsigned twin_class; /* BERTH_TWIN_CLASS_COUNT if it is a run */
    unsigned normal_class;
};

static struct need need_of(const struct berth__request *request) {
    unsigned twin_class = request->alignment <= BERTH_PAGE / 2 ? berth__twin_class(request->size)
                                                               : BERTH_TWIN_CLASS_COUNT;
    if (twin_class < BERTH_TWIN_CLASS_COUNT) {
        return (struct need){.bytes = berth__twin_bytes(twin_class),
                             .pages = berth__twin_pages(twin_class),
                             .align_pages = 1,
                             .twin_class = twin_class,
                             .normal_class = twin_class};
    }
    unsigned run_class = berth__run_class((request->size + BERTH_PAGE - 1) / BERTH_PAGE);
    size_t pages = berth__run_class_pages(run_class);
    return (struct need){.bytes = pages * BERTH_PAGE,
                         .pages = pages,
                         .align_pages = berth__max(request->alignment / BERTH_PAGE, 1),
                         .twin_class = twin_class,
                         .normal_class = BERTH_TWIN_CLASS_COUNT + run_class};
}

static void *lend(struct berth__arena *arena, const struct need *need, bool *zero) {
    return need->twin_class < BERTH_TWIN_CLASS_COUNT
               ? berth__arena_lend_twin(arena, need->twin_class, zero)
               : berth__arena_lend_run(arena, need->pages, need->align_pages, zero);
}

/* What others of the pool have, before `here` takes more from the kernel. */
static void *lend_from_others(const struct berth__arena *here, const struct need *need,
                              bool anywhere, bool *zero) {
    void *block = NULL;
    struct berth__arena *other;
    unsigned turn = 0;
    while (block == NULL &&
           (other = berth__arenas_next_lender(here, need->bytes, anywhere, &turn)) != NULL) {
        block = lend(other, need, zero);
    }
    return block;
}

void *berth__run_attempt(const struct berth__request *request, unsigned charge_flags,
                         bool anywhere) {
    struct need need = need_of(request);
    bool zero = false;
    struct berth__cache *cache = berth__cache_peek(request->arenas);
    void *block = cache != NULL && need.align_pages == 1 && need.bytes <= BERTH_STASH_BLOCK_MAX
                      ? berth__stash_pop_slow(cache, need.normal_class)
                      : NULL;
    if (block == NULL && need.align_pages == 1) {
        block = berth__run_cache_pop(request->arenas, need.normal_class);
    }
    struct berth__arena *arena = block == NULL ? arena_for_more(request->arenas) : NULL;
    if (block == NULL && arena == NULL) {
        return NULL;
    }
    while (block == NULL) {
        block = lend(arena, &need, &zero);
        if (block == NULL) {
            block = lend_from_others(arena, &need, anywhere, &zero);
        }
        if (block == NULL &&
            berth__arena_grow(arena, need.pages, need.align_pages, charge_flags, request) != 0) {
            return NULL;
        }
    }
    berth__unpoison(block, need.bytes);
    if ((request->flags & BERTH_REQUEST_MALLOC) != 0 && request->alignment <= BERTH_GRANULE &&
        request->size <= BERTH_COLORED_MAX) {
        block = berth__colored(block, need.bytes, request->size);
    }
    if ((request->flags & BERTH_REQUEST_ZERO) != 0 && !zero) {
        memset(block, 0, request->size);
    }
    return block;
}

static size_t page_of(const struct berth__chunk *chunk, const void *address) {
    return (size_t)((const char *)address - chunk->at) / BERTH_PAGE;
}

/* The run or twin of a normal block. */
struct place {
    struct berth__chunk *chunk;
    char *begin;
    size_t bytes;
};

/* Checks that a normal block starts here, which may be a little behind where its run does
 * (size/color.h), and is not free. */
static inline struct place place_of(const void *block) {
    struct berth__chunk *chunk = berth__chunk_of(block);
    char *begin = berth__run_begin_at(chunk, block);
    size_t color = (size_t)((const char *)block - begin);
    size_t bytes = berth__color_is_of(begin, color) ? berth__run_bytes_at(chunk, begin) : 0;
    if (BERTH_UNLIKELY(bytes == 0)) {
        berth__misuse(berth__chunk_run_is_freed(chunk, page_of(chunk, block))
                          ? "double free"
                          : "double free, or free of a pointer inside a block",
                      block);
    }
    return (struct place){chunk, begin, bytes};
}

/* The class of a block of exactly this size; BERTH_NORMAL_CLASS_COUNT if it was resized to
 * something else. */
static unsigned class_of_bytes(size_t bytes) {
    unsigned normal_class;
    if (BERTH_LIKELY(bytes <= BERTH_NORMAL_TABLE_MAX && bytes > BERTH_SMALL_MAX)) {
        normal_class = berth__normal_class(bytes);
    } else {
        size_t pages = bytes / BERTH_PAGE;
        normal_class = BERTH_TWIN_CLASS_COUNT + berth__run_class(pages);
    }
    return berth__normal_bytes[normal_class] == bytes ? normal_class
                                                      : (unsigned)BERTH_NORMAL_CLASS_COUNT;
}

static BERTH_NOINLINE void free_unstashed(struct berth__arena *arena, void *block,
                                          unsigned normal_class) {
    if (berth__io_is_inherited(arena->arenas)) {
        return; /* it is the parent's */
    }
    if (normal_class == BERTH_NORMAL_CLASS_COUNT ||
        !berth__run_cache_push(arena, block, normal_class)) {
        berth__run_return(block, 1);
        berth__decay_step(arena);
    }
}

void berth__run_free(void *block) {
    struct place place = place_of(block);
    berth__chunk_park_run(place.chunk, page_of(place.chunk, place.begin));
    berth__poison(place.begin, place.bytes);
    struct berth__arena *arena = place.chunk->arena;
    unsigned normal_class = class_of_bytes(place.bytes);
    struct berth__cache *cache = berth__tls.cache;
    if (cache->arenas != arena->arenas) {
        cache = berth__cache_peek(arena->arenas);
    }
    if (cache == NULL || !berth__stash_push(cache, arena, place.begin, normal_class)) {
        free_unstashed(arena, place.begin, normal_class);
    }
}

size_t berth__run_bytes(const void *block) {
    struct place place = place_of(block);
    return place.bytes - (size_t)((const char *)block - place.begin);
}

/* In place: the pages behind a run may be free; and a run that is much too long gives its tail
 * back. A twin can do neither. */
bool berth__run_resize(void *block, size_t size) {
    struct place place = place_of(block);
    bool is_twin = place.bytes % BERTH_PAGE != 0;
    size_t pages = place.bytes / BERTH_PAGE;
    size_t end = size + (size_t)((const char *)block - place.begin);
    if (end > BERTH_CHUNK) {
        return false;
    }
    size_t needed = berth__run_class_pages(berth__run_class((end + BERTH_PAGE - 1) / BERTH_PAGE));
    bool zero = false;
    if (is_twin ? end > place.bytes : needed > pages) {
        bool grown = !is_twin && berth__arena_grow_run(place.begin, needed - pages, &zero);
        berth__unpoison(place.begin, grown ? needed * BERTH_PAGE : place.bytes);
        return grown;
    }
    if (size <= BERTH_SMALL_MAX) {
        return false; /* a small block serves it better */
    }
    if (!is_twin && pages - needed > pages / 8) {
        berth__arena_shrink_run(place.begin, needed);
    }
    return !is_twin || place.bytes - end <= place.bytes / 8;
}
