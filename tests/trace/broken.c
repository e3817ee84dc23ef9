/*
 * Allocators that a replay must not let pass, chosen by the variable BROKEN: `twice` lends a block
 * again while it is still lent, `short` lends blocks that overlap by some bytes, `dirty` has
 * callocs that are not zero, `lost` does not move what is in a block. Without it, it is a right
 * one, which never uses memory again.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

enum { BYTES = 64 << 20, PERIOD = 50, HEAD = 16 };

static _Alignas(4096) char memory[BYTES];
static _Atomic size_t used = HEAD;
static _Atomic unsigned count;
static char *_Atomic last;

/* Now and then, if it is broken in this way. */
static int breaks(const char *way) {
    const char *wanted = getenv("BROKEN");
    return wanted && strcmp(wanted, way) == 0 && atomic_fetch_add(&count, 1) % PERIOD == PERIOD - 1;
}

static void *lend(size_t size, size_t alignment) {
    size_t bytes = (size + 2 * HEAD + alignment - 1) & ~(size_t)15;
    size_t at = atomic_fetch_add(&used, bytes);
    if (at + bytes > BYTES)
        return NULL;
    at = (at + HEAD + alignment - 1) & ~(alignment - 1);
    memcpy(memory + at - sizeof size, &size, sizeof size);
    return memory + at;
}

EXPORT void *malloc(size_t size) {
    if (breaks("twice") && last)
        return last;
    if (breaks("short"))
        atomic_fetch_sub(&used, 2 * HEAD);
    char *block = lend(size, HEAD);
    last = block;
    return block;
}

EXPORT void free(void *block) {
    (void)block;
}

EXPORT void *calloc(size_t number, size_t size) {
    char *block = lend(number * size, HEAD);
    if (block && getenv("BROKEN") && strcmp(getenv("BROKEN"), "dirty") == 0)
        block[number * size - 1] = 1;
    return block;
}

EXPORT void *realloc(void *block, size_t size) {
    char *moved = lend(size, HEAD);
    size_t before = 0;
    if (block)
        memcpy(&before, (char *)block - sizeof before, sizeof before);
    if (moved && block && !(getenv("BROKEN") && strcmp(getenv("BROKEN"), "lost") == 0))
        memcpy(moved, block, before < size ? before : size);
    return moved;
}

EXPORT int posix_memalign(void **block, size_t alignment, size_t size) {
    *block = lend(size, alignment);
    return *block ? 0 : 12;
}
