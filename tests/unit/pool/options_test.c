/* Options: the parser, what it says of bad ones, and that BERTH_CONF takes effect. */
#include "figures.h"

#include "chunk/ledger.h"
#include "heap/engine.h"
#include "os/cgroup.h"
#include "pool/limit.h"
#include "pool/options.h"
#include "pool/pool.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

static char reports[4096];
static unsigned report_count;

static void report(void *context, const char *message) {
    UNIT_CHECK(context == &report_count);
    size_t length = strlen(reports);
    snprintf(reports + length, sizeof(reports) - length, "%s\n", message);
    report_count++;
}

static unsigned parse(struct berth__options *options, const char *text) {
    berth__options_init(options);
    reports[0] = '\0';
    report_count = 0;
    unsigned bad = berth__options_parse(options, text, report, &report_count);
    UNIT_CHECK(bad == report_count);
    return bad;
}

static void every_option_takes_its_values(void **state) {
    /* A documented option would do nothing. */
    (void)state;
    static const struct {
        const char *text;
        enum berth__option option;
        uint64_t value;
    } cases[] = {
        {"limit:1M", BERTH_OPTION_limit, 1 << 20},
        {"limit:none", BERTH_OPTION_limit, BERTH_OPTION_LIMIT_NONE},
        {"limit:auto", BERTH_OPTION_limit, BERTH_OPTION_LIMIT_AUTO},
        {"limit:1073741824", BERTH_OPTION_limit, 1 << 30},
        {"limit_reserve:0", BERTH_OPTION_limit_reserve, 0},
        {"limit_reserve:1G", BERTH_OPTION_limit_reserve, 1 << 30},
        {"soft_limit:12M", BERTH_OPTION_soft_limit, 12 << 20},
        {"pressure:false", BERTH_OPTION_pressure, 0},
        {"chunk:256K", BERTH_OPTION_chunk, 256 << 10},
        {"chunk:4MiB", BERTH_OPTION_chunk, 4 << 20},
        {"arenas:0", BERTH_OPTION_arenas, 0},
        {"arenas:64", BERTH_OPTION_arenas, 64},
        {"cache:16m", BERTH_OPTION_cache, 16 << 20},
        {"decay_ms:0", BERTH_OPTION_decay_ms, 0},
        {"decay_ms:3600000", BERTH_OPTION_decay_ms, 3600000},
        {"reclaim:false", BERTH_OPTION_reclaim, 0},
        {"reclaim:on", BERTH_OPTION_reclaim, 1},
        {"wait_ms:7", BERTH_OPTION_wait_ms, 7},
        {"maintenance:true", BERTH_OPTION_maintenance, 1},
        {"maintenance:no", BERTH_OPTION_maintenance, 0},
        {"thp:never", BERTH_OPTION_thp, BERTH_OPTION_THP_NEVER},
        {"thp:auto", BERTH_OPTION_thp, BERTH_OPTION_THP_AUTO},
        {"thp:always", BERTH_OPTION_thp, BERTH_OPTION_THP_ALWAYS},
        {"span:1T", BERTH_OPTION_span, (uint64_t)1 << 40},
        {"zerocopy_min:32K", BERTH_OPTION_zerocopy_min, 32768},
        {"send_zc_min:1", BERTH_OPTION_send_zc_min, 1},
        {"fixed_min:1G", BERTH_OPTION_fixed_min, 1 << 30},
        {"mappings:64", BERTH_OPTION_mappings, 64},
        {"stats_page:no", BERTH_OPTION_stats_page, 0},
        {"stats_print:yes", BERTH_OPTION_stats_print, 1},
        {"sample:512K", BERTH_OPTION_sample, 512 << 10},
        {"sample_stack:frames", BERTH_OPTION_sample_stack, BERTH_OPTION_STACK_FRAMES},
        {"sample_stack:unwind", BERTH_OPTION_sample_stack, BERTH_OPTION_STACK_UNWIND},
        {"prof_final:/tmp/a.%p", BERTH_OPTION_prof_final, 1},
        {"prof_final:none", BERTH_OPTION_prof_final, 0},
        {"prof_failure:/tmp/b", BERTH_OPTION_prof_failure, 1},
        {"prof_failure:none", BERTH_OPTION_prof_failure, 0},
        {"leak_print:true", BERTH_OPTION_leak_print, 1},
        {"leak_detect:off", BERTH_OPTION_leak_detect, 0},
        {"leak_detect:simple", BERTH_OPTION_leak_detect, 1},
        {"leak_detect:advanced", BERTH_OPTION_leak_detect, 2},
        {"leak_detect:paranoid", BERTH_OPTION_leak_detect, 3},
        {"leak_report:true", BERTH_OPTION_leak_report, 1},
        {"abort_conf:1", BERTH_OPTION_abort_conf, 1},
    };
    bool seen[BERTH_OPTION_COUNT] = {false};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(cases); i++) {
        struct berth__options options;
        assert_int_equal(parse(&options, cases[i].text), 0);
        assert_true(options.value[cases[i].option] == cases[i].value);
        assert_true(options.is_set[cases[i].option]);
        seen[cases[i].option] = true;
        for (unsigned other = 0; other < BERTH_OPTION_COUNT; other++) {
            assert_true(options.is_set[other] == (other == (unsigned)cases[i].option));
        }
    }
    for (unsigned i = 0; i < BERTH_OPTION_COUNT; i++) {
        assert_true(seen[i]);
    }
}

