#include "heap/fork.h"
#include "pool/api.h"
#include "pool/pool.h"

#include <errno.h>

struct mapping {
    struct berth__request request; /* for its bytes */
    struct berth__file file;
    size_t length;
    void **block;
    int *error;
};

/* The ladder's attempt. What it returns only says that no further one is needed: the file is
 * mapped, or it is not memory that is missing. */
static void *map_attempt(const struct berth__request *request, unsigned charge_flags,
                         bool anywhere) {
    static char done;
    (void)anywhere;
    const struct mapping *mapping = BERTH_CONTAINER_OF(request, const struct mapping, request);
    *mapping->error = berth__file_map(request->arenas, &mapping->file, mapping->length,
                                      charge_flags, mapping->block);
    return *mapping->error == -ENOMEM ? NULL : &done;
}

void *berth__do_map_file(berth_pool *pool, int fd, int64_t offset, size_t length, bool writable) {
    if (length == 0 || length > PTRDIFF_MAX / 2 || offset < 0 ||
        (uint64_t)offset % berth__page_bytes != 0) {
        errno = EINVAL;
        return NULL;
    }
    if (berth__fork_must_detour()) {
        errno = EAGAIN;
        return NULL;
    }
    void *block = NULL;
    int error = 0;
    const struct mapping mapping = {
        .request = {.arenas = berth__pool_arenas(pool),
                    .size = berth__round_up(length, berth__page_bytes)},
        .file = {.fd = fd, .offset = offset, .writable = writable},
        .length = length,
        .block = &block,
        .error = &error,
    };
    unsigned charge_flags = berth__request_charge_flags(&mapping.request);
    if (map_attempt(&mapping.request, charge_flags, false) == NULL) {
        (void)berth__reclaim(&mapping.request, map_attempt);
    }
    if (error != 0) {
        errno = -error;
    }
    return block;
}
