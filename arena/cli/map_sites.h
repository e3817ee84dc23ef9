/*
 * Who allocated what is on a map: from the samples of the process, while it takes any.
 *
 * Samples of normal and huge blocks, and those in slabs of samples, lie where their blocks do.
 * Other small blocks were not sampled: of their slabs, what is known is who has most of their size.
 */
#ifndef BERTH_CLI_MAP_SITES_H
#define BERTH_CLI_MAP_SITES_H

#include "cli/map_read.h"
#include "cli/profile.h"

struct berth__map_sampled {
    struct berth__profile profile;
    struct berth__profile_sample *by_size; /* the main sample of each size, ascending */
    size_t size_count;
};

/* Reads the process's samples; without any, nobody is named. berth__map_sampled_close must follow.
 */
void berth__map_sampled_open(struct berth__map_sampled *sampled,
                             const struct berth__process *process);
void berth__map_sampled_close(struct berth__map_sampled *sampled);

struct berth__map_sites berth__map_sites_of(struct berth__map_sampled *sampled);

#endif
