#include "pool/shared.h"

#include "base/bits.h"
#include "heap/io.h"
#include "pool/api.h"
#include "pool/pool.h"

#include <errno.h>

bool berth__shared_begin(struct berth_pool_options *options, struct berth__memfd *memfd) {
    size_t bytes = berth__round_up(options->memory_size, BERTH_UNIT);
    int error = berth__do_limit_reserve(bytes);
    if (error == 0) {
        error = berth__memfd_make(bytes, memfd);
        if (error != 0) {
            berth__do_limit_release(bytes);
        }
    }
    if (error != 0) {
        errno = -error;
        return false;
    }
    options->memory = memfd->at;
    options->memory_size = memfd->bytes;
    return true;
}

void berth__shared_end(const struct berth__memfd *memfd) {
    if (memfd->at != NULL) {
        berth__memfd_end(memfd);
        berth__do_limit_release(memfd->bytes);
    }
}

int berth__do_pool_memfd(berth_pool *pool, const void **at, size_t *bytes) {
    if (pool->memfd.at == NULL) {
        return -ENOTSUP;
    }
    if (berth__io_is_inherited(berth__pool_arenas(pool))) {
        return -EOWNERDEAD;
    }
    *at = pool->memfd.at;
    *bytes = pool->memfd.bytes;
    return pool->memfd.fd;
}
