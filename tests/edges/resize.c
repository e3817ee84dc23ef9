/*
 * If this fails, realloc loses or corrupts what a block held, or gives a block that is not usable
 * to its last byte.
 */
#include "edge.h"

static char *resize(char *block, size_t old_size, size_t size, size_t seed) {
    char *moved = realloc(block, size);
    CHECK(moved != NULL);
    CHECK((uintptr_t)moved % 16 == 0);
    CHECK(malloc_usable_size(moved) >= size);
    size_t kept = old_size < size ? old_size : size;
    if (!edge_holds(moved, kept, seed)) {
        FAIL("content lost from %zu to %zu bytes", old_size, size);
    }
    edge_fill(moved, size, seed);
    return moved;
}

/* By a factor that no size class follows, up to sizes that have mappings of their own; down again
 * the same way. */
static void a_block_grows_and_shrinks_through_all_classes(void) {
    for (size_t step = 3; step <= edge_times(3, 9); step += 3) {
        size_t size = 1;
        char *block = malloc(size);
        CHECK(block != NULL);
        edge_fill(block, size, step);
        while (size < 40u << 20) {
            size_t larger = size + size / step + 1;
            block = resize(block, size, larger, step);
            size = larger;
        }
        while (size > 1) {
            size_t smaller = size - size / step - 1;
            block = resize(block, size, smaller > 0 ? smaller : 1, step);
            size = smaller > 0 ? smaller : 1;
        }
        free(block);
    }
}

/* Every pair of a small size with each of many others. */
static void a_block_goes_from_any_size_to_any_other(void) {
    static const size_t sizes[] = {
        1,     15,     16,      17,      100,     512,           513,     1000,    2048,
        4095,  4096,   4097,    8192,    14000,   16384,         16385,   40000,   65536,
        65537, 100000, 1 << 20, 3 << 20, 4 << 20, (4 << 20) + 1, 5 << 20, 8 << 20, 9 << 20};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        for (size_t j = 0; j < COUNT_OF(sizes); j++) {
            char *block = malloc(sizes[i]);
            CHECK(block != NULL);
            edge_fill(block, sizes[i], i);
            block = resize(block, sizes[i], sizes[j], i);
            free(block);
        }
    }
}

/* What the last page holds beyond the old end, after it shrank and grew again, is the caller's. */
static void a_huge_block_shrinks_and_grows_again(void) {
    size_t size = 64u << 20;
    char *block = malloc(size);
    CHECK(block != NULL);
    edge_fill(block, size, 3);
    for (unsigned round = 0; round < edge_times(4, 20); round++) {
        size_t smaller = size / 2 + 4096 * round + 1;
        block = resize(block, size, smaller, 3);
        block = resize(block, smaller, size, 3);
    }
    free(block);
}

/* Huge blocks in each other's way: growth in place is impossible for all but one. */
static void huge_blocks_grow_side_by_side(void) {
    enum { BLOCKS = 6 };
    char *blocks[BLOCKS];
    size_t size = 5u << 20;
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(size);
        CHECK(blocks[i] != NULL);
        edge_fill(blocks[i], size, i);
    }
    for (; size < 24u << 20; size += 3u << 20) {
        for (size_t i = 0; i < BLOCKS; i++) {
            blocks[i] = resize(blocks[i], size, size + (3u << 20), i);
        }
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        CHECK(edge_holds(blocks[i], size, i));
        free(blocks[i]);
    }
}

static void an_aligned_block_can_be_resized(void) {
    for (size_t alignment = 32; alignment <= 16u << 20; alignment *= 2) {
        for (size_t size = 10; size <= 10u << 20; size *= 10) {
            char *block = memalign(alignment, size);
            CHECK(block != NULL);
            edge_fill(block, size, alignment);
            block = resize(block, size, size * 3, alignment);
            block = resize(block, size * 3, size / 2, alignment);
            free(block);
        }
    }
}

/* Shrinking gives memory back: the largest blocks would otherwise stay for a few bytes. */
static void a_huge_block_that_shrinks_to_little_is_let_go(void) {
    enum { BLOCKS = 64 };
    static char *blocks[BLOCKS];
    size_t before = edge_resident_bytes();
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(8u << 20);
        CHECK(blocks[i] != NULL);
        memset(blocks[i], (int)i, 8u << 20);
        blocks[i] = realloc(blocks[i], 100);
        CHECK(blocks[i] != NULL && blocks[i][99] == (char)i);
    }
    size_t after = edge_resident_bytes();
    CHECK(after < before + (128u << 20)); /* of 512 */
    for (size_t i = 0; i < BLOCKS; i++) {
        free(blocks[i]);
    }
}

/* Many blocks of all kinds in random order. */
static void blocks_of_all_kinds_keep_their_content(void) {
    enum { BLOCKS = 400, STEPS = 60000 };
    static char *blocks[BLOCKS];
    static size_t sizes[BLOCKS];
    uint64_t state = 88172645463325252u;
    for (unsigned step = 0; step < STEPS; step++) {
        size_t i = (size_t)(edge_random(&state) % BLOCKS);
        size_t size = edge_random_size(&state) / 4 + 1;
        if (blocks[i] == NULL) {
            blocks[i] = malloc(size);
            CHECK(blocks[i] != NULL);
            edge_fill(blocks[i], size, i);
            sizes[i] = size;
        } else if (step % 3 == 0) {
            CHECK(edge_holds(blocks[i], sizes[i], i));
            free(blocks[i]);
            blocks[i] = NULL;
        } else {
            blocks[i] = resize(blocks[i], sizes[i], size, i);
            sizes[i] = size;
        }
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        CHECK(blocks[i] == NULL || edge_holds(blocks[i], sizes[i], i));
        free(blocks[i]);
    }
}

static void reallocarray_is_realloc_of_the_product(void) {
    char *block = reallocarray(NULL, 3, 100);
    CHECK(block != NULL && malloc_usable_size(block) >= 300);
    edge_fill(block, 300, 1);
    block = reallocarray(block, 1000, 1000);
    CHECK(block != NULL && malloc_usable_size(block) >= 1000000);
    CHECK(edge_holds(block, 300, 1));
    free(block);
}

static const struct edge_case cases[] = {
    EDGE_CASE(a_block_grows_and_shrinks_through_all_classes),
    EDGE_CASE(a_block_goes_from_any_size_to_any_other),
    EDGE_CASE(a_huge_block_shrinks_and_grows_again),
    EDGE_CASE(huge_blocks_grow_side_by_side),
    EDGE_CASE(an_aligned_block_can_be_resized),
    EDGE_CASE(a_huge_block_that_shrinks_to_little_is_let_go),
    EDGE_CASE(blocks_of_all_kinds_keep_their_content),
    EDGE_CASE(reallocarray_is_realloc_of_the_product),
};

EDGE_MAIN(cases)
