#include "pool/api.h"
#include "pool/pool.h"

#include <errno.h>

/* The ladder's attempt for room for a mapping: like berth_limit_reserve, it only needs the charge,
 * but the mapping itself makes it, so what is tried here is given back at once. */
static void *room_attempt(const struct berth__request *request, unsigned charge_flags,
                          bool anywhere) {
    static char room;
    (void)anywhere;
    struct berth__ledger *ledger = request->arenas->ledger;
    if (!berth__ledger_charge(ledger, request->size, charge_flags)) {
        return NULL;
    }
    berth__ledger_uncharge(ledger, request->size);
    return &room;
}

void *berth__do_map_file(berth_pool *pool, int fd, int64_t offset, size_t length, bool writable) {
    if (length == 0 || length > PTRDIFF_MAX / 2 || offset < 0 ||
        (uint64_t)offset % berth__page_bytes != 0) {
        errno = EINVAL;
        return NULL;
    }
    struct berth__request request = {.arenas = berth__pool_arenas(pool),
                                     .size = berth__round_up(length, berth__page_bytes)};
    void *block = NULL;
    int error = berth__file_map(request.arenas, fd, offset, length, writable, &block);
    if (error == -ENOMEM && berth__reclaim(&request, room_attempt) != NULL) {
        error = berth__file_map(request.arenas, fd, offset, length, writable, &block);
    }
    if (error != 0) {
        errno = -error;
        return NULL;
    }
    return block;
}
