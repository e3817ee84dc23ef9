#include "os/dynamic.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>

/* Weak, so that a static link neither needs nor complains about them. */
/* NOLINTBEGIN(readability-redundant-declaration) */
__attribute__((weak)) extern __typeof__(dlsym) dlsym;
__attribute__((weak)) extern __typeof__(dladdr) dladdr;
__attribute__((weak)) extern int backtrace(void **stack, int depth_max); /* of glibc */
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

struct berth__symbol berth__dynamic_symbol(const void *address) {
    Dl_info info;
    if (dladdr == NULL || dladdr(address, &info) == 0) {
        return (struct berth__symbol){NULL, 0, NULL, 0};
    }
    const char *at = address;
    struct berth__symbol symbol = {.name = info.dli_sname, .path = info.dli_fname};
    symbol.offset = info.dli_saddr == NULL ? 0 : (size_t)(at - (const char *)info.dli_saddr);
    symbol.path_offset = (size_t)(at - (const char *)info.dli_fbase);
    return symbol;
}

void berth__dynamic_describe(struct berth__text *text, const void *address) {
    struct berth__symbol symbol = berth__dynamic_symbol(address);
    if (symbol.name != NULL) {
        berth__text_format(text, "%s+", symbol.name);
        berth__text_hex(text, symbol.offset);
    } else {
        berth__text_hex(text, (uintptr_t)address);
    }
    if (symbol.path != NULL) {
        berth__text_format(text, " (%s+", symbol.path);
        berth__text_hex(text, symbol.path_offset);
        berth__text_char(text, ')');
    }
}

unsigned berth__dynamic_stack(void **stack, unsigned depth_max) {
    int depth = backtrace == NULL ? 0 : backtrace(stack, (int)depth_max);
    return depth < 0 ? 0 : (unsigned)depth;
}
