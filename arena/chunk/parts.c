#include "chunk/parts.h"

#include "base/check.h"
#include "chunk/meta.h"

#include <string.h>

enum {
    PART_MIN = 64,  /* bytes; smaller ones would need large bitmaps */
    OVER_SHARE = 4, /* at most one byte in so many of a block is over */
    PER_BLOCK_MAX = UINT8_MAX,
};

static uint32_t lowest_bit_of(uint32_t value) {
    return value & (~value + 1);
}

/* What every block of a class is a multiple of: aligned requests rely on it. */
static uint32_t alignment_of(unsigned small_class) {
    return (uint32_t)berth__min(lowest_bit_of(berth__classes[small_class].size), BERTH_PAGE);
}

static size_t bitmap_words(const struct berth__slab *slab, unsigned per_block) {
    return (berth__slab_class(slab)->blocks * (size_t)per_block + 63) / 64;
}

static uint32_t part_size(const struct berth__parts *parts) {
    return berth__classes[parts->small_class].size;
}

unsigned berth__parts_per_block(unsigned small_class, unsigned part_class) {
    const struct berth__class *class = &berth__classes[small_class];
    uint32_t size = berth__classes[part_class].size;
    uint32_t alignment = alignment_of(part_class);
    uint32_t skipped = alignment - (uint32_t)berth__min(alignment, alignment_of(small_class));
    uint32_t usable = class->size > skipped ? class->size - skipped : 0;
    uint32_t count = usable / size;
    bool wasteful = class->size - count * size > class->size / OVER_SHARE;
    bool possible = size >= PART_MIN && class->blocks <= BERTH_PARTS_BLOCKS_MAX &&
                    count <= PER_BLOCK_MAX && small_class != part_class;
    return possible && !wasteful ? count : 0;
}

bool berth__parts_begin(struct berth__slab *slab, unsigned part_class) {
    struct berth__parts *parts = berth__parts_of(slab);
    unsigned per_block = berth__parts_per_block(slab->small_class, part_class);
    parts->ready = berth__meta_alloc(bitmap_words(slab, per_block) * sizeof(uint64_t));
    if (parts->ready == NULL) {
        return false;
    }
    berth__list_init(&parts->link);
    parts->ready_count = 0;
    parts->cut_count = 0;
    parts->small_class = (uint8_t)part_class;
    parts->per_block = (uint8_t)per_block;
    slab->mixed = 1;
    return true;
}

void berth__parts_end(struct berth__slab *slab) {
    struct berth__parts *parts = berth__parts_of(slab);
    berth__meta_free(parts->ready, bitmap_words(slab, parts->per_block) * sizeof(uint64_t));
    parts->ready = NULL;
    slab->mixed = 0;
}

void berth__parts_cut(struct berth__slab *slab) {
    struct berth__parts *parts = berth__parts_of(slab);
    const unsigned blocks = berth__slab_class(slab)->blocks;
    unsigned block = (unsigned)berth__bits_next_set(slab->ready, 0, blocks);
    BERTH_CHECK(block < blocks, "a slab's count of ready blocks is wrong");
    berth__bits_clear(slab->ready, block, 1);
    slab->ready_count--;
    uint64_t bits = berth__load_relaxed(&parts->cut[block / 64]);
    berth__store_relaxed(&parts->cut[block / 64], bits | UINT64_C(1) << (block % 64));
    parts->cut_count++;
    berth__bits_set(parts->ready, (size_t)block * parts->per_block, parts->per_block);
    parts->ready_count = (uint16_t)(parts->ready_count + parts->per_block);
}

unsigned berth__parts_lend(struct berth__slab *slab, unsigned count, void **out) {
    struct berth__parts *parts = berth__parts_of(slab);
    const unsigned lent = (unsigned)berth__min(count, parts->ready_count);
    const size_t end = bitmap_words(slab, parts->per_block) * 64;
    size_t at = 0;
    for (unsigned i = 0; i < lent; i++) {
        at = berth__bits_next_set(parts->ready, at, end);
        BERTH_CHECK(at < end, "a slab's count of ready parts is wrong");
        berth__bits_clear(parts->ready, at, 1);
        uint32_t block = (uint32_t)(at / parts->per_block) * berth__slab_class(slab)->size;
        out[i] = slab->base + berth__parts_first(part_size(parts), block) +
                 at % parts->per_block * part_size(parts);
    }
    parts->ready_count = (uint16_t)(parts->ready_count - lent);
    return lent;
}

struct berth__part berth__part_find(const struct berth__parts *parts, unsigned small_class,
                                    const void *address) {
    const struct berth__class *class = &berth__classes[small_class];
    uint32_t offset = (uint32_t)((uintptr_t)address % BERTH_UNIT);
    struct berth__part part = {.small_class = small_class,
                               .block = berth__divide(offset, class->reciprocal)};
    if (part.block >= class->blocks) {
        return part; /* behind the last block */
    }
    uint64_t bits = berth__load_relaxed(&parts->cut[part.block / 64]);
    if ((bits >> (part.block % 64) & 1) == 0) {
        part.is_start = offset == part.block * class->size;
        return part;
    }
    const struct berth__class *part_class = &berth__classes[parts->small_class];
    uint32_t first = berth__parts_first(part_class->size, part.block * class->size);
    part.is_part = true;
    part.small_class = parts->small_class;
    part.index = offset < first ? 0 : berth__divide(offset - first, part_class->reciprocal);
    part.is_start =
        offset == first + part.index * part_class->size && part.index < parts->per_block;
    return part;
}

bool berth__parts_take_back(struct berth__slab *slab, struct berth__part part, bool *joined) {
    struct berth__parts *parts = berth__parts_of(slab);
    const size_t first = (size_t)part.block * parts->per_block;
    if (berth__bit_test(parts->ready, first + part.index)) {
        return false;
    }
    berth__bits_set(parts->ready, first + part.index, 1);
    parts->ready_count++;
    *joined = berth__bits_count(parts->ready, first, parts->per_block) == parts->per_block;
    if (*joined) {
        berth__bits_clear(parts->ready, first, parts->per_block);
        parts->ready_count = (uint16_t)(parts->ready_count - parts->per_block);
        uint64_t bits = berth__load_relaxed(&parts->cut[part.block / 64]);
        berth__store_relaxed(&parts->cut[part.block / 64],
                             bits & ~(UINT64_C(1) << (part.block % 64)));
        parts->cut_count--;
        berth__bits_set(slab->ready, part.block, 1);
        slab->ready_count++;
    }
    return true;
}

bool berth__parts_are_valid(const struct berth__slab *slab) {
    const struct berth__slab_record *record =
        BERTH_CONTAINER_OF((struct berth__slab *)(uintptr_t)slab, struct berth__slab_record, slab);
    const struct berth__parts *parts = &record->parts;
    const uint64_t *cold = berth__slab_cold(slab);
    unsigned cut_count = 0;
    unsigned ready_count = 0;
    for (unsigned block = 0; block < berth__slab_class(slab)->blocks; block++) {
        bool cut = (berth__load_relaxed(&parts->cut[block / 64]) >> (block % 64) & 1) != 0;
        size_t ready =
            berth__bits_count(parts->ready, (size_t)block * parts->per_block, parts->per_block);
        bool free = berth__bit_test(slab->ready, block) || berth__bit_test(cold, block);
        if ((!cut && ready != 0) || (cut && free)) {
            return false;
        }
        cut_count += cut;
        ready_count += (unsigned)ready;
    }
    return cut_count == parts->cut_count && ready_count == parts->ready_count && cut_count != 0;
}
