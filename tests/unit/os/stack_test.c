/* Stacks by frame pointers: what is in a frame may be anything. */
#include "unit.h"

#include "os/pages.h"
#include "os/stack.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

enum { MOST = 32, STACK_BYTES = 64 << 10 };

struct frame {
    const void *caller, *place;
};

static int start(void **state) {
    (void)state;
    berth__pages_init(0);
    berth__stack_init();
    return 0;
}

static void *code(void) {
    return (void *)(uintptr_t)&start; /* in a loaded object */
}

/* From a frame on this stack that names `caller`. */
static unsigned walk_from(const void *caller, void **places) {
    volatile struct frame frame = {.caller = caller, .place = code()};
    struct berth__stack stack = {0, 0};
    return berth__stack_walk(&stack, (const void *)&frame, places, MOST);
}

static void garbage_in_a_frame_is_not_followed(void **state) {
    /* A program without frame pointers would die where it allocates. */
    (void)state;
    void *places[MOST];
    static const uintptr_t garbage[] = {0,
                                        1,
                                        8,
                                        4096,
                                        (uintptr_t)-1,
                                        (uintptr_t)-7,
                                        (uintptr_t)-8,
                                        (uintptr_t)-16,
                                        (uintptr_t)-4096,
                                        UINTPTR_MAX / 2,
                                        UINTPTR_MAX / 2 + 1,
                                        (uintptr_t)1 << 47,
                                        ((uintptr_t)1 << 47) - 16};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(garbage); i++) {
        unsigned count = walk_from((const void *)garbage[i], places);
        assert_true(count >= 1 && places[0] == code());
    }
    unsigned on_stack = 0; /* any word above may be taken for a frame */
    for (unsigned i = 0; i < 100; i++) {
        (void)walk_from((const char *)(uintptr_t)&on_stack + 8u * i, places);
    }
    struct unit_random random = {.state = 1};
    for (unsigned i = 0; i < 20000; i++) {
        uintptr_t anywhere = unit_random_next(&random) & ~(uintptr_t)7;
        (void)walk_from((const void *)(anywhere >> (i % 60)), places);
        (void)walk_from((const char *)(uintptr_t)&on_stack + (anywhere >> (35 + i % 29)), places);
    }
}

static void frames_are_followed_outwards(void **state) {
    /* A site would be its innermost call alone. */
    (void)state;
    struct frame frames[10];
    void *places[MOST];
    struct berth__stack stack = {0, 0};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(frames); i++) {
        bool is_last = i + 1 == BERTH_ARRAY_COUNT(frames);
        frames[i] =
            (struct frame){.caller = is_last ? NULL : &frames[i + 1], .place = (char *)code() + i};
    }
    for (unsigned round = 0; round < 3; round++) { /* what is known of the stack is used again */
        assert_int_equal(berth__stack_walk(&stack, frames, places, MOST), 10);
        assert_true(places[0] == code() && places[9] == (char *)code() + 9);
    }
    assert_int_equal(berth__stack_walk(&stack, frames, places, 4), 4);
    frames[5].caller = &frames[5]; /* a circle */
    assert_int_equal(berth__stack_walk(&stack, frames, places, MOST), 6);
    frames[5].caller = &frames[2];
    assert_int_equal(berth__stack_walk(&stack, frames, places, MOST), 6);
}

static void *walk_own_stack(void *unused) {
    frames_are_followed_outwards(NULL);
    garbage_in_a_frame_is_not_followed(NULL);
    return unused;
}

static void the_stacks_of_threads_are_known(void **state) {
    /* In threads, stacks would end at the page. */
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, walk_own_stack, NULL), 0);
    pthread_join(thread, NULL);
}

static void a_stack_that_is_not_the_thread_s_is_read_to_the_page_s_end(void **state) {
    /* A coroutine, or a handler on a signal stack, would read what is not there any more. */
    (void)state;
    size_t page = berth__page_bytes;
    char *memory = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    struct frame *first = (struct frame *)(void *)(memory + page / 2);
    struct frame *second = (struct frame *)(void *)(memory + page - sizeof(*second));
    struct frame *third = (struct frame *)(void *)(memory + page);
    *first = (struct frame){.caller = second, .place = code()};
    *second = (struct frame){.caller = third, .place = code()};
    assert_int_equal(munmap(memory + page, 3 * page), 0);
    void *places[MOST];
    struct berth__stack stack = {0, 0};
    assert_int_equal(berth__stack_walk(&stack, first, places, MOST), 2);
    munmap(memory, page);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(garbage_in_a_frame_is_not_followed),
        cmocka_unit_test(frames_are_followed_outwards),
        cmocka_unit_test(the_stacks_of_threads_are_known),
        cmocka_unit_test(a_stack_that_is_not_the_thread_s_is_read_to_the_page_s_end),
    };
    return cmocka_run_group_tests(tests, start, NULL) == 0 ? 0 : 1;
}
