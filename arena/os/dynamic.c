#include "os/dynamic.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>

/* Weak, so that a static link neither needs nor complains about them. */
/* NOLINTBEGIN(readability-redundant-declaration) */
__attribute__((weak)) extern __typeof__(dlsym) dlsym;
__attribute__((weak)) extern __typeof__(dladdr) dladdr;
/* NOLINTEND(readability-redundant-declaration) */

/* dlsym looks at its return address to know who asks. If it is called as the last act of a
 * function, that is somebody else's: volatile keeps the call from being one. */
const void *berth__dynamic_find(const char *symbol) {
    const void *volatile found = dlsym == NULL ? NULL : dlsym(RTLD_DEFAULT, symbol);
    return found;
}

const void *berth__dynamic_find_next(const char *symbol) {
    const void *volatile found = dlsym == NULL ? NULL : dlsym(RTLD_NEXT, symbol);
    return found;
}

const char *berth__dynamic_path(const void *address) {
    Dl_info info;
    bool found = dladdr != NULL && dladdr(address, &info) != 0 && info.dli_fname != NULL;
    return found ? info.dli_fname : "?";
}
