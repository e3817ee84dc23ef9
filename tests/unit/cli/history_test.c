/* The points of a process's last minutes: in their order, no more than there is room for, and each
 * with the figures of its time. */
#include "unit.h"

#include "cli/history.h"

#include <string.h>

/* A process with figures in its first row, and two pools. */
static struct berth__row process_row, pool_rows[2];
static struct berth__stats stats;

static void prepare(void) {
    memset(&stats, 0, sizeof(stats));
    memcpy(stats.levels, berth__levels, sizeof(stats.levels));
    stats.snapshot.levels = stats.levels;
    stats.snapshot.rows[BERTH_LEVEL_PROCESS] = &process_row;
    stats.snapshot.count[BERTH_LEVEL_PROCESS] = 1;
    stats.snapshot.rows[BERTH_LEVEL_POOL] = pool_rows;
    stats.snapshot.count[BERTH_LEVEL_POOL] = 2;
}

static uint64_t value(const struct berth__history_point *point, const char *name) {
    for (unsigned i = 0; i < BERTH_HISTORY_SERIES; i++) {
        if (strcmp(berth__history_series[i].name, name) == 0) {
            return point->value[i];
        }
    }
    fail_msg("no series %s", name);
    return 0;
}

/* Broken: the picture of a process with several pools would show a part of its memory. */
static void a_point_has_the_sums_over_pools(void **state) {
    (void)state;
    prepare();
    process_row.of.process.limit_used_bytes = 70;
    pool_rows[0].of.pool_metrics.slab_lent_bytes = 5;
    pool_rows[1].of.pool_metrics.slab_lent_bytes = 6;
    struct berth__history *history = berth__history_make(3);
    assert_non_null(history);
    berth__history_add(history, &stats, 99, 1000);
    const struct berth__history_point *point = berth__history_at(history, 0);
    assert_int_equal(point->at_ms, 1000);
    assert_int_equal(value(point, "slab_lent_bytes"), 11);
    assert_int_equal(value(point, "limit_used_bytes"), 70);
    assert_int_equal(value(point, "resident_bytes"), 99);
    free(history);
}

/* Broken: the parts of the picture would not add up to what is mapped. */
static void the_parts_of_the_balance_add_up_to_what_is_mapped(void **state) {
    (void)state;
    static const char *const sum[] = {"slab_lent_bytes", "run_lent_bytes",   "huge_bytes",
                                      "file_bytes",      "remote_bytes",     "slab_free_bytes",
                                      "slab_tail_bytes", "run_cached_bytes", "run_free_bytes",
                                      "retained_bytes",  "metadata_bytes"};
    assert_int_equal(BERTH_HISTORY_PARTS, BERTH_ARRAY_COUNT(sum));
    for (unsigned i = 0; i < BERTH_HISTORY_PARTS; i++) {
        assert_string_equal(berth__history_series[i].name, sum[i]);
        assert_true(strlen(berth__history_series[i].label) > 0);
    }
}

/* Broken: a page that is open for long would show a picture with old points in its middle. */
static void the_oldest_point_gives_way(void **state) {
    (void)state;
    prepare();
    struct berth__history *history = berth__history_make(3);
    assert_non_null(history);
    for (unsigned added = 1; added <= 8; added++) {
        process_row.of.process.allocations = added;
        berth__history_add(history, &stats, 0, added * 1000);
        size_t count = added < 3 ? added : 3;
        assert_int_equal(history->count, count);
        for (size_t i = 0; i < count; i++) {
            size_t expected = added - count + 1 + i;
            assert_int_equal(berth__history_at(history, i)->at_ms, expected * 1000);
            assert_int_equal(value(berth__history_at(history, i), "allocations"), expected);
        }
    }
    free(history);
}

/* Broken: the tool would read beyond the tables of a process that runs an older berth. */
static void a_metric_that_the_process_lacks_is_zero(void **state) {
    (void)state;
    prepare();
    stats.levels[BERTH_LEVEL_PROCESS].count = 1;
    process_row.of.process.allocations = 5;
    struct berth__history *history = berth__history_make(1);
    assert_non_null(history);
    berth__history_add(history, &stats, 0, 1);
    assert_int_equal(value(berth__history_at(history, 0), "allocations"), 0);
    free(history);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_point_has_the_sums_over_pools),
        cmocka_unit_test(the_parts_of_the_balance_add_up_to_what_is_mapped),
        cmocka_unit_test(the_oldest_point_gives_way),
        cmocka_unit_test(a_metric_that_the_process_lacks_is_zero),
    };
    return UNIT_RUN(tests);
}