static void the_defaults_are_what_the_table_says(void **state) {
    /* The documentation would tell of other defaults. */
    (void)state;
    struct berth__options options;
    assert_int_equal(parse(&options, ""), 0);
    assert_true(options.value[BERTH_OPTION_limit] == BERTH_OPTION_LIMIT_NONE);
    assert_int_equal(options.value[BERTH_OPTION_chunk], 4 << 20);
    assert_int_equal(options.value[BERTH_OPTION_wait_ms], 511);
    assert_int_equal(options.value[BERTH_OPTION_limit_reserve], 256 << 10);
    assert_int_equal(options.value[BERTH_OPTION_reclaim], 1);
    assert_int_equal(options.value[BERTH_OPTION_thp], BERTH_OPTION_THP_AUTO);
    assert_int_equal(options.value[BERTH_OPTION_decay_ms], 1000);
    assert_int_equal(options.value[BERTH_OPTION_mappings], 32768);
    for (unsigned i = 0; i < BERTH_OPTION_COUNT; i++) {
        assert_false(options.is_set[i]);
        assert_non_null(berth__option_infos[i].help);
    }
}

static void a_bad_value_is_named_with_its_option_and_changes_nothing(void **state) {
    /* A typing error in a limit would go unnoticed until memory runs out. */
    (void)state;
    static const char *const bad[][2] = {
        {"limit", "12X"},        {"limit", "1023K"},
        {"limit", ""},           {"limit", "-1"},
        {"limit", "Auto"},       {"limit", "16777216T"},
        {"limit_reserve", "2G"}, {"limit_reserve", "x"},
        {"chunk", "3M"},         {"chunk", "128K"},
        {"chunk", "8M"},         {"chunk", "4 M"},
        {"arenas", "65"},        {"arenas", "4K"},
        {"arenas", "two"},       {"cache", "1.5M"},
        {"decay_ms", "1s"},      {"decay_ms", "3600001"},
        {"reclaim", "maybe"},    {"reclaim", "2"},
        {"reclaim", "TRUE"},     {"wait_ms", "99999999999"},
        {"wait_ms", "0x10"},     {"maintenance", ""},
        {"thp", "on"},           {"thp", "neve"},
        {"span", "1TT"},         {"stats_print", "y"},
        {"abort_conf", "nope"},  {"cache", "99999999999999999999999999"},
        {"mappings", "63"},      {"mappings", "many"},
        {"leak_detect", "true"}, {"leak_detect", "simpl"},
    };
    struct berth__options defaults;
    assert_int_equal(parse(&defaults, ""), 0);
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(bad); i++) {
        char text[128];
        char quoted[128];
        struct berth__options options;
        snprintf(text, sizeof(text), "%s:%s", bad[i][0], bad[i][1]);
        snprintf(quoted, sizeof(quoted), "option %s: \"%s\" is not ", bad[i][0], bad[i][1]);
        assert_int_equal(parse(&options, text), 1);
        assert_non_null(strstr(reports, quoted));
        assert_memory_equal(&options, &defaults, sizeof(options));
    }
    struct berth__options options;
    assert_int_equal(parse(&options, "chunk"), 1); /* no value at all */
    assert_int_equal(parse(&options, "arenas:99"), 1);
    assert_non_null(strstr(reports, "from 0 to 64"));
    assert_int_equal(parse(&options, "chunk:1"), 1);
    assert_non_null(strstr(reports, "from 256K to 4M"));
}

