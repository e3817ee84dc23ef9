#include "cli/profile.h"

#include "base/bits.h"
#include "os/clock.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Records of one kind, copied thrice (T3): a record of the middle copy is whole if its sequence is
 * the same even number in the other two. */
struct table {
    char *copy[3];
    size_t bytes, count;
};

static bool copy_from(const struct berth__process *process, uint64_t at, void *to, size_t bytes) {
    return pread(process->memory, to, bytes, (off_t)at) == (ssize_t)bytes;
}

static bool copy_blocks(const struct berth__process *process, const _Atomic uint64_t *blocks,
                        size_t per_block, const struct table *table, char *to) {
    for (size_t i = 0; i * per_block < table->count; i++) {
        size_t count = berth__min(table->count - i * per_block, per_block);
        if (!copy_from(process, blocks[i], to + i * per_block * table->bytes,
                       count * table->bytes)) {
            return false;
        }
    }
    return true;
}

static bool copy_table(const struct berth__process *process, const _Atomic uint64_t *blocks,
                       size_t per_block, struct table *table) {
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(table->copy); i++) {
        table->copy[i] = calloc(table->count + 1, table->bytes);
        if (table->copy[i] == NULL ||
            !copy_blocks(process, blocks, per_block, table, table->copy[i])) {
            return false;
        }
    }
    return true;
}

static void free_table(struct table *table) {
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(table->copy); i++) {
        free(table->copy[i]);
    }
}

static uint64_t sequence_in(const struct table *table, unsigned copy, size_t number) {
    uint64_t sequence;
    memcpy(&sequence, table->copy[copy] + number * table->bytes, sizeof(sequence));
    return sequence;
}

/* The record, or NULL if it was changed while it was copied. */
static const void *record(const struct table *table, size_t number) {
    uint64_t before = sequence_in(table, 0, number);
    bool whole = before % 2 == 0 && before == sequence_in(table, 2, number);
    return whole ? table->copy[1] + number * table->bytes : NULL;
}

/* ---- the root ---- */

static enum berth__profile_outcome read_root(const struct berth__process *process,
                                             struct berth__sample_root *root) {
    uint64_t at = process->stats.samples;
    if (at == 0 || !copy_from(process, at, root, sizeof(*root)) ||
        root->magic != BERTH_SAMPLES_MAGIC) {
        return BERTH_PROFILE_NONE;
    }
    bool known = root->version == BERTH_SAMPLES_VERSION && root->root_bytes == sizeof(*root) &&
                 root->site_bytes == sizeof(struct berth__site) &&
                 root->sample_bytes == sizeof(struct berth__sample) &&
                 root->sites_per_block == BERTH_SITES_PER_BLOCK &&
                 root->samples_per_block == BERTH_SAMPLES_PER_BLOCK &&
                 root->site_count <= BERTH_SITES_MAX && root->sample_count <= BERTH_SAMPLES_MAX;
    return known ? BERTH_PROFILE_READ : BERTH_PROFILE_BAD;
}

uint64_t berth__profile_interval(const struct berth__process *process) {
    struct berth__sample_root root;
    return read_root(process, &root) == BERTH_PROFILE_READ ? root.interval : 0;
}

/* ---- sites ---- */

static double in_blocks(uint64_t count) {
    return (double)count / BERTH_SAMPLE_ONE;
}

static void take_places(struct berth__profile *profile, struct berth__profile_site *site,
                        const struct berth__site *raw, uint64_t *places) {
    unsigned depth = (unsigned)berth__min(raw->depth, BERTH_SITE_DEPTH);
    unsigned first = 0;
    for (unsigned i = 0; i < depth; i++) {
        places[i] = (uint64_t)(uintptr_t)raw->place[i];
    }
    site->depth = berth__symbols_trim(profile->symbols, places, depth, &first);
    site->place = places + first;
}

/* Counters; what is held is added by add_samples, sample by sample. */
static bool read_sites(struct berth__profile *profile, const struct berth__sample_root *root,
                       const struct table *table) {
    profile->sites = calloc(table->count + 1, sizeof(*profile->sites));
    profile->places = calloc(table->count * BERTH_SITE_DEPTH + 1, sizeof(*profile->places));
    profile->raw = calloc(table->count + 1, sizeof(*profile->raw));
    if (profile->sites == NULL || profile->places == NULL || profile->raw == NULL) {
        return false;
    }
    for (size_t i = 0; i < table->count; i++) {
        const struct berth__site *raw = record(table, i);
        if (raw == NULL) { /* in the middle of a change: as it was in one of the copies */
            raw = (const void *)(table->copy[1] + i * table->bytes);
        }
        struct berth__profile_site *site = &profile->sites[i];
        bool held_since = raw->peak_number < root->peak_number;
        memcpy((void *)&profile->raw[i], (const void *)raw, sizeof(*raw));
        site->allocated =
            (struct berth__amount){in_blocks(raw->allocated_count), (double)raw->allocated_bytes};
        site->peak =
            held_since
                ? (struct berth__amount){in_blocks(raw->live_count), (double)raw->live_bytes}
                : (struct berth__amount){in_blocks(raw->peak_count), (double)raw->peak_bytes};
        site->samples = raw->samples;
        take_places(profile, site, raw, profile->places + i * BERTH_SITE_DEPTH);
    }
    profile->site_count = profile->raw_count = table->count;
    return true;
}

