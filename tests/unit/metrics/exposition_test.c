/* Several processes in one exposition: families stand together, names and types are as Prometheus
 * and OpenMetrics want them. */
#include "unit.h"

#include "metrics/exposition.h"

#include <string.h>

static char written[1 << 20];
static size_t written_bytes;

static void keep(void *context, const char *text, size_t length) {
    (void)context;
    UNIT_CHECK(written_bytes + length < sizeof(written));
    memcpy(written + written_bytes, text, length);
    written_bytes += length;
    written[written_bytes] = '\0';
}

/* Two processes: each with its own figures and one pool; the second knows one metric less. */
static struct berth__row process_rows[2], pool_rows[2], slow_rows[2];
static struct berth__level_info fewer[BERTH_LEVEL_COUNT];
static struct berth__snapshot snapshots[2];
static struct berth__source sources[2] = {
    {.snapshot = &snapshots[0], .labels = "pid=\"7\",comm=\"a\""},
    {.snapshot = &snapshots[1], .labels = "pid=\"8\",comm=\"b\\\"\""},
};

static void prepare(void) {
    memcpy(fewer, berth__levels, sizeof(fewer));
    fewer[BERTH_LEVEL_PROCESS].metrics++; /* no limit_bytes, and all others one place earlier */
    fewer[BERTH_LEVEL_PROCESS].count--;
    for (unsigned i = 0; i < 2; i++) {
        snapshots[i] = (struct berth__snapshot){
            .version = "0.1.0", .levels = i == 0 ? berth__levels : fewer, .pid = 7 + i};
        snapshots[i].rows[BERTH_LEVEL_PROCESS] = &process_rows[i];
        snapshots[i].rows[BERTH_LEVEL_POOL] = &pool_rows[i];
        snapshots[i].count[BERTH_LEVEL_PROCESS] = snapshots[i].count[BERTH_LEVEL_POOL] = 1;
        strcpy(pool_rows[i].pool, "default");
        for (unsigned v = 0; v < 60; v++) {
            process_rows[i].of.value[v] = pool_rows[i].of.value[v] = 1000 * (i + 1) + v;
        }
    }
    process_rows[0].of.process.limit_bytes = UINT64_MAX;
    for (unsigned i = 0; i < 2; i++) {
        snapshots[i].rows[BERTH_LEVEL_SLOW] = &slow_rows[i];
        snapshots[i].count[BERTH_LEVEL_SLOW] = 1;
        strcpy(slow_rows[i].pool, "refill");
        slow_rows[i].of.slow =
            (struct berth_slow_metrics){.total_ns = 1500, .within_512_ns = 2, .within_1024_ns = 1};
    }
}

static const char *expose(enum berth__dialect dialect) {
    struct berth__output out;
    prepare();
    written_bytes = 0;
    berth__output_init(&out, keep, NULL);
    berth__exposition_write(&out, dialect, berth__levels, sources, 2);
    berth__exposition_end(&out, dialect);
    return written;
}

static void expect(const char *text, const char *part) {
    if (strstr(text, part) == NULL) {
        fail_msg("\"%s\" is not in what was written", part);
    }
}

static unsigned times(const char *text, const char *part) {
    unsigned count = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part)) {
        count++;
    }
    return count;
}

/* Broken: Prometheus would take only the first part of a family that is cut in two. */
static void samples_of_a_family_stand_together(void **state) {
    (void)state;
    const char *text = expose(BERTH_OPENMETRICS);
    expect(text, "# TYPE berth_limit_used_bytes gauge\n# UNIT berth_limit_used_bytes bytes\n"
                 "# HELP berth_limit_used_bytes Bytes charged to the limit.\n"
                 "berth_limit_used_bytes{pid=\"7\",comm=\"a\"} 1001\n"
                 "berth_limit_used_bytes{pid=\"8\",comm=\"b\\\"\"} 2000\n");
    expect(text, "berth_pool_refills_total{pid=\"7\",comm=\"a\",pool=\"default\"} ");
    for (unsigned i = 0; i < berth__levels[BERTH_LEVEL_PROCESS].count; i++) {
        char head[128];
        snprintf(head, sizeof(head), "# TYPE berth_%s ",
                 berth__levels[BERTH_LEVEL_PROCESS].metrics[i].name);
        assert_int_equal(times(text, head), 1);
    }
    expect(text, "berth_build_info{pid=\"7\",comm=\"a\",version=\"0.1.0\"} 1\n");
}

