/*
 * What happens when the library is loaded, outside of any allocation.
 */
#include "heap/fork.h"
#include "pool/init.h"

__attribute__((constructor)) static void at_load(void) {
    berth__pool_register_locks();
    berth__fork_init();
}
