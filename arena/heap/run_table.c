#include "heap/run_table.h"

void berth__run_table_init(struct berth__run_table *table) {
    for (unsigned i = 0; i + 1 < BERTH_RUN_TABLE_RUNS; i++) {
        table->next[i] = (uint8_t)(i + 2);
    }
    table->unused = 1;
}

/* Those classes that have another run. */
static uint64_t classes_with_two(const struct berth__run_table *table) {
    uint64_t with_two = 0;
    for (uint64_t left = table->held; left != 0; left &= left - 1) {
        unsigned normal_class = berth__lowest_bit(left);
        bool has_two = table->next[table->first[normal_class] - 1] != 0;
        with_two |= (uint64_t)has_two << normal_class;
    }
    return with_two;
}

/* The next of some classes, in turn. */
static unsigned next_class(struct berth__run_table *table, uint64_t classes) {
    uint64_t above = classes >> table->hand >> 1;
    table->hand =
        above != 0 ? table->hand + 1 + berth__lowest_bit(above) : berth__lowest_bit(classes);
    return table->hand;
}

unsigned berth__run_table_evict(struct berth__run_table *table, uint64_t bytes, unsigned count,
                                void **runs, uint8_t *classes) {
    unsigned evicted = 0;
    uint64_t with_two = classes_with_two(table);
    while (berth__load_relaxed(&table->bytes) > bytes ||
           berth__load_relaxed(&table->count) > count) {
        unsigned normal_class = next_class(table, with_two != 0 ? with_two : table->held);
        if (classes != NULL) {
            classes[evicted] = (uint8_t)normal_class;
        }
        runs[evicted++] = berth__run_table_pop(table, normal_class);
        unsigned first = table->first[normal_class];
        if (first == 0 || table->next[first - 1] == 0) {
            with_two &= ~(UINT64_C(1) << normal_class);
        }
    }
    return evicted;
}
