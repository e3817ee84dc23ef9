/* The metrics as text, JSON and OpenMetrics: well-formed, complete, and the same figures. */
#include "figures.h"

#include "metrics/read.h"
#include "os/fault.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>

static char *written;
static size_t written_bytes;
static unsigned pieces;

static void keep(void *context, const char *text, size_t length) {
    UNIT_CHECK(context == &pieces);
    written = realloc(written, written_bytes + length + 1);
    memcpy(written + written_bytes, text, length);
    written_bytes += length;
    written[written_bytes] = '\0';
    pieces++;
}

static const char *write_in(enum berth_metrics_format format, unsigned levels) {
    written_bytes = 0;
    pieces = 0;
    assert_int_equal(berth_metrics_write(format, levels, keep, &pieces), 0);
    assert_int_equal(strlen(written), written_bytes);
    return written;
}

static berth_pool *second;

/* Something to see in every kind of memory, and in two arenas' worth of classes. */
static int start_of_group(void **state) {
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.limit = 100 * MiB;
    second = berth_pool_create("second.pool-1", &options);
    for (unsigned i = 0; i < 40; i++) {
        UNIT_CHECK(berth_alloc(berth_pool_default(), i * 500) != NULL);
        UNIT_CHECK(berth_alloc(second, i * 60000) != NULL);
    }
    UNIT_CHECK(berth_alloc(second, 5 * MiB) != NULL);
    UNIT_CHECK(berth_tag_push("part \"one\" \\") == 0);
    UNIT_CHECK(berth_alloc(berth_pool_default(), 50000) != NULL);
    UNIT_CHECK(berth_tag_pop() == 0);
    berth_thread_flush();
    return 0;
}

/* ---- JSON ---- */

static const char *at;

static void expect_char(char c) {
    if (*at != c) {
        fail_msg("'%c' expected before: %.40s", c, at);
    }
    at++;
}

static void parse_string(char *into, size_t bytes) {
    expect_char('"');
    size_t length = 0;
    while (*at != '"') {
        assert_true(*at >= ' ' && (unsigned char)*at < 0x80 && length + 2 < bytes);
        if (*at == '\\') { /* kept as it is written */
            into[length++] = *at++;
            assert_true(*at == '"' || *at == '\\');
        }
        into[length++] = *at++;
    }
    into[length] = '\0';
    at++;
}

/* Paths such as pools[1].class[3].slabs with their values, as text. */
static struct {
    char path[96];
    char value[32];
} members[20000];
static unsigned member_count;

static void parse_value(const char *path);

static void parse_object(const char *path) {
    expect_char('{');
    while (*at != '}') {
        char name[64];
        char inner[256];
        parse_string(name, sizeof(name));
        expect_char(':');
        snprintf(inner, sizeof(inner), "%s%s%s", path, path[0] != '\0' ? "." : "", name);
        parse_value(inner);
        if (*at == ',') {
            at++;
            assert_int_equal(*at, '"');
        }
    }
    at++;
}

static void parse_array(const char *path) {
    expect_char('[');
    for (unsigned i = 0; *at != ']'; i++) {
        char inner[256];
        snprintf(inner, sizeof(inner), "%s[%u]", path, i);
        parse_value(inner);
        if (*at == ',') {
            at++;
            assert_int_equal(*at, '{');
        }
    }
    at++;
}

static void parse_value(const char *path) {
    if (*at == '{') {
        parse_object(path);
        return;
    }
    if (*at == '[') {
        parse_array(path);
        return;
    }
    assert_true(member_count < BERTH_ARRAY_COUNT(members));
    snprintf(members[member_count].path, sizeof(members[0].path), "%s", path);
    char *value = members[member_count++].value;
    if (*at == '"') {
        parse_string(value, sizeof(members[0].value));
        return;
    }
    size_t length = strcspn(at, ",}]");
    assert_true(length > 0 && length < sizeof(members[0].value));
    memcpy(value, at, length);
    value[length] = '\0';
    assert_true(strcmp(value, "null") == 0 || strspn(value, "0123456789") == length);
    at += length;
}

static void parse_json(const char *text) {
    at = text;
    member_count = 0;
    parse_value("");
    assert_string_equal(at, "\n");
}

