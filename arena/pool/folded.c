#include "pool/folded.h"

#include "base/bits.h"

#include <berth/tag.h>

/* told: the most that a sum with these was. */
static struct folded {
    _Atomic uint64_t allocations, frees, failures;
    _Atomic uint64_t allocations_told, frees_told, failures_told;
} folded[BERTH_TAGS_MAX + 1]; /* by tag; 0: all pools */

static void keep(struct folded *of, uint64_t blocks, uint64_t failures) {
    berth__add_relaxed(&of->allocations, blocks);
    berth__add_relaxed(&of->frees, blocks);
    berth__add_relaxed(&of->failures, failures);
}

void berth__folded_keep(unsigned tag, const struct berth__arenas_counts *before,
                        const struct berth__arenas_counts *after) {
    uint64_t lends = before->sum.lends - after->sum.lends;
    uint64_t returns = before->sum.returns - after->sum.returns;
    uint64_t blocks = berth__max(lends, returns); /* what caches had lent may not be settled */
    uint64_t failures = before->failures - after->failures;
    keep(&folded[0], blocks, failures);
    if (tag != 0) {
        keep(&folded[tag], blocks, failures);
    }
}

static void add(uint64_t *sum, _Atomic uint64_t *more, _Atomic uint64_t *told) {
    uint64_t now = *sum + berth__load_relaxed(more);
    uint64_t most = berth__load_relaxed(told);
    while (most < now && !berth__cas_weak_relaxed(told, &most, now)) {
    }
    *sum = berth__max(now, most);
}

void berth__folded_add(unsigned tag, struct berth__folded_counts *sums) {
    struct folded *of = &folded[tag];
    add(&sums->allocations, &of->allocations, &of->allocations_told);
    add(&sums->frees, &of->frees, &of->frees_told);
    add(&sums->failures, &of->failures, &of->failures_told);
}
