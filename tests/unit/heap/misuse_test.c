/* Misuse: one line that names the fault, the pointer and the class, then an abort. */
#include "figures.h"
#include "metadata.h"

#include "heap/cache.h"

#include <signal.h>

enum { SMALL = 100, TWIN = 17000, LARGE = 50000, HUGE_SIZE = 5 << 20 };

static berth_pool *pool;
static size_t size;

static char *block_of(size_t bytes) {
    return berth_alloc(pool, bytes);
}

/* Tells the parent which pointer the line must name. */
static void say(void *at) {
    printf("%p\n", at);
    fflush(stdout);
}

static void twice_at_once(void *unused) {
    (void)unused;
    char *block = block_of(size);
    say(block);
    berth_free(block);
    berth_free(block);
    berth_thread_flush();
}

static void twice_with_others_between(void *unused) {
    (void)unused;
    char *block = block_of(size);
    char *other = block_of(size);
    say(block);
    berth_free(block);
    berth_free(other);
    berth_free(block);
    berth_thread_flush();
}

static void twice_after_a_flush(void *unused) {
    (void)unused;
    char *kept = block_of(size);
    char *block = block_of(size);
    say(block);
    berth_free(block);
    berth_thread_flush();
    berth_free(block);
    berth_thread_flush();
    berth_free(kept);
}

static void twice_after_a_trim(void *unused) {
    (void)unused;
    char *block = block_of(size);
    say(block);
    berth_free(block);
    berth_trim(NULL);
    berth_free(block);
    berth_thread_flush();
}

static void *free_elsewhere(void *block) {
    berth_free(block);
    berth_free(block);
    berth_thread_flush();
    return NULL;
}

static void twice_in_another_thread(void *unused) {
    (void)unused;
    char *block = block_of(size);
    say(block);
    run_threads(1, free_elsewhere, block);
    berth_thread_flush();
    berth_trim(NULL);
}

static void *free_twice_and_more(void *block) {
    berth_free(block);
    berth_free(block);
    berth_free(block_of(size));
    return NULL;
}

/* The owner has use for what comes home. */
static void twice_in_another_thread_of_a_busy_owner(void *unused) {
    (void)unused;
    void *others[1000];
    for (unsigned i = 0; i < 100; i++) {
        UNIT_CHECK(berth_alloc_batch(pool, size, 1000, others) == 1000);
        berth_free_batch(others, 1000);
    }
    UNIT_CHECK(berth_alloc_batch(pool, size, 1000, others) == 1000);
    char *block = block_of(size);
    say(block);
    run_threads(1, free_twice_and_more, block);
    UNIT_CHECK(berth_alloc_batch(pool, size, 1000, others) == 1000);
}

static void *free_once(void *block) {
    berth_free(block);
    berth_thread_flush();
    return NULL;
}

static void here_and_in_another_thread(void *unused) {
    (void)unused;
    char *block = block_of(size);
    say(block);
    berth_free(block);
    run_threads(1, free_once, block);
    berth_thread_flush();
    berth_trim(NULL);
}

static void *free_and_trim(void *block) {
    berth_free(block);
    berth_thread_flush();
    berth_trim(NULL);
    return NULL;
}

/* This thread caches the block while another one's free empties its slab. */
static void here_and_elsewhere_until_its_slab_has_gone(void *unused) {
    (void)unused;
    char *block = block_of(size);
    say(block);
    berth_free(block);
    run_threads(1, free_and_trim, block);
    berth_thread_flush();
}

static void inside(void *unused) {
    (void)unused;
    char *block = block_of(size);
    say(block + 16);
    berth_free(block + 16);
}

static void inside_at_a_page(void *unused) {
    (void)unused;
    char *block = block_of(size);
    say(block + 4096);
    berth_free(block + 4096);
}

static void inside_at_a_unit(void *unused) {
    (void)unused;
    char *block = block_of(size);
    say(block + 65536);
    berth_free(block + 65536);
}

static void inside_at_a_chunk(void *unused) {
    (void)unused;
    char *block = block_of(size);
    say(block + (4 << 20));
    berth_free(block + (4 << 20));
}

