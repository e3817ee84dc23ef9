/*
 * Metadata memory: everything the engine allocates for itself.
 *
 * Blocks of 64 bytes to 64 KiB in powers of two, cut from segments that are mapped for the purpose
 * and never given back; freed blocks are kept for reuse by size. Never charged to the ledger, but
 * counted. Memory is zeroed when handed out. Not a general allocator: its callers are few
 * and rare.
 */
#ifndef BERTH_CHUNK_META_H
#define BERTH_CHUNK_META_H

#include "base/compiler.h"
#include "os/lock.h"

enum { BERTH_META_MAX = 65536 };

extern struct berth__lock berth__meta_lock;

/* 1 <= bytes <= BERTH_META_MAX; aligned to the power of two that holds it (at most a page). NULL if
 * the kernel has no more. Any thread; takes the innermost lock. */
void *berth__meta_alloc(size_t bytes);

/* How often the kernel had no more so far. */
uint64_t berth__meta_failures(void);

/* `bytes` as it was asked for. */
void berth__meta_free(void *block, size_t bytes);

/* Bytes of metadata that are mapped readable and writable: the segments here, plus what others
 * add by berth__meta_count (the address table and the chunk records). */
uint64_t berth__meta_bytes(void);
void berth__meta_count(uint64_t bytes);

void berth__meta_init(void);

/* In the child of a fork that interrupted this allocator: forget the free lists and the open
 * segment, keep everything that was handed out. */
void berth__meta_abandon_in_child(void);

#endif