static void a_list_is_read_to_its_end_whatever_is_in_it(void **state) {
    /* Options behind a bad one would be lost. */
    (void)state;
    struct berth__options options;
    assert_int_equal(
        parse(&options, ",,limit:2M,nonsense:1,wait_ms:3,wait_ms:4,,lim:3,chunk:x,reclaim:off,"),
        3);
    assert_non_null(strstr(reports, "no option \"nonsense\""));
    assert_non_null(strstr(reports, "no option \"lim\""));
    assert_non_null(strstr(reports, "option chunk: \"x\""));
    assert_int_equal(options.value[BERTH_OPTION_limit], 2 << 20);
    assert_int_equal(options.value[BERTH_OPTION_wait_ms], 4);
    assert_int_equal(options.value[BERTH_OPTION_reclaim], 0);
    char text[3000];
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(parse(&options, text), 1);
    memcpy(text, "chunk:", 6);
    assert_int_equal(parse(&options, text), 1);
    assert_true(strlen(reports) < 300);
}

/* ---- in a process; each case in a child that starts the engine itself ---- */

struct case_of_conf {
    const char *conf;
    void (*check)(void);
};

static void with_conf(void *argument) {
    const struct case_of_conf *now = argument;
    setenv("BERTH_CONF", now->conf, 1);
    berth_pool *pool = berth_pool_default();
    UNIT_CHECK(pool != NULL);
    void *block = berth_alloc(pool, 100);
    UNIT_CHECK(block != NULL);
    berth_free(block);
    if (now->check != NULL) {
        now->check();
    }
}

static const struct berth__policy *policy(void) {
    return &berth__default_arenas()->policy;
}

static void check_all(void) {
    UNIT_CHECK(berth_limit_get() == 64 * MiB);
    UNIT_CHECK(berth__load_relaxed(&berth__ledger.reserve) == 1 * MiB);
    UNIT_CHECK(berth__load_relaxed(&berth__ledger.malloc_reserve) == 1 * MiB);
    UNIT_CHECK(policy()->chunk_bytes == 1 * MiB && policy()->arena_count == 3);
    UNIT_CHECK(policy()->decay_ms == 55 && policy()->wait_ms == 66 && !policy()->reclaim);
    UNIT_CHECK(policy()->malloc_wait_ms == 66 && policy()->thp == BERTH_THP_ALWAYS);
    UNIT_CHECK(figures().cache_budget_bytes == 7 * MiB + MiB / 2);
    berth_pool *pool = berth_pool_create("takes-the-process-s", NULL);
    UNIT_CHECK(berth__pool_arenas(pool)->policy.decay_ms == 55);
}

