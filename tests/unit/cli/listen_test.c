/* Addresses to listen at: understood, opened on loopback only unless asked otherwise, and closed to
 * pages whose name was made to lead here. */
#include "unit.h"

#include "cli/listen.h"

#include <string.h>

static struct berth__listen place;

static void expect_address(const char *text, const char *host, const char *port) {
    if (!berth__listen_parse(&place, text)) {
        fail_msg("%s: %s", text, place.why);
    }
    assert_string_equal(place.host, host);
    assert_string_equal(place.port, port);
}

static void addresses_are_understood(void **state) {
    (void)state;
    expect_address("127.0.0.1:9464", "127.0.0.1", "9464");
    expect_address("0.0.0.0:0", "0.0.0.0", "0");
    expect_address("[::1]:65535", "::1", "65535");
    expect_address("localhost:80", "localhost", "80");
}

/* Broken: `--listen :9464` would let in the whole network. */
static void no_host_is_the_loopbacks(void **state) {
    (void)state;
    expect_address(":9464", "127.0.0.1", "9464");
}

static void what_is_no_address_is_refused_by_name(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      "9464",
                                      "127.0.0.1",
                                      "127.0.0.1:",
                                      "127.0.0.1:65536",
                                      "127.0.0.1:-1",
                                      "127.0.0.1:+1",
                                      "127.0.0.1: 1",
                                      "127.0.0.1:9464x",
                                      "::1:9464",
                                      "[::1]9464",
                                      "[]:1",
                                      "[:1",
                                      "]:1",
                                      "127.0.0.1:99999999999999999999"};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(bad); i++) {
        if (berth__listen_parse(&place, bad[i])) {
            fail_msg("\"%s\" was taken for %s port %s", bad[i], place.host, place.port);
        }
        assert_non_null(strstr(place.why, bad[i]));
    }
    char long_text[600];
    memset(long_text, 'a', sizeof(long_text));
    memcpy(long_text + sizeof(long_text) - 3, ":1", 3);
    assert_false(berth__listen_parse(&place, long_text));
}

static void port_0_is_a_free_one_that_is_told(void **state) {
    (void)state;
    expect_address("127.0.0.1:0", "127.0.0.1", "0");
    assert_true(berth__listen_open(&place));
    assert_true(place.loopback);
    unsigned port = 0;
    assert_int_equal(sscanf(place.shown, "127.0.0.1:%u", &port), 1);
    assert_true(port > 0);
    struct berth__listen first = place;
    char text[64];
    snprintf(text, sizeof(text), "127.0.0.1:%u", port);
    assert_true(berth__listen_parse(&place, text));
    assert_false(berth__listen_open(&place));
    assert_non_null(strstr(place.why, "Address already in use"));
    assert_non_null(strstr(place.why, "another program has the port"));
    close(first.fd);
}

static void an_address_of_another_machine_is_refused(void **state) {
    (void)state;
    expect_address("192.0.2.1:0", "192.0.2.1", "0");
    assert_false(berth__listen_open(&place));
    assert_non_null(strstr(place.why, "192.0.2.1"));
    expect_address("no.such.host.invalid:0", "no.such.host.invalid", "0");
    assert_false(berth__listen_open(&place));
    assert_non_null(strstr(place.why, "no.such.host.invalid"));
}

/* Broken: a scraper could not call a machine by its name. */
static void who_is_open_to_others_answers_to_any_name(void **state) {
    (void)state;
    expect_address("0.0.0.0:0", "0.0.0.0", "0");
    assert_false(place.loopback);
    assert_true(berth__listen_is_for(&place, "monitored.example:9464"));
}

/* Broken: any web page could have the figures, through a name of its own that it lets resolve to
 * 127.0.0.1. */
static void other_names_than_localhost_are_not_answered_on_loopback(void **state) {
    (void)state;
    expect_address("127.0.0.1:0", "127.0.0.1", "0");
    place.loopback = true;
    assert_true(berth__listen_is_for(&place, NULL));
    assert_true(berth__listen_is_for(&place, "localhost"));
    assert_true(berth__listen_is_for(&place, "LOCALHOST:9464"));
    assert_true(berth__listen_is_for(&place, "127.0.0.1:9464"));
    assert_true(berth__listen_is_for(&place, "[::1]:9464"));
    assert_true(berth__listen_is_for(&place, "[::1]"));
    assert_false(berth__listen_is_for(&place, ""));
    assert_false(berth__listen_is_for(&place, "evil.example"));
    assert_false(berth__listen_is_for(&place, "localhost.evil.example:9464"));
    assert_false(berth__listen_is_for(&place, "127.0.0.1.evil.example"));
    assert_false(berth__listen_is_for(&place, "[::1].evil.example]"));
    char long_name[600];
    memset(long_name, '1', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    assert_false(berth__listen_is_for(&place, long_name));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_understood),
        cmocka_unit_test(no_host_is_the_loopbacks),
        cmocka_unit_test(what_is_no_address_is_refused_by_name),
        cmocka_unit_test(port_0_is_a_free_one_that_is_told),
        cmocka_unit_test(an_address_of_another_machine_is_refused),
        cmocka_unit_test(who_is_open_to_others_answers_to_any_name),
        cmocka_unit_test(other_names_than_localhost_are_not_answered_on_loopback),
    };
    return UNIT_RUN(tests);
}
