/*
 * If this fails, a program that has the door in itself, and loads a library that uses libberth, has
 * two engines: two limits of which neither holds, and blocks that cannot be freed everywhere.
 */
#include "edge.h"

#include <dlfcn.h>

static void there_is_one_engine(void) {
    enum { BYTES = 20 << 20 };
    void *plugin = dlopen(getenv("EDGE_PLUGIN"), RTLD_NOW);
    CHECK(plugin != NULL);
    void *symbol = dlsym(plugin, "plugin_used_bytes");
    CHECK(symbol != NULL);
    uint64_t (*used_bytes)(void *, size_t) = NULL;
    memcpy(&used_bytes, &symbol, sizeof(used_bytes));
    void *given = malloc(100);
    char *kept = malloc(BYTES);
    CHECK(given != NULL && kept != NULL);
    CHECK(used_bytes(given, BYTES) >= 2 * BYTES);
    free(kept);
}

static const struct edge_case cases[] = {EDGE_CASE(there_is_one_engine)};

EDGE_MAIN(cases)
