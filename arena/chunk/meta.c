#include "chunk/meta.h"

#include "base/atomics.h"
#include "base/bits.h"
#include "base/check.h"
#include "chunk/mappings.h"
#include "os/pages.h"

#include <string.h>

enum {
    MIN_SHIFT = 6,
    MAX_SHIFT = 16,
    CLASSES = MAX_SHIFT - MIN_SHIFT + 1,
    /* Addresses are reserved by the segment and committed by the step, so that a small process has
     * little metadata and a large one few mappings. */
    SEGMENT_BYTES = 4 << 20,
    STEP_BYTES = 64 << 10,
};

struct free_block {
    struct free_block *next;
};

struct berth__lock berth__meta_lock;
static struct free_block *free_blocks[CLASSES] BERTH_GUARDED_BY(berth__meta_lock);
static char *open_at BERTH_GUARDED_BY(berth__meta_lock);      /* next byte to hand out */
static char *committed_to BERTH_GUARDED_BY(berth__meta_lock); /* end of the usable part */
static char *segment_end BERTH_GUARDED_BY(berth__meta_lock);
static _Atomic uint64_t bytes_mapped;
static _Atomic uint64_t failures;

void berth__meta_init(void) {
    berth__lock_init(&berth__meta_lock, BERTH_RANK_META);
}

void berth__meta_count(uint64_t bytes) {
    berth__add_relaxed(&bytes_mapped, bytes);
}

uint64_t berth__meta_bytes(void) {
    return berth__load_relaxed(&bytes_mapped);
}

uint64_t berth__meta_failures(void) {
    return berth__load_relaxed(&failures);
}

static unsigned class_of(size_t bytes) {
    BERTH_ASSERT(bytes >= 1 && bytes <= BERTH_META_MAX);
    return bytes <= (1u << MIN_SHIFT) ? 0 : berth__highest_bit(bytes - 1) + 1 - MIN_SHIFT;
}

/* The smallest segment that helps, where addresses are scarce. */
static bool open_segment_locked(void) BERTH_REQUIRES(berth__meta_lock) {
    for (size_t bytes = SEGMENT_BYTES; bytes >= 2 * STEP_BYTES; bytes /= 2) {
        char *at = berth__pages_reserve(bytes, STEP_BYTES);
        if (at != NULL) {
            open_at = committed_to = at;
            segment_end = at + bytes;
            berth__mappings_add(2); /* what is usable of it, and what is not */
            return true;
        }
    }
    return false;
}

/* Steps grow with what there is, so that a crowd of new threads does not wait for a system call
 * every few. */
static bool commit_step_locked(void) BERTH_REQUIRES(berth__meta_lock) {
    size_t wish = berth__round_down(berth__meta_bytes() / 4, STEP_BYTES);
    size_t step = berth__min(berth__max(wish, STEP_BYTES), (size_t)(segment_end - committed_to));
    if (berth__pages_commit(committed_to, step) != 0) {
        return false;
    }
    berth__pages_want_huge(committed_to, step, false);
    committed_to += step;
    berth__meta_count(step);
    return true;
}

static void *carve_locked(size_t bytes) BERTH_REQUIRES(berth__meta_lock) {
    size_t alignment = berth__min(bytes, BERTH_CACHE_LINE * 64);
    char *at = (char *)berth__round_up((uintptr_t)open_at, alignment);
    if (open_at == NULL || bytes > (size_t)(segment_end - open_at) || at + bytes > segment_end) {
        if (!open_segment_locked()) {
            return NULL;
        }
        at = open_at;
    }
    while (at + bytes > committed_to) {
        if (!commit_step_locked()) {
            return NULL;
        }
    }
    open_at = at + bytes;
    return at;
}

void *berth__meta_alloc(size_t bytes) {
    unsigned meta_class = class_of(bytes);
    berth__lock_acquire(&berth__meta_lock);
    struct free_block *block = free_blocks[meta_class];
    void *fresh = NULL;
    if (block != NULL) {
        free_blocks[meta_class] = block->next;
    } else {
        fresh = carve_locked((size_t)1 << (meta_class + MIN_SHIFT));
    }
    berth__lock_release(&berth__meta_lock);
    if (block == NULL && fresh == NULL) {
        berth__add_relaxed(&failures, 1);
    }
    return block != NULL ? memset(block, 0, bytes) : fresh;
}

void berth__meta_free(void *block, size_t bytes) {
    unsigned meta_class = class_of(bytes);
    struct free_block *free_block = block;
    berth__lock_acquire(&berth__meta_lock);
    free_block->next = free_blocks[meta_class];
    free_blocks[meta_class] = free_block;
    berth__lock_release(&berth__meta_lock);
}

void berth__meta_abandon_in_child(void) BERTH_NO_TSA {
    memset(free_blocks, 0, sizeof(free_blocks));
    open_at = committed_to = segment_end = NULL;
}
