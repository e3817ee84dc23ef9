/*
 * Tags: names that pools are accounted to, and the pools of their scopes.
 *
 * A tag's scopes are served by a pool of its own, made when it is first pushed, which ends with the
 * process: so a block's tag is that of its pool, and nothing has to be counted per block. What a
 * tag has is what its pools have. docs/decisions/0020-tags.md has the reasons.
 *
 * A tag, once made, stays. Its number is found by name without a lock: a slot of the table is
 * written last, with release (T1), and read with acquire.
 */
#ifndef BERTH_POOL_TAG_H
#define BERTH_POOL_TAG_H

#include "heap/arenas.h"

#include <berth/tag.h>

/* The number, 1 to BERTH_TAGS_MAX, of the tag of that name, made if need be; -EINVAL, -ENOSPC. */
int berth__tag_named(const char *name);

/* The same of one that is there already; 0 if there is none. Lock-free. */
unsigned berth__tag_find(const char *name);

/* Tags so far: numbers 1 to that. Lock-free. */
unsigned berth__tags_count(void);
const char *berth__tag_name(unsigned tag);

/* Pools that were created with a tag, those of scopes left out, come and go. */
void berth__tag_count_pool(unsigned tag, int more);
unsigned berth__tag_pools(unsigned tag);

/* The arenas of its scopes; NULL if there were none yet. */
struct berth__arenas *berth__tag_scope(unsigned tag);

/* The most so far, with that one. Lock-free. */
uint64_t berth__tag_peak(unsigned tag, uint64_t live_bytes);

#endif
