/*
 * A bounded set of free normal blocks: a stack for each class, all in one array of entries.
 *
 * Not concurrent: one owner's, or under a lock. The blocks stay lent in their chunks, and are
 * marked as parked there, so that freeing one twice is found at once.
 */
#ifndef BERTH_HEAP_RUN_TABLE_H
#define BERTH_HEAP_RUN_TABLE_H

#include "chunk/chunk.h"
#include "size/classes.h"

enum { BERTH_RUN_TABLE_RUNS = 192 };
_Static_assert((int)BERTH_NORMAL_CLASS_COUNT <= 64, "one word of bits");

struct berth__run_table {
    _Atomic uint32_t count;
    uint32_t least_count; /* since somebody set it: what was not needed */
    berth__count bytes;
    uint64_t held;                           /* a bit per class that has a run */
    uint32_t hand;                           /* the class that gives up a run next */
    uint8_t unused;                          /* first entry that holds no run, plus 1; 0: none */
    uint8_t first[BERTH_NORMAL_CLASS_COUNT]; /* latest run of a class, plus 1; 0: none */
    uint8_t next[BERTH_RUN_TABLE_RUNS];      /* the entry after this one, plus 1 */
    void *run[BERTH_RUN_TABLE_RUNS];
};

/* Of zeroed memory. */
void berth__run_table_init(struct berth__run_table *table);

/* Takes runs out, class by class in turn, until no more than `bytes` and `count` are left: those of
 * classes that have another one first, so that as many classes as possible have one. `classes`: of
 * the runs; NULL if it does not matter. */
unsigned berth__run_table_evict(struct berth__run_table *table, uint64_t bytes, unsigned count,
                                void **runs, uint8_t *classes);

BERTH_INLINE bool berth__run_table_is_full(const struct berth__run_table *table) {
    return table->unused == 0;
}

/* The latest run of a class, still parked, or NULL. */
BERTH_INLINE void *berth__run_table_pop(struct berth__run_table *table, unsigned normal_class) {
    unsigned entry = table->first[normal_class];
    if (entry == 0) {
        return NULL;
    }
    unsigned second = table->next[entry - 1];
    table->first[normal_class] = (uint8_t)second;
    table->held &= ~((uint64_t)(second == 0) << normal_class);
    table->next[entry - 1] = table->unused;
    table->unused = (uint8_t)entry;
    uint32_t left = berth__load_relaxed(&table->count) - 1;
    berth__store_relaxed(&table->count, left);
    table->least_count = (uint32_t)berth__min(table->least_count, left);
    berth__count_sub(&table->bytes, berth__normal_bytes[normal_class]);
    return table->run[entry - 1];
}

/* The table must not be full. */
BERTH_INLINE void berth__run_table_push(struct berth__run_table *table, unsigned normal_class,
                                        void *run) {
    unsigned entry = table->unused;
    table->unused = table->next[entry - 1];
    table->next[entry - 1] = table->first[normal_class];
    table->first[normal_class] = (uint8_t)entry;
    table->held |= UINT64_C(1) << normal_class;
    table->run[entry - 1] = run;
    berth__store_relaxed(&table->count, berth__load_relaxed(&table->count) + 1);
    berth__count_add(&table->bytes, berth__normal_bytes[normal_class]);
}

/* Of a block that is parked, and that the caller took out of its table. */
BERTH_INLINE void berth__run_unpark(void *block) {
    struct berth__chunk *chunk = berth__chunk_of(block);
    berth__chunk_unpark_run(chunk, (size_t)((char *)block - chunk->at) / BERTH_PAGE);
}

#endif
