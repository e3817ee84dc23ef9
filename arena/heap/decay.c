#include "heap/decay.h"

#include "chunk/retained.h"
#include "heap/arenas.h"
#include "heap/heap.h"
#include "heap/observer.h"
#include "heap/request.h"
#include "heap/vacant.h"
#include "os/clock.h"

/* Per tick, demand loses a quarter, regret 1/64, the memory of purges 1/32. While a program calls
 * us, but asks for next to nothing, it is done with what it regretted: that loses 1/16. */
enum {
    DEMAND_SHIFT = 2,
    REGRET_SHIFT = 6,
    REGRET_SHIFT_FREEING = 4,
    PURGED_SHIFT = 5,
    TICKS_MAX = 64,
    TICKS_ACTIVE = 5,         /* between two looks at the clock of a program that is at work */
    DEMAND_NOTHING = 1 << 20, /* bytes */
};

void berth__decay_init(struct berth__decay *decay) {
    berth__store_relaxed(&decay->tick_ms, berth__clock_coarse_ms());
    berth__store_relaxed(&decay->slab_yield, BERTH_UNIT / 4);
}

static void fade(_Atomic uint64_t *value, unsigned shift, unsigned ticks) {
    uint64_t now = berth__load_relaxed(value);
    uint64_t later;
    do {
        later = now;
        for (unsigned i = 0; i < ticks && later != 0; i++) {
            later -= (later >> shift) + 1;
        }
    } while (!berth__cas_weak_relaxed(value, &now, later));
}

struct berth__decay berth__slots_decay;

/* Bytes that are resident and unused: in an arena's chunks, or in slots that nobody uses. */
static uint64_t unused_in_arena(struct berth__arena *arena) {
    return berth__load_relaxed(&arena->dirty_bytes) +
           berth__load_relaxed(&arena->decay.queued_slabs) *
               berth__load_relaxed(&arena->decay.slab_yield);
}

static uint64_t beyond(uint64_t amount, uint64_t bound) {
    return amount > bound ? amount - bound : 0;
}

static uint64_t due_of(struct berth__decay *decay, uint64_t unused) {
    return beyond(unused,
                  berth__load_relaxed(&decay->demand) + berth__load_relaxed(&decay->regret));
}

static void owe_at_least(struct berth__decay *decay, uint64_t bytes) {
    if (bytes > berth__load_relaxed(&decay->owed)) {
        berth__store_relaxed(&decay->owed, bytes);
    }
}

/* At least 1: who wants memory kept for longer has more of it kept, and less paid in any case. */
static uint64_t seconds_of(uint32_t decay_ms) {
    return berth__max(decay_ms / 1000, 1);
}

/* Once per tick of the clock, by whoever comes first: fades the estimates, and makes the part of
 * what is due that falls to the time gone by, owed. */
static void tick(struct berth__decay *decay, uint64_t unused, uint32_t decay_ms,
                 uint64_t elapsed_ms) {
    unsigned ticks = (unsigned)berth__min(elapsed_ms / BERTH_DECAY_TICK_MS, TICKS_MAX);
    bool freeing = ticks <= TICKS_ACTIVE && berth__load_relaxed(&decay->demand) < DEMAND_NOTHING;
    fade(&decay->demand, DEMAND_SHIFT, ticks);
    fade(&decay->regret, freeing ? REGRET_SHIFT_FREEING : REGRET_SHIFT, ticks);
    fade(&decay->purged_lately, PURGED_SHIFT, ticks);
    uint64_t due = due_of(decay, unused);
    uint64_t part = elapsed_ms >= decay_ms ? due : due / decay_ms * elapsed_ms;
    uint64_t least = BERTH_DECAY_BUDGET / seconds_of(decay_ms);
    owe_at_least(decay, berth__min(due, berth__max(part, least)));
}

