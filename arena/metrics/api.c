/*
 * The exported calls, and the choice of the engine that serves them. See pool/api.h.
 */
#include "pool/api.h"

#include "base/check.h"
#include "os/dynamic.h"

const struct berth__engine_table berth_engine = BERTH_ENGINE_TABLE;

/* The same object under a name that cannot be taken by another library. */
extern const struct berth__engine_table own_engine
    __attribute__((alias("berth_engine"), visibility("hidden")));

/* NULL: this copy's own. */
static const struct berth__engine_table *other_engine;

/* The table that serves this process, among this copy's and the one that the symbol's first bearer
 * has. The door's is found even behind it, because the door looks for itself. */
static const struct berth__engine_table *find_engine(void) {
    const struct berth__engine_table *found = berth__dynamic_find("berth_engine");
    const struct berth__engine_table *door = berth__dynamic_find("berth_door_engine");
    door = door != NULL ? door : &berth_door_engine;
    found = door != NULL ? door : found;
    return BERTH_DOOR || found == NULL ? &own_engine : found;
}

__attribute__((constructor(101))) static void choose_engine(void) {
    const struct berth__engine_table *found = find_engine();
    if (found == &own_engine) {
        return;
    }
    if (found->abi != BERTH_ENGINE_ABI || found->size < sizeof(*found)) {
        berth__fatal("%s and %s are of versions that cannot share a process (%u and %u): load "
                     "the same version of both",
                     berth__dynamic_path(&own_engine), berth__dynamic_path(found),
                     (unsigned)BERTH_ENGINE_ABI, (unsigned)found->abi);
    }
    other_engine = found;
}

#define BERTH_X(result, name, parameters, arguments)                                               \
    result berth_##name parameters {                                                               \
        return BERTH_LIKELY(other_engine == NULL) ? berth__do_##name arguments                     \
                                                  : other_engine->name arguments;                  \
    }
BERTH_PUBLIC_CALLS(BERTH_X)
#undef BERTH_X
