/*
 * If this fails, a wrong option in BERTH_CONF is not reported, is reported more than once or with
 * a message that does not help, or stops a process that did not ask for that.
 */
#include "edge.h"

/* Starts this program with a configuration; NULL: without. */
static void run_with(const char *conf, struct edge_outcome *outcome) {
    if (conf == NULL) {
        CHECK(unsetenv("BERTH_CONF") == 0);
    } else {
        CHECK(setenv("BERTH_CONF", conf, 1) == 0);
    }
    edge_run_self("allocate_a_little", outcome);
}

static void allocate_a_little(void) {
    for (size_t size = 1; size < 10u << 20; size *= 3) {
        free(malloc(size));
    }
}

/* One line for each wrong option, which contains these words. */
static void expect_line(const char *conf, const char *const words[]) {
    struct edge_outcome outcome;
    run_with(conf, &outcome);
    if (!edge_passed(&outcome)) {
        FAIL("\"%s\": status %#x: %s", conf, (unsigned)outcome.status, outcome.text);
    }
    if (edge_lines(outcome.text) != 1 || strncmp(outcome.text, "berth: ", 7) != 0) {
        FAIL("\"%s\": not one line: %s", conf, outcome.text);
    }
    for (size_t i = 0; words[i] != NULL; i++) {
        if (strstr(outcome.text, words[i]) == NULL) {
            FAIL("\"%s\": no %s in: %s", conf, words[i], outcome.text);
        }
    }
}

static void expect_silence(const char *conf) {
    struct edge_outcome outcome;
    run_with(conf, &outcome);
    if (!edge_passed(&outcome) || outcome.length != 0) {
        FAIL("\"%s\": status %#x: %s", conf, (unsigned)outcome.status, outcome.text);
    }
}

#define EXPECT_LINE(conf, ...) expect_line(conf, (const char *const[]){__VA_ARGS__, NULL})

static void good_options_are_taken_in_silence(void) {
    static const char *const good[] = {
        NULL,
        "",
        ",",
        ",,,",
        "limit:none",
        "limit:auto",
        "limit:1G",
        "limit:64M,",
        ",limit:64M",
        "limit:67108864",
        "limit_reserve:1M",
        "limit_reserve:0",
        "chunk:256K",
        "chunk:4M",
        "chunk:1048576",
        "arenas:0",
        "arenas:1",
        "arenas:64",
        "cache:0",
        "cache:1M",
        "decay_ms:0",
        "decay_ms:3600000",
        "reclaim:true",
        "reclaim:false",
        "wait_ms:0",
        "wait_ms:511",
        "maintenance:false",
        "thp:never",
        "thp:auto",
        "thp:always",
        "span:0",
        "span:1G",
        "abort_conf:true",
        "abort_conf:false",
        "stats_print:false",
        "limit:1G,chunk:1M,arenas:2,cache:4M,decay_ms:100,thp:never,abort_conf:true"};
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        expect_silence(good[i]);
    }
}

static void an_unknown_name_is_reported_once(void) {
    EXPECT_LINE("nonsense:1", "\"nonsense\"");
    EXPECT_LINE("nonsense", "\"nonsense\"");
    EXPECT_LINE("Limit:64M", "\"Limit\"");
    EXPECT_LINE("limit :64M", "\"limit \"");
    EXPECT_LINE(" limit:64M", "\" limit\"");
    EXPECT_LINE(":64M", "\"\"");
    EXPECT_LINE("limit:64M,nonsense:1,chunk:1M", "\"nonsense\"");
}

static void a_bad_value_is_reported_with_what_is_allowed(void) {
    EXPECT_LINE("limit:lots", "limit", "\"lots\"", "64M", "none", "auto");
    EXPECT_LINE("limit:", "limit", "\"\"");
    EXPECT_LINE("limit", "limit", "\"\"");
    EXPECT_LINE("limit:-1", "limit", "\"-1\"");
    EXPECT_LINE("limit:1", "limit", "\"1\"", "1M");
    EXPECT_LINE("limit:1.5G", "limit", "\"1.5G\"");
    EXPECT_LINE("limit:64MX", "limit", "\"64MX\"");
    EXPECT_LINE("limit:99999999999999999999", "limit");
    EXPECT_LINE("limit:16777216T", "limit");
    EXPECT_LINE("chunk:3M", "chunk", "\"3M\"", "256K", "4M");
    EXPECT_LINE("chunk:8M", "chunk", "\"8M\"", "256K", "4M");
    EXPECT_LINE("chunk:64K", "chunk", "\"64K\"", "256K", "4M");
    EXPECT_LINE("arenas:65", "arenas", "\"65\"", "0", "64");
    EXPECT_LINE("arenas:2K", "arenas", "\"2K\"");
    EXPECT_LINE("decay_ms:-1", "decay_ms", "\"-1\"");
    EXPECT_LINE("decay_ms:3600001", "decay_ms", "3600000");
    EXPECT_LINE("reclaim:maybe", "reclaim", "\"maybe\"", "true", "false");
    EXPECT_LINE("reclaim:TRUE", "reclaim", "\"TRUE\"");
    EXPECT_LINE("thp:sometimes", "thp", "never", "auto", "always");
    EXPECT_LINE("abort_conf:perhaps", "abort_conf");
}

/* A power of two is asked for, so the message must say it. */
static void a_chunk_that_is_no_power_of_two_is_told_so(void) {
    EXPECT_LINE("chunk:3M", "power of two");
}

