/* A library that brings libberth along; see both_late.c. */
#include <berth/berth.h>

#include <string.h>

/* Frees the block of the caller's malloc, and tells how many bytes the limit's account has with
 * `more` of its own. */
__attribute__((visibility("default"))) uint64_t plugin_used_bytes(void *block, size_t more);

uint64_t plugin_used_bytes(void *block, size_t more) {
    berth_free(block);
    void *own = berth_alloc(berth_pool_default(), more);
    uint64_t used = own == NULL ? 0 : berth_limit_used();
    berth_free(own);
    return used;
}
