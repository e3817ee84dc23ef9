/*
 * If this fails, a program that allocates before main (in constructors, in .preinit_array) does not
 * start, or ignores its options.
 */
#include "edge.h"

#include <pthread.h>

enum { BLOCKS = 200 };

struct stage {
    const char *name;
    void *blocks[BLOCKS];
    unsigned count;
};

static size_t size_of(unsigned i) {
    return (size_t)i * i * 3; /* up to 120 KB */
}

/* In the earliest stages, only the door may be called. */
static void fill_stage(struct stage *stage) {
    for (unsigned i = 0; i < BLOCKS; i++) {
        stage->blocks[i] = malloc(size_of(i));
        if (stage->blocks[i] == NULL) {
            return;
        }
        edge_fill(stage->blocks[i], size_of(i), i);
        stage->count++;
    }
    free(malloc(5u << 20));
    free(calloc(100, 100));
    free(realloc(malloc(10), 1000));
}

static void check_stage(struct stage *stage) {
    if (stage->count != BLOCKS) {
        FAIL("%s: %u blocks", stage->name, stage->count);
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        if (!edge_holds(stage->blocks[i], size_of(i), i)) {
            FAIL("%s: block %u is damaged", stage->name, i);
        }
        free(stage->blocks[i]);
    }
}

/* ---- .preinit_array, constructors ---- */

static struct stage preinit = {.name = "a function of .preinit_array"};

static void run_preinit(void) {
    fill_stage(&preinit);
}
__attribute__((section(".preinit_array"),
               used)) static void (*const preinit_entry)(void) = run_preinit;

static struct stage first = {.name = "the first constructor"};
static struct stage last = {.name = "the last constructor"};
static pthread_t early_thread;

static void *run_thread(void *stage) {
    fill_stage(stage);
    return NULL;
}

static struct stage in_thread = {.name = "a thread that a constructor started"};

__attribute__((constructor(101))) static void begin(void) {
    fill_stage(&first);
    CHECK(pthread_create(&early_thread, NULL, run_thread, &in_thread) == 0);
}

__attribute__((constructor)) static void end(void) {
    fill_stage(&last);
}

static void blocks_from_before_main_are_valid(void) {
    CHECK(pthread_join(early_thread, NULL) == 0);
    struct stage *stages[] = {&preinit, &first, &last, &in_thread};
    for (size_t i = 0; i < COUNT_OF(stages); i++) {
        check_stage(stages[i]);
    }
}

/* The first block of this program is asked for before libc has set its environment up. */
static void options_hold_all_the_same(void) {
    if (!edge_wants_berth()) {
        edge_skip("for berth only");
    }
    struct edge_outcome outcome;
    CHECK(setenv("BERTH_CONF", "no_such_option:1", 1) == 0);
    edge_run_self("blocks_from_before_main_are_valid", &outcome);
    CHECK(edge_passed(&outcome));
    CHECK(strstr(outcome.text, "no_such_option") != NULL);
}

static const struct edge_case cases[] = {
    EDGE_CASE(blocks_from_before_main_are_valid),
    EDGE_CASE(options_hold_all_the_same),
};

EDGE_MAIN(cases)
