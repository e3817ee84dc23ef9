#include "heap/io.h"

#include "base/check.h"
#include "heap/arena_inside.h"
#include "os/pages.h"

_Atomic bool berth__io_any_inherited;

size_t berth__io_list(struct berth__arenas *arenas, struct berth__io_chunk *chunks,
                      size_t capacity) {
    size_t count = 0;
    struct berth__arena *arena;
    for (BERTH_EACH_ARENA(arena, arenas)) {
        berth__lock_acquire(&arena->lock);
        for (struct berth__list *at = arena->chunks.next; at != &arena->chunks; at = at->next) {
            struct berth__chunk *chunk = BERTH_LIST_ENTRY(at, struct berth__chunk, owner_link);
            if (count < capacity) {
                chunks[count] = (struct berth__io_chunk){chunk->at, chunk->committed, chunk->asked};
            }
            count++;
        }
        berth__lock_release(&arena->lock);
    }
    return count;
}

static struct berth__chunk *find_locked(struct berth__arena *arena, const void *at)
    BERTH_REQUIRES(arena->lock) {
    struct berth__list *chunks = &arena->chunks;
    for (struct berth__list *link = chunks->next; link != chunks; link = link->next) {
        struct berth__chunk *chunk = BERTH_LIST_ENTRY(link, struct berth__chunk, owner_link);
        if (chunk->at == at) {
            return chunk;
        }
    }
    return NULL;
}

bool berth__io_hold(struct berth__arenas *arenas, void *at) {
    bool held = false;
    struct berth__arena *arena;
    for (BERTH_EACH_ARENA(arena, arenas)) {
        berth__lock_acquire(&arena->lock);
        struct berth__chunk *chunk = find_locked(arena, at);
        held = chunk != NULL;
        if (held) {
            berth__add_acq_rel(&chunk->registrations, 1); /* F1 */
        }
        berth__lock_release(&arena->lock);
        if (held) {
            break;
        }
    }
    return held;
}

void berth__io_let_go(void *at) {
    struct berth__chunk *chunk = berth__chunk_of(at);
    struct berth__arena *arena = chunk->arena;
    berth__lock_acquire(&arena->lock);
    uint32_t before = berth__sub_acq_rel(&chunk->registrations, 1); /* F1 */
    BERTH_CHECK(before > 0, "a registration ended twice");
    if (before == 1 && chunk->asked) {
        chunk->asked = false;
        berth__ledger_asked(arena->arenas->ledger, chunk->committed);
        berth__add_relaxed(&arena->arenas->io_changes, 1); /* it may be in use again */
    }
    berth__arena_settle_unlock(arena, chunk, berth__arena_counts_of(chunk));
}

void berth__io_ask(struct berth__arena *arena) {
    struct berth__arenas *arenas = arena->arenas;
    bool any = false;
    berth__lock_acquire(&arena->lock);
    for (struct berth__list *at = arena->chunks.next; at != &arena->chunks; at = at->next) {
        struct berth__chunk *chunk = BERTH_LIST_ENTRY(at, struct berth__chunk, owner_link);
        if (!chunk->asked && berth__chunk_is_empty(chunk) &&
            berth__load_relaxed(&chunk->registrations) > 0) {
            chunk->asked = true;
            any = true;
            berth__ledger_ask(arenas->ledger, chunk->committed);
        }
    }
    berth__lock_release(&arena->lock);
    if (any) {
        berth__add_relaxed(&arenas->io_changes, 1);
    }
}

bool berth__io_unwipe(struct berth__chunk *chunk) {
    if (chunk->wiped && !berth__pages_keep_on_fork(chunk->at, chunk->committed)) {
        return false;
    }
    chunk->wiped = false;
    return true;
}

void berth__io_inherit(struct berth__arenas *arenas) {
    berth__store_relaxed(&arenas->inherited, true);
    berth__store_relaxed(&berth__io_any_inherited, true);
}
