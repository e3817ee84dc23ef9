/* Who asks for metrics gets the format that it prefers, and the classic one when in doubt. */
#include "unit.h"

#include "cli/accept.h"

static void expect_open(const char *accept) {
    if (berth__accept_dialect(accept) != BERTH_OPENMETRICS) {
        fail_msg("not OpenMetrics: %s", accept);
    }
}

static void expect_classic(const char *accept) {
    if (berth__accept_dialect(accept) != BERTH_CLASSIC) {
        fail_msg("not the classic format: %s", accept != NULL ? accept : "nothing");
    }
}

/* Broken: Prometheus would get the format with less in it. */
static void openmetrics_where_it_is_named_and_preferred(void **state) {
    (void)state;
    expect_open("application/openmetrics-text");
    expect_open("application/openmetrics-text; version=1.0.0; charset=utf-8");
    expect_open("APPLICATION/OpenMetrics-Text ;Version=1.0.0 , text/plain;q=0.5");
    expect_open("application/openmetrics-text;version=1.0.0,application/openmetrics-text;"
                "version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1");
    expect_open("text/html, application/openmetrics-text;q=0.2");
}

/* Broken: a browser, curl, or an old scraper would get what it cannot read. */
static void the_classic_format_otherwise(void **state) {
    (void)state;
    expect_classic(NULL);
    expect_classic("");
    expect_classic("*/*");
    expect_classic("text/html,application/xhtml+xml,*/*;q=0.8");
    expect_classic("text/plain;version=0.0.4");
    expect_classic("application/openmetrics-text;q=0");
    expect_classic("application/openmetrics-text;q=0.4, text/plain;q=0.6");
    expect_classic("application/openmetrics-text; version=2.0.0");
    expect_classic("application/openmetrics-textile");
    expect_classic("application/openmetrics");
    expect_classic(";;;,,,;q=1;");
    expect_classic("application/openmetrics-text;q=");
    expect_classic("application/openmetrics-text;q=nonsense");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(openmetrics_where_it_is_named_and_preferred),
        cmocka_unit_test(the_classic_format_otherwise),
    };
    return UNIT_RUN(tests);
}
