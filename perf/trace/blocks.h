/*
 * Addresses to numbers: which slot the block at an address has. For finish.c, which runs alone and
 * may allocate as it likes.
 */
#ifndef BERTH_PERF_TRACE_BLOCKS_H
#define BERTH_PERF_TRACE_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Not a slot: a block that the replay does not see. */
#define BLOCK_HIDDEN UINT32_MAX

struct blocks {
    uint64_t *addresses; /* 0: free; linear probing */
    uint32_t *slots;
    size_t mask;
    size_t count;
};

void blocks_add(struct blocks *blocks, uint64_t address, uint32_t slot);

/* Forgets the address. False if it was not there. */
bool blocks_take(struct blocks *blocks, uint64_t address, uint32_t *slot);

/* Memory for one who has no use without it. */
void *grown(void *memory, size_t bytes);

_Noreturn void fail(const char *what);

#endif
