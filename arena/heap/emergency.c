#include "heap/emergency.h"

#include "base/atomics.h"
#include "base/bits.h"
#include "chunk/meta.h"
#include "os/pages.h"

enum { REGION_BYTES = 1 << 20, REGIONS_MAX = 1024, HEADER_BYTES = 16 };

struct region {
    char *from;
    size_t bytes, used;
};

/* Only the one thread of a just forked child comes here, in its signal handler. */
static struct region regions[REGIONS_MAX];
static _Atomic unsigned region_count;

static struct region *open_region(size_t least) {
    unsigned count = berth__load_relaxed(&region_count);
    if (count == REGIONS_MAX) {
        return NULL;
    }
    size_t bytes = berth__round_up(berth__max(least, REGION_BYTES), berth__page_bytes);
    char *at = berth__pages_reserve(bytes, berth__page_bytes);
    if (at == NULL || berth__pages_commit(at, bytes) != 0) {
        return NULL;
    }
    berth__meta_count(bytes);
    regions[count] = (struct region){.from = at, .bytes = bytes};
    berth__store_release(&region_count, count + 1);
    return &regions[count];
}

void *berth__emergency_alloc(size_t size, size_t alignment) {
    if (size > PTRDIFF_MAX / 4 || alignment > PTRDIFF_MAX / 4) {
        return NULL;
    }
    alignment = berth__max(alignment, HEADER_BYTES);
    size_t most = size + alignment + HEADER_BYTES;
    unsigned count = berth__load_relaxed(&region_count);
    struct region *region = count == 0 ? NULL : &regions[count - 1];
    if (region == NULL || region->bytes - region->used < most) {
        region = open_region(most);
    }
    if (region == NULL) {
        return NULL;
    }
    uintptr_t at = (uintptr_t)region->from + region->used + HEADER_BYTES;
    char *block = (char *)berth__round_up(at, alignment);
    ((size_t *)(void *)block)[-1] = size;
    region->used = (size_t)(block - region->from) + size;
    return block;
}

bool berth__emergency_owns(const void *block) {
    unsigned count = berth__load_acquire(&region_count);
    for (unsigned i = 0; i < count; i++) {
        if ((uintptr_t)block - (uintptr_t)regions[i].from < regions[i].bytes) {
            return true;
        }
    }
    return false;
}

size_t berth__emergency_size(const void *block) {
    return ((const size_t *)block)[-1];
}
