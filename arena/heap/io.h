/*
 * Pools for memory that the kernel reads and writes by itself (the option io).
 *
 * Their chunks are whole: committed at once, from huge pages, and never purged, nor unmapped in
 * part. So what a ring of io_uring registers of them, all of a chunk, is the memory that the
 * program has. A registration is counted (chunk->registrations); as long as there is one, or a pin,
 * the chunk stays in its pool, even empty.
 *
 *     asked   chunk->asked, set by who is short of memory for an empty chunk that is registered:
 * its bytes count as returning. Whoever registered it finds out by `io_changes`, and lets it go
 * when its ring says that it is out of use. The last one to do so clears it
 *
 * Both are changed under the lock of the arena, under which a chunk leaves: nobody registers what
 * has left, nothing leaves that is registered (F1).
 *
 * Fork. In the child the chunks read as zero, so that no page is shared with the parent, whose
 * pages the kernel goes on using. Such a pool is `inherited`: nothing is allocated from it or freed
 * to it, and nobody visits it, for what lies in its blocks (links of remote frees) is gone. A chunk
 * that leaves its pool is a normal slot again, which a child has as it was.
 */
#ifndef BERTH_HEAP_IO_H
#define BERTH_HEAP_IO_H

#include "heap/arenas.h"

enum { BERTH_IO_CHUNK = 2 << 20 };

/* What a ring needs to know of a chunk. */
struct berth__io_chunk {
    void *at;
    size_t bytes;
    bool asked;
};

/* Describes up to `capacity` of the pool's chunks; returns how many there are. */
size_t berth__io_list(struct berth__arenas *arenas, struct berth__io_chunk *chunks,
                      size_t capacity);

/* Counts a registration of the chunk that begins at `at`; false: it is not, or no more, of the
 * pool. */
bool berth__io_hold(struct berth__arenas *arenas, void *at);

/* A registration has ended. The chunk goes if it is empty and this was the last one. */
void berth__io_let_go(void *at);

/* Asks for the registrations of an arena's empty chunks to end. */
void berth__io_ask(struct berth__arena *arena);

/* A chunk's memory is to be as others' again; false if the kernel refuses. */
bool berth__io_unwipe(struct berth__chunk *chunk);

/* In the child of a fork: the pool is the parent's. */
void berth__io_inherit(struct berth__arenas *arenas);

/* True if any pool is, so that most processes need not look further. */
extern _Atomic bool berth__io_any_inherited;

BERTH_INLINE bool berth__io_is_inherited(struct berth__arenas *arenas) {
    return BERTH_UNLIKELY(berth__load_relaxed(&berth__io_any_inherited)) &&
           berth__load_relaxed(&arenas->inherited);
}

#endif
