/* The CPUs' caches of normal blocks: what flows through them goes back. */
#include "figures.h"

static void blocks_that_no_stash_takes_go_back_as_they_are_freed(void **state) {
    /* The memory of a server's burst would stay with it for ever: more would be freed between two
     * slow paths than one of them gives back. */
    (void)state;
    berth_pool *pool = berth_pool_create("long", NULL);
    assert_true(unused_after_freeing(pool, 600, 400000) < 24 * MiB);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_that_no_stash_takes_go_back_as_they_are_freed),
    };
    return UNIT_RUN(tests);
}
