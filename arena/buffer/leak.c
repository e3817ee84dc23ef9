/*
 * Records of memory that has not been released. See leak.h.
 *
 * A report calls listeners without the lock. It holds the record that it has come to: a held one is
 * left in the list when it ends, marked, and the last holder takes it out. So a report goes through
 * the list once, however long that is and whatever is released meanwhile.
 */
#include "buffer/leak.h"

#include "base/bits.h"
#include "base/check.h"
#include "base/list.h"
#include "buffer/owner.h"
#include "heap/fork.h"
#include "os/clock.h"
#include "os/dynamic.h"
#include "os/environ.h"
#include "pool/api.h"
#include "pool/gauge.h"
#include "pool/options.h"

#include <errno.h>
#include <string.h>

struct use {
    const char *what, *hint;
    uint64_t at_ms, thread;
    unsigned depth;
    void *stack[BERTH_LEAK_STACK_MAX];
};

struct berth__leak {
    struct berth__list link;
    berth_pool *pool;
    const void *data;
    size_t bytes;
    uint64_t number;
    uint64_t at_ms, thread;
    void *site;
    int64_t viewed;    /* the sum over its references */
    int64_t weight;    /* how many it stands for */
    uint32_t holders;  /* reports that have come to it */
    bool ended;        /* by its owner or with its pool */
    bool is_detailed;  /* struct detailed; set once */
    bool was_reported; /* as its pool was to end */
};

struct detailed {
    struct berth__leak leak;
    unsigned depth;
    void *stack[BERTH_LEAK_STACK_MAX];
    uint64_t use_count; /* use i is in uses[i % BERTH_LEAK_USES_MAX] */
    struct use uses[BERTH_LEAK_USES_MAX];
};

_Atomic uint32_t berth__leak_level = BERTH_LEAK_OFF;
struct berth__leak_slot berth__leak_slots[BERTH_LEAK_SLOTS];

static struct berth__lock lock = {.rank = BERTH_RANK_LEAKS};
static struct berth__list leaks BERTH_GUARDED_BY(lock) = {&leaks, &leaks};
static uint64_t last_number BERTH_GUARDED_BY(lock);
static berth_leak_listener *the_listener BERTH_GUARDED_BY(lock) = berth__leak_print;
static void *the_context BERTH_GUARDED_BY(lock);

/* ---- the level ---- */

static void on_pool_end(berth_pool *pool, int error);

int berth_leak_level_set(enum berth_leak_level level) {
    if ((unsigned)level > BERTH_LEAK_PARANOID) {
        return -EINVAL;
    }
    if (level != BERTH_LEAK_OFF) {
        berth_pool_hook_end(on_pool_end);
    }
    berth__store_relaxed(&berth__leak_level, (uint32_t)level);
    for (unsigned i = 0; i < BERTH_LEAK_SLOTS; i++) { /* the new level draws anew */
        berth__store_relaxed(&berth__leak_slots[i].random, 0);
        berth__store_relaxed(&berth__leak_slots[i].left, 0);
    }
    return 0;
}

enum berth_leak_level berth_leak_level_get(void) {
    return (enum berth_leak_level)berth__load_relaxed(&berth__leak_level);
}

/* Draws when the next record is due. True if this one is: the first draw of a slot is none. */
static bool draw(void) {
    struct berth__leak_slot *slot = berth__leak_slot_mine();
    if (berth_leak_level_get() == BERTH_LEAK_PARANOID) {
        berth__store_relaxed(&slot->left, 0);
        return true;
    }
    uint32_t random = berth__load_relaxed(&slot->random);
    bool is_first = random == 0;
    if (is_first) {
        random = (uint32_t)(berth__clock_ns() ^ berth__thread_self() >> 12) | 1;
    }
    random ^= random << 13; /* xorshift, of period 2^32 - 1; G. Marsaglia, 2003 */
    random ^= random >> 17;
    random ^= random << 5;
    berth__store_relaxed(&slot->random, random);
    uint32_t left = (random >> 8) % (2 * BERTH_LEAK_INTERVAL - 1);
    berth__store_relaxed(&slot->left, (int32_t)left);
    return !is_first;
}

