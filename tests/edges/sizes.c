/*
 * If this fails, a program that passes an unusual size or alignment to malloc and its family gets
 * another answer than glibc documents: it crashes, or writes beyond a block.
 */
#include "edge.h"

#include <stdalign.h>
#include <sys/sysinfo.h>

static const size_t too_large[] = {(size_t)PTRDIFF_MAX + 1,
                                   (size_t)PTRDIFF_MAX + 4096,
                                   SIZE_MAX / 2 + 2,
                                   SIZE_MAX - 4096,
                                   SIZE_MAX - 64,
                                   SIZE_MAX - 15,
                                   SIZE_MAX - 1,
                                   SIZE_MAX};

/* Volatile, so that no compiler reasons about a size that cannot be. */
static volatile size_t one = 1;
/* And none about an alignment that cannot be: some crash over it. */
static void *(*volatile aligned_as)(size_t alignment, size_t size) = memalign;
static char marker[1]; /* what a failing call must leave a pointer at */

static bool is_aligned(const void *block, size_t alignment) {
    return (uintptr_t)block % alignment == 0;
}

/* ---- failing ---- */

/* Sizes that cannot be: NULL and ENOMEM. PTRDIFF_MAX itself may be asked for, but nobody has it. */
static void sizes_beyond_ptrdiff_max_fail(void) {
    for (size_t i = 0; i < COUNT_OF(too_large); i++) {
        size_t size = too_large[i] * one;
        errno = 0;
        CHECK(malloc(size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(calloc(1, size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(calloc(size, 1) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(realloc(NULL, size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(memalign(64, size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(memalign(1 << 20, size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(valloc(size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(pvalloc(size) == NULL && errno == ENOMEM);
        void *untouched = marker;
        errno = 0; /* not promised anywhere, but programs look there */
        CHECK(posix_memalign(&untouched, 64, size) == ENOMEM && untouched == marker);
        CHECK(errno == ENOMEM);
    }
    errno = 0;
    CHECK(malloc((size_t)PTRDIFF_MAX * one) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(pvalloc((size_t)PTRDIFF_MAX * one) == NULL && errno == ENOMEM);
}

static void products_that_overflow_fail(void) {
    static const size_t pairs[][2] = {
        {SIZE_MAX, 2},        {2, SIZE_MAX},         {(size_t)1 << 32, (size_t)1 << 32},
        {(size_t)1 << 63, 2}, {SIZE_MAX / 3 + 1, 3}, {SIZE_MAX, SIZE_MAX}};
    char *block = malloc(100);
    CHECK(block != NULL);
    edge_fill(block, 100, 5);
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        size_t count = pairs[i][0] * one;
        errno = 0;
        CHECK(calloc(count, pairs[i][1]) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(reallocarray(block, count, pairs[i][1]) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(reallocarray(NULL, count, pairs[i][1]) == NULL && errno == ENOMEM);
    }
    CHECK(edge_holds(block, 100, 5));
    free(block);
}

static void a_failed_realloc_leaves_the_block(void) {
    static const size_t sizes[] = {1, 100, 5000, 100 << 10, 9 << 20};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        char *block = malloc(sizes[i]);
        CHECK(block != NULL);
        edge_fill(block, sizes[i], i);
        for (size_t j = 0; j < COUNT_OF(too_large); j++) {
            errno = 0;
            CHECK(realloc(block, too_large[j] * one) == NULL && errno == ENOMEM);
        }
        errno = 0;
        CHECK(realloc(block, (size_t)PTRDIFF_MAX * one) == NULL && errno == ENOMEM);
        CHECK(edge_holds(block, sizes[i], i));
        free(block);
    }
}

/* By its usual heuristic the kernel refuses what memory and swap could never hold, and so glibc's
 * malloc returns NULL; who takes it all the same pays for its description at least. */
static void more_than_the_machine_has_is_refused(void) {
    char mode = '?';
    int fd = open("/proc/sys/vm/overcommit_memory", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, &mode, 1) < 1 || mode != '0') {
        edge_skip("vm.overcommit_memory is not 0");
    }
    close(fd);
    struct sysinfo machine;
    CHECK(sysinfo(&machine) == 0);
    size_t beyond = (machine.totalram + machine.totalswap) * machine.mem_unit + (64u << 20);
    static const size_t held[] = {100, 100000, 9 << 20};
    for (size_t size = beyond; size < (size_t)1 << 46; size *= 2) {
        errno = 0;
        CHECK(malloc(size) == NULL && errno == ENOMEM);
        CHECK(calloc(1, size) == NULL && memalign(4096, size) == NULL);
        for (size_t i = 0; i < COUNT_OF(held); i++) {
            char *block = malloc(held[i]);
            CHECK(block != NULL);
            edge_fill(block, held[i], i);
            errno = 0;
            CHECK(realloc(block, held[i] + size) == NULL && errno == ENOMEM);
            CHECK(edge_holds(block, held[i], i));
            free(block);
        }
    }
}

/* ---- nothing ---- */

static void a_size_of_zero_gives_a_block(void) {
    size_t none = one - 1;
    void *blocks[] = {malloc(none),
                      malloc(none),
                      calloc(none, 8),
                      calloc(8, none),
                      calloc(none, none),
                      realloc(NULL, none),
                      memalign(64, none),
                      valloc(none),
                      aligned_alloc(64, none),
                      pvalloc(none),
                      reallocarray(NULL, none, 8)};
    for (size_t i = 0; i < COUNT_OF(blocks); i++) {
        CHECK(blocks[i] != NULL);
        for (size_t j = 0; j < i; j++) {
            CHECK(blocks[i] != blocks[j]);
        }
        memset(blocks[i], 1, malloc_usable_size(blocks[i]));
    }
    for (size_t i = 0; i < COUNT_OF(blocks); i++) {
        free(blocks[i]);
    }
    void *block = NULL;
    CHECK(posix_memalign(&block, 64, none) == 0);
    free(block);
    free(NULL);
    CHECK(malloc_usable_size(NULL) == 0);
}

static void realloc_to_zero_frees(void) {
    static const size_t sizes[] = {1, 100, 5000, 100 << 10, 9 << 20};
    size_t none = one - 1;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        for (unsigned round = 0; round < 100; round++) { /* leaks of 9 MiB would show */
            void *block = malloc(sizes[i]);
            CHECK(block != NULL);
            errno = 77;
            CHECK(realloc(block, none) == NULL && errno == 77);
            block = malloc(sizes[i]);
            CHECK(block != NULL);
            CHECK(reallocarray(block, none, 8) == NULL && errno == 77);
        }
    }
}

/* ---- alignment ---- */

static void posix_memalign_refuses_odd_alignments(void) {
    static const size_t bad[] = {
        0, 1, 2, 3, 4, 6, 7, 12, 20, 24, 40, 48, 1000, 4095, SIZE_MAX, SIZE_MAX - 7, 24 << 20};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        void *untouched = marker;
        errno = 77;
        CHECK(posix_memalign(&untouched, bad[i] * one, 100) == EINVAL);
        CHECK(untouched == marker && errno == 77);
        CHECK(posix_memalign(&untouched, bad[i] * one, SIZE_MAX) == EINVAL);
        CHECK(untouched == marker && errno == 77);
    }
    void *untouched = marker;
    CHECK(posix_memalign(&untouched, (size_t)1 << 63, one) == ENOMEM && untouched == marker);
    CHECK(posix_memalign(&untouched, (size_t)1 << 62, one) == ENOMEM && untouched == marker);
}

static void every_alignment_is_kept_for_every_size(void) {
    static const size_t sizes[] = {1,    8,    15,    16,    17,      100,     511,
                                   4095, 4096, 16385, 70000, 3 << 20, 4 << 20, (4 << 20) + 1};
    for (size_t alignment = 8; alignment <= 64u << 20; alignment *= 2) {
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            void *blocks[3] = {NULL, NULL, NULL};
            CHECK(posix_memalign(&blocks[0], alignment, sizes[i]) == 0);
            blocks[1] = aligned_alloc(alignment, sizes[i]);
            blocks[2] = memalign(alignment, sizes[i]);
            for (size_t j = 0; j < COUNT_OF(blocks); j++) {
                CHECK(blocks[j] != NULL && is_aligned(blocks[j], alignment));
                CHECK(is_aligned(blocks[j], alignof(max_align_t)));
                size_t usable = malloc_usable_size(blocks[j]);
                CHECK(usable >= sizes[i]);
                edge_fill(blocks[j], usable, j);
            }
            for (size_t j = 0; j < COUNT_OF(blocks); j++) {
                CHECK(edge_holds(blocks[j], sizes[i], j));
                free(blocks[j]);
            }
        }
    }
}

static void nothing_aligned_beyond_a_chunk_gives_a_block(void) {
    for (size_t alignment = 1 << 20; alignment <= 64u << 20; alignment *= 2) {
        void *blocks[4] = {NULL, NULL, NULL, NULL};
        for (size_t i = 0; i < COUNT_OF(blocks); i++) {
            blocks[i] = memalign(alignment, one - 1);
            CHECK(blocks[i] != NULL && is_aligned(blocks[i], alignment));
            CHECK(i == 0 || blocks[i] != blocks[i - 1]);
        }
        for (size_t i = 0; i < COUNT_OF(blocks); i++) {
            free(blocks[i]);
        }
    }
}

/* memalign rounds an alignment that is no power of two up; glibc did so for aligned_alloc too,
 * until 2.38, which refuses it. */
static void memalign_rounds_odd_alignments_up(void) {
    static const size_t pairs[][2] = {{0, 16},  {1, 16},    {3, 16},      {17, 32},
                                      {24, 32}, {100, 128}, {4097, 8192}, {(1 << 20) + 1, 2 << 20}};
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        void *block = aligned_as(pairs[i][0], 100);
        CHECK(block != NULL && is_aligned(block, pairs[i][1]));
        memset(block, 1, malloc_usable_size(block));
        free(block);
    }
    errno = 0;
    CHECK(aligned_as(SIZE_MAX / 2 + 2, one) == NULL && errno == EINVAL);
    errno = 0;
    CHECK(aligned_as(SIZE_MAX, one) == NULL && errno == EINVAL);
    errno = 0;
    CHECK(aligned_as(SIZE_MAX / 2 + 1, one) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(aligned_as(SIZE_MAX / 2 - 5, one) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(aligned_as((size_t)1 << 62, (size_t)1 << 62) == NULL && errno == ENOMEM);
    if (edge_wants_berth()) {
        errno = 0;
        CHECK(aligned_alloc(24 * one, 100) == NULL && errno == EINVAL);
        errno = 0;
        CHECK(aligned_alloc(one - 1, 100) == NULL && errno == EINVAL);
    }
}

static void pages_come_from_valloc_and_pvalloc(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t size = 0; size < 5 * page; size += page / 4 + 1) {
        void *block = valloc(size);
        void *whole = pvalloc(size);
        CHECK(block != NULL && whole != NULL);
        CHECK(is_aligned(block, page) && is_aligned(whole, page));
        CHECK(malloc_usable_size(block) >= size);
        CHECK(malloc_usable_size(whole) >= (size + page - 1) / page * page);
        memset(block, 1, malloc_usable_size(block));
        memset(whole, 2, malloc_usable_size(whole));
        free(block);
        free(whole);
    }
}

/* ---- content ---- */

enum { NEIGHBOURS = 12, FEW_NEIGHBOURS = 3 };

/* Blocks of one size side by side, each written to its last usable byte. */
static void fill_neighbours(size_t size) {
    char *blocks[NEIGHBOURS];
    size_t count = size <= 64 << 10 ? NEIGHBOURS : FEW_NEIGHBOURS;
    for (size_t i = 0; i < count; i++) {
        blocks[i] = malloc(size);
        CHECK(blocks[i] != NULL && is_aligned(blocks[i], alignof(max_align_t)));
        CHECK(malloc_usable_size(blocks[i]) >= size);
        edge_fill(blocks[i], malloc_usable_size(blocks[i]), i + size);
    }
    for (size_t i = 0; i < count; i++) {
        if (!edge_holds(blocks[i], malloc_usable_size(blocks[i]), i + size)) {
            FAIL("blocks of %zu bytes overlap", size);
        }
        free(blocks[i]);
    }
}

static void every_usable_byte_can_be_written(void) {
    for (size_t size = 0; size <= 2100; size++) {
        fill_neighbours(size);
    }
    for (size_t size = 2100; size <= 300 << 10; size += size / 9) {
        fill_neighbours(size - 1);
        fill_neighbours(size);
        fill_neighbours(size + 1);
    }
    for (size_t power = 4096; power <= 8 << 20; power *= 2) {
        fill_neighbours(power - 1);
        fill_neighbours(power);
        fill_neighbours(power + 1);
    }
}

/* Of memory that was dirty before. */
static void calloc_gives_zeros(void) {
    for (unsigned round = 0; round < 3; round++) {
        for (size_t size = 1; size <= 9 << 20; size += size / 5 + 1) {
            char *blocks[3];
            for (size_t i = 0; i < COUNT_OF(blocks); i++) {
                blocks[i] = calloc(i + 1, (size + i) / (i + 1));
                CHECK(blocks[i] != NULL && edge_is_zero(blocks[i], (size + i) / (i + 1) * (i + 1)));
                memset(blocks[i], 0xa5, malloc_usable_size(blocks[i]));
            }
            for (size_t i = 0; i < COUNT_OF(blocks); i++) {
                free(blocks[i]);
            }
        }
        (void)malloc_trim(0);
    }
}

static void free_keeps_errno(void) {
    static const size_t sizes[] = {1, 64, 1000, 9000, 40000, 1 << 20, 4 << 20, 9 << 20};
    enum { BLOCKS = 400 };
    static void *blocks[BLOCKS];
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        size_t count = sizes[i] > 1 << 20 ? 8 : BLOCKS;
        for (size_t j = 0; j < count; j++) {
            blocks[j] = malloc(sizes[i]);
            CHECK(blocks[j] != NULL);
            memset(blocks[j], 1, sizes[i] < 4096 ? sizes[i] : 4096);
        }
        errno = 4321;
        for (size_t j = 0; j < count; j++) {
            free(blocks[j]);
            CHECK(errno == 4321);
        }
    }
}

static const struct edge_case cases[] = {
    EDGE_CASE(sizes_beyond_ptrdiff_max_fail),
    EDGE_CASE(products_that_overflow_fail),
    EDGE_CASE(a_failed_realloc_leaves_the_block),
    EDGE_CASE(more_than_the_machine_has_is_refused),
    EDGE_CASE(a_size_of_zero_gives_a_block),
    EDGE_CASE(realloc_to_zero_frees),
    EDGE_CASE(posix_memalign_refuses_odd_alignments),
    EDGE_CASE(every_alignment_is_kept_for_every_size),
    EDGE_CASE(nothing_aligned_beyond_a_chunk_gives_a_block),
    EDGE_CASE(memalign_rounds_odd_alignments_up),
    EDGE_CASE(pages_come_from_valloc_and_pvalloc),
    EDGE_CASE(every_usable_byte_can_be_written),
    EDGE_CASE(calloc_gives_zeros),
    EDGE_CASE(free_keeps_errno),
};

EDGE_MAIN(cases)
