#include "heap/sample_table.h"

#include "base/bits.h"
#include "chunk/meta.h"
#include "heap/fork.h"
#include "heap/sample_draw.h"
#include "os/clock.h"
#include "os/lock.h"

#include <string.h>

enum {
    BUCKETS_MAX = BERTH_META_MAX / sizeof(uint32_t), /* of samples; doubled up to this */
    BUCKETS_FIRST = 1024,
    SITE_BUCKETS = 2048,
};

/* Numbers in the chains are those of the records, plus 1; 0 ends a chain. */
struct buckets {
    uint32_t *first;
    uint32_t count;
};

static struct berth__lock lock = {.rank = BERTH_RANK_SAMPLES};
static struct berth__sample_root root;
static struct buckets of_samples BERTH_GUARDED_BY(lock);
static struct buckets of_sites BERTH_GUARDED_BY(lock);
static uint32_t unused_sample BERTH_GUARDED_BY(lock); /* its number plus 1 */

/* ---- records ---- */

static struct berth__site *site_at(uint32_t number) {
    uintptr_t block = berth__load_relaxed(&root.site_block[number / BERTH_SITES_PER_BLOCK]);
    return (struct berth__site *)block + number % BERTH_SITES_PER_BLOCK;
}

static struct berth__sample *sample_at(uint32_t number) {
    uintptr_t block = berth__load_relaxed(&root.sample_block[number / BERTH_SAMPLES_PER_BLOCK]);
    return (struct berth__sample *)block + number % BERTH_SAMPLES_PER_BLOCK;
}

/* Around each change of a record: what is stored in between is seen after the odd number and before
 * the even one. */
static void begin_change(_Atomic uint64_t *sequence) {
    berth__add_acq_rel(sequence, 1); /* T1: by its acquiring half */
}

static void end_change(_Atomic uint64_t *sequence) {
    berth__store_release(sequence, berth__load_relaxed(sequence) + 1); /* T2 */
}

/* Makes room for record `number`, the next one. */
static bool room_for(_Atomic uint64_t *blocks, uint32_t number, uint32_t per_block, uint32_t most) {
    if (number >= most) {
        return false;
    }
    if (number % per_block != 0) {
        return true;
    }
    void *block = berth__meta_alloc(BERTH_SAMPLE_BLOCK_BYTES);
    berth__store_release(&blocks[number / per_block], (uintptr_t)block);
    return block != NULL;
}

static bool make_buckets(struct buckets *buckets, uint32_t count) {
    buckets->first = berth__meta_alloc(count * sizeof(uint32_t));
    buckets->count = buckets->first == NULL ? 0 : count;
    return buckets->first != NULL;
}

/* ---- the beginning ---- */

static bool make_root_locked(void) BERTH_REQUIRES(lock) {
    if (!make_buckets(&of_samples, BUCKETS_FIRST) || !make_buckets(&of_sites, SITE_BUCKETS) ||
        !room_for(root.site_block, 0, BERTH_SITES_PER_BLOCK, BERTH_SITES_MAX)) {
        return false; /* what was made is lost, once in a while */
    }
    root.version = BERTH_SAMPLES_VERSION;
    root.root_bytes = sizeof(root);
    root.site_bytes = sizeof(struct berth__site);
    root.sites_per_block = BERTH_SITES_PER_BLOCK;
    root.sample_bytes = sizeof(struct berth__sample);
    root.samples_per_block = BERTH_SAMPLES_PER_BLOCK;
    berth__store_relaxed(&root.site_count, 1);
    berth__store_release(&root.magic, BERTH_SAMPLES_MAGIC);
    return true;
}

static bool is_ready_locked(void) BERTH_REQUIRES(lock) {
    return berth__load_relaxed(&root.magic) == BERTH_SAMPLES_MAGIC || make_root_locked();
}

const struct berth__sample_root *berth__samples_place(void) {
    return &root;
}

const struct berth__sample_root *berth__samples_root(void) {
    return berth__load_acquire(&root.magic) == BERTH_SAMPLES_MAGIC ? &root : NULL;
}

void berth__samples_note_interval(uint64_t interval) {
    berth__lock_acquire(&lock);
    (void)is_ready_locked();
    berth__store_release(&root.interval, interval);
    berth__lock_release(&lock);
}

/* ---- sites ---- */

static uint64_t hash_of(void *const *places, unsigned depth) {
    uint64_t hash = depth;
    for (unsigned i = 0; i < depth; i++) {
        hash = (hash ^ (uintptr_t)places[i]) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 32;
    }
    return hash;
}

static bool is_site_of(const struct berth__site *site, uint64_t hash,
                       const struct berth__sampled *sampled) {
    return site->hash == hash && site->depth == sampled->depth &&
           memcmp(site->place, sampled->places, sampled->depth * sizeof(void *)) == 0;
}