static const char *json_value(const char *path) {
    for (unsigned i = 0; i < member_count; i++) {
        if (strcmp(members[i].path, path) == 0) {
            return members[i].value;
        }
    }
    fail_msg("no %s", path);
    return NULL;
}

static void check_member(const char *prefix, const char *name, uint64_t value) {
    char path[128];
    char expected[32] = "null";
    snprintf(path, sizeof(path), "%s%s", prefix, name);
    if (value != UINT64_MAX) {
        snprintf(expected, sizeof(expected), "%llu", (unsigned long long)value);
    }
    assert_string_equal(json_value(path), expected);
}

static void json_has_every_figure_of_the_structures(void **state) {
    /* Tools that read JSON would miss figures, or fail to parse it. */
    (void)state;
    parse_json(write_in(BERTH_METRICS_JSON, BERTH_METRICS_ALL));
    struct berth_process_metrics process = figures();
    struct berth_pool_metrics pool = figures_of(second);
    struct berth_arena_metrics arena;
    assert_int_equal(berth_metrics_read_arena(second, 0, &arena, sizeof(arena)), 0);
    struct berth_class_metrics class;
    assert_int_equal(berth_metrics_read_class(berth_pool_default(), 0, &class, sizeof(class)), 0);
#define X(name, kind, unit, help) check_member("process.", #name, process.name);
    BERTH_PROCESS_METRICS(X)
#undef X
#define X(name, kind, unit, help) check_member("pools[1].", #name, pool.name);
    BERTH_POOL_METRICS(X)
#undef X
#define X(name, kind, unit, help) check_member("pools[1].arena[0].", #name, arena.name);
    BERTH_ARENA_METRICS(X)
#undef X
#define X(name, kind, unit, help) check_member("pools[0].class[0].", #name, class.name);
    BERTH_CLASS_METRICS(X)
#undef X
    struct berth_tag_metrics tag;
    struct berth_slow_metrics slow;
    assert_int_equal(berth_metrics_read_tag("part \"one\" \\", &tag, sizeof(tag)), 0);
    assert_int_equal(berth_metrics_read_slow("limit_wait", &slow, sizeof(slow)), 0);
#define X(name, kind, unit, help) check_member("tags[0].", #name, tag.name);
    BERTH_TAG_METRICS(X)
#undef X
#define X(name, kind, unit, help) check_member("slow[5].", #name, slow.name);
    BERTH_SLOW_METRICS(X)
#undef X
    assert_string_equal(json_value("tags[0].name"), "part \\\"one\\\" \\\\");
    assert_string_equal(json_value("slow[5].name"), "limit_wait");
    assert_string_equal(json_value("pools[0].name"), "default");
    assert_string_equal(json_value("pools[1].name"), "second.pool-1");
    assert_string_equal(json_value("version"), berth_version());
    assert_int_equal(atoi(json_value("pid")), getpid());
    assert_string_equal(json_value("process.limit_bytes"), "null");
}

static void json_is_whole_at_every_choice_of_levels(void **state) {
    /* A reader that asks for less would get something that does not parse. */
    (void)state;
    for (unsigned levels = 0; levels <= BERTH_METRICS_ALL; levels++) {
        const char *text = write_in(BERTH_METRICS_JSON, levels);
        parse_json(text);
        bool pools =
            (levels & (BERTH_METRICS_POOLS | BERTH_METRICS_ARENAS | BERTH_METRICS_CLASSES)) != 0;
        assert_true((strstr(text, "\"pools\":[") != NULL) == pools);
        assert_true((strstr(text, "\"tags\":[") != NULL) == ((levels & BERTH_METRICS_TAGS) != 0));
        assert_true((strstr(text, "\"slow\":[") != NULL) == ((levels & BERTH_METRICS_SLOW) != 0));
        bool arenas = (levels & BERTH_METRICS_ARENAS) != 0;
        assert_true((strstr(text, "\"arena\":[") != NULL) == arenas);
        bool classes = (levels & BERTH_METRICS_CLASSES) != 0;
        assert_true((strstr(text, "\"class\":[") != NULL) == classes);
    }
}

/* ---- OpenMetrics ---- */

struct family {
    char name[96];
    char type[16];
    bool unit, help, samples;
};

static struct family family;
static char names_seen[200][96];
static unsigned names_seen_count;