/* True if this call made the clock tick. */
static bool look(struct berth__decay *decay, uint64_t unused, uint64_t slack, uint32_t decay_ms,
                 uint64_t now_ms) {
    uint64_t last = berth__load_relaxed(&decay->tick_ms);
    bool ticks = (int64_t)(now_ms - last) >= BERTH_DECAY_TICK_MS && /* another may be ahead of us */
                 berth__cas_acq_rel(&decay->tick_ms, &last, now_ms);
    if (ticks) {
        tick(decay, unused, decay_ms, now_ms - last);
    }
    owe_at_least(decay, decay_ms == 0 ? unused : beyond(due_of(decay, unused), slack));
    return ticks;
}

enum { AS_CONFIGURED = UINT32_MAX };
static _Atomic uint32_t decay_ms_set = AS_CONFIGURED;

void berth__decay_set_ms(uint32_t decay_ms) {
    berth__store_relaxed(&decay_ms_set, decay_ms);
}

static uint32_t decay_ms_of(const struct berth__arenas *arenas) {
    uint32_t set = berth__load_relaxed(&decay_ms_set);
    return set != AS_CONFIGURED ? set : arenas->policy.decay_ms;
}

/* What is kept from eager payments. */
static uint64_t slack_for(uint32_t decay_ms) {
    return BERTH_DECAY_SLACK * seconds_of(decay_ms);
}

/* An arena's part. */
static uint64_t slack_of(struct berth__arenas *arenas) {
    return slack_for(decay_ms_of(arenas)) /
           berth__max(berth__load_relaxed(&arenas->arena_count), 1);
}

/* For arenas where nobody allocates. */
static void collect_elsewhere(struct berth__arenas *arenas) {
    uint32_t turn = berth__add_relaxed(&arenas->collect_turn, 1);
    uint32_t count = (uint32_t)berth__max(berth__load_relaxed(&arenas->arena_count), 1);
    struct berth__arena *arena = berth__arenas_at(arenas, turn % count);
    if (arena != NULL) {
        berth__heaps_collect(arena);
    }
}

/* True once per tick of the arena. */
static bool look_at_clock(struct berth__arena *arena) {
    uint64_t now_ms = berth__clock_coarse_ms();
    uint32_t decay_ms = decay_ms_of(arena->arenas);
    bool ticks =
        look(&arena->decay, unused_in_arena(arena), slack_of(arena->arenas), decay_ms, now_ms);
    if (ticks) {
        berth__heaps_collect(arena);
        collect_elsewhere(arena->arenas);
        berth__vacant_end_old();
    }
    (void)look(&berth__slots_decay, berth__retained_bytes(), slack_for(decay_ms), decay_ms, now_ms);
    if (BERTH_UNLIKELY(berth__load_relaxed(&berth__ledgers_over) != 0)) {
        berth__reclaim_excess(arena, ticks);
    }
    return ticks;
}

/* Purges a slab of the next heap in turn that has one queued. */
static size_t purge_a_slab(struct berth__arena *arena) {
    if (berth__load_relaxed(&arena->decay.queued_slabs) == 0) {
        return 0;
    }
    struct berth__heap *heap = NULL;
    berth__lock_acquire(&arena->heaps_lock);
    struct berth__list *first = berth__list_first(&arena->heaps);
    if (first != NULL) {
        heap = BERTH_LIST_ENTRY(first, struct berth__heap, link);
    }
    berth__lock_release(&arena->heaps_lock);
    bool more = false;
    size_t bytes = heap == NULL ? 0 : berth__heap_purge_some(heap, &more);
    if (heap != NULL && !more) { /* the next call looks at another heap */
        berth__lock_acquire(&arena->heaps_lock);
        berth__list_remove(&heap->link);
        berth__list_push_back(&arena->heaps, &heap->link);
        berth__lock_release(&arena->heaps_lock);
    }
    uint32_t yield = berth__load_relaxed(&arena->decay.slab_yield);
    berth__store_relaxed(&arena->decay.slab_yield, yield - yield / 16 + (uint32_t)bytes / 16);
    return bytes;
}

/* One act of giving back an arena's memory: what is cheapest per byte first. Looking at a slab
 * that yields nothing is an act too. */
