#include "chunk/slab.h"

#include "base/check.h"
#include "chunk/handed.h"
#include "chunk/meta.h"
#include "chunk/parts.h"

#include <string.h>

/* The blocks [first, end). */
struct block_range {
    unsigned first, end;
};

static struct block_range blocks_touching_page(const struct berth__slab *slab, unsigned page) {
    const struct berth__class *class = berth__slab_class(slab);
    uint32_t last_byte = (page + 1) * BERTH_PAGE - 1;
    struct block_range range = {
        .first = berth__divide(page * BERTH_PAGE, class->reciprocal),
        .end = berth__divide(last_byte, class->reciprocal) + 1,
    };
    range.first = (unsigned)berth__min(range.first, class->blocks);
    range.end = (unsigned)berth__min(range.end, class->blocks);
    return range;
}

static uint16_t pages_of_blocks(const struct berth__slab *slab, struct block_range range) {
    uint32_t size = berth__slab_class(slab)->size;
    unsigned lo = range.first * size / BERTH_PAGE;
    unsigned hi = (range.end * size + BERTH_PAGE - 1) / BERTH_PAGE;
    return (uint16_t)berth__word_mask(lo, hi);
}

/* The part of word w that lies in the range. */
static uint64_t range_mask(struct block_range range, unsigned w) {
    unsigned lo = w == range.first / 64 ? range.first % 64 : 0;
    return berth__word_mask(lo, (unsigned)berth__min(64, range.end - w * 64));
}

static bool bitmaps_init(struct berth__slab_record *record, const struct berth__class *class) {
    struct berth__slab *slab = &record->slab;
    size_t bytes = 2 * sizeof(uint64_t) * class->words;
    slab->ready =
        class->words <= BERTH_SLAB_INLINE_WORDS ? record->inline_bits : berth__meta_alloc(bytes);
    if (slab->ready == NULL) {
        return false;
    }
    memset(slab->ready, 0, bytes);
    berth__bits_set(slab->ready + class->words, 0, class->blocks);
    return true;
}

bool berth__slab_init(struct berth__slab_record *record, struct berth__heap *heap, char *base,
                      unsigned small_class, uint16_t resident) {
    struct berth__slab *slab = &record->slab;
    const struct berth__class *class = &berth__classes[small_class];
    if (!bitmaps_init(record, class)) {
        return false;
    }
    berth__list_init(&slab->link);
    berth__list_init(&slab->purge_link);
    berth__store_relaxed(&slab->heap, heap);
    slab->base = base;
    berth__handed_clear(base);
    slab->small_class = (uint8_t)small_class;
    slab->ready_count = 0;
    slab->cold_count = class->blocks;
    slab->resident = resident;
    slab->list = BERTH_SLAB_FULL;
    slab->mixed = 0;
    if (class->blocks <= BERTH_PARTS_BLOCKS_MAX) {
        for (unsigned w = 0; w < BERTH_PARTS_BLOCKS_MAX / 64; w++) {
            berth__store_relaxed(&record->parts.cut[w], 0);
        }
    }
    return true;
}

void berth__slab_retire(struct berth__slab_record *record) {
    struct berth__slab *slab = &record->slab;
    if (slab->mixed) {
        berth__parts_end(slab);
    }
    if (slab->ready != record->inline_bits) {
        berth__meta_free(slab->ready, 2 * sizeof(uint64_t) * berth__slab_class(slab)->words);
    }
    slab->ready = NULL;
    berth__store_relaxed(&slab->heap, NULL);
}

unsigned berth__slab_lend(struct berth__slab *slab, unsigned count, void **out) {
    const uint32_t size = berth__slab_class(slab)->size;
    const unsigned words = berth__slab_class(slab)->words;
    const unsigned lent = (unsigned)berth__min(count, slab->ready_count);
    unsigned left = lent;
    for (unsigned w = 0; left > 0; w++) {
        BERTH_CHECK(w < words, "a slab's count of ready blocks is wrong");
        uint64_t bits = slab->ready[w];
        char *word_base = slab->base + (size_t)w * 64 * size;
        while (bits != 0 && left > 0) {
            *out++ = word_base + (size_t)berth__lowest_bit(bits) * size;
            bits &= bits - 1;
            left--;
        }
        slab->ready[w] = bits;
    }
    slab->ready_count = (uint16_t)(slab->ready_count - lent);
    return lent;
}