/* ---- samples ---- */

static int by_bytes(const void *a, const void *b) {
    const struct berth__profile_class *x = a;
    const struct berth__profile_class *y = b;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static void merge_classes(struct berth__profile *profile) {
    struct berth__profile_class *classes = profile->classes;
    if (profile->class_count == 0) {
        return;
    }
    qsort(classes, profile->class_count, sizeof(*classes), by_bytes);
    struct berth__profile_class *last = classes;
    for (size_t i = 1; i < profile->class_count; i++) {
        if (last->bytes == classes[i].bytes) {
            last->held.blocks += classes[i].held.blocks;
            last->held.bytes += classes[i].held.bytes;
        } else {
            *++last = classes[i];
        }
    }
    profile->class_count = (size_t)(last - classes) + 1;
}

static void add_sample(struct berth__profile *profile, const struct berth__sample *sample) {
    struct berth__profile_site *site = &profile->sites[sample->site];
    uint64_t age = profile->read_ms > sample->born_ms ? profile->read_ms - sample->born_ms : 0;
    site->held.blocks += in_blocks(sample->count);
    site->held.bytes += (double)sample->weight;
    site->requested += (double)sample->requested * in_blocks(sample->count);
    site->oldest_ms = berth__max(site->oldest_ms, age);
    profile->samples[profile->sample_count++] =
        (struct berth__profile_sample){sample->block, sample->bytes, sample->weight, sample->site};
    profile->classes[profile->class_count++] = (struct berth__profile_class){
        .bytes = sample->bytes, .held = {in_blocks(sample->count), (double)sample->weight}};
}

static bool add_samples(struct berth__profile *profile, const struct table *table,
                        const struct berth__profile_filter *filter) {
    profile->classes = calloc(table->count + 1, sizeof(*profile->classes));
    profile->samples = calloc(table->count + 1, sizeof(*profile->samples));
    if (profile->classes == NULL || profile->samples == NULL) {
        return false;
    }
    for (size_t i = 0; i < table->count; i++) {
        const struct berth__sample *sample = record(table, i);
        if (sample == NULL || sample->block == 0 || sample->site >= profile->site_count ||
            sample->born_ms < filter->born_from_ms ||
            sample->born_ms + filter->age_ms > profile->read_ms) {
            continue;
        }
        add_sample(profile, sample);
    }
    merge_classes(profile);
    return true;
}

/* ---- all together ---- */

static bool read_tables(struct berth__profile *profile, const struct berth__process *process,
                        const struct berth__sample_root *root,
                        const struct berth__profile_filter *filter) {
    struct table sites = {.bytes = sizeof(struct berth__site), .count = root->site_count};
    struct table samples = {.bytes = sizeof(struct berth__sample), .count = root->sample_count};
    bool done = copy_table(process, root->sample_block, BERTH_SAMPLES_PER_BLOCK, &samples) &&
                copy_table(process, root->site_block, BERTH_SITES_PER_BLOCK, &sites) &&
                read_sites(profile, root, &sites) && add_samples(profile, &samples, filter);
    free_table(&sites);
    free_table(&samples);
    return done;
}

static enum berth__profile_outcome read_profile(struct berth__profile *profile,
                                                const struct berth__process *process,
                                                const struct berth__profile_filter *filter) {
    struct berth__sample_root root;
    enum berth__profile_outcome outcome = read_root(process, &root);
    if (outcome != BERTH_PROFILE_READ) {
        return outcome;
    }
    profile->interval = root.interval;
    profile->left_out = root.left_out;
    profile->taken = root.taken;
    profile->live_samples = root.live_samples;
    profile->read_ms = berth__clock_coarse_ms();
    profile->symbols = berth__symbols_open(process->pid);
    bool done = profile->symbols != NULL && read_tables(profile, process, &root, filter);
    return done ? BERTH_PROFILE_READ : BERTH_PROFILE_BAD;
}

enum berth__profile_outcome berth__profile_read(struct berth__profile *profile,
                                                const struct berth__process *process,
                                                const struct berth__profile_filter *filter) {
    memset(profile, 0, sizeof(*profile));
    enum berth__profile_outcome outcome = read_profile(profile, process, filter);
    return outcome != BERTH_PROFILE_READ && berth__process_has_ended(process) ? BERTH_PROFILE_GONE
                                                                              : outcome;
}

/* Sites keep their numbers. */
void berth__profile_subtract(struct berth__profile *profile, const struct berth__profile *before) {
    for (size_t i = 0; i < profile->site_count && i < before->raw_count; i++) {
        struct berth__profile_site *site = &profile->sites[i];
        site->allocated.blocks -= in_blocks(before->raw[i].allocated_count);
        site->allocated.bytes -= (double)before->raw[i].allocated_bytes;
        site->samples -= berth__min(before->raw[i].samples, site->samples);
    }
}

void berth__profile_close(struct berth__profile *profile) {
    berth__symbols_close(profile->symbols);
    free(profile->sites);
    free(profile->classes);
    free(profile->samples);
    free(profile->places);
    free(profile->raw);
    memset(profile, 0, sizeof(*profile));
}
