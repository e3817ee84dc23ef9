#include "buffer/owner.h"

#include "os/file.h"

#include <errno.h>

/* A count that was 0 before it was counted down has wrapped. */
void berth__owner_misuse(const char *fault, const void *data, const struct berth_owner *owner) {
    uint32_t count = berth__load_relaxed(&((struct berth_owner *)(uintptr_t)owner)->count);
    berth__fatal("%s: data at %p (record %p, %u references)", fault, data, (const void *)owner,
                 count > UINT32_MAX / 2 ? 0 : count);
}

/* In the child of a fork, memory of a pool with io or of a shared one reads as zero, and no record
 * that was ever used has the generation 0. */
void berth__slice_misuse(const struct berth_slice *slice) {
    const struct berth_owner *owner = slice->owner_;
    berth__owner_misuse(owner->generation != 0
                            ? "use of a slice that was released"
                            : "use of a slice that is the parent's, or was released",
                        slice->data, owner);
}

int berth__owner_put_on_record(struct berth_owner *owner, void *site) {
    owner->leak = berth__leak_begin(owner->pool, owner->memory, owner->bytes, site);
    if (owner->leak != NULL) {
        owner->traits |= BERTH_OWNER_ON_RECORD;
    }
    return 0;
}

/* While the caller has its reference, the owner cannot end, nor its record. */
void berth__owner_retain_noted(struct berth_owner *owner, size_t viewed, void *site) {
    berth__leak_view(owner->leak, (int64_t)viewed);
    berth__leak_note(owner->leak, "retained", NULL, site);
    berth__owner_count_up(owner, berth__load_acquire(&owner->count)); /* B2 */
}

bool berth__owner_drop_noted(struct berth_owner *owner, size_t viewed, void *site) {
    berth__leak_view(owner->leak, -(int64_t)viewed);
    berth__leak_note(owner->leak, "released", NULL, site);
    return berth__owner_count_down(owner, berth__load_acquire(&owner->count)); /* B2 */
}

void berth__owner_view_noted(struct berth_owner *owner, int64_t more) {
    berth__leak_view(owner->leak, more);
}

/* What the record's place held before is read on purpose: after a life as a record, its last
 * generation plus one. */
struct berth_owner *berth__owner_new(berth_pool *pool, enum berth__owner_kind kind, void *memory,
                                     size_t bytes) {
    struct berth_owner *owner = berth_alloc(pool, sizeof(*owner));
    if (owner == NULL) {
        return NULL;
    }
    uint16_t generation = owner->generation;
    *owner = (struct berth_owner){
        .generation = generation == 0 ? 1 : generation,
        .kind = (uint8_t)kind,
        .traits = berth_pool_is_one_thread(pool) ? BERTH_OWNER_ONE_THREAD : 0,
        .memory = memory,
        .bytes = bytes,
        .thread = BERTH_DEBUG ? berth__owner_thread() : 0,
        .pool = pool,
    };
    berth__store_relaxed(&owner->count, 1);
    return owner;
}

struct berth_owner *berth__owner_alloc(berth_pool *pool, size_t bytes) {
    void *block = berth_alloc(pool, bytes);
    if (block == NULL) {
        return NULL;
    }
    struct berth_owner *owner = berth__owner_new(pool, BERTH_OWNER_BLOCK, block, bytes);
    if (owner == NULL) {
        berth_free(block);
    }
    return owner;
}

/* The record goes first: a callback may do anything, end the pool included. */
void berth__owner_end(struct berth_owner *owner) {
    void *memory = owner->memory;
    if (BERTH_UNLIKELY(berth__load_relaxed(&owner->pins) != 0)) {
        berth__owner_misuse("releasing the last reference to pinned memory", memory, owner);
    }
    if (BERTH_UNLIKELY((owner->traits & BERTH_OWNER_ON_RECORD) != 0)) {
        berth__leak_end(owner->leak);
    }
    enum berth__owner_kind kind = (enum berth__owner_kind)owner->kind;
    berth_slice_callback *release = owner->release;
    void *context = owner->context;
    size_t bytes = owner->bytes;
    berth_pool *pool = owner->pool;
    owner->generation++;
    berth__store_relaxed(&owner->count, 0);
    berth_pool_free(pool, owner);
    if (BERTH_LIKELY(kind <= BERTH_OWNER_MAPPED)) {
        berth_pool_free(pool, memory);
    } else if (kind == BERTH_OWNER_WRAPPED) {
        int saved_errno = errno;
        release(context, memory, bytes);
        errno = saved_errno;
    } else if (kind == BERTH_OWNER_FILE_TO_CLOSE) {
        berth__file_close((int)(intptr_t)context);
    }
}
