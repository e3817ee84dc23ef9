/* The malloc door: the C functions at their edges, as glibc's are. This program runs on it. */
#include "figures.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>

/* Declared in no header, or in few. */
void cfree(void *block);
void free_sized(void *block, size_t size);
void free_aligned_sized(void *block, size_t alignment, size_t size);
void *__libc_malloc(size_t size);
void __libc_free(void *block);
void *__libc_memalign(size_t alignment, size_t size);
struct mallinfo __libc_mallinfo(void);
int __libc_mallopt(int parameter, int value);

/* Keeps the compiler from knowing what it passes. */
static size_t volatile opaque;

static size_t just(size_t size) {
    opaque = size;
    return opaque;
}

static void this_program_runs_on_the_door(void **state) {
    /* All the tests below would test glibc. */
    (void)state;
    void *block = malloc(100);
    assert_ptr_equal(berth_pool_of(block), berth_pool_default());
    char *text = strdup("from inside libc");
    assert_ptr_equal(berth_pool_of(text), berth_pool_default());
    free(text);
    free(block);
}

static void a_size_of_zero_gets_a_block_of_its_own(void **state) {
    /* Programs take NULL for a failure. */
    (void)state;
    void *blocks[] = {malloc(just(0)),
                      malloc(just(0)),
                      calloc(just(0), 10),
                      calloc(10, just(0)),
                      realloc(NULL, just(0)),
                      memalign(64, just(0)),
                      aligned_alloc(4096, just(0)),
                      valloc(just(0)),
                      pvalloc(just(0)),
                      reallocarray(NULL, just(0), 7),
                      memalign((size_t)16 << 20, just(0))};
    unsigned count = sizeof(blocks) / sizeof(blocks[0]);
    for (unsigned i = 0; i < count; i++) {
        assert_non_null(blocks[i]);
        for (unsigned k = 0; k < i; k++) {
            assert_ptr_not_equal(blocks[i], blocks[k]);
        }
    }
    for (unsigned i = 0; i < count; i++) {
        free(blocks[i]);
    }
}

static void realloc_to_zero_frees(void **state) {
    /* Programs that free by realloc would leak. */
    (void)state;
    const size_t sizes[] = {10, 20000, 5 * MiB};
    berth_thread_flush();
    uint64_t live = figures_of(berth_pool_default()).live_high_bytes;
    for (unsigned i = 0; i < 3; i++) {
        void *block = malloc(sizes[i]);
        assert_null(realloc(block, just(0)));
    }
    berth_thread_flush();
    assert_int_equal(figures_of(berth_pool_default()).live_high_bytes, live);
}

static void sizes_that_overflow_fail_with_enomem(void **state) {
    /* A product that wraps gives a small block for a large request: a hole for attackers. */
    (void)state;
    const size_t half = (size_t)1 << 63;
    void *kept = malloc(100);
    fill(kept, 100);
    void *volatile still_there = kept; /* the compiler believes that realloc has taken it */
#define FAILS(call)                                                                                \
    errno = 0;                                                                                     \
    assert_null(call);                                                                             \
    assert_int_equal(errno, ENOMEM)
    FAILS(malloc(just(SIZE_MAX)));
    FAILS(malloc(just((size_t)PTRDIFF_MAX + 1)));
    FAILS(calloc(just(half), 2));
    FAILS(calloc(just(SIZE_MAX), just(SIZE_MAX)));
    FAILS(calloc(just(SIZE_MAX), 1));
    FAILS(reallocarray(still_there, just(half), 2));
    FAILS(reallocarray(NULL, just(SIZE_MAX / 2), 3));
    FAILS(realloc(still_there, just(SIZE_MAX)));
    FAILS(memalign(64, just(SIZE_MAX)));
    FAILS(aligned_alloc(4096, just(SIZE_MAX - 4095)));
    FAILS(valloc(just(SIZE_MAX)));
    FAILS(pvalloc(just(SIZE_MAX)));
    FAILS(pvalloc(just(SIZE_MAX - 4096)));
    FAILS(memalign(just(half), 1));
#undef FAILS
    void *block = (void *)&opaque;
    errno = 7;
    assert_int_equal(posix_memalign(&block, 4096, just(SIZE_MAX)), ENOMEM);
    assert_ptr_equal(block, (void *)&opaque);
    assert_int_equal(errno, ENOMEM); /* as glibc leaves it */
    assert_true(is_filled(still_there, still_there, 100));
    free(still_there);
}