static void check_defaults(void) {
    UNIT_CHECK(berth_limit_get() == BERTH_UNLIMITED);
    UNIT_CHECK(berth__load_relaxed(&berth__ledger.reserve) == 0);
    UNIT_CHECK(berth__load_relaxed(&berth__ledger.malloc_reserve) == 256 << 10);
    UNIT_CHECK(policy()->wait_ms == 511 && policy()->malloc_wait_ms == 0);
    UNIT_CHECK(policy()->thp == BERTH_THP_AUTO);
}

static void check_never(void) {
    UNIT_CHECK(policy()->thp == BERTH_THP_NEVER);
    UNIT_CHECK(berth_alloc(berth_pool_default(), 100 * MiB) != NULL); /* beyond the small span */
}

static unsigned threads_now(void) {
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    unsigned count = 0;
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        (void)sscanf(line, "Threads: %u", &count);
    }
    fclose(file);
    return count;
}

static void check_maintenance(void) {
    unsigned before = threads_now();
    berth_pool *pool = berth_pool_create("starts-the-thread", NULL);
    UNIT_CHECK(threads_now() == before + 1);
    berth_pool *second = berth_pool_create("not-another", NULL);
    UNIT_CHECK(second != NULL && threads_now() == before + 1);
    void *blocks[100];
    UNIT_CHECK(berth_alloc_batch(pool, 500000, 100, blocks) == 100);
    for (unsigned i = 0; i < 100; i++) {
        memset(blocks[i], 1, 500000);
    }
    berth_free_batch(blocks, 100);
    while (figures_of(pool).run_dirty_bytes + figures().retained_bytes > MiB) {
        sleep_ms(5); /* the thread returns it, or the test is stopped */
    }
}

/* ---- limit:auto, in a root of our own ---- */

static char root[] = "/tmp/berth-options-XXXXXX";

static void write_file(const char *path, const char *text) {
    char whole[256];
    snprintf(whole, sizeof(whole), "%s%s", root, path);
    for (char *at = strchr(whole + strlen(root) + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
        *at = '\0';
        UNIT_CHECK(mkdir(whole, 0700) == 0 || errno == EEXIST);
        *at = '/';
    }
    FILE *file = fopen(whole, "w");
    UNIT_CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void set_cgroup_limit(const char *text) {
    write_file("/sys/fs/cgroup/group/memory.max", text);
}

/* Allocates and frees until the limit is what it should become, or the test is stopped. */
static void until_limit_is(uint64_t limit, size_t block_bytes) {
    while (berth_limit_get() != limit) {
        void *blocks[20];
        UNIT_CHECK(berth_alloc_batch(berth_pool_default(), block_bytes, 20, blocks) == 20);
        berth_free_batch(blocks, 20);
        sleep_ms(5);
    }
}

static void check_auto(void) {
    alarm(UNIT_HANGS_S);
    UNIT_CHECK(berth_limit_get() == 256 * MiB);
    void *huge = berth_alloc(berth_pool_default(), 100 * MiB);
    berth_free(huge);
    set_cgroup_limit("67108864\n");
    until_limit_is(64 * MiB, 100000);
    UNIT_CHECK(berth_limit_used() <= 64 * MiB);
    set_cgroup_limit("134217728\n");
    until_limit_is(128 * MiB, 1000);
    set_cgroup_limit("268435456\n");
    huge = NULL;
    while (huge == NULL) { /* the ladder looks, too, and the request finds room */
        huge = berth_alloc_flags(berth_pool_default(), 200 * MiB, BERTH_NOWAIT);
    }
    UNIT_CHECK(berth_limit_get() == 256 * MiB);
    berth_free(huge);

    struct rlimit few;
    UNIT_CHECK(getrlimit(RLIMIT_NOFILE, &few) == 0);
    struct rlimit none = {.rlim_cur = 0, .rlim_max = few.rlim_max};
    UNIT_CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    berth__limit_refresh(0);
    UNIT_CHECK(berth_limit_get() == 256 * MiB); /* not "none" */
    UNIT_CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);

    UNIT_CHECK(berth_limit_set(32 * MiB) == 0);
    berth__limit_refresh(0);
    UNIT_CHECK(berth_limit_get() == 32 * MiB);
}

static void an_automatic_limit_follows_the_cgroup_s_until_one_is_set(void **state) {
    /* A container that is made smaller would be killed; one that is made larger not be used. */
    (void)state;
    assert_non_null(mkdtemp(root));
    write_file("/proc/self/cgroup", "0::/group\n");
    set_cgroup_limit("268435456\n");
    berth__cgroup_set_root(root);
    struct case_of_conf conf = {"limit:auto", check_auto};
    char line[512];
    assert_int_equal(unit_in_child_line(with_conf, &conf, line, sizeof(line)), 0);
    assert_string_equal(line, "");
    berth__cgroup_set_root(NULL);
    char command[64];
    snprintf(command, sizeof(command), "rm -r %s", root);
    assert_int_equal(system(command), 0);
}

static void the_variable_takes_effect(void **state) {
    /* Options would be parsed and then forgotten. */
    (void)state;
    static const struct case_of_conf cases[] = {
        {"limit:64M,limit_reserve:1M,chunk:1M,arenas:3,decay_ms:55,wait_ms:66,reclaim:false,"
         "cache:10M,thp:always",
         check_all},
        {"", check_defaults},
        {"thp:never,span:16M", check_never},
        {"maintenance:true,decay_ms:20", check_maintenance},
        {"limit:auto", NULL},
    };
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(cases); i++) {
        char line[512];
        if (UNIT_SANITIZED && cases[i].check == check_maintenance) {
            continue;
        }
        assert_int_equal(
            unit_in_child_line(with_conf, (void *)(uintptr_t)&cases[i], line, sizeof(line)), 0);
        assert_string_equal(line, "");
    }
}

