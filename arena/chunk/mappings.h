/*
 * How many mappings the kernel keeps for our memory, and a bound on that.
 *
 * The kernel lets a process have so many mappings (vm.max_map_count, 65530 unless set) and no more:
 * then mmap, mprotect and munmap fail for everybody, and no thread gets a stack. Each stretch of
 * addresses that is unlike the one before it is a mapping of its own: committed or only reserved,
 * with another policy for huge pages or NUMA nodes, of a file. A slot holds memory from its start
 * on, so what is in use costs up to two per slot: 8 GiB in chunks of 256 KiB, or 160 GiB of huge
 * blocks of 5 MiB and a page, would be all that a process may have.
 *
 * So the places where one mapping ends and the next begins are counted, from what is known of each
 * slot (struct berth__mapped). Two purposes make more of them, and have bounds:
 *  - to save memory, by unmapping what others surround, or by committing less than whole slots:
 *    up to half of the bound. Beyond, memory is returned without unmapping it (it stays charged),
 *    and chunks and huge blocks get whole slots, which are one mapping with their neighbours;
 *  - to serve a request that nothing else can serve, and to return bytes to a ledger that is
 *    short of them: up to the bound. Beyond, the request fails like one that the kernel refused.
 * What makes no more of them is always allowed.
 *
 * The count is of what is certain or possible, with these exceptions: threads that map at the same
 * moment may pass the bound by 3 each, because what was allowed is counted when it is done; and in
 * the child of a fork, what the parent had committed does not merge with what the child adds to it,
 * which is one more per stretch. The bound is half of what the kernel allows, for these and for the
 * program's own mappings.
 *
 * Guarded by the lock of slots; the count and the bound may be read by anyone.
 */
#ifndef BERTH_CHUNK_MAPPINGS_H
#define BERTH_CHUNK_MAPPINGS_H

#include "base/compiler.h"

enum {
    BERTH_MAPPINGS_BOUND = 32768, /* half of the kernel's default */
};

/* Kinds of memory: only equal ones merge. Any number below 2^31 that tells apart what the kernel
 * tells apart; or this, for memory that is like no other (moved, or of a file). */
#define BERTH_KIND_ALONE UINT32_MAX

enum berth__mappings_purpose {
    BERTH_MAPPINGS_TO_SAVE,
    BERTH_MAPPINGS_TO_SERVE,
};

/* True beyond half of the bound: what is committed should be whole slots. */
bool berth__mappings_are_many(void);

/* True if the first `bytes` of `slots` slots may become all that is committed of these. `kind`: of
 * what is to be committed. */
bool berth__mappings_allow(const char *at, size_t slots, size_t bytes, uint32_t kind,
                           enum berth__mappings_purpose purpose);

/* Says that they have. By who owns the slots, after the kernel agreed; before others can own them.
 */
void berth__mappings_set(const char *at, size_t slots, size_t bytes, uint32_t kind);

/* Says that all of what a slot holds is of this kind now. By its owner. */
void berth__mappings_change_kind(const char *at, uint32_t kind);

/* Says that memory has moved, `bytes` from the start of one slot to the start of another. */
void berth__mappings_move(const char *from, const char *to, size_t bytes);

/* What became of memory that nobody needs. */
enum berth__given {
    BERTH_STAYED,   /* as it was */
    BERTH_EMPTIED,  /* it is still committed, and holds no memory */
    BERTH_UNMAPPED, /* it is only reserved, and may be uncharged */
};

/* Decommits what `slots` slots hold, `held` bytes in a row, beyond the first `keep`, if the number
 * of mappings allows it and the kernel agrees; else purges it. */
enum berth__given berth__mappings_decommit(char *at, size_t slots, size_t keep, size_t held,
                                           enum berth__mappings_purpose purpose) BERTH_MUST_USE;

/* Mappings that do not lie in slots came, or went. */
void berth__mappings_add(int change);

uint64_t berth__mappings_count(void);
void berth__mappings_set_bound(uint64_t bound);

/* In the child of a fork that cut off a change: the count may be too high from then on. */
void berth__mappings_mend_in_child(void);

#endif