static void bad_alignments_are_treated_as_glibc_does(void **state) {
    /* Programs that are careless with alignments would fail only here. */
    (void)state;
    void *block = NULL;
    assert_int_equal(posix_memalign(&block, 0, 10), EINVAL);
    assert_int_equal(posix_memalign(&block, 4, 10), EINVAL);
    assert_int_equal(posix_memalign(&block, 24, 10), EINVAL);
    assert_null(block);
    errno = 0;
    assert_null(aligned_alloc(just(24), 48));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(memalign(just(SIZE_MAX), 10));
    assert_int_equal(errno, EINVAL);
    for (size_t odd = 1; odd < 5000; odd += 499) { /* rounded up to a power of two */
        block = memalign(just(odd), 100);
        size_t power = 16;
        while (power < odd) {
            power *= 2;
        }
        assert_int_equal((uintptr_t)block % power, 0);
        free(block);
    }
}

static void every_form_is_aligned_and_can_be_freed(void **state) {
    /* A block of one function would be unknown to another. */
    (void)state;
    for (unsigned log2 = 3; log2 <= 24; log2++) {
        size_t alignment = (size_t)1 << log2;
        for (size_t size = 1; size < 10 * MiB; size = size * 7 + 1) {
            void *blocks[4];
            assert_int_equal(posix_memalign(&blocks[0], alignment, size), 0);
            blocks[1] = aligned_alloc(alignment, size);
            blocks[2] = memalign(alignment, size);
            blocks[3] = __libc_memalign(alignment, size);
            for (unsigned i = 0; i < 4; i++) {
                assert_int_equal((uintptr_t)blocks[i] % alignment, 0);
                assert_true(malloc_usable_size(blocks[i]) >= size);
                ((char *)blocks[i])[size - 1] = 1;
            }
            free(blocks[0]);
            cfree(blocks[1]);
            free_aligned_sized(blocks[2], alignment, size);
            __libc_free(blocks[3]);
        }
    }
    void *page = valloc(10);
    void *pages = pvalloc(5000);
    assert_int_equal(((uintptr_t)page | (uintptr_t)pages) % 4096, 0);
    assert_true(malloc_usable_size(pages) >= 8192);
    free(page);
    free_sized(pages, 5000);
    free_sized(NULL, 10);
    free_aligned_sized(NULL, 64, 10);
    cfree(NULL);
    free(NULL);
    assert_int_equal(malloc_usable_size(NULL), 0);
}

static void calloc_is_zero_and_realloc_keeps(void **state) {
    /* Old data would show through; or data be lost. */
    (void)state;
    for (size_t size = 1; size < 12 * MiB; size = size * 3 + 5) {
        char *dirty = malloc(size);
        memset(dirty, 0xcc, malloc_usable_size(dirty));
        free(dirty);
        char *block = calloc(1, size);
        assert_true(is_zero(block, size));
        fill(block, size);
        char *grown = realloc(block, size * 2 + 1);
        assert_true(is_filled(grown, block, size));
        char *shrunk = reallocarray(grown, size / 3 + 1, 1);
        assert_true(is_filled(shrunk, block, size / 3 + 1 < size ? size / 3 + 1 : size));
        free(shrunk);
    }
}

static bool is_stamped(const char *block, size_t size, char stamp) {
    for (size_t i = 0; i < size; i++) {
        if (block[i] != stamp) {
            return false;
        }
    }
    return true;
}