static bool give_back_some(struct berth__arena *arena, size_t bytes, size_t *returned) {
    *returned = berth__arena_purge_some(arena, bytes);
    if (*returned > 0) {
        return true;
    }
    bool queued = berth__load_relaxed(&arena->decay.queued_slabs) != 0;
    *returned = purge_a_slab(arena);
    return queued;
}

static bool release_some(struct berth__arena *arena, size_t bytes, size_t *returned) {
    (void)arena;
    *returned = berth__retained_release(bytes, 0);
    return *returned > 0;
}

/* Repeats an act until the debt, or `bytes`, or `acts` are used up. One payer at a time. */
static size_t pay(struct berth__decay *decay, struct berth__arena *arena,
                  bool (*act)(struct berth__arena *, size_t, size_t *), size_t bytes,
                  unsigned acts) {
    uint32_t nobody = 0;
    uint64_t owed = berth__load_relaxed(&decay->owed);
    if (owed == 0 || !berth__cas_acquire(&decay->paying, &nobody, 1)) {
        return 0;
    }
    size_t paid = 0;
    bool any = true;
    for (unsigned i = 0; any && i < acts && paid < berth__min(bytes, owed); i++) {
        size_t returned = 0;
        any = act(arena, berth__min(bytes, owed) - paid, &returned);
        paid += returned;
    }
    berth__store_relaxed(&decay->owed, any ? beyond(berth__load_relaxed(&decay->owed), paid) : 0);
    berth__add_relaxed(&decay->purged_lately, paid);
    berth__store_release(&decay->paying, 0);
    return paid;
}

static size_t pay_both(struct berth__arena *arena, size_t bytes, unsigned acts) {
    size_t paid = pay(&berth__slots_decay, arena, release_some, bytes, acts);
    if (paid < bytes) {
        paid += pay(&arena->decay, arena, give_back_some, bytes - paid, acts);
    }
    return paid;
}

/* Memory in use that the observer has not seen come or go is an eighth of all, or the slack. */
static void tell_observer(struct berth__arena *arena, bool ticks) {
    _Atomic uint64_t *seen = &arena->decay.seen_bytes;
    uint64_t before = berth__load_relaxed(seen);
    uint64_t used =
        berth__load_relaxed(&arena->chunk_bytes) - berth__load_relaxed(&arena->free_bytes);
    uint64_t change = used > before ? used - before : before - used;
    bool early = change > berth__max(before / 8, BERTH_DECAY_SLACK);
    if ((ticks || early) && berth__tick(early)) {
        berth__store_relaxed(seen, used);
    }
}

void berth__decay_step(struct berth__arena *arena) {
    bool ticks = look_at_clock(arena);
    if (ticks) {
        berth__limit_look(BERTH_LIMIT_AGE_MS);
    }
    tell_observer(arena, ticks);
    berth__run_caches_trim(arena->arenas);
    bool deep = berth__load_relaxed(&arena->decay.owed) > slack_of(arena->arenas);
    pay_both(arena, BERTH_DECAY_BUDGET, deep ? BERTH_DECAY_ACTS_DEEP : BERTH_DECAY_ACTS);
}

size_t berth__decay_pay(struct berth__arena *arena, size_t bytes) {
    (void)look_at_clock(arena);
    berth__run_caches_trim(arena->arenas);
    return pay_both(arena, bytes, UINT32_MAX);
}

bool berth__decay_in_debt(struct berth__arena *arena) {
    return due_of(&arena->decay, unused_in_arena(arena)) > BERTH_DECAY_BUDGET ||
           due_of(&berth__slots_decay, berth__retained_bytes()) > BERTH_DECAY_BUDGET;
}

size_t berth__decay_purge_all(struct berth__arena *arena) {
    size_t total = 0;
    size_t returned = 1;
    while (returned > 0) {
        returned = berth__arena_purge_some(arena, SIZE_MAX / 2);
        total += returned;
    }
    /* Each queued slab is looked at once; others may queue more meanwhile. */
    for (uint64_t left = berth__load_relaxed(&arena->decay.queued_slabs); left > 0; left--) {
        total += purge_a_slab(arena);
    }
    return total;
}