/* Broken: figures of a process that runs an older berth would be those of another metric. */
static void a_metric_that_a_process_lacks_has_no_sample_of_it(void **state) {
    (void)state;
    const char *text = expose(BERTH_OPENMETRICS);
    expect(text, "berth_limit_bytes{pid=\"7\",comm=\"a\"} +Inf\n# TYPE berth_limit_used_bytes");
    assert_int_equal(times(text, "berth_limit_bytes{"), 1);
}

/* Broken: an old Prometheus, or a proxy that asks for text, would refuse the page. */
static void the_classic_format_has_its_own_names(void **state) {
    (void)state;
    const char *text = expose(BERTH_CLASSIC);
    assert_null(strstr(text, "# UNIT"));
    assert_null(strstr(text, "# EOF"));
    expect(text, "# TYPE berth_allocations_total counter\n# HELP berth_allocations_total ");
    expect(text, "# TYPE berth_build_info gauge\n");
    expect(text, "\nberth_allocations_total{pid=\"7\",comm=\"a\"} ");
}

/* Broken: a reader of OpenMetrics would think that it got a part only. */
static void openmetrics_ends_with_its_mark(void **state) {
    (void)state;
    const char *text = expose(BERTH_OPENMETRICS);
    assert_string_equal(text + strlen(text) - 6, "# EOF\n");
    assert_int_equal(times(text, "# EOF"), 1);
}

/* Broken: `promtool check metrics` would complain of a gauge with the name of a histogram's part.
 */
static void no_name_is_that_of_a_part_of_a_histogram(void **state) {
    (void)state;
    const char *text = expose(BERTH_CLASSIC);
    assert_null(strstr(text, "berth_pool_count{"));
    expect(text, "# TYPE berth_pool_blocks gauge\n");
}

/* Broken: quantiles over all processes would be those of one, or nonsense. */
static void a_histogram_is_one_family_of_all_processes(void **state) {
    (void)state;
    const char *text = expose(BERTH_OPENMETRICS);
    assert_int_equal(times(text, "# TYPE berth_slow_path_seconds histogram\n"), 1);
    expect(text, "berth_slow_path_seconds_bucket{pid=\"7\",comm=\"a\",path=\"refill\","
                 "le=\"0.000000512\"} 2\n");
    expect(text, "berth_slow_path_seconds_bucket{pid=\"8\",comm=\"b\\\"\",path=\"refill\","
                 "le=\"0.000001024\"} 3\n");
    expect(text, "path=\"refill\",le=\"+Inf\"} 3\n");
    expect(text, "berth_slow_path_seconds_count{pid=\"7\",comm=\"a\",path=\"refill\"} 3\n"
                 "berth_slow_path_seconds_sum{pid=\"7\",comm=\"a\",path=\"refill\"} "
                 "0.0000015\n");
    text = expose(BERTH_CLASSIC);
    expect(text, "# TYPE berth_slow_path_seconds histogram\n# HELP berth_slow_path_seconds ");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_of_a_family_stand_together),
        cmocka_unit_test(a_metric_that_a_process_lacks_has_no_sample_of_it),
        cmocka_unit_test(the_classic_format_has_its_own_names),
        cmocka_unit_test(openmetrics_ends_with_its_mark),
        cmocka_unit_test(a_histogram_is_one_family_of_all_processes),
        cmocka_unit_test(no_name_is_that_of_a_part_of_a_histogram),
    };
    return UNIT_RUN(tests);
}
