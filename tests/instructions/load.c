/* load NAME COUNT: the same calls, COUNT times; `run` subtracts two counts from each other, and
 * what the loop itself costs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__)
#define NOINLINE __attribute__((noinline))
#else
#define NOINLINE
#endif

enum { MANY = 100, BYTES = 64 };

static char one[BYTES];

/* Stand in for the allocator: two instructions, and one. */
static NOINLINE void *give(size_t size) {
    (void)size;
    return one;
}

static NOINLINE void take(void *block) {
    (void)block;
}

struct functions {
    void *(*allocate)(size_t);
    void (*release)(void *);
};

static NOINLINE void pairs(const volatile struct functions *functions, long count) {
    for (long i = 0; i < count; i++) {
        functions->release(functions->allocate(BYTES));
    }
}

static NOINLINE void bursts(const volatile struct functions *functions, long count) {
    void *blocks[MANY];
    for (long i = 0; i < count; i += MANY) {
        for (unsigned b = 0; b < MANY; b++) {
            blocks[b] = functions->allocate(BYTES);
        }
        for (unsigned b = 0; b < MANY; b++) {
            functions->release(blocks[b]);
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: load pairs|bursts berth|none COUNT\n");
        return 2;
    }
    struct functions functions = {malloc, free};
    if (strcmp(argv[2], "none") == 0) {
        functions = (struct functions){give, take};
    }
    (strcmp(argv[1], "pairs") == 0 ? pairs : bursts)(&functions, strtol(argv[3], NULL, 10));
    return 0;
}
