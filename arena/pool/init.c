/*
 * What happens when the library is loaded, outside of any allocation.
 */
#include "pool/init.h"
#include "pool/maintenance.h"
#include "pool/options.h"

#include "heap/fork.h"
#include <stdlib.h>

static void in_child(void) {
    berth__pressure_reset_in_child();
    berth__maintenance_reset_in_child();
}

__attribute__((constructor)) static void at_load(void) {
    berth__pool_register_locks();
    berth__fork_init(in_child);
    if (BERTH_DOOR && getenv("BERTH_CONF") != NULL) { /* else the options need not be read yet */
        berth__maintenance_start();
    }
}