static void large_blocks_begin_apart_and_stay_their_own_when_resized(void **state) {
    /* Those that begin a little behind their page would overlap the next, or lose their end. */
    (void)state;
    enum { BLOCKS = 64, TURNS = 20000 };
    struct unit_random random = {0};
    char *blocks[BLOCKS];
    size_t sizes[BLOCKS];
    unsigned begun[64] = {0};
    unsigned lines = 0;
    for (unsigned i = 0; i < BLOCKS; i++) {
        sizes[i] = 17000;
        blocks[i] = malloc(sizes[i]);
        lines += begun[(uintptr_t)blocks[i] % 4096 / 64]++ == 0;
        memset(blocks[i], (int)i, sizes[i]);
    }
    assert_true(BERTH_HARDENED || lines >= 8);
    for (unsigned turn = 0; turn < TURNS; turn++) {
        size_t i = unit_random_below(&random, BLOCKS);
        size_t size = turn % 2 == 0 ? 16000 + unit_random_below(&random, 10000)
                                    : sizes[i] - 2000 + unit_random_below(&random, 5000);
        assert_true(malloc_usable_size(blocks[i]) >= sizes[i]);
        blocks[i] = realloc(blocks[i], size);
        assert_true(is_stamped(blocks[i], sizes[i] < size ? sizes[i] : size, (char)i));
        sizes[i] = size;
        memset(blocks[i], (int)i, malloc_usable_size(blocks[i]));
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        assert_true(is_stamped(blocks[i], sizes[i], (char)i));
        free(blocks[i]);
    }
}

static void free_keeps_errno(void **state) {
    /* Error paths that free before they report would report something else. */
    (void)state;
    for (size_t size = 1; size < 10 * MiB; size = size * 5 + 3) {
        void *block = malloc(size);
        errno = 4711;
        free(block);
        assert_int_equal(errno, 4711);
    }
}

static void it_tells_of_itself_as_glibc_does(void **state) {
    /* Programs that watch their heap by these would see nothing. */
    (void)state;
    void *large = malloc(20 * MiB);
    void *small = malloc(1000);
    struct mallinfo2 wide = mallinfo2();
    assert_true(wide.hblkhd >= 20 * MiB && wide.hblks >= 1);
    assert_true(wide.arena > 0 && wide.uordblks >= 1000 && wide.uordblks <= wide.arena);
    assert_int_equal(wide.uordblks + wide.fordblks, wide.arena);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    struct mallinfo narrow = mallinfo();
#pragma GCC diagnostic pop
    assert_int_equal(narrow.hblkhd, wide.hblkhd);
    assert_int_equal(narrow.arena, wide.arena);
    narrow = __libc_mallinfo(); /* glibc's would tell of a heap that nobody uses */
    assert_int_equal(narrow.hblkhd, wide.hblkhd);
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    assert_int_equal(malloc_info(0, stream), 0);
    fclose(stream);
    assert_int_equal(strncmp(text, "<malloc version=\"", 17), 0);
    assert_non_null(strstr(text, "</malloc>\n"));
    free(text);
    assert_int_equal(malloc_info(1, stdout), EINVAL);
    free(large);
    free(small);
    assert_int_equal(malloc_trim(0), 1);
    assert_int_equal(mallopt(M_MMAP_THRESHOLD, 1000), 1);
    assert_int_equal(__libc_mallopt(M_MMAP_THRESHOLD, 1000), 1);
}

static void a_mapped_file_is_no_part_of_the_heap(void **state) {
    /* What is in use would be more than there is, and what is free a number beyond all memory. */
    (void)state;
    enum { BYTES = 40 << 20 };
    int fd = open("/proc/self/exe", O_RDONLY);
    void *file = berth_map_file(berth_pool_default(), fd, 0, BYTES, false);
    assert_non_null(file);
    close(fd);
    struct mallinfo2 info = mallinfo2();
    assert_true(info.arena < BYTES && info.uordblks <= info.arena);
    assert_int_equal(info.uordblks + info.fordblks, info.arena);
    berth_free(file);
}