static bool is_name(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        bool letter = isalpha((unsigned char)text[i]) || text[i] == '_';
        if (!letter && (i == 0 || !isdigit((unsigned char)text[i]))) {
            return false;
        }
    }
    return length > 0;
}

static void check_comment(const char *line) {
    char keyword[8];
    char name[96];
    int rest = 0;
    assert_int_equal(sscanf(line, "# %7s %95s %n", keyword, name, &rest), 2);
    assert_true(is_name(name, strlen(name)));
    if (strcmp(keyword, "TYPE") == 0) {
        for (unsigned i = 0; i < names_seen_count; i++) {
            assert_string_not_equal(names_seen[i], name); /* no family twice, none interleaved */
        }
        assert_true(names_seen_count < 200);
        snprintf(names_seen[names_seen_count++], 96, "%s", name);
        family = (struct family){.unit = false};
        snprintf(family.name, sizeof(family.name), "%s", name);
        snprintf(family.type, sizeof(family.type), "%s", line + rest);
        assert_true(strcmp(family.type, "gauge") == 0 || strcmp(family.type, "counter") == 0 ||
                    strcmp(family.type, "info") == 0 || strcmp(family.type, "histogram") == 0);
        return;
    }
    assert_string_equal(name, family.name);
    assert_false(family.samples);
    if (strcmp(keyword, "UNIT") == 0) {
        assert_false(family.unit);
        family.unit = true;
        size_t length = strlen(name);
        size_t unit_length = strlen(line + rest);
        assert_true(strcmp(line + rest, "bytes") == 0 || strcmp(line + rest, "seconds") == 0);
        assert_true(length > unit_length + 1 && name[length - unit_length - 1] == '_' &&
                    strcmp(name + length - unit_length, line + rest) == 0);
    } else {
        assert_string_equal(keyword, "HELP");
        assert_false(family.help);
        family.help = true;
        assert_true(strlen(line + rest) > 5);
        assert_null(strpbrk(line + rest, "\\\""));
    }
}

static void check_labels(const char *from, const char *to) {
    while (from < to) {
        const char *equals = memchr(from, '=', (size_t)(to - from));
        assert_non_null(equals);
        assert_true(is_name(from, (size_t)(equals - from)));
        assert_int_equal(equals[1], '"');
        const char *close = equals + 2;
        while (close < to && *close != '"') {
            close += *close == '\\' ? 2 : 1;
        }
        assert_true(close < to);
        from = close + 1;
        assert_true(from == to || *from == ',');
        from += *from == ',' && from < to;
    }
}

static const char *histogram_suffix(const char *line, size_t length) {
    static const char *const suffixes[] = {"_bucket", "_count", "_sum"};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(suffixes); i++) {
        size_t bytes = strlen(suffixes[i]);
        if (length > bytes && strncmp(line + length - bytes, suffixes[i], bytes) == 0) {
            return suffixes[i];
        }
    }
    return "";
}

/* Bounds ascend to +Inf, counts do not fall, and the last one is the count. */
static void check_histogram(const char *line, const char *suffix, double value) {
    static double bound;
    static double count;
    static bool whole;
    if (strcmp(suffix, "_bucket") == 0) {
        const char *le = strstr(line, ",le=\"");
        assert_non_null(le);
        bool first = whole || bound == 0;
        double next = strtod(le + 5, NULL); /* of "+Inf", too */
        assert_true(first || (next > bound && value >= count));
        bound = next;
        count = value;
        whole = strncmp(le + 5, "+Inf", 4) == 0;
    } else {
        assert_true(whole && (strcmp(suffix, "_sum") == 0 || value == count));
    }
}

static void check_sample(const char *line) {
    size_t length = strcspn(line, "{ ");
    size_t family_length = strlen(family.name);
    bool histogram = strcmp(family.type, "histogram") == 0;
    const char *suffix = histogram                             ? histogram_suffix(line, length)
                         : strcmp(family.type, "counter") == 0 ? "_total"
                         : strcmp(family.type, "info") == 0    ? "_info"
                                                               : "";
    assert_true(is_name(line, length) && strncmp(line, family.name, family_length) == 0);
    assert_true(length == family_length + strlen(suffix) &&
                strncmp(line + family_length, suffix, strlen(suffix)) == 0);
    assert_true(family.help);
    family.samples = true;
    const char *value = line + length;
    if (*value == '{') {
        const char *close = strstr(value, "} ");
        assert_non_null(close);
        check_labels(value + 1, close);
        value = close + 1;
    }
    expect_char(*value == ' ' ? *at : '\0');
    value++;
    bool fraction = histogram && strcmp(suffix, "_sum") == 0;
    assert_true(strcmp(value, "+Inf") == 0 ||
                strspn(value, fraction ? "0123456789." : "0123456789") == strlen(value));
    assert_true(strcmp(value, "+Inf") != 0 || strcmp(family.type, "gauge") == 0);
    if (histogram) {
        check_histogram(line, suffix, strtod(value, NULL));
    }
}

