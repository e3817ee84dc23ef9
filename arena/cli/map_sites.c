#include "cli/map_sites.h"

#include "cli/profile_write.h"

#include <stdlib.h>
#include <string.h>

static const struct berth__profile_filter all = {0, 0};

static int by_block(const void *a, const void *b) {
    const struct berth__profile_sample *x = a;
    const struct berth__profile_sample *y = b;
    return (x->block > y->block) - (x->block < y->block);
}

static int by_size_and_site(const void *a, const void *b) {
    const struct berth__profile_sample *x = a;
    const struct berth__profile_sample *y = b;
    int order = (x->bytes > y->bytes) - (x->bytes < y->bytes);
    return order != 0 ? order : (x->site > y->site) - (x->site < y->site);
}

/* Of samples in order of size and site: for each size, the site that holds most, with what it holds
 * as its weight. In place: what is written lies before what is still to be read. */
static size_t keep_main(struct berth__profile_sample *samples, size_t count) {
    size_t kept = 0;
    for (size_t i = 0; i < count;) {
        struct berth__profile_sample sum = samples[i];
        for (i++; i < count && by_size_and_site(&samples[i], &sum) == 0; i++) {
            sum.weight += samples[i].weight;
        }
        if (kept > 0 && samples[kept - 1].bytes == sum.bytes) {
            if (samples[kept - 1].weight < sum.weight) {
                samples[kept - 1] = sum;
            }
        } else {
            samples[kept++] = sum;
        }
    }
    return kept;
}

void berth__map_sampled_open(struct berth__map_sampled *sampled,
                             const struct berth__process *process) {
    struct berth__profile *profile = &sampled->profile;
    sampled->size_count = 0;
    sampled->by_size = NULL;
    if (berth__profile_read(profile, process, &all) != BERTH_PROFILE_READ ||
        profile->sample_count == 0) {
        return;
    }
    size_t bytes = profile->sample_count * sizeof(*sampled->by_size);
    sampled->by_size = malloc(bytes);
    if (sampled->by_size != NULL) {
        memcpy(sampled->by_size, profile->samples, bytes);
        qsort(sampled->by_size, profile->sample_count, sizeof(*sampled->by_size), by_size_and_site);
        sampled->size_count = keep_main(sampled->by_size, profile->sample_count);
    }
    qsort(profile->samples, profile->sample_count, sizeof(*profile->samples), by_block);
}

void berth__map_sampled_close(struct berth__map_sampled *sampled) {
    free(sampled->by_size);
    berth__profile_close(&sampled->profile);
}

/* The first sample whose block lies at `from` or behind. */
static size_t first_at(const struct berth__profile *profile, uint64_t from) {
    size_t low = 0;
    size_t high = profile->sample_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (profile->samples[middle].block < from) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The heaviest sample in [from, end); NULL if there is none. */
static const struct berth__profile_sample *heaviest(const struct berth__profile *profile,
                                                    uint64_t from, uint64_t end) {
    const struct berth__profile_sample *found = NULL;
    for (size_t i = first_at(profile, from);
         i < profile->sample_count && profile->samples[i].block < end; i++) {
        if (found == NULL || profile->samples[i].weight > found->weight) {
            found = &profile->samples[i];
        }
    }
    return found;
}

static const struct berth__profile_sample *main_of_size(const struct berth__map_sampled *sampled,
                                                        uint32_t bytes) {
    for (size_t i = 0; bytes != 0 && i < sampled->size_count; i++) {
        if (sampled->by_size[i].bytes == bytes) {
            return &sampled->by_size[i];
        }
    }
    return NULL;
}

static bool name_site(void *context, uint64_t from, uint64_t end, uint32_t block_bytes, char *text,
                      size_t capacity) {
    struct berth__map_sampled *sampled = context;
    struct berth__profile *profile = &sampled->profile;
    const struct berth__profile_sample *here = heaviest(profile, from, end);
    const struct berth__profile_sample *sample =
        here != NULL ? here : main_of_size(sampled, block_bytes);
    uint64_t place =
        sample == NULL ? 0 : berth__profile_place(profile, &profile->sites[sample->site]);
    if (place == 0) {
        return false;
    }
    const struct berth__symbol_at *symbol = berth__symbols_find(profile->symbols, place);
    const char *who = here != NULL ? "by" : "this size mostly by";
    if (symbol->file != NULL) {
        snprintf(text, capacity, "%s %.90s (%.40s:%u)", who, symbol->function,
                 berth__file_name(symbol->file), symbol->line);
    } else if (berth__symbol_is_offset(symbol)) {
        snprintf(text, capacity, "%s %.90s", who, symbol->function);
    } else {
        snprintf(text, capacity, "%s %.90s (%.40s)", who, symbol->function,
                 berth__profile_library(profile, place));
    }
    return true;
}

struct berth__map_sites berth__map_sites_of(struct berth__map_sampled *sampled) {
    bool any = sampled->size_count > 0;
    return (struct berth__map_sites){any ? name_site : NULL, sampled};
}