static void every_bad_option_has_a_line(void) {
    struct edge_outcome outcome;
    run_with("one:1,limit:no,two:2,chunk:5M,limit:1G,arenas:1000", &outcome);
    CHECK(edge_passed(&outcome));
    CHECK_EQUAL(edge_lines(outcome.text), 5);
}

static void good_options_beside_bad_ones_hold(void) {
    struct edge_outcome outcome;
    CHECK(setenv("BERTH_CONF", "nonsense:1,limit:8M,more:2", 1) == 0);
    edge_run_self("meet_a_limit_of_8_mib", &outcome);
    if (!edge_passed(&outcome)) {
        FAIL("status %#x: %s", (unsigned)outcome.status, outcome.text);
    }
}

static void meet_a_limit_of_8_mib(void) {
    size_t total = 0;
    while (malloc(10000) != NULL) {
        total += 10000;
        CHECK(total < 8u << 20);
    }
    CHECK(errno == ENOMEM && total > 4u << 20);
    CHECK(malloc(16) != NULL); /* of the reserve: somebody must report the failure */
}

/* A program that tries for much and then does with less has not used the reserve up. */
static void fail_to_get_much_first(void) {
    errno = 0;
    CHECK(malloc(16u << 20) == NULL && errno == ENOMEM);
    CHECK(calloc(1, 16u << 20) == NULL && errno == ENOMEM);
    meet_a_limit_of_8_mib();
}

static void a_large_failure_leaves_the_reserve_alone(void) {
    struct edge_outcome outcome;
    CHECK(setenv("BERTH_CONF", "limit:8M", 1) == 0);
    edge_run_self("fail_to_get_much_first", &outcome);
    if (!edge_passed(&outcome)) {
        FAIL("status %#x: %s", (unsigned)outcome.status, outcome.text);
    }
}

static void the_last_of_two_values_holds(void) {
    struct edge_outcome outcome;
    CHECK(setenv("BERTH_CONF", "limit:1G,limit:8M", 1) == 0);
    edge_run_self("meet_a_limit_of_8_mib", &outcome);
    CHECK(edge_passed(&outcome));
}

static void abort_conf_stops_the_process(void) {
    static const char *const bad[] = {"abort_conf:true,nonsense:1", "nonsense:1,abort_conf:true",
                                      "chunk:3M,abort_conf:true",
                                      "abort_conf:1,limit:", "abort_conf:on,limit:no,nonsense"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct edge_outcome outcome;
        run_with(bad[i], &outcome);
        CHECK(edge_died_of(&outcome, SIGABRT));
        CHECK(strstr(outcome.text, "abort_conf") != NULL);
        CHECK(edge_lines(outcome.text) >= 2); /* what is wrong, and that it stops for that */
    }
}

/* What a user pastes must not overflow or garble anything. */
static void long_and_strange_text_is_survived(void) {
    static char text[20000];
    struct edge_outcome outcome;
    memset(text, 'x', sizeof(text) - 1);
    run_with(text, &outcome);
    CHECK(edge_passed(&outcome));
    CHECK_EQUAL(edge_lines(outcome.text), 1);
    memcpy(text, "limit:", 6);
    run_with(text, &outcome);
    CHECK(edge_passed(&outcome));
    CHECK_EQUAL(edge_lines(outcome.text), 1);
    CHECK(outcome.length < 400);
    EXPECT_LINE("%s%n%s%d:%s", "%s%n%s%d");
    EXPECT_LINE("limit:%s%n", "%s%n");
    run_with("a\nb:1", &outcome);
    CHECK(edge_passed(&outcome));
}

static void a_line_is_printed_where_stderr_is_closed(void) {
    CHECK(setenv("BERTH_CONF", "nonsense:1", 1) == 0);
    char shell[] = "sh";
    char option[] = "-c";
    char script[] = "exec \"$0\" allocate_a_little 2>&-";
    char program[512] = "";
    CHECK(readlink("/proc/self/exe", program, sizeof(program) - 1) > 0);
    char *const arguments[] = {shell, option, script, program, NULL};
    struct edge_outcome outcome;
    edge_run("/bin/sh", arguments, environ, &outcome);
    CHECK(edge_passed(&outcome));
}

static const struct edge_case cases[] = {
    EDGE_CASE(allocate_a_little),
    EDGE_CASE(good_options_are_taken_in_silence),
    EDGE_CASE(an_unknown_name_is_reported_once),
    EDGE_CASE(a_bad_value_is_reported_with_what_is_allowed),
    EDGE_CASE(a_chunk_that_is_no_power_of_two_is_told_so),
    EDGE_CASE(every_bad_option_has_a_line),
    EDGE_CASE(good_options_beside_bad_ones_hold),
    EDGE_CASE(the_last_of_two_values_holds),
    EDGE_CASE(a_large_failure_leaves_the_reserve_alone),
    EDGE_CASE(abort_conf_stops_the_process),
    EDGE_CASE(long_and_strange_text_is_survived),
    EDGE_CASE(a_line_is_printed_where_stderr_is_closed),
};
static const struct edge_case hidden[] = {
    EDGE_CASE(meet_a_limit_of_8_mib),
    EDGE_CASE(fail_to_get_much_first),
};

int main(int argc, char **argv) {
    return edge_main_hiding(argc, argv, cases, COUNT_OF(cases), hidden, COUNT_OF(hidden));
}