static void openmetrics_is_as_its_standard_says(void **state) {
    /* Prometheus would refuse the whole page. */
    (void)state;
    for (unsigned levels = 0; levels <= BERTH_METRICS_ALL; levels++) {
        char *text = strdup(write_in(BERTH_METRICS_OPENMETRICS, levels));
        size_t length = strlen(text);
        assert_true(length > 6 && strcmp(text + length - 6, "# EOF\n") == 0);
        text[length - 6] = '\0';
        names_seen_count = 0;
        char *rest = text;
        for (char *line = strsep(&rest, "\n"); rest != NULL; line = strsep(&rest, "\n")) {
            at = line;
            assert_true(*line != '\0' && strchr(line, '\r') == NULL);
            if (*line == '#') {
                check_comment(line);
            } else {
                check_sample(line);
            }
        }
        assert_true(names_seen_count > 20);
        free(text);
    }
}

static void openmetrics_tells_pools_arenas_and_classes_apart(void **state) {
    /* Series of two pools would be one. */
    (void)state;
    const char *text = write_in(BERTH_METRICS_OPENMETRICS, BERTH_METRICS_ALL);
    char line[128];
    snprintf(line, sizeof(line), "\nberth_pool_allocations_total{pool=\"second.pool-1\"} %llu\n",
             (unsigned long long)figures_of(second).allocations);
    assert_non_null(strstr(text, line));
    assert_non_null(strstr(text, "\nberth_pool_limit_bytes{pool=\"default\"} +Inf\n"));
    assert_non_null(strstr(text, "\nberth_pool_limit_bytes{pool=\"second.pool-1\"} 104857600\n"));
    assert_non_null(strstr(text, "\nberth_arena_chunks{pool=\"default\",arena=\"0\"} "));
    assert_non_null(strstr(text, "\nberth_class_slabs{pool=\"default\",size=\"512\"} "));
    assert_null(strstr(text, "{pool=\"second.pool-1\",size=\"512\"}")); /* never used there */
    assert_non_null(
        strstr(text, "\nberth_tag_live_high_bytes{tag=\"part \\\"one\\\" \\\\\"} 53248\n"));
    assert_non_null(strstr(text, "\nberth_pool_blocks{pool=\"tag:part \\\"one\\\" \\\\\"} 1\n"));
    assert_non_null(
        strstr(text, "\nberth_slow_path_seconds_bucket{path=\"purge\",le=\"0.000000512\"} "));
    assert_non_null(
        strstr(text, "\nberth_slow_path_seconds_bucket{path=\"purge\",le=\"4.294967296\"} "));
    snprintf(line, sizeof(line), "\nberth_build_info{version=\"%s\"} 1\n", berth_version());
    assert_non_null(strstr(text, line));
}

/* ---- judged by others ---- */

static bool has_python(const char *module) {
    char command[128];
    snprintf(command, sizeof(command), "python3 -c 'import %s' >/dev/null 2>&1", module);
    int status = system(command);
    return status == 0;
}

static int python(const char *script, enum berth_metrics_format format) {
    char path[] = "/tmp/berth-metrics-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(berth_metrics_write_fd(fd, format, BERTH_METRICS_ALL), 0);
    close(fd);
    char command[512];
    snprintf(command, sizeof(command), "python3 -c '%s' <%s", script, path);
    int status = system(command);
    unlink(path);
    return status;
}

