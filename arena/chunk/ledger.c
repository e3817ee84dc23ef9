#include "chunk/ledger.h"

#include "base/bits.h"
#include "base/check.h"
#include "chunk/transit.h"
#include "os/fault.h"

struct berth__ledger berth__ledger = {.limit = BERTH_NO_LIMIT};
_Atomic uint32_t berth__ledgers_over;
void (*_Atomic berth__limit_hook)(uint32_t);
_Atomic uint64_t berth__soft_limit = BERTH_NO_LIMIT;
_Atomic unsigned berth__soft_due;
static _Atomic bool soft_armed;

void berth__ledger_init(struct berth__ledger *ledger, struct berth__ledger *parent) {
    berth__store_relaxed(&ledger->used, 0);
    berth__store_relaxed(&ledger->limit, BERTH_NO_LIMIT);
    berth__store_relaxed(&ledger->reserve, 0);
    berth__store_relaxed(&ledger->malloc_reserve, 0);
    berth__store_relaxed(&ledger->peak, 0);
    berth__store_relaxed(&ledger->failures, 0);
    berth__store_relaxed(&ledger->returning, 0);
    berth__store_relaxed(&ledger->over, false);
    berth__store_relaxed(&ledger->queue.count, 0);
    ledger->parent = parent;
}

static void note_soft_limit(const struct berth__ledger *ledger, uint64_t used) {
    if (BERTH_UNLIKELY(used >= berth__load_relaxed(&berth__soft_limit)) &&
        ledger == &berth__ledger && berth__load_relaxed(&soft_armed) &&
        atomic_exchange(&soft_armed, false)) {
        berth__store_relaxed(&berth__soft_due, BERTH_SOFT_DUE);
    }
}

static void arm_soft_limit(const struct berth__ledger *ledger, uint64_t used) {
    uint64_t soft = berth__load_relaxed(&berth__soft_limit);
    if (BERTH_UNLIKELY(soft != BERTH_NO_LIMIT) && ledger == &berth__ledger &&
        used < soft - soft / 16 && !berth__load_relaxed(&soft_armed)) {
        berth__store_relaxed(&soft_armed, true);
    }
}

void berth__ledger_set_soft_limit(uint64_t bytes) {
    berth__store_relaxed(&berth__soft_due, 0);
    berth__store_relaxed(&berth__soft_limit, bytes);
    berth__store_relaxed(&soft_armed, true);
    note_soft_limit(&berth__ledger, berth__load_relaxed(&berth__ledger.used));
}

static void note_peak(struct berth__ledger *ledger, uint64_t used) {
    uint64_t peak = berth__load_relaxed(&ledger->peak);
    while (used > peak && !berth__cas_weak_relaxed(&ledger->peak, &peak, used)) {
    }
}

/* The part of the limit that a charge must leave alone. */
static uint64_t reserve_of(const struct berth__ledger *ledger, unsigned charge_flags) {
    return (charge_flags & BERTH_CHARGE_MALLOC) != 0 ? berth__load_relaxed(&ledger->malloc_reserve)
                                                     : berth__load_relaxed(&ledger->reserve);
}

static bool may_take(const struct berth__ledger *ledger, uint64_t bytes, unsigned charge_flags) {
    return bytes == 0 || berth__wait_may_pass(&ledger->queue) ||
           ((charge_flags & BERTH_CHARGE_RESERVE) != 0 &&
            bytes <= reserve_of(ledger, charge_flags));
}

bool berth__ledger_may_reuse(uint64_t bytes, unsigned charge_flags) {
    return may_take(&berth__ledger, bytes, charge_flags);
}

/* What may be used at most by a charge. */
static uint64_t bound_of(const struct berth__ledger *ledger, unsigned charge_flags) {
    uint64_t limit = berth__load_relaxed(&ledger->limit);
    if (limit != BERTH_NO_LIMIT && (charge_flags & BERTH_CHARGE_RESERVE) == 0) {
        uint64_t reserve = reserve_of(ledger, charge_flags);
        limit = limit > reserve ? limit - reserve : 0;
    }
    return limit;
}