static void a_bad_option_is_a_warning_and_fatal_with_abort_conf(void **state) {
    /* Services would not start for a typing error; or start although told not to. */
    (void)state;
    char line[512];
    struct case_of_conf bad = {"chunk:5M", check_defaults};
    assert_int_equal(unit_in_child_line(with_conf, &bad, line, sizeof(line)), 0);
    assert_string_equal(line,
                        "berth: BERTH_CONF: option chunk: \"5M\" is not a size that is a power of "
                        "two, such as 1M, from 256K to 4M; ignored");
    bad.conf = "no_such:1";
    assert_int_equal(unit_in_child_line(with_conf, &bad, line, sizeof(line)), 0);
    assert_non_null(strstr(line, "\"no_such\""));
    bad.conf = "abort_conf:true,no_such:1";
    assert_int_equal(unit_in_child_line(with_conf, &bad, line, sizeof(line)), -SIGABRT);
    assert_non_null(strstr(line, "\"no_such\""));
    bad.conf = "chunk:5M,abort_conf:true";
    assert_int_equal(unit_in_child_line(with_conf, &bad, line, sizeof(line)), -SIGABRT);
    bad.conf = "abort_conf:true,chunk:1M";
    bad.check = NULL;
    assert_int_equal(unit_in_child_line(with_conf, &bad, line, sizeof(line)), 0);
}

int main(void) {
    unsetenv("BERTH_CONF");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_option_takes_its_values),
        cmocka_unit_test(the_defaults_are_what_the_table_says),
        cmocka_unit_test(a_bad_value_is_named_with_its_option_and_changes_nothing),
        cmocka_unit_test(a_list_is_read_to_its_end_whatever_is_in_it),
        cmocka_unit_test(the_variable_takes_effect),
        cmocka_unit_test(an_automatic_limit_follows_the_cgroup_s_until_one_is_set),
        cmocka_unit_test(a_bad_option_is_a_warning_and_fatal_with_abort_conf),
    };
    return UNIT_RUN(tests);
}
