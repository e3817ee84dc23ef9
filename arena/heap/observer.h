/*
 * What a higher layer is told of: that the clock has moved on, and that this is a child now.
 *
 * `tick` is called by slow paths, some 20 ms apart in each arena; `early`, when memory in use has
 * changed by much since the last one that was heeded, so that the end of a burst does not go
 * unnoticed when the program is silent after it; and by who gives memory back. Under no lock, and
 * in no visit (engine.h). It must allocate nothing, and makes no system call but those of
 * os/pages.h.
 */
#ifndef BERTH_HEAP_OBSERVER_H
#define BERTH_HEAP_OBSERVER_H

#include "base/atomics.h"

struct berth__observer {
    bool (*tick)(bool early); /* true if it was heeded */
    void (*in_child)(void);   /* of a fork; after the engine is in order */
};

/* NULL: nobody. Set once, when the library is loaded. */
extern const struct berth__observer *_Atomic berth__observer;

BERTH_INLINE bool berth__tick(bool early) {
    const struct berth__observer *observer = berth__load_acquire(&berth__observer);
    return observer != NULL && observer->tick(early);
}

#endif