static void readers_of_others_take_the_formats(void **state) {
    /* Our own idea of the formats would be tested with our own idea of them. */
    (void)state;
    if (!has_python("json")) {
        skip();
    }
    assert_int_equal(python("import json, sys\n"
                            "m = json.load(sys.stdin)\n"
                            "assert m[\"pools\"][1][\"name\"] == \"second.pool-1\"\n"
                            "assert m[\"process\"][\"mapped_bytes\"] > 0\n"
                            "assert m[\"tags\"][0][\"name\"] == \"part \\\"one\\\" \\\\\"\n",
                            BERTH_METRICS_JSON),
                     0);
    if (has_python("prometheus_client.openmetrics.parser")) {
        assert_int_equal(python("import sys\n"
                                "from prometheus_client.openmetrics import parser\n"
                                "text = sys.stdin.read()\n"
                                "f = list(parser.text_string_to_metric_families(text))\n"
                                "assert len(f) > 50 and any(len(m.samples) > 1 for m in f)\n",
                                BERTH_METRICS_OPENMETRICS),
                         0);
    }
}

/* ---- text ---- */

static void text_names_every_figure_and_is_cut_anywhere(void **state) {
    /* People would look for a figure in vain; a sink that assumes lines would lose some. */
    (void)state;
    const char *text = write_in(BERTH_METRICS_TEXT, BERTH_METRICS_ALL);
    assert_true(pieces > 1);
    assert_int_equal(text[strlen(text) - 1], '\n');
#define X(name, kind, unit, help) assert_non_null(strstr(text, " " #name " "));
    BERTH_PROCESS_METRICS(X)
    BERTH_POOL_METRICS(X)
    BERTH_TAG_METRICS(X)
#undef X
    assert_non_null(strstr(text, "\ntag part \"one\" \\\n"));
    assert_non_null(strstr(text, "\nslow paths\n  chunk_map             "));
    assert_non_null(strstr(text, "\npool second.pool-1\n"));
    assert_non_null(strstr(text, "\narenas of pool second.pool-1\n"));
    assert_non_null(strstr(text, "\nclasses of pool default\n"));
    assert_non_null(strstr(text, " limit_bytes           none\n"));
    assert_non_null(strstr(text, " limit_bytes           100.0 MiB\n"));
    assert_null(strstr(write_in(BERTH_METRICS_TEXT, 0), "\npool "));
}

/* ---- errors ---- */

static void wrong_arguments_are_refused(void **state) {
    /* A caller's slip would go unnoticed, or write beyond its structure. */
    (void)state;
    assert_int_equal(berth_metrics_write((enum berth_metrics_format)3, 0, keep, NULL), -EINVAL);
    assert_int_equal(berth_metrics_write(BERTH_METRICS_TEXT, 32, keep, NULL), -EINVAL);
    assert_int_equal(berth_metrics_write(BERTH_METRICS_TEXT, 0, NULL, NULL), -EINVAL);
    assert_int_equal(berth_metrics_write_fd(-1, BERTH_METRICS_TEXT, 0), -EBADF);
    struct berth_process_metrics process;
    struct berth_pool_metrics pool;
    struct berth_arena_metrics arena;
    struct berth_class_metrics class;
    assert_int_equal(berth_metrics_read(NULL, sizeof(process)), -EINVAL);
    assert_int_equal(berth_metrics_read_pool(second, NULL, sizeof(pool)), -EINVAL);
    assert_int_equal(berth_metrics_read_pool(NULL, &pool, sizeof(pool)), -EINVAL);
    assert_int_equal(berth_metrics_read_arena(NULL, 0, &arena, sizeof(arena)), -EINVAL);
    assert_int_equal(berth_metrics_read_arena(second, 0, NULL, sizeof(arena)), -EINVAL);
    assert_int_equal(berth_metrics_read_arena(second, 64, &arena, sizeof(arena)), -ENOENT);
    assert_int_equal(berth_metrics_read_class(second, 0, NULL, sizeof(class)), -EINVAL);
    assert_int_equal(berth_metrics_read_class(NULL, 0, &class, sizeof(class)), -EINVAL);
    assert_int_equal(berth_metrics_read_class(second, 92, &class, sizeof(class)), -ENOENT);
    assert_int_equal(berth_metrics_read_class(second, 91, &class, sizeof(class)), 0);
    assert_int_equal(class.size_bytes, 16384);
    struct berth__row row;
    assert_false(berth__row_read(&row, BERTH_LEVEL_POOL, 1000, 0));
    assert_false(berth__row_read(&row, BERTH_LEVEL_COUNT, 0, 0));
}