/* ---- making and ending ---- */

/* The calls that led to `site`, without berth's own before it; at least `site`. */
static unsigned take_stack(void **stack, void *site) {
    enum { OWN_MAX = 8 };
    void *all[BERTH_LEAK_STACK_MAX + OWN_MAX];
    unsigned depth = berth__dynamic_stack(all, BERTH_ARRAY_COUNT(all));
    unsigned first = 0;
    while (first < depth && all[first] != site) {
        first++;
    }
    stack[0] = site;
    unsigned kept = 1;
    for (unsigned i = first + 1; i < depth && kept < BERTH_LEAK_STACK_MAX; i++) {
        stack[kept++] = all[i];
    }
    return kept;
}

static struct berth__leak *new_record(bool is_detailed, void *site) {
    size_t size = is_detailed ? sizeof(struct detailed) : sizeof(struct berth__leak);
    berth_pool *pool = berth_pool_default();
    struct berth__leak *leak = pool == NULL ? NULL : berth_alloc_flags(pool, size, BERTH_NOWAIT);
    if (leak != NULL && is_detailed) {
        struct detailed *detailed = (struct detailed *)leak;
        detailed->depth = take_stack(detailed->stack, site);
        detailed->use_count = 0;
    }
    return leak;
}

/* What its references view, but no byte twice. */
static int64_t viewed_of(const struct berth__leak *leak) {
    return leak->viewed < 0 ? 0 : (int64_t)berth__min((uint64_t)leak->viewed, leak->bytes);
}

static void view_locked(struct berth__leak *leak, int64_t more) BERTH_REQUIRES(lock) {
    int64_t before = viewed_of(leak);
    leak->viewed += more;
    berth_gauge_add(BERTH_GAUGE_VIEWED_BYTES, (viewed_of(leak) - before) * leak->weight);
}

/* It is no record of what lives any more. */
static void end_locked(struct berth__leak *leak) BERTH_REQUIRES(lock) {
    if (!leak->ended) {
        leak->ended = true;
        berth_gauge_add(BERTH_GAUGE_HELD_BYTES, -(int64_t)leak->bytes * leak->weight);
        view_locked(leak, -leak->viewed);
    }
}

struct berth__leak *berth__leak_begin(berth_pool *pool, const void *data, size_t bytes,
                                      void *site) {
    if (berth__fork_must_detour() || !draw()) {
        return NULL;
    }
    int saved_errno = errno;
    bool is_detailed = berth_leak_level_get() >= BERTH_LEAK_ADVANCED;
    struct berth__leak *leak = new_record(is_detailed, site);
    errno = saved_errno;
    if (leak == NULL) {
        return NULL;
    }
    *leak = (struct berth__leak){
        .pool = pool,
        .data = data,
        .bytes = bytes,
        .at_ms = berth__clock_coarse_ms(),
        .thread = berth__thread_self(),
        .site = site,
        .weight = berth_leak_level_get() == BERTH_LEAK_PARANOID ? 1 : BERTH_LEAK_INTERVAL,
        .is_detailed = is_detailed,
    };
    berth__lock_acquire(&lock);
    leak->number = ++last_number;
    berth_gauge_add(BERTH_GAUGE_HELD_BYTES, (int64_t)bytes * leak->weight);
    view_locked(leak, (int64_t)bytes);
    berth__list_push_back(&leaks, &leak->link);
    berth__lock_release(&lock);
    return leak;
}

