/* A library that plugin_host.c loads: it allocates and frees by its own bindings. */
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT void *plugin_allocate(size_t size);
EXPORT void plugin_free(void *block);
EXPORT void *plugin_resize(void *block, size_t size);
EXPORT char *plugin_duplicate(const char *text);

static void *early;

/* While dlopen holds the loader's lock. */
__attribute__((constructor)) static void begin(void) {
    early = malloc(12345);
    memset(early, 1, 12345);
}

__attribute__((destructor)) static void end(void) {
    free(early);
    free(malloc(100));
}

void *plugin_allocate(size_t size) {
    return malloc(size);
}

void plugin_free(void *block) {
    free(block);
}

void *plugin_resize(void *block, size_t size) {
    return realloc(block, size);
}

char *plugin_duplicate(const char *text) {
    return strdup(text);
}