/* The site's number, a new one if need be; 0 where there is no room for it. */
static uint32_t site_of_locked(const struct berth__sampled *sampled, uint64_t now_ms)
    BERTH_REQUIRES(lock) {
    uint64_t hash = hash_of(sampled->places, sampled->depth);
    uint32_t *bucket = &of_sites.first[hash % of_sites.count];
    for (uint32_t at = *bucket; at != 0; at = site_at(at - 1)->next) {
        if (is_site_of(site_at(at - 1), hash, sampled)) {
            return at - 1;
        }
    }
    uint32_t number = (uint32_t)berth__load_relaxed(&root.site_count);
    if (!room_for(root.site_block, number, BERTH_SITES_PER_BLOCK, BERTH_SITES_MAX)) {
        return 0;
    }
    struct berth__site *site = site_at(number);
    begin_change(&site->sequence);
    site->hash = hash;
    site->depth = sampled->depth;
    site->next = *bucket;
    site->first_ms = now_ms;
    memcpy(site->place, sampled->places, sampled->depth * sizeof(void *));
    end_change(&site->sequence);
    *bucket = number + 1;
    berth__store_release(&root.site_count, number + 1);
    return number;
}

/* Before what a site holds changes: what it held at the last peak is still there to be noted. */
static void keep_peak_locked(struct berth__site *site) BERTH_REQUIRES(lock) {
    uint64_t number = berth__load_relaxed(&root.peak_number);
    if (site->peak_number != number) {
        site->peak_number = number;
        site->peak_count = site->live_count;
        site->peak_bytes = site->live_bytes;
    }
}

static void count_birth_locked(struct berth__site *site, const struct berth__sample *sample)
    BERTH_REQUIRES(lock) {
    begin_change(&site->sequence);
    keep_peak_locked(site);
    site->allocated_count += sample->count;
    site->allocated_bytes += sample->weight;
    site->live_count += sample->count;
    site->live_bytes += sample->weight;
    site->live_requested += berth__sample_requested(sample);
    site->samples++;
    site->live_samples++;
    site->last_ms = sample->born_ms;
    end_change(&site->sequence);
    uint64_t live = berth__load_relaxed(&root.live_bytes) + sample->weight;
    berth__store_relaxed(&root.live_bytes, live);
    if (live > berth__load_relaxed(&root.peak_bytes)) {
        berth__store_relaxed(&root.peak_bytes, live);
        berth__store_release(&root.peak_number, berth__load_relaxed(&root.peak_number) + 1);
    }
}

static void count_death_locked(struct berth__site *site, const struct berth__sample *sample)
    BERTH_REQUIRES(lock) {
    begin_change(&site->sequence);
    keep_peak_locked(site);
    site->live_count -= sample->count;
    site->live_bytes -= sample->weight;
    site->live_requested -= berth__sample_requested(sample);
    site->live_samples--;
    site->lifetime_ms += berth__clock_coarse_ms() - sample->born_ms;
    end_change(&site->sequence);
    berth__store_relaxed(&root.live_bytes, berth__load_relaxed(&root.live_bytes) - sample->weight);
}

/* ---- samples ---- */

static uint32_t *bucket_of_locked(uint64_t block) BERTH_REQUIRES(lock) {
    uint64_t hash = (block >> 4) * UINT64_C(0x9e3779b97f4a7c15);
    return &of_samples.first[(hash >> 32) % of_samples.count];
}

/* Doubles the buckets when there are two samples to each. */
static void spread_locked(void) BERTH_REQUIRES(lock) {
    struct buckets before = of_samples;
    uint32_t count = (uint32_t)berth__load_relaxed(&root.sample_count);
    if (count < 2 * before.count || before.count >= BUCKETS_MAX ||
        !make_buckets(&of_samples, 2 * before.count)) {
        of_samples = before;
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct berth__sample *sample = sample_at(i);
        if (sample->block != 0) {
            uint32_t *bucket = bucket_of_locked(sample->block);
            sample->next = *bucket;
            *bucket = i + 1;
        }
    }
    berth__meta_free(before.first, before.count * sizeof(uint32_t));
}

/* A record that nobody uses: its number plus 1, or 0. */
static uint32_t new_sample_locked(void) BERTH_REQUIRES(lock) {
    uint32_t number = unused_sample;
    if (number != 0) {
        unused_sample = sample_at(number - 1)->next;
        return number;
    }
    number = (uint32_t)berth__load_relaxed(&root.sample_count);
    if (!room_for(root.sample_block, number, BERTH_SAMPLES_PER_BLOCK, BERTH_SAMPLES_MAX)) {
        return 0;
    }
    berth__store_release(&root.sample_count, number + 1);
    return number + 1;
}

