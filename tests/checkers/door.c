/*
 * Every way to get a block of malloc's family and to give it back, for a checker that puts itself
 * in the place of the door: it must do so for all of them, or for both of a pair.
 */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

static void use(char *block, size_t size) {
    if (block == NULL || malloc_usable_size(block) < size) {
        abort();
    }
    memset(block, 1, size);
    free(block);
}

int main(void) {
    for (size_t size = 1; size < 300000; size = size * 3 + 1) {
        use(malloc(size), size);
        use(calloc(size, 2), size * 2);
        use(realloc(NULL, size), size);
        use(realloc(malloc(size), size * 2), size * 2);
        use(reallocarray(NULL, size, 2), size * 2);
        use(reallocarray(malloc(size), size, 3), size * 3);
        use(memalign(256, size), size);
        use(aligned_alloc(64, (size + 63) / 64 * 64), size);
        use(valloc(size), size);
        void *block = NULL;
        use(posix_memalign(&block, 128, size) == 0 ? block : NULL, size);
        free(strndup("text", size));
    }
    (void)malloc_trim(0);
    return 0;
}
