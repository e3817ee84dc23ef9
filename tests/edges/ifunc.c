/*
 * If this fails, a program that allocates in an ifunc resolver, while the loader relocates it, does
 * not start. Thread-local variables have not got their initial values then: they read as zero.
 *
 * Only for dynamic programs: the resolvers of static ones run before there is any thread-local
 * memory, and malloc cannot be called there, whoever provides it.
 */
#include "edge.h"

enum { BLOCKS = 50 };
static char *blocks[BLOCKS];
static unsigned count;

static int chosen(void) {
    return 42;
}

typedef int chosen_function(void);

static chosen_function *resolve(void) {
    for (; count < BLOCKS; count++) {
        blocks[count] = malloc(count * 100u + 1);
        if (blocks[count] == NULL) {
            break;
        }
        blocks[count][0] = blocks[count][count * 100] = (char)count;
    }
    free(malloc(100));
    return chosen;
}

int resolved(void) __attribute__((ifunc("resolve")));

static void a_resolver_can_allocate(void) {
    CHECK(resolved() == 42);
    CHECK_EQUAL(count, BLOCKS);
    for (unsigned i = 0; i < BLOCKS; i++) {
        CHECK(blocks[i][0] == (char)i && blocks[i][i * 100] == (char)i);
        free(blocks[i]);
    }
}

static const struct edge_case cases[] = {EDGE_CASE(a_resolver_can_allocate)};

EDGE_MAIN(cases)
