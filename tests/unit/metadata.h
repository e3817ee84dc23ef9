/* For tests of what happens when nothing is left for the engine's own records. */
#ifndef UNIT_METADATA_H
#define UNIT_METADATA_H

#include "chunk/meta.h"
#include "os/fault.h"

#if BERTH_FAULTS
/* Takes all metadata that is committed, of whatever size, and lets no more be committed. */
static inline void unit_use_up_metadata(void) {
    berth__os_fail_after(BERTH_OS_COMMIT, 0, UINT64_MAX);
    for (size_t bytes = BERTH_META_MAX; bytes >= 64; bytes /= 2) {
        while (berth__meta_alloc(bytes) != NULL) {
        }
    }
}
#endif

#endif
