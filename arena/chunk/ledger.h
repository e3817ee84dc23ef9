/*
 * The ledger: how many bytes are mapped, against a limit that is never exceeded.
 *
 * There is one for the process, and one for each pool that has a limit of its own; a pool's ledger
 * has the process's as parent, and a charge must fit both. Bytes are charged before they are
 * mapped and uncharged after they are unmapped, so at every moment
 *
 *     bytes mapped for chunks and huge blocks <= used <= max(limit, used when it was lowered)
 *
 * Protocol. `used` only grows by compare-and-set from a value that leaves room below the limit
 * (G1), so no interleaving passes it. Lowering the limit stores a new limit; a charge that had
 * read the old one can still succeed by it, so the setter is told the limit holds from its
 * return on for charges that begin later. Uncharging subtracts, then looks for waiters.
 *
 * Over. A ledger whose limit was set below what it used is marked, and the marked ones are counted,
 * so that who frees memory sees by one load that some of it is to go back at once. The mark is
 * taken off by who finds the excess gone. Setting stores the limit, then the mark (O1); taking it
 * off clears the mark, then looks at the limit again (O2): so no mark is lost.
 *
 * The queue. Who cannot be served may wait in the ledger's FIFO queue with a deadline (wait.h).
 * While somebody waits, nobody else may take its bytes: a charge by anyone but the head of its
 * queue fails (G2). Whoever needs no bytes of that ledger is not concerned, nor is who is unwinding
 * and takes no more than the reserve, which waiters are not given. The test is advisory in one
 * direction only: a charge that read "no waiters" just before the first one enqueued itself may
 * still pass it once.
 */
#ifndef BERTH_CHUNK_LEDGER_H
#define BERTH_CHUNK_LEDGER_H

#include "base/atomics.h"
#include "chunk/wait.h"

#define BERTH_NO_LIMIT UINT64_MAX

struct berth__ledger {
    _Atomic uint64_t used;           /* bytes charged */
    _Atomic uint64_t limit;          /* bytes, or BERTH_NO_LIMIT */
    _Atomic uint64_t reserve;        /* part of the limit that ordinary charges leave alone */
    _Atomic uint64_t malloc_reserve; /* the same for those of the malloc door */
    _Atomic uint64_t peak;           /* the largest `used` so far (may miss a racing one) */
    _Atomic uint64_t failures;       /* charges refused */
    _Atomic uint64_t returning;      /* bytes asked back that are still charged (deregistration) */
    _Atomic bool over;               /* more was used than a limit that was set; maybe still */
    struct berth__wait_queue queue;  /* who waits for its bytes */
    struct berth__ledger *parent;    /* NULL for the process's */
};

enum berth__charge {
    BERTH_CHARGE_ORDINARY = 0,
    BERTH_CHARGE_RESERVE = 1, /* may use the reserve: a failing caller is unwinding */
    BERTH_CHARGE_MALLOC = 2,  /* for the malloc door */
};

/* The process's ledger. */
extern struct berth__ledger berth__ledger;

void berth__ledger_init(struct berth__ledger *ledger, struct berth__ledger *parent);

/* The soft limit of the process's ledger: BERTH_NO_LIMIT if there is none. Crossing it upwards, by
 * a charge that takes `used` from below to it or beyond, makes BERTH_SOFT_DUE due, if it was armed;
 * an uncharge that leaves a sixteenth less arms it again. Two charges that cross at once disarm it
 * once (exchange). The layer that knows the program's callbacks takes bits of `due` away. */
enum { BERTH_SOFT_DUE = 3 };
extern _Atomic uint64_t berth__soft_limit;
extern _Atomic unsigned berth__soft_due;

void berth__ledger_set_soft_limit(uint64_t bytes);

/* Lock-free, any thread. False: there is no room, or somebody waits; nothing is charged. */
bool berth__ledger_charge(struct berth__ledger *ledger, uint64_t bytes, unsigned charge_flags);

/* Lock-free, any thread. Wakes the head of the queue. */
void berth__ledger_uncharge(struct berth__ledger *ledger, uint64_t bytes);

/* True if a request may take memory that nobody uses and that is charged to the process already: it
 * is as good as free, and whoever has waited for longer comes first. */
bool berth__ledger_may_reuse(uint64_t bytes, unsigned charge_flags);

/* Memory passes between a pool and the process's store of unused slots without being unmapped: it
 * stays charged to the process, and only the pool's own ledger, if it has one, changes. */
bool berth__ledger_charge_split(struct berth__ledger *ledger, uint64_t own_bytes,
                                uint64_t parent_bytes, unsigned charge_flags);
void berth__ledger_uncharge_own(struct berth__ledger *ledger, uint64_t bytes);

void berth__ledger_set_limit(struct berth__ledger *ledger, uint64_t limit_bytes);

/* Bytes that are charged, and will come back as soon as somebody else lets go of them; and when he
 * has. */
void berth__ledger_ask(struct berth__ledger *ledger, uint64_t bytes);
void berth__ledger_asked(struct berth__ledger *ledger, uint64_t bytes);

/* NULL, or reads the process's limit again where it follows something outside, if it was not read
 * for `age_ms`. Set by the layer that knows. Called before memory is taken, and by slow paths that
 * look at the clock; under no lock. */
enum { BERTH_LIMIT_AGE_MS = 1000, BERTH_LIMIT_AGE_AT_LIMIT_MS = 100 };
extern void (*_Atomic berth__limit_hook)(uint32_t age_ms);

BERTH_INLINE void berth__limit_look(uint32_t age_ms) {
    void (*hook)(uint32_t) = berth__load_relaxed(&berth__limit_hook);
    if (BERTH_UNLIKELY(hook != NULL)) {
        hook(age_ms);
    }
}
/* False if so much is beyond a limit even when nothing else is charged. */
bool berth__ledger_can_ever_fit(const struct berth__ledger *ledger, uint64_t bytes);

/* Bytes that are used beyond the limit (after it was lowered), here or in the parent. */
uint64_t berth__ledger_excess(struct berth__ledger *ledger);

/* Takes the marks off this one and its parent where there is no excess any more. */
void berth__ledger_settle(struct berth__ledger *ledger);

extern _Atomic uint32_t berth__ledgers_over; /* how many are marked */

/* True while what is freed should not be kept: a ledger may be over its limit, or somebody waits.
 */
BERTH_INLINE bool berth__ledger_is_short(void) {
    return BERTH_UNLIKELY(berth__load_relaxed(&berth__ledgers_over) != 0) || berth__wait_anyone();
}

#endif