static void print_stats(void *unused) {
    (void)unused;
    malloc_stats();
}

static void malloc_stats_writes_a_line(void **state) {
    /* It would be silent, or end the program. */
    (void)state;
    char line[512];
    assert_int_equal(unit_in_child_line(print_stats, NULL, line, sizeof(line)), 0);
    assert_non_null(strstr(line, "berth: mapped "));
    assert_non_null(strstr(line, " allocations"));
}

static char *faulty;

static void free_sized_too_large(void *unused) {
    (void)unused;
    free_sized(faulty, just(1000));
}

static void free_aligned_wrongly(void *unused) {
    (void)unused;
    free_aligned_sized(faulty + 16, just(4096), 10);
}

static void free_twice(void *unused) {
    (void)unused;
    free(faulty);
    free(faulty);
}

static void free_inside(void *unused) {
    (void)unused;
    free(faulty + just(8));
}

static void usable_size_of_foreign(void *unused) {
    (void)unused;
    (void)!malloc_usable_size(&faulty);
}

static void misuse_stops_the_program_with_one_line(void **state) {
    /* Corruption would go on unseen. */
    (void)state;
    static const struct {
        void (*fault)(void *);
        const char *what;
    } cases[] = {{free_sized_too_large, "size beyond the block's"},
                 {free_aligned_wrongly, "alignment that is not the block's"},
                 {free_twice, "double free"},
                 {free_inside, "inside a block"},
                 {usable_size_of_foreign, "not a block"}};
    faulty = malloc(100);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char line[512];
        assert_int_equal(unit_in_child_line(cases[i].fault, NULL, line, sizeof(line)), -SIGABRT);
        assert_non_null(strstr(line, cases[i].what));
        assert_non_null(strstr(line, "pointer 0x"));
    }
    free(faulty);
}

static void under_a_limit_malloc_fails_and_what_handles_that_does_not(void **state) {
    /* The program could not even print its error. */
    (void)state;
    malloc_trim(0);
    uint64_t used = berth_limit_used();
    assert_int_equal(berth_limit_set(used + 20 * MiB), 0);
    errno = 0;
    assert_null(malloc(20 * MiB)); /* 256 KiB are kept for who handles a failure */
    assert_int_equal(errno, ENOMEM);
    void *most = malloc(19 * MiB);
    assert_non_null(most);
    assert_null(malloc(MiB));
    void *small[20];
    for (unsigned i = 0; i < 20; i++) {
        small[i] = malloc(1000);
        assert_non_null(small[i]);
    }
    for (unsigned i = 0; i < 20; i++) {
        free(small[i]);
    }
    free(most);
    assert_int_equal(berth_limit_set(BERTH_UNLIMITED), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(this_program_runs_on_the_door),
        cmocka_unit_test(a_size_of_zero_gets_a_block_of_its_own),
        cmocka_unit_test(realloc_to_zero_frees),
        cmocka_unit_test(sizes_that_overflow_fail_with_enomem),
        cmocka_unit_test(bad_alignments_are_treated_as_glibc_does),
        cmocka_unit_test(every_form_is_aligned_and_can_be_freed),
        cmocka_unit_test(calloc_is_zero_and_realloc_keeps),
        cmocka_unit_test(large_blocks_begin_apart_and_stay_their_own_when_resized),
        cmocka_unit_test(free_keeps_errno),
        cmocka_unit_test(it_tells_of_itself_as_glibc_does),
        cmocka_unit_test(a_mapped_file_is_no_part_of_the_heap),
        cmocka_unit_test(malloc_stats_writes_a_line),
        cmocka_unit_test(misuse_stops_the_program_with_one_line),
        cmocka_unit_test(under_a_limit_malloc_fails_and_what_handles_that_does_not),
    };
    return UNIT_RUN(tests);
}
