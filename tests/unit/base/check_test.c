/* Checks, and the lines that they and warnings write. */
#include "base/check.h"

#include "os/warn.h"
#include "unit.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

static void check_number(void *context) {
    const int *number = context;
    BERTH_CHECK(*number == 1, "the number is not one");
}

static void a_check_that_fails_stops_the_process_with_one_line(void **state) {
    /* Corruption would go on silently, or die without a word. */
    (void)state;
    char line[256];
    int number = 1;
    assert_int_equal(unit_in_child_line(check_number, &number, line, sizeof(line)), 0);
    assert_string_equal(line, "");
    number = 2;
    assert_int_equal(unit_in_child_line(check_number, &number, line, sizeof(line)), -SIGABRT);
    assert_ptr_equal(strstr(line, "berth: internal error: the number is not one ("), line);
    assert_non_null(strstr(line, "check_test.c:"));
}

static void end_by_exit(int signal_number) {
    (void)signal_number;
    exit(7);
}

static void check_with_handler(void *context) {
    signal(SIGABRT, end_by_exit);
    check_number(context);
}

static void a_program_may_catch_the_abort(void **state) {
    /* Crash reporters would not see why. */
    (void)state;
    int number = 2;
    assert_int_equal(unit_in_child(check_with_handler, &number), 7);
}

static void assert_number(void *context) {
    const int *number = context;
    BERTH_ASSERT(*number == 1);
}

static void an_assertion_holds_in_debug_builds_only(void **state) {
    /* Debug builds would check nothing, or release builds would pay for it. */
    (void)state;
    char line[256];
    int number = 2;
    int expected = BERTH_DEBUG ? -SIGABRT : 0;
    assert_int_equal(unit_in_child_line(assert_number, &number, line, sizeof(line)), expected);
    assert_int_equal(strstr(line, "*number == 1") != NULL, BERTH_DEBUG);
}

static void warn_with_errno(void *context) {
    errno = ERANGE;
    berth__warn("the option %s has %u faults", (const char *)context, 3u);
    UNIT_CHECK(errno == ERANGE);
}

static void a_warning_is_one_line_and_keeps_errno(void **state) {
    /* free() would change errno, or a warning would be cut. */
    (void)state;
    char line[256];
    char name[] = "limit";
    assert_int_equal(unit_in_child_line(warn_with_errno, name, line, sizeof(line)), 0);
    assert_string_equal(line, "berth: the option limit has 3 faults");
}

static void warn_without_stderr(void *context) {
    close(STDERR_FILENO);
    errno = ERANGE;
    berth__warn("%s", (const char *)context);
    exit(errno == ERANGE ? 0 : 1);
}

static void a_warning_that_nobody_can_read_does_no_harm(void **state) {
    /* A daemon without stderr would hang in a warning. */
    (void)state;
    char text[] = "unheard";
    assert_int_equal(unit_in_child(warn_without_stderr, text), 0);
}

static void warn_twice(void *context) {
    warn_with_errno(context);
    berth__warn("again");
}

static void a_warning_longer_than_the_buffer_still_ends_its_line(void **state) {
    /* The next message of another writer would continue the line. */
    (void)state;
    static char name[2000];
    char line[4000];
    memset(name, 'n', sizeof(name) - 1);
    assert_int_equal(unit_in_child_line(warn_twice, name, line, sizeof(line)), 0);
    assert_int_equal(strlen(line), 510); /* and the newline, in a buffer of 512 */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_check_that_fails_stops_the_process_with_one_line),
        cmocka_unit_test(a_program_may_catch_the_abort),
        cmocka_unit_test(an_assertion_holds_in_debug_builds_only),
        cmocka_unit_test(a_warning_is_one_line_and_keeps_errno),
        cmocka_unit_test(a_warning_that_nobody_can_read_does_no_harm),
        cmocka_unit_test(a_warning_longer_than_the_buffer_still_ends_its_line),
    };
    return UNIT_RUN(tests);
}
