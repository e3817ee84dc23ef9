/* If this fails, a program that was short of descriptors for a moment does without io_uring for
 * good. */
#include "sockets.h"

#include <berth/uring.h>

static void ask(void *unused) {
    (void)unused;
    _exit(berth_uring_features() != 0);
}

/* First of all in this process, which knows the answer once it has had one. */
static void features_are_asked_for_again_once_there_are_descriptors(void **state) {
    (void)state;
    int has_some = unit_in_child(ask, NULL); /* which has descriptors */
    rlim_t before = allow_descriptors(0);
    unsigned without = berth_uring_features();
    (void)allow_descriptors(before);
    assert_int_equal(without, 0);
    assert_int_equal(berth_uring_features() != 0, has_some);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_are_asked_for_again_once_there_are_descriptors)};
    return UNIT_RUN(tests);
}