uint16_t berth__slab_warm(struct berth__slab *slab, unsigned pages) {
    const struct berth__class *class = berth__slab_class(slab);
    uint64_t *cold = berth__slab_cold(slab);
    struct block_range range;
    range.first = (unsigned)berth__bits_next_set(cold, 0, class->blocks);
    BERTH_CHECK(range.first < class->blocks, "a slab's count of cold blocks is wrong");
    unsigned end_byte = (range.first * class->size / BERTH_PAGE + pages) * BERTH_PAGE;
    range.end = (unsigned)berth__min((end_byte + class->size - 1) / class->size, class->blocks);
    for (unsigned w = range.first / 64; w * 64 < range.end; w++) {
        uint64_t moved = cold[w] & range_mask(range, w);
        unsigned moved_count = berth__bit_count(moved);
        cold[w] &= ~moved;
        slab->ready[w] |= moved;
        slab->ready_count = (uint16_t)(slab->ready_count + moved_count);
        slab->cold_count = (uint16_t)(slab->cold_count - moved_count);
    }
    uint16_t fresh = (uint16_t)(pages_of_blocks(slab, range) & ~slab->resident);
    slab->resident |= fresh;
    return fresh;
}

bool berth__slab_is_free(const struct berth__slab *slab, const void *address) {
    uint32_t offset = (uint32_t)((const char *)address - slab->base);
    uint32_t block = berth__divide(offset, berth__slab_class(slab)->reciprocal);
    return berth__bit_test(slab->ready, block) || berth__bit_test(berth__slab_cold(slab), block);
}

static bool all_free(const struct berth__slab *slab, struct block_range range) {
    const uint64_t *cold = berth__slab_cold(slab);
    for (unsigned w = range.first / 64; w * 64 < range.end; w++) {
        uint64_t mask = range_mask(range, w);
        if (((slab->ready[w] | cold[w]) & mask) != mask) {
            return false;
        }
    }
    return true;
}

uint16_t berth__slab_purgeable(const struct berth__slab *slab) {
    uint16_t pages = 0;
    for (unsigned page = 0; page < BERTH_UNIT_PAGES; page++) {
        if ((slab->resident >> page & 1) != 0 && all_free(slab, blocks_touching_page(slab, page))) {
            pages |= (uint16_t)(1u << page);
        }
    }
    return pages;
}

void berth__slab_hide(struct berth__slab *slab, uint16_t pages) {
    uint64_t *cold = berth__slab_cold(slab);
    for (; pages != 0; pages &= (uint16_t)(pages - 1)) {
        struct block_range range = blocks_touching_page(slab, berth__lowest_bit(pages));
        for (unsigned w = range.first / 64; w * 64 < range.end; w++) {
            uint64_t mask = range_mask(range, w);
            slab->ready_count =
                (uint16_t)(slab->ready_count - berth__bit_count(slab->ready[w] & mask));
            slab->cold_count = (uint16_t)(slab->cold_count - berth__bit_count(cold[w] & mask));
            slab->ready[w] &= ~mask;
            cold[w] &= ~mask;
        }
    }
}

void berth__slab_show(struct berth__slab *slab, uint16_t pages, bool purged) {
    uint64_t *cold = berth__slab_cold(slab);
    if (purged) {
        slab->resident &= (uint16_t)~pages;
    }
    for (; pages != 0; pages &= (uint16_t)(pages - 1)) {
        struct block_range range = blocks_touching_page(slab, berth__lowest_bit(pages));
        for (unsigned w = range.first / 64; w * 64 < range.end; w++) {
            uint64_t mask = range_mask(range, w);
            BERTH_CHECK((slab->ready[w] & mask) == 0, "double free of a block on a purged page");
            slab->cold_count = (uint16_t)(slab->cold_count + berth__bit_count(mask & ~cold[w]));
            cold[w] |= mask;
        }
    }
}

bool berth__slab_is_valid(const struct berth__slab *slab) {
    const struct berth__class *class = berth__slab_class(slab);
    const uint64_t *cold = berth__slab_cold(slab);
    unsigned overlap = 0;
    for (unsigned w = 0; w < class->words; w++) {
        overlap += berth__bit_count(slab->ready[w] & cold[w]);
    }
    size_t bits = class->words * (size_t)64;
    return overlap == 0 && berth__bits_count(slab->ready, 0, bits) == slab->ready_count &&
           berth__bits_count(cold, 0, bits) == slab->cold_count &&
           berth__bits_next_set(slab->ready, class->blocks, bits) == bits &&
           berth__bits_next_set(cold, class->blocks, bits) == bits;
}