void berth__leak_note(struct berth__leak *leak, const char *what, const char *hint, void *site) {
    if (!leak->is_detailed || berth__fork_must_detour()) {
        return;
    }
    int saved_errno = errno;
    struct use use = {.what = what,
                      .hint = hint,
                      .at_ms = berth__clock_coarse_ms(),
                      .thread = berth__thread_self()};
    use.depth = take_stack(use.stack, site);
    struct detailed *detailed = (struct detailed *)leak;
    berth__lock_acquire(&lock);
    detailed->uses[detailed->use_count++ % BERTH_LEAK_USES_MAX] = use;
    berth__lock_release(&lock);
    errno = saved_errno;
}

void berth__leak_view(struct berth__leak *leak, int64_t more) {
    if (berth__fork_must_detour()) {
        return;
    }
    berth__lock_acquire(&lock);
    if (!leak->ended) {
        view_locked(leak, more);
    }
    berth__lock_release(&lock);
}

/* Takes an ended record out, unless a report holds it: true if the caller must free it. */
static bool take_out_locked(struct berth__leak *leak) BERTH_REQUIRES(lock) {
    if (leak->holders > 0) {
        return false;
    }
    berth__list_remove(&leak->link);
    return true;
}

/* In a child whose fork interrupted the list, the record stays: better than a lock that nobody
 * releases. */
void berth__leak_end(struct berth__leak *leak) {
    if (berth__fork_must_detour()) {
        return;
    }
    berth__lock_acquire(&lock);
    end_locked(leak);
    bool is_out = take_out_locked(leak);
    berth__lock_release(&lock);
    if (is_out) {
        berth_free(leak);
    }
}

/* ---- reports ---- */

enum cause { ON_REQUEST, POOL_STAYS, POOL_ENDED };

struct report {
    berth_pool *pool; /* NULL: all */
    uint64_t age_ms, now_ms;
    enum cause cause;
    berth_leak_listener *listener;
    void *context;
    size_t count;
};

static bool is_wanted(const struct report *report, const struct berth__leak *leak) {
    if (leak->ended || (report->pool != NULL && report->pool != leak->pool)) {
        return false;
    }
    return report->cause == POOL_ENDED || (report->cause == POOL_STAYS && !leak->was_reported) ||
           (report->cause == ON_REQUEST && report->now_ms - leak->at_ms >= report->age_ms &&
            report->now_ms >= leak->at_ms);
}

/* The first record that is wanted at or after a link, NULL if none; held. */
static struct berth__leak *hold_next_locked(const struct report *report, struct berth__list *link)
    BERTH_REQUIRES(lock) {
    for (; link != &leaks; link = link->next) {
        struct berth__leak *leak = BERTH_LIST_ENTRY(link, struct berth__leak, link);
        if (is_wanted(report, leak)) {
            leak->holders++;
            return leak;
        }
    }
    return NULL;
}

static uint64_t age(const struct report *report, uint64_t at_ms) {
    return report->now_ms > at_ms ? report->now_ms - at_ms : 0;
}

static void copy_uses_locked(const struct report *report, const struct detailed *detailed,
                             struct berth_leak *copy) BERTH_REQUIRES(lock) {
    copy->use_count = detailed->use_count;
    for (uint64_t i = detailed->use_count; i > 0 && copy->uses_kept < BERTH_LEAK_USES_MAX; i--) {
        const struct use *use = &detailed->uses[(i - 1) % BERTH_LEAK_USES_MAX];
        struct berth_leak_use *to = &copy->uses[copy->uses_kept++];
        *to = (struct berth_leak_use){.what = use->what,
                                      .hint = use->hint,
                                      .age_ms = age(report, use->at_ms),
                                      .thread = use->thread,
                                      .depth = use->depth};
        memcpy(to->stack, use->stack, sizeof(to->stack));
    }
}