static void *free_inside(void *block) {
    berth_free((char *)block + 16);
    return NULL;
}

static void inside_from_another_thread(void *unused) {
    (void)unused;
    char *block = block_of(size);
    say(block + 16);
    run_threads(1, free_inside, block);
}

#if BERTH_FAULTS
/* The thread gets no cache: nothing is left for its record. */
static void inside_without_a_cache(void *unused) {
    (void)unused;
    char *block = block_of(size);
    say(block + 16);
    unit_use_up_metadata();
    run_threads(1, free_inside, block);
}
#endif

static void misaligned(void *unused) {
    (void)unused;
    char *block = block_of(size);
    say(block + 1);
    berth_free(block + 1);
}

static void of_the_stack(void *unused) {
    char on_stack[64];
    (void)unused;
    say(on_stack);
    berth_free(on_stack);
}

static void of_a_small_number(void *unused) {
    (void)unused;
    say((void *)(uintptr_t)4096);
    berth_free((void *)(uintptr_t)4096);
}

static void of_memory_never_used(void *unused) {
    (void)unused;
    char *block = block_of(size);
    char *beyond = block + ((size_t)1 << 36);
    say(beyond);
    berth_free(beyond);
}

static void sized_too_large(void *unused) {
    (void)unused;
    char *block = block_of(size);
    say(block);
    berth_free_sized(block, berth_usable_size(block) + 1);
}

static void size_asked_inside(void *unused) {
    (void)unused;
    char *block = block_of(size);
    say(block + 32);
    (void)!berth_usable_size(block + 32);
}

static void size_asked_of_foreign(void *unused) {
    (void)unused;
    say(&size);
    (void)!berth_usable_size(&size);
}

static void resized_inside(void *unused) {
    (void)unused;
    char *block = block_of(size);
    say(block + 32);
    (void)!berth_realloc(pool, block + 32, size);
}

static void size_asked_further_on(void *unused) {
    (void)unused;
    char *block = block_of(size);
    say(block + 100000);
    (void)!berth_usable_size(block + 100000);
}

static void resized_further_on(void *unused) {
    (void)unused;
    char *block = block_of(size);
    say(block + size - 100);
    (void)!berth_realloc(pool, block + size - 100, size);
}

static void resized_after_free(void *unused) {
    (void)unused;
    char *block = block_of(size);
    say(block);
    berth_free(block);
    berth_trim(NULL);
    berth_free(berth_realloc(pool, block, 2 * size));
    berth_thread_flush();
}

static void pool_asked_of_foreign(void *unused) {
    (void)unused;
    say(&size);
    (void)berth_pool_of(&size);
}

/* Runs a fault in a child: aborts with one line that contains the texts and the pointer. */
static void expect(void (*fault)(void *), const char *what, const char *class) {
    char lines[1024];
    char told[64] = "";
    int out[2];
    assert_int_equal(pipe(out), 0);
    fflush(stdout);
    int saved = dup(1);
    dup2(out[1], 1);
    int result = unit_in_child_line(fault, NULL, lines, sizeof(lines));
    dup2(saved, 1);
    close(saved);
    close(out[1]);
    ssize_t got = read(out[0], told, sizeof(told) - 1);
    close(out[0]);
    assert_true(got > 1);
    told[got - 1] = '\0';
    if (result != -SIGABRT || strstr(lines, told) == NULL || strstr(lines, what) == NULL ||
        strstr(lines, class) == NULL || strncmp(lines, "berth: ", 7) != 0) {
        fail_msg("size %zu: result %d; \"%s\" should name %s, \"%s\", \"%s\"", size, result, lines,
                 told, what, class);
    }
}

static const char *class_of_size(void) {
    return size == SMALL       ? "class 112 bytes"
           : size == HUGE_SIZE ? "class of huge"
                               : "class of page runs";
}

static void each_size(void (*fault)(void *), const char *what, bool class_known) {
    const size_t sizes[] = {SMALL, TWIN, LARGE, HUGE_SIZE};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(sizes); i++) {
        size = sizes[i];
        expect(fault, what, class_known ? class_of_size() : "");
    }
}

