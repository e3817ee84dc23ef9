/*
 * Slices: references to parts of an owner's memory.
 */
#include "buffer/owner.h"

#include "pool/api.h"
#include "pool/gauge.h"

#include <errno.h>
#include <string.h>

static const struct berth_slice empty = BERTH_SLICE_EMPTY;

/* Empties *slice and says whether a slice may be as long. */
static int check_length(size_t length, struct berth_slice *slice) {
    *slice = empty;
    return length <= BERTH_SLICE_MAX ? 0 : -EMSGSIZE;
}

/* 0, or why there is no memory: then *slice is empty. */
BERTH_INLINE int allocate(berth_pool *pool, size_t length, struct berth_slice *slice) {
    struct berth_owner *owner =
        length <= BERTH_SLICE_MAX ? berth__owner_alloc_inline(pool, length) : NULL;
    if (BERTH_UNLIKELY(owner == NULL)) {
        *slice = empty;
        return length <= BERTH_SLICE_MAX ? berth__no_block() : -EMSGSIZE;
    }
    /* Member by member: a structure made beside and copied is read wider than it was written, and
     * that waits for the stores (5 ns here). */
    slice->data = owner->memory;
    slice->owner_ = owner;
    slice->length = (uint32_t)length;
    slice->generation_ = owner->generation;
    slice->flags_ = 0;
    return 0;
}

int berth__slice_alloc(berth_pool *pool, size_t length, struct berth_slice *slice, void *site) {
    int error = allocate(pool, length, slice);
    return BERTH_UNLIKELY(error != 0) ? error : berth__owner_made(slice->owner_, site);
}

int berth_slice_alloc(berth_pool *pool, size_t length, struct berth_slice *slice) {
    int error = allocate(pool, length, slice);
    return BERTH_UNLIKELY(error != 0) ? error : berth__owner_made(slice->owner_, BERTH_CALLER);
}

static int copy(berth_pool *pool, const void *data, size_t length, struct berth_slice *slice,
                void *site) {
    int error = berth__slice_alloc(pool, length, slice, site);
    if (error == 0 && length > 0) {
        BERTH_ASSERT(slice->data != NULL);
        memcpy((unsigned char *)(uintptr_t)slice->data, data, length);
    }
    return error;
}

int berth_slice_copy(berth_pool *pool, const void *data, size_t length, struct berth_slice *slice) {
    return copy(pool, data, length, slice, BERTH_CALLER);
}

/* ---- memory from elsewhere ---- */

int berth_slice_wrap(berth_pool *pool, void *data, size_t length, berth_slice_callback *release,
                     void *context, struct berth_slice *slice) {
    int error = check_length(length, slice);
    if (error != 0 || release == NULL) {
        return error != 0 ? error : -EINVAL;
    }
    struct berth_owner *owner = berth__owner_new(pool, BERTH_OWNER_WRAPPED, data, length);
    if (owner == NULL) {
        return berth__no_block();
    }
    owner->release = release;
    owner->context = context;
    *slice = berth__owner_slice(owner, 0, length);
    return berth__owner_made(owner, BERTH_CALLER);
}

int berth_slice_wrap_static(const void *data, size_t length, struct berth_slice *slice) {
    int error = check_length(length, slice);
    if (error == 0) {
        slice->data = data;
        slice->length = (uint32_t)length;
        slice->flags_ = BERTH_SLICE_READ_ONLY;
    }
    return error;
}

int berth_slice_map_file(berth_pool *pool, int fd, int64_t offset, size_t length, bool writable,
                         struct berth_slice *slice) {
    int error = check_length(length, slice);
    if (error != 0 || offset < 0 || length == 0) {
        return error != 0 ? error : -EINVAL;
    }
    /* The engine knows the machine's pages; 64 KiB are whole ones on every machine. */
    enum { WHOLE_PAGES = 65536 };
    size_t before = (size_t)offset % WHOLE_PAGES;
    size_t bytes = before + length;
    void *block = berth_map_file(pool, fd, offset - (int64_t)before, bytes, writable);
    if (block == NULL) {
        return -errno;
    }
    struct berth_owner *owner =
        berth__owner_new(pool, BERTH_OWNER_MAPPED, block, berth_usable_size(block));
    if (owner == NULL) {
        berth_free(block);
        return -ENOMEM;
    }
    *slice = berth__owner_slice(owner, before, length);
    slice->flags_ = writable ? 0 : BERTH_SLICE_READ_ONLY;
    return berth__owner_made(owner, BERTH_CALLER);
}

/* ---- references ---- */

/* One that is about to view `length` bytes. */
BERTH_INLINE struct berth_slice retained(const struct berth_slice *slice, size_t length) {
    struct berth_owner *owner = berth__slice_owner(slice);
    if (owner != NULL) {
        berth__owner_retain(owner, length);
    }
    struct berth_slice another = *slice;
    another.flags_ &= (uint16_t)~BERTH_SLICE_PINNED;
    return another;
}

struct berth_slice berth_slice_retain(const struct berth_slice *slice) {
    return retained(slice, slice->length);
}