static bool fits(uint64_t bytes, uint64_t used, uint64_t bound) {
    return used <= bound && bytes <= bound - used;
}

/* True if a charge would succeed now. */
static bool has_room(const struct berth__ledger *ledger, uint64_t bytes, unsigned charge_flags) {
    return may_take(ledger, bytes, charge_flags) &&
           fits(bytes, berth__load_relaxed(&ledger->used), bound_of(ledger, charge_flags));
}

static bool add_used(struct berth__ledger *ledger, uint64_t bytes, unsigned charge_flags) {
    uint64_t bound = bound_of(ledger, charge_flags);
    uint64_t used = berth__load_relaxed(&ledger->used);
    do {
        if (!fits(bytes, used, bound)) {
            return false;
        }
        berth__delay_point();
    } while (!berth__cas_weak_relaxed(&ledger->used, &used, used + bytes)); /* G1 */
    note_peak(ledger, used + bytes);
    note_soft_limit(ledger, used + bytes);
    return true;
}

/* Refused: counted, and told to a waiter. */
static bool refused(struct berth__ledger *ledger) {
    berth__add_relaxed(&ledger->failures, 1);
    berth__wait_note_refusal(&ledger->queue);
    return false;
}

static bool charge_one(struct berth__ledger *ledger, uint64_t bytes, unsigned charge_flags) {
    if (may_take(ledger, bytes, charge_flags) /* G2 */ && add_used(ledger, bytes, charge_flags)) {
        return true;
    }
    return refused(ledger);
}

/* Between the two, a request that fits may be refused by the first (chunk/transit.h). */
static bool charge_both(struct berth__ledger *ledger, uint64_t own_bytes, uint64_t parent_bytes,
                        unsigned charge_flags) {
    berth__transit_begin();
    bool charged = charge_one(ledger, own_bytes, charge_flags);
    if (charged && !charge_one(ledger->parent, parent_bytes, charge_flags)) {
        berth__sub_relaxed(&ledger->used, own_bytes);
        charged = false;
    }
    berth__transit_end();
    return charged;
}

bool berth__ledger_charge_split(struct berth__ledger *ledger, uint64_t own_bytes,
                                uint64_t parent_bytes, unsigned charge_flags) {
    struct berth__ledger *parent = ledger->parent;
    if (parent == NULL) {
        return charge_one(ledger, own_bytes, charge_flags);
    }
    /* Looked at first: most refusals need no charge that is taken back. */
    if (!has_room(ledger, own_bytes, charge_flags)) {
        return refused(ledger);
    }
    if (!has_room(parent, parent_bytes, charge_flags)) {
        return refused(parent);
    }
    return charge_both(ledger, own_bytes, parent_bytes, charge_flags);
}

bool berth__ledger_charge(struct berth__ledger *ledger, uint64_t bytes, unsigned charge_flags) {
    return berth__ledger_charge_split(ledger, bytes, bytes, charge_flags);
}

static void uncharge_one(struct berth__ledger *ledger, uint64_t bytes) {
    uint64_t before = berth__sub_relaxed(&ledger->used, bytes);
    BERTH_CHECK(before >= bytes, "more uncharged than was charged");
    arm_soft_limit(ledger, before - bytes);
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

bool berth__ledger_can_ever_fit(const struct berth__ledger *ledger, uint64_t bytes) {
    for (; ledger != NULL; ledger = ledger->parent) {
        if (bytes > berth__load_relaxed(&ledger->limit)) {
            return false;
        }
    }
    return true;
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

void berth__ledger_ask(struct berth__ledger *ledger, uint64_t bytes) {
    for (; ledger != NULL; ledger = ledger->parent) {
        berth__add_relaxed(&ledger->returning, bytes);
    }
}

void berth__ledger_asked(struct berth__ledger *ledger, uint64_t bytes) {
    for (; ledger != NULL; ledger = ledger->parent) {
        berth__sub_relaxed(&ledger->returning, bytes);
    }
}
