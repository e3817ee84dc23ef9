/*
 * If this fails, what glibc's malloc tells about itself (mallinfo, malloc_info, malloc_stats), or
 * what it is told (mallopt, malloc_trim), does not work for a program that relies on it.
 */
#include "edge.h"

enum { SMALL_BLOCKS = 20000, SMALL_BYTES = 500, HUGE_BYTES = 32 << 20 };
static void *small_blocks[SMALL_BLOCKS];

static void allocate_small(void) {
    for (size_t i = 0; i < SMALL_BLOCKS; i++) {
        small_blocks[i] = malloc(SMALL_BYTES);
        CHECK(small_blocks[i] != NULL);
        memset(small_blocks[i], 1, SMALL_BYTES);
    }
}

static void free_small(void) {
    for (size_t i = 0; i < SMALL_BLOCKS; i++) {
        free(small_blocks[i]);
    }
}

/* uordblks: in use; fordblks: free; hblkhd: in mappings of their own; arena: the rest that is
 * mapped. */
static void mallinfo2_follows_what_is_allocated(void) {
    struct mallinfo2 before = mallinfo2();
    allocate_small();
    void *huge = malloc(HUGE_BYTES);
    struct mallinfo2 during = mallinfo2();
    CHECK(huge != NULL);
    CHECK(during.uordblks + during.hblkhd >=
          before.uordblks + before.hblkhd + (size_t)SMALL_BLOCKS * SMALL_BYTES + HUGE_BYTES);
    CHECK(during.hblkhd >= before.hblkhd + HUGE_BYTES && during.hblks == before.hblks + 1);
    CHECK(during.arena >= during.uordblks);
    CHECK_EQUAL(during.arena, during.uordblks + during.fordblks);
    CHECK(during.uordblks < ((size_t)SMALL_BLOCKS * SMALL_BYTES + before.uordblks) * 2);
    free(huge);
    free_small();
    (void)malloc_trim(0);
    struct mallinfo2 after = mallinfo2();
    CHECK(after.hblks == before.hblks);
    CHECK(after.uordblks < during.uordblks - (size_t)SMALL_BLOCKS * SMALL_BYTES / 2);
    CHECK_EQUAL(after.arena, after.uordblks + after.fordblks);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static void mallinfo_is_mallinfo2_in_ints(void) {
    allocate_small();
    struct mallinfo2 wide = mallinfo2();
    struct mallinfo info = mallinfo();
    CHECK(info.uordblks == (int)wide.uordblks && info.arena == (int)wide.arena);
    CHECK(info.hblkhd == (int)wide.hblkhd && info.fordblks == (int)wide.fordblks);
    free_small();
}
#pragma GCC diagnostic pop

static void mallinfo2_can_be_the_first_call(void) {
    struct mallinfo2 info = mallinfo2();
    CHECK_EQUAL(info.arena, info.uordblks + info.fordblks);
}

static void malloc_info_writes_xml(void) {
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    CHECK(stream != NULL);
    allocate_small();
    CHECK(malloc_info(0, stream) == 0);
    CHECK(fclose(stream) == 0);
    CHECK(strncmp(text, "<malloc version=\"", 17) == 0);
    CHECK(length > 10 && strcmp(text + length - 10, "</malloc>\n") == 0);
    CHECK(strstr(text, "<system type=\"current\" size=\"") != NULL);
    free(text);
    free_small();
}

static void malloc_info_refuses_options(void) {
    FILE *stream = fopen("/dev/null", "w");
    CHECK(stream != NULL);
    CHECK(malloc_info(1, stream) != 0);
    CHECK(fclose(stream) == 0);
}

/* In a child that writes to a pipe. */
static void print_stats(void) {
    allocate_small();
    errno = 77;
    malloc_stats();
    CHECK(errno == 77);
    free_small();
}

static void malloc_stats_writes_to_stderr(void) {
    struct edge_outcome outcome;
    edge_run_self("print_stats", &outcome);
    CHECK(edge_passed(&outcome));
    CHECK(outcome.length > 10 && outcome.text[outcome.length - 1] == '\n');
    CHECK(outcome.out[0] == '\0');
}

static void mallopt_accepts_its_parameters(void) {
    CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1);
    CHECK(mallopt(M_TRIM_THRESHOLD, 1 << 20) == 1);
    CHECK(mallopt(M_TOP_PAD, 1 << 16) == 1);
    CHECK(mallopt(M_ARENA_MAX, 2) == 1);
    void *block = malloc(2 << 20);
    CHECK(block != NULL);
    free(block);
}

static void malloc_trim_returns_what_was_freed(void) {
    enum { BLOCKS = 1 << 20 };
    void **blocks = malloc(BLOCKS * sizeof(*blocks));
    CHECK(blocks != NULL);
    memset(blocks, 0, BLOCKS * sizeof(*blocks));
    size_t before = edge_resident_bytes();
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(100);
        CHECK(blocks[i] != NULL);
        memset(blocks[i], 1, 100);
    }
    size_t during = edge_resident_bytes();
    CHECK(during > before + BLOCKS * (size_t)100);
    for (size_t i = 0; i < BLOCKS; i++) {
        free(blocks[i]);
    }
    (void)malloc_trim(0);
    size_t after = edge_resident_bytes();
    if (after > before + (during - before) / 4) {
        FAIL("of %zu bytes, %zu stay", during - before, after - before);
    }
    errno = 77;
    (void)malloc_trim(SIZE_MAX);
    (void)malloc_trim(0);
    CHECK(errno == 77);
    free(blocks);
}

static const struct edge_case cases[] = {
    EDGE_CASE(mallinfo2_follows_what_is_allocated), EDGE_CASE(mallinfo_is_mallinfo2_in_ints),
    EDGE_CASE(mallinfo2_can_be_the_first_call),     EDGE_CASE(malloc_info_writes_xml),
    EDGE_CASE(malloc_info_refuses_options),         EDGE_CASE(malloc_stats_writes_to_stderr),
    EDGE_CASE(mallopt_accepts_its_parameters),      EDGE_CASE(malloc_trim_returns_what_was_freed),
};

static const struct edge_case hidden[] = {EDGE_CASE(print_stats)};

int main(int argc, char **argv) {
    return edge_main_hiding(argc, argv, cases, COUNT_OF(cases), hidden, COUNT_OF(hidden));
}