void berth_slice_release(struct berth_slice *slice) {
    struct berth_owner *owner = berth__slice_owner(slice);
    if (BERTH_UNLIKELY((slice->flags_ & BERTH_SLICE_PINNED) != 0)) {
        berth__owner_misuse("releasing a pinned slice", slice->data, owner);
    }
    uint32_t length = slice->length;
    *slice = empty;
    if (owner != NULL) {
        berth__owner_release(owner, length);
    }
}

struct berth_owner *berth_slice_detach(struct berth_slice *slice) {
    struct berth_owner *owner = berth__slice_owner(slice);
    if (BERTH_UNLIKELY((slice->flags_ & BERTH_SLICE_PINNED) != 0)) {
        berth__owner_misuse("detaching a pinned slice", slice->data, owner);
    }
    *slice = empty;
    return owner;
}

void berth_owner_release(struct berth_owner *owner) {
    if (owner != NULL) {
        berth__owner_release(owner, 0);
    }
}

static bool is_inside(const struct berth_slice *slice, size_t offset, size_t length) {
    return offset <= slice->length && length <= slice->length - offset;
}

int berth_slice_sub(const struct berth_slice *slice, size_t offset, size_t length,
                    struct berth_slice *part) {
    if (!is_inside(slice, offset, length)) {
        *part = empty;
        return -ERANGE;
    }
    struct berth_slice another = retained(slice, length);
    another.data += offset;
    another.length = (uint32_t)length;
    *part = another;
    return 0;
}

int berth_slice_split(struct berth_slice *slice, size_t at, struct berth_slice *front) {
    int error = berth_slice_sub(slice, 0, at, front);
    if (error == 0) {
        slice->data += at;
        berth__slice_resize(slice, slice->length - (uint32_t)at);
    }
    return error;
}

struct berth_slice berth_slice_pin(const struct berth_slice *slice) {
    struct berth_slice pinned = retained(slice, slice->length);
    struct berth_owner *owner = pinned.owner_;
    if (owner == NULL) {
        return pinned;
    }
    pinned.flags_ |= BERTH_SLICE_PINNED;
    /* The first pin pins the chunk, too; the last one is given back after all others. */
    if (berth__add_acq_rel(&owner->pins, 1) == 0 && owner->kind <= BERTH_OWNER_MAPPED) {
        berth_pin(owner->memory);
    }
    berth_gauge_add(BERTH_GAUGE_PINNED_BYTES, pinned.length);
    return pinned;
}

void berth_slice_unpin(struct berth_slice *slice) {
    struct berth_owner *owner = berth__slice_owner(slice);
    if (owner == NULL) {
        *slice = empty;
        return;
    }
    if (BERTH_UNLIKELY((slice->flags_ & BERTH_SLICE_PINNED) == 0)) {
        berth__owner_misuse("unpinning a slice that is not pinned", slice->data, owner);
    }
    if (berth__sub_acq_rel(&owner->pins, 1) == 1 && owner->kind <= BERTH_OWNER_MAPPED) {
        berth_unpin(owner->memory);
    }
    berth_gauge_add(BERTH_GAUGE_PINNED_BYTES, -(int64_t)slice->length);
    slice->flags_ &= (uint16_t)~BERTH_SLICE_PINNED;
    berth_slice_release(slice);
}

/* ---- writing ---- */

/* Why a slice may not be written: 0, EROFS or EBUSY. */
static int write_fault(const struct berth_slice *slice) {
    struct berth_owner *owner = berth__slice_owner(slice);
    return owner == NULL || (slice->flags_ & BERTH_SLICE_READ_ONLY) != 0 ? EROFS
           : !berth__owner_may_write(owner)                              ? EBUSY
                                                                         : 0;
}

void *berth_slice_try_write(struct berth_slice *slice) {
    int error = write_fault(slice);
    if (error != 0) {
        errno = error;
        return NULL;
    }
    return (void *)(uintptr_t)slice->data;
}

/* Puts a copy in the place of a slice. */
static int copy_over(berth_pool *pool, struct berth_slice *slice, void *site) {
    struct berth_slice another;
    int error = copy(pool, slice->data, slice->length, &another, site);
    if (error == 0) {
        berth_slice_release(slice);
        *slice = another;
    }
    return error;
}

int berth_slice_make_writable(berth_pool *pool, struct berth_slice *slice) {
    return write_fault(slice) == 0 ? 0 : copy_over(pool, slice, BERTH_CALLER);
}

void berth_slice_set_read_only(struct berth_slice *slice) {
    slice->flags_ |= BERTH_SLICE_READ_ONLY;
}

bool berth_slice_is_unique(const struct berth_slice *slice) {
    struct berth_owner *owner = berth__slice_owner(slice);
    return owner != NULL && berth__owner_is_unique(owner);
}

size_t berth_slice_retained(const struct berth_slice *slice) {
    struct berth_owner *owner = berth__slice_owner(slice);
    return owner == NULL ? 0 : owner->bytes;
}

int berth_slice_compact(berth_pool *pool, struct berth_slice *slice, unsigned factor) {
    size_t kept = berth_slice_retained(slice);
    size_t copy_keeps = berth_good_size(slice->length);
    bool wasteful = kept > copy_keeps && kept > (uint64_t)slice->length * factor;
    if (!wasteful) {
        return 0;
    }
    int error = copy_over(pool, slice, BERTH_CALLER);
    return error == 0 ? 1 : error;
}