static void copy_locked(const struct report *report, const struct berth__leak *leak,
                        struct berth_leak *copy) BERTH_REQUIRES(lock) {
    *copy = (struct berth_leak){.data = leak->data, .bytes = leak->bytes, .number = leak->number};
    strncpy(copy->pool, berth_pool_name(leak->pool), sizeof(copy->pool) - 1);
    struct berth_leak_use *allocated = &copy->allocated;
    allocated->what = "allocated";
    allocated->age_ms = age(report, leak->at_ms);
    allocated->thread = leak->thread;
    allocated->depth = 1;
    allocated->stack[0] = leak->site;
    if (leak->is_detailed) {
        const struct detailed *detailed = (const struct detailed *)leak;
        allocated->depth = detailed->depth;
        memcpy(allocated->stack, detailed->stack, sizeof(allocated->stack));
        copy_uses_locked(report, detailed, copy);
    }
}

/* Tells the listener of a record, without the lock. */
static void tell(struct report *report, struct berth__leak *leak) BERTH_REQUIRES(lock) {
    struct berth_leak copy;
    copy_locked(report, leak, &copy);
    bool is_news = report->cause != POOL_ENDED || !leak->was_reported;
    leak->was_reported = leak->was_reported || report->cause != ON_REQUEST;
    if (report->cause == POOL_ENDED) {
        end_locked(leak);
    }
    berth__lock_release(&lock);
    if (is_news) {
        report->listener(report->context, &copy);
        report->count++;
    }
    berth__lock_acquire(&lock);
}

static void run(struct report *report) {
    report->now_ms = berth__clock_coarse_ms();
    berth__lock_acquire(&lock);
    if (report->listener == NULL) {
        report->listener = the_listener;
        report->context = the_context;
    }
    struct berth__leak *leak = hold_next_locked(report, leaks.next);
    while (leak != NULL) {
        if (!leak->ended) { /* since it is held */
            tell(report, leak);
        }
        struct berth__leak *next = hold_next_locked(report, leak->link.next);
        leak->holders--;
        if (leak->ended && take_out_locked(leak)) {
            berth__lock_release(&lock);
            berth_free(leak);
            berth__lock_acquire(&lock);
        }
        leak = next;
    }
    berth__lock_release(&lock);
}

size_t berth_leak_report(berth_pool *pool, uint64_t age_ms, berth_leak_listener *listener,
                         void *context) {
    struct report report = {
        .pool = pool, .age_ms = age_ms, .listener = listener, .context = context};
    run(&report);
    return report.count;
}

void berth_leak_listener_set(berth_leak_listener *listener, void *context) {
    berth__lock_acquire(&lock);
    the_listener = listener == NULL ? berth__leak_print : listener;
    the_context = context;
    berth__lock_release(&lock);
}

static void on_pool_end(berth_pool *pool, int error) {
    struct report report = {.pool = pool, .cause = error == 0 ? POOL_ENDED : POOL_STAYS};
    run(&report);
}

void berth_leak_hint(const struct berth_slice *slice, const char *hint) {
    const struct berth_owner *owner = berth__slice_owner(slice);
    if (owner != NULL && (owner->traits & BERTH_OWNER_ON_RECORD) != 0) {
        berth__leak_note(owner->leak, "hint", hint, BERTH_CALLER);
    }
}

/* ---- beginning and end of the process ---- */

static void mend_in_child(void) BERTH_NO_TSA {
    berth__list_mend(&leaks);
}

__attribute__((constructor)) static void at_load(void) {
    berth__fork_add_lock(&lock, mend_in_child);
    struct berth__options options;
    berth__options_peek(&options);
    if (options.value[BERTH_OPTION_leak_detect] != BERTH_LEAK_OFF) {
        (void)berth_leak_level_set((enum berth_leak_level)options.value[BERTH_OPTION_leak_detect]);
    }
}

__attribute__((destructor)) static void at_exit(void) {
    struct berth__options options;
    berth__options_peek(&options);
    if (options.value[BERTH_OPTION_leak_report] != 0) {
        (void)berth_leak_report(NULL, 0, NULL, NULL);
    }
}