static void a_program_built_with_other_tables_is_served_what_it_knows(void **state) {
    /* An older program would be written beyond its structure's end; a newer one read garbage. */
    (void)state;
    struct {
        uint64_t values[64];
        uint64_t guard;
    } older, newer;
    memset(&older, 0xaa, sizeof(older));
    memset(&newer, 0xaa, sizeof(newer));
    assert_int_equal(berth_metrics_read((void *)&older, 5 * sizeof(uint64_t)), 0);
    assert_true(older.values[4] == figures().mapped_bytes);
    assert_true(older.values[5] == UINT64_C(0xaaaaaaaaaaaaaaaa));
    assert_int_equal(berth_metrics_read((void *)&newer, sizeof(newer.values)), 0);
    size_t known = sizeof(struct berth_process_metrics) / sizeof(uint64_t);
    assert_int_equal(newer.values[offsetof(struct berth_process_metrics, pools) / 8], 3);
    assert_int_equal(newer.values[known], 0);
    assert_true(newer.values[63] == 0 && newer.guard == UINT64_C(0xaaaaaaaaaaaaaaaa));
}

static void without_memory_for_a_snapshot_nothing_is_written(void **state) {
    /* Half a page would be taken for a whole one; or the process would end. */
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS);
#if BERTH_FAULTS
    written_bytes = 0;
    pieces = 0;
    berth__os_fail_after(BERTH_OS_RESERVE, 0, 1);
    assert_int_equal(berth_metrics_write(BERTH_METRICS_TEXT, 7, keep, &pieces), -ENOMEM);
    berth__os_fail_after(BERTH_OS_COMMIT, 0, 1);
    assert_int_equal(berth_metrics_write(BERTH_METRICS_TEXT, 7, keep, &pieces), -ENOMEM);
    berth__os_fail_after(BERTH_OS_COMMIT, 0, 0);
    assert_int_equal(pieces, 0);
#endif
}

static void write_to_a_full_device(void *unused) {
    (void)unused;
    int fd = open("/dev/full", O_WRONLY);
    UNIT_CHECK(berth_metrics_write_fd(fd, BERTH_METRICS_TEXT, 7) == -ENOSPC);
}

static void an_error_of_the_descriptor_is_told(void **state) {
    /* A full disk would look like a page of metrics. */
    (void)state;
    assert_int_equal(unit_in_child(write_to_a_full_device, NULL), 0);
}

/* ---- at exit ---- */

static void end_with(void *conf) {
    setenv("BERTH_CONF", conf, 1);
    setenv("UNIT_AT_EXIT", "1", 1);
    execl("/proc/self/exe", "write_test", (char *)NULL);
}

static void stats_print_writes_the_metrics_at_exit(void **state) {
    /* The quickest way to see what a program's memory did would be silent; or always there. */
    (void)state;
    char line[256];
    assert_int_equal(unit_in_child_line(end_with, "stats_print:true", line, sizeof(line)), 0);
    assert_int_equal(strncmp(line, "berth 0.", 8), 0);
    assert_non_null(strstr(line, ", process "));
    assert_int_equal(unit_in_child_line(end_with, "stats_print:false", line, sizeof(line)), 0);
    assert_string_equal(line, "");
}

int main(void) {
    if (getenv("UNIT_AT_EXIT") != NULL) {
        return berth_alloc(berth_pool_default(), 1) == NULL;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_has_every_figure_of_the_structures),
        cmocka_unit_test(json_is_whole_at_every_choice_of_levels),
        cmocka_unit_test(openmetrics_is_as_its_standard_says),
        cmocka_unit_test(openmetrics_tells_pools_arenas_and_classes_apart),
        cmocka_unit_test(readers_of_others_take_the_formats),
        cmocka_unit_test(text_names_every_figure_and_is_cut_anywhere),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(a_program_built_with_other_tables_is_served_what_it_knows),
        cmocka_unit_test(without_memory_for_a_snapshot_nothing_is_written),
        cmocka_unit_test(an_error_of_the_descriptor_is_told),
        cmocka_unit_test(stats_print_writes_the_metrics_at_exit),
    };
    return cmocka_run_group_tests(tests, start_of_group, NULL) == 0 ? 0 : 1;
}
