/* Text without stdio, and sizes as users write them. */
#include "base/text.h"

#include "unit.h"

#include <string.h>

/* Filled anew by each test. */
static char buffer[64];
static struct berth__text text;

static void start(size_t capacity) {
    memset(buffer, 'x', sizeof(buffer));
    berth__text_init(&text, buffer, capacity);
}

static void numbers_are_written_at_both_ends_of_their_range(void **state) {
    /* Metrics would be wrong where they are large, and addresses in fatal messages. */
    (void)state;
    static const uint64_t numbers[] = {0, 9, 10, 4096, INT64_MAX, UINT64_MAX};
    char expected[64];
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(numbers); i++) {
        snprintf(expected, sizeof(expected), "%lu %ld 0x%lx", numbers[i], (int64_t)numbers[i],
                 numbers[i]);
        start(sizeof(buffer));
        berth__text_uint(&text, numbers[i]);
        berth__text_char(&text, ' ');
        berth__text_int(&text, (int64_t)numbers[i]);
        berth__text_char(&text, ' ');
        berth__text_hex(&text, numbers[i]);
        assert_string_equal(buffer, expected);
    }
    start(sizeof(buffer));
    berth__text_int(&text, INT64_MIN);
    assert_string_equal(buffer, "-9223372036854775808");
}

static void a_format_takes_each_conversion(void **state) {
    /* The last line of a dying process would be garbage, or the second crash. */
    (void)state;
    start(sizeof(buffer));
    berth__text_format(&text, "%s|%c|%d|%u|%zu|%lu|%p|%%|", "word", '!', -7, 8u, (size_t)9, 10ul,
                       (void *)0x1f);
    assert_string_equal(buffer, "word|!|-7|8|9|10|0x1f|%|");
    assert_int_equal(text.length, strlen(buffer));
    assert_false(text.overflow);
}

static void a_format_that_is_not_known_is_no_disaster(void **state) {
    /* A mistake in a message would read behind the format's end. */
    (void)state;
    const char *volatile unknown = "a%q";
    const char *volatile cut = "b%";
    start(sizeof(buffer));
    berth__text_format(&text, unknown, 1);
    assert_string_equal(buffer, "a?");
    berth__text_format(&text, cut, 1);
    assert_string_equal(buffer, "a?b");
}

static void what_does_not_fit_is_cut_and_the_end_is_zero(void **state) {
    /* Long names would write behind the buffer. */
    (void)state;
    start(8);
    berth__text_string(&text, "1234567");
    assert_false(text.overflow);
    berth__text_char(&text, '8');
    assert_true(text.overflow);
    assert_string_equal(buffer, "1234567");
    assert_int_equal(buffer[8], 'x');
    start(1);
    berth__text_uint(&text, 5);
    assert_string_equal(buffer, "");
    assert_true(text.overflow);
}

static void a_size_takes_units_of_1024(void **state) {
    /* A limit in the configuration would be taken for another one. */
    (void)state;
    static const struct {
        const char *text;
        uint64_t value;
    } cases[] = {
        {"0", 0},
        {"64", 64},
        {"64K", 65536},
        {"64k", 65536},
        {"1M", 1 << 20},
        {"2G", UINT64_C(2) << 30},
        {"3T", 3ull << 40},
        {"1KiB", 1024},
        {"1KB", 1024},
        {"1kb", 1024},
        {"1MiB", 1 << 20},
        {"18446744073709551615", UINT64_MAX},
        {"16777215T", 16777215ull << 40},
    };
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(cases); i++) {
        uint64_t value = 1;
        assert_true(berth__parse_size(cases[i].text, strlen(cases[i].text), &value));
        assert_int_equal(value, cases[i].value);
    }
}

static void what_is_no_size_is_refused_and_changes_nothing(void **state) {
    /* A typing error in a limit would become a limit. */
    (void)state;
    static const char *const texts[] = {"",          "K",
                                        "-1",        " 1",
                                        "1 ",        "1X",
                                        "1B",        "1Mi",
                                        "1KK",       "1KiBs",
                                        "0x10",      "1.5M",
                                        "1Kib",      "18446744073709551616",
                                        "16777216T", "99999999999999999999"};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(texts); i++) {
        uint64_t value = 77;
        if (berth__parse_size(texts[i], strlen(texts[i]), &value)) {
            fail_msg("\"%s\" was taken for %lu", texts[i], value);
        }
        assert_int_equal(value, 77);
    }
    uint64_t value = 77;
    assert_true(berth__parse_size("12Mxyz", 3, &value));
    assert_int_equal(value, 12 << 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_written_at_both_ends_of_their_range),
        cmocka_unit_test(a_format_takes_each_conversion),
        cmocka_unit_test(a_format_that_is_not_known_is_no_disaster),
        cmocka_unit_test(what_does_not_fit_is_cut_and_the_end_is_zero),
        cmocka_unit_test(a_size_takes_units_of_1024),
        cmocka_unit_test(what_is_no_size_is_refused_and_changes_nothing),
    };
    return UNIT_RUN(tests);
}
