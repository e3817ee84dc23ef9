#include "chunk/ledger.h"

#include "base/bits.h"
#include "base/check.h"
#include "os/fault.h"

struct berth__ledger berth__ledger = {.limit = BERTH_NO_LIMIT};
_Atomic uint32_t berth__ledgers_over;
void (*_Atomic berth__limit_hook)(uint32_t);

void berth__ledger_init(struct berth__ledger *ledger, struct berth__ledger *parent) {
    berth__store_relaxed(&ledger->used, 0);
    berth__store_relaxed(&ledger->limit, BERTH_NO_LIMIT);
    berth__store_relaxed(&ledger->reserve, 0);
    berth__store_relaxed(&ledger->malloc_reserve, 0);
    berth__store_relaxed(&ledger->peak, 0);
    berth__store_relaxed(&ledger->failures, 0);
    berth__store_relaxed(&ledger->returning, 0);
    berth__store_relaxed(&ledger->over, false);
    ledger->parent = parent;
}

static void note_peak(struct berth__ledger *ledger, uint64_t used) {
    uint64_t peak = berth__load_relaxed(&ledger->peak);
    while (used > peak && !berth__cas_weak_relaxed(&ledger->peak, &peak, used)) {
    }
}

static bool charge_one(struct berth__ledger *ledger, uint64_t bytes, unsigned charge_flags) {
    uint64_t limit = berth__load_relaxed(&ledger->limit);
    if (limit != BERTH_NO_LIMIT && (charge_flags & BERTH_CHARGE_RESERVE) == 0) {
        uint64_t reserve = (charge_flags & BERTH_CHARGE_MALLOC) != 0
                               ? berth__load_relaxed(&ledger->malloc_reserve)
                               : berth__load_relaxed(&ledger->reserve);
        limit = limit > reserve ? limit - reserve : 0;
    }
    uint64_t used = berth__load_relaxed(&ledger->used);
    do {
        if (used > limit || bytes > limit - used) {
            return false;
        }
        berth__delay_point();
    } while (!berth__cas_weak_relaxed(&ledger->used, &used, used + bytes)); /* G1 */
    note_peak(ledger, used + bytes);
    return true;
}

/* True if bytes are asked for that somebody waits for. */
static bool past_queue(const struct berth__ledger *ledger, uint64_t own_bytes,
                       uint64_t parent_bytes) {
    return (own_bytes > 0 && berth__wait_anyone_in(&ledger->queue)) ||
           (ledger->parent != NULL && parent_bytes > 0 &&
            berth__wait_anyone_in(&ledger->parent->queue));
}

bool berth__ledger_charge_split(struct berth__ledger *ledger, uint64_t own_bytes,
                                uint64_t parent_bytes, unsigned charge_flags) {
    struct berth__ledger *parent = ledger->parent;
    bool head = (charge_flags & BERTH_CHARGE_HEAD) != 0;
    if (!head && berth__wait_anyone() && past_queue(ledger, own_bytes, parent_bytes)) { /* G2 */
        berth__add_relaxed(&ledger->failures, 1);
        return false;
    }
    if (!charge_one(ledger, own_bytes, charge_flags)) {
        berth__add_relaxed(&ledger->failures, 1);
        return false;
    }
    if (parent != NULL && !charge_one(parent, parent_bytes, charge_flags)) {
        berth__sub_relaxed(&ledger->used, own_bytes);
        berth__add_relaxed(&parent->failures, 1);
        return false;
    }
    return true;
}

bool berth__ledger_charge(struct berth__ledger *ledger, uint64_t bytes, unsigned charge_flags) {
    return berth__ledger_charge_split(ledger, bytes, bytes, charge_flags);
}

static void uncharge_one(struct berth__ledger *ledger, uint64_t bytes) {
    uint64_t before = berth__sub_relaxed(&ledger->used, bytes);
    BERTH_CHECK(before >= bytes, "more uncharged than was charged");
}

void berth__ledger_uncharge_own(struct berth__ledger *ledger, uint64_t bytes) {
    if (ledger->parent != NULL) {
        uncharge_one(ledger, bytes);
        berth__wait_notify();
    }
}

void berth__ledger_uncharge(struct berth__ledger *ledger, uint64_t bytes) {
    uncharge_one(ledger, bytes);
    if (ledger->parent != NULL) {
        uncharge_one(ledger->parent, bytes);
    }
    berth__wait_notify();
}

static uint64_t excess_of(struct berth__ledger *ledger) {
    uint64_t limit = berth__load_relaxed(&ledger->limit);
    uint64_t used = berth__load_relaxed(&ledger->used);
    return used > limit ? used - limit : 0;
}

static void mark_if_over(struct berth__ledger *ledger) {
    if (excess_of(ledger) > 0 && !atomic_exchange(&ledger->over, true)) { /* O1 */
        berth__add_relaxed(&berth__ledgers_over, 1);
    }
}

void berth__ledger_set_limit(struct berth__ledger *ledger, uint64_t limit_bytes) {
    berth__store_relaxed(&ledger->limit, limit_bytes);
    mark_if_over(ledger);
    berth__wait_notify();
}

uint64_t berth__ledger_excess(struct berth__ledger *ledger) {
    uint64_t excess = 0;
    for (struct berth__ledger *at = ledger; at != NULL; at = at->parent) {
        excess = berth__max(excess, excess_of(at));
    }
    return excess;
}

void berth__ledger_settle(struct berth__ledger *ledger) {
    for (struct berth__ledger *at = ledger; at != NULL; at = at->parent) {
        if (berth__load_relaxed(&at->over) && excess_of(at) == 0 &&
            atomic_exchange(&at->over, false)) { /* O2 */
            berth__sub_relaxed(&berth__ledgers_over, 1);
            mark_if_over(at);
        }
    }
}
