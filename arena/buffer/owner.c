#include "buffer/owner.h"

#include "os/file.h"
#include "pool/api.h"

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

struct berth_owner *berth__owner_new(berth_pool *pool, enum berth__owner_kind kind, void *memory,
                                     size_t bytes) {
    void *record = berth_alloc(pool, BERTH_DESCRIBED_BYTES);
    return record == NULL ? NULL
                          : berth__owner_begin(record, pool, kind, berth_pool_is_one_thread(pool),
                                               memory, bytes);
}

struct berth_owner *berth__owner_alloc(berth_pool *pool, size_t bytes) {
    return berth__owner_alloc_inline(pool, bytes);
}

/* For memory that is not the pool's. The record goes first: a callback may do anything, end the
 * pool included. */
static BERTH_NOINLINE void end_foreign(struct berth_owner *owner) {
    const struct berth_owner was = *owner;
    berth_pool_free(was.pool, owner);
    if (was.kind == BERTH_OWNER_WRAPPED) {
        int saved_errno = errno;
        was.release(was.context, was.memory, was.bytes);
        errno = saved_errno;
    } else if (was.kind == BERTH_OWNER_FILE_TO_CLOSE) {
        berth__file_close((int)was.fd);
    }
}

void berth__owner_end(struct berth_owner *owner) {
    if (BERTH_UNLIKELY(berth__load_relaxed(&owner->pins) != 0)) {
        berth__owner_misuse("releasing the last reference to pinned memory", owner->memory, owner);
    }
    if (BERTH_UNLIKELY((owner->traits & BERTH_OWNER_ON_RECORD) != 0)) {
        berth__leak_end(owner->leak);
    }
    owner->generation++;
    berth__store_relaxed(&owner->count, 0);
    if (BERTH_LIKELY(owner->kind <= BERTH_OWNER_MAPPED)) {
        berth_pool_free_described(owner->pool, owner, owner->memory);
    } else {
        end_foreign(owner);
    }
}
