#include "os/environ.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

/* Of glibc: where the kernel has put argc, argv and the environment. Weak, for other libcs, which
 * set `environ` before anything else. */
extern void *__libc_stack_end __attribute__((weak));

static const char *find(char *const *variables, const char *name) {
    size_t length = strlen(name);
    for (; *variables != NULL; variables++) {
        if (strncmp(*variables, name, length) == 0 && (*variables)[length] == '=') {
            return *variables + length + 1;
        }
    }
    return NULL;
}

static const char *find_on_stack(const char *name) {
    if (&__libc_stack_end == NULL || __libc_stack_end == NULL) {
        return NULL;
    }
    const intptr_t *argument_count = __libc_stack_end;
    char *const *arguments = (char *const *)(argument_count + 1);
    return find(arguments + *argument_count + 1, name);
}

const char *berth__environ_get(const char *name) {
    if (getauxval(AT_SECURE) != 0) {
        return NULL;
    }
    return environ != NULL ? getenv(name) : find_on_stack(name);
}