static void a_double_free_is_found(void **state) {
    /* Two owners of one block would corrupt each other's data. */
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        pool = i == 0 ? berth_pool_default() : berth_pool_create("misused", NULL);
        each_size(twice_at_once, "free", false);
        each_size(twice_with_others_between, "free", false);
        each_size(twice_after_a_flush, "free", false);
        each_size(twice_after_a_trim, "free", false);
        each_size(twice_in_another_thread, "free", false);
        each_size(here_and_in_another_thread, "free", false);
    }
    size = SMALL;
    expect(twice_in_another_thread_of_a_busy_owner, "double free", "class 112 bytes");
    expect(twice_at_once, "double free", "class 112 bytes");
    expect(twice_with_others_between, "double free", "class 112 bytes");
    expect(twice_after_a_flush, "double free", "class 112 bytes");
    size = 16000;
    expect(here_and_elsewhere_until_its_slab_has_gone, "double free", "");
    size = LARGE;
    expect(twice_at_once, "double free", "class of page runs");
    size = TWIN;
    expect(twice_after_a_flush, "double free", "class of page runs");
    size = HUGE_SIZE;
    expect(twice_at_once, "free of a freed block", "memory of this allocator");
    assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), 0);
}

static void a_pointer_into_a_block_is_found(void **state) {
    /* Part of a block would be handed out while the rest is in use. */
    (void)state;
    pool = berth_pool_default();
    each_size(inside, "inside a block", true);
    each_size(misaligned, "inside a block", true);
    each_size(inside_from_another_thread, "inside a block", true);
    size = 12000;
    expect(inside_at_a_page, "inside a block", "class 12288 bytes, 4096 bytes into a block");
    size = LARGE;
    expect(inside_at_a_page, "inside a block", "class of page runs");
    size = HUGE_SIZE;
    expect(inside_at_a_page, "inside a block", "class of huge blocks");
    expect(inside_at_a_unit, "inside a block", "class of huge blocks");
    expect(inside_at_a_chunk, "inside a block", "class of huge blocks");
    size = SMALL;
    expect(inside, "inside a block", "class 112 bytes, 16 bytes into a block");
    each_size(size_asked_inside, "inside a block", true);
    each_size(resized_inside, "inside a block", true);
    size = HUGE_SIZE;
    expect(size_asked_further_on, "use of a pointer inside a block", "class of huge");
    expect(resized_further_on, "use of a pointer inside a block", "class of huge");
}

static void a_thread_without_a_cache_finds_it_too(void **state) {
    /* Just when memory is short, a bad free would go unseen, into another heap's list of blocks. */
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS);
#if BERTH_FAULTS
    pool = berth_pool_default();
    size = SMALL;
    expect(inside_without_a_cache, "inside a block", "class 112 bytes, 16 bytes into a block");
#endif
}

static void foreign_memory_is_found(void **state) {
    /* The stack, or another allocator's memory, would be handed out. */
    (void)state;
    pool = berth_pool_default();
    size = SMALL;
    expect(of_the_stack, "not a block", "not memory of this allocator");
    expect(of_a_small_number, "not a block", "not memory of this allocator");
    expect(of_memory_never_used, "not a block", "not memory of this allocator");
    expect(size_asked_of_foreign, "not a block", "not memory of this allocator");
    expect(pool_asked_of_foreign, "not a block", "not memory of this allocator");
}

static void a_size_beyond_the_block_is_found(void **state) {
    /* A program that is wrong about a block's size has written beyond it. */
    (void)state;
    pool = berth_pool_default();
    each_size(sized_too_large, "size beyond the block's", true);
}

static void resizing_what_was_freed_is_found(void **state) {
    /* It would hand out memory of another block. */
    (void)state;
    pool = berth_pool_default();
    each_size(resized_after_free, "pointer", false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_double_free_is_found),
        cmocka_unit_test(a_pointer_into_a_block_is_found),
        cmocka_unit_test(a_thread_without_a_cache_finds_it_too),
        cmocka_unit_test(foreign_memory_is_found),
        cmocka_unit_test(a_size_beyond_the_block_is_found),
        cmocka_unit_test(resizing_what_was_freed_is_found),
    };
    return UNIT_RUN(tests);
}
