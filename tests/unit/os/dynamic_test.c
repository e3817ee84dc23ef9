/* Symbols of the running program. */
#include "os/dynamic.h"

#include "unit.h"

#include <string.h>

static void a_symbol_of_the_c_library_is_found_with_its_path(void **state) {
    /* Two engines in one process would not find each other, nor name themselves. */
    (void)state;
    const void *found = berth__dynamic_find("getpid");
    assert_non_null(found);
    assert_non_null(strstr(berth__dynamic_path(found), ".so"));
    assert_non_null(berth__dynamic_find_next("getpid"));
}

static void a_symbol_that_nobody_has_is_not_found(void **state) {
    /* The first engine would take something else for another one. */
    (void)state;
    assert_null(berth__dynamic_find("berth_no_such_symbol"));
    assert_null(berth__dynamic_find_next("berth_no_such_symbol"));
    int on_stack = 0;
    assert_string_equal(berth__dynamic_path(&on_stack), "?");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_symbol_of_the_c_library_is_found_with_its_path),
        cmocka_unit_test(a_symbol_that_nobody_has_is_not_found),
    };
    return UNIT_RUN(tests);
}