static uint64_t add_locked(const struct berth__sampled *sampled) BERTH_REQUIRES(lock) {
    uint32_t number = is_ready_locked() ? new_sample_locked() : 0;
    if (number == 0) {
        berth__add_relaxed(&root.left_out, 1);
        return 0;
    }
    spread_locked();
    struct berth__sample *sample = sample_at(number - 1);
    uint64_t now_ms = berth__clock_coarse_ms();
    begin_change(&sample->sequence);
    sample->block = (uintptr_t)sampled->block;
    sample->born_ms = now_ms;
    sample->site = site_of_locked(sampled, now_ms);
    sample->requested = sampled->requested;
    sample->bytes = sampled->bytes;
    berth__sample_weigh(sample, sampled->drawn, sampled->interval);
    end_change(&sample->sequence);
    uint32_t *bucket = bucket_of_locked(sample->block);
    sample->next = *bucket;
    *bucket = number;
    count_birth_locked(site_at(sample->site), sample);
    berth__add_relaxed(&root.live_samples, 1);
    berth__add_relaxed(&root.taken, 1);
    return sample->weight;
}

uint64_t berth__samples_add(const struct berth__sampled *sampled) {
    berth__lock_acquire(&lock);
    uint64_t weight = add_locked(sampled);
    berth__lock_release(&lock);
    return weight;
}

/* Takes the sample that *link names out of its chain. */
static void remove_locked(uint32_t *link) BERTH_REQUIRES(lock) {
    uint32_t number = *link;
    struct berth__sample *sample = sample_at(number - 1);
    *link = sample->next;
    count_death_locked(site_at(sample->site), sample);
    begin_change(&sample->sequence);
    sample->block = 0;
    sample->next = unused_sample;
    end_change(&sample->sequence);
    unused_sample = number;
    berth__sub_relaxed(&root.live_samples, 1);
}

/* What names the block's sample in its chain, or ends that. */
static uint32_t *link_of_locked(const void *block) BERTH_REQUIRES(lock) {
    uint32_t *link = bucket_of_locked((uintptr_t)block);
    while (*link != 0 && sample_at(*link - 1)->block != (uintptr_t)block) {
        link = &sample_at(*link - 1)->next;
    }
    return link;
}

size_t berth__samples_size(const void *block) {
    berth__lock_acquire(&lock);
    uint32_t number = of_samples.count == 0 ? 0 : *link_of_locked(block);
    size_t bytes = number == 0 ? 0 : sample_at(number - 1)->bytes;
    berth__lock_release(&lock);
    return bytes;
}

bool berth__samples_remove(const void *block) {
    bool found = false;
    if (berth__load_relaxed(&root.live_samples) == 0) {
        return false;
    }
    berth__lock_acquire(&lock);
    uint32_t *link = link_of_locked(block);
    if (*link != 0) {
        remove_locked(link);
        found = true;
    }
    berth__lock_release(&lock);
    return found;
}

bool berth__samples_copy_site(uint32_t number, struct berth__site *copy) {
    berth__lock_acquire(&lock);
    bool found = number < berth__load_relaxed(&root.site_count);
    if (found) {
        memcpy((void *)copy, (const void *)site_at(number), sizeof(*copy));
    }
    berth__lock_release(&lock);
    return found;
}

void berth__samples_forget(bool (*is_gone)(void *context, const void *block), void *context) {
    if (berth__load_relaxed(&root.live_samples) == 0) {
        return;
    }
    berth__lock_acquire(&lock);
    for (uint32_t i = 0; i < of_samples.count; i++) {
        uint32_t *link = &of_samples.first[i];
        while (*link != 0) {
            struct berth__sample *sample = sample_at(*link - 1);
            if (is_gone(context, (const void *)(uintptr_t)sample->block)) {
                remove_locked(link);
            } else {
                link = &sample->next;
            }
        }
    }
    berth__lock_release(&lock);
}

/* ---- fork ---- */

static void end_change_in_child(_Atomic uint64_t *sequence) {
    uint64_t now = berth__load_relaxed(sequence);
    berth__store_relaxed(sequence, now + now % 2);
}

/* Chains are whole at any time. A record that was being changed is as it was found. */
static void mend_in_child(void) {
    for (uint32_t i = 0; i < berth__load_relaxed(&root.sample_count); i++) {
        end_change_in_child(&sample_at(i)->sequence);
    }
    for (uint32_t i = 0; i < berth__load_relaxed(&root.site_count); i++) {
        end_change_in_child(&site_at(i)->sequence);
    }
}

void berth__samples_init(void) {
    berth__fork_add_lock(&lock, mend_in_child);
}
