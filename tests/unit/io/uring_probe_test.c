/* If this fails, a program that was short of descriptors for a moment does without io_uring for
 * good. */
#include "sockets.h"

#include "io/uring_abi.h"

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
    berth_uring_sender *sender = berth_uring_sender_create(berth_pool_default(), 0, NULL);
    int error = errno;
    (void)allow_descriptors(before);
    assert_int_equal(without, 0);
    assert_null(sender);
    assert_int_equal(error, has_some ? ENOMEM : ENOSYS);
    assert_int_equal(berth_uring_features() != 0, has_some);
}

static void ask_often(void *unused) {
    (void)unused;
    berth__uring_pretend(UINT32_MAX);
    rlim_t before = allow_descriptors(0);
    for (unsigned i = 0; i < 100; i++) {
        UNIT_CHECK(berth_uring_features() == 0);
    }
    (void)allow_descriptors(before);
    UNIT_CHECK(berth_uring_features() == 0);
}

static void a_shortage_that_stays_is_not_asked_about_for_ever(void **state) {
    /* Each send would make system calls. */
    (void)state;
    assert_int_equal(unit_in_child(ask_often, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_are_asked_for_again_once_there_are_descriptors),
        cmocka_unit_test(a_shortage_that_stays_is_not_asked_about_for_ever),
    };
    return UNIT_RUN(tests);
}
