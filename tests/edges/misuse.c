/*
 * If this fails, a program that frees a block twice, or frees what is no block, goes on with a
 * damaged heap, or stops without saying what it did.
 *
 * Each misuse happens in a process of its own, which must die of SIGABRT after one line on stderr:
 * "berth: " with the fault, the pointer, and what is known about its class. What is not found at
 * once must be found when the block is next handled: every misuse is followed by that.
 */
#include "edge.h"

#include <pthread.h>
#include <sys/mman.h>

void free_sized(void *block, size_t size);
void free_aligned_sized(void *block, size_t alignment, size_t size);

enum { MANY = 5000, RUN_BYTES = 40000, HUGE_BYTES = 9 << 20 };

/* Says which pointer the line must name. */
static void *volatile named;

static void *name(void *pointer) {
    char text[32];
    int length = snprintf(text, sizeof(text), "%p\n", pointer);
    CHECK(write(STDOUT_FILENO, text, (size_t)length) == length);
    named = pointer;
    return pointer;
}

static void *allocate(size_t size) {
    void *block = malloc(size);
    CHECK(block != NULL);
    memset(block, 1, size);
    return block;
}

static void free_elsewhere(void *block);

/* Makes the door handle what it has cached. */
static void handle_all(void) {
    (void)malloc_trim(0);
    free_elsewhere(malloc(100)); /* a thread that ends */
    (void)malloc_trim(0);
}

static void *free_in_thread(void *block) {
    free(block);
    return NULL;
}

static void free_elsewhere(void *block) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, free_in_thread, block) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void allocate_and_free_many(size_t size) {
    static void *blocks[MANY];
    for (size_t i = 0; i < MANY; i++) {
        blocks[i] = allocate(size);
    }
    for (size_t i = 0; i < MANY; i++) {
        free(blocks[i]);
    }
}

/* ---- frees of what is free ---- */

static void twice(size_t size) {
    char *block = name(allocate(size));
    free(block);
    free(block);
}

static void small_twice(void) {
    twice(100);
}
static void smallest_twice(void) {
    twice(0);
}
static void large_small_twice(void) {
    twice(12000);
}
static void run_twice(void) {
    twice(RUN_BYTES);
}
static void whole_chunk_twice(void) {
    twice(4 << 20);
}
static void huge_twice(void) {
    twice(HUGE_BYTES);
}

static void first_second_first(void) {
    char *first = name(allocate(100));
    char *second = allocate(100);
    free(first);
    free(second);
    free(first);
}

#if BERTH_HARDENED
/* Found in the second free: the process ends before the door next handles the block. */
static void free_twice_with_some_between(bool elsewhere) {
    enum { SOME = 20 };
    char *blocks[SOME];
    for (size_t i = 0; i < SOME; i++) {
        blocks[i] = allocate(20);
    }
    name(blocks[0]);
    for (size_t i = 0; i < SOME; i++) {
        free(blocks[i]);
    }
    if (elsewhere) {
        free_elsewhere(blocks[0]);
    } else {
        free(blocks[0]);
    }
}

static void at_once_with_some_between(void) {
    free_twice_with_some_between(false);
    _exit(EDGE_PASS);
}
static void at_once_in_another_thread(void) {
    free_twice_with_some_between(true);
    _exit(EDGE_PASS);
}
#endif

static void runs_first_second_first(void) {
    char *first = name(allocate(RUN_BYTES));
    char *second = allocate(RUN_BYTES);
    free(first);
    free(second);
    free(first);
}

/* The slab keeps a block, so that its memory is what it was. */
static void twice_with_many_between(void) {
    char *kept = allocate(100);
    char *block = name(allocate(100));
    free(block);
    allocate_and_free_many(200);
    free(block);
    kept[0] = 1;
}

static void twice_with_many_of_its_class_freed_between(void) {
    static void *others[MANY];
    char *block = name(allocate(100));
    for (size_t i = 0; i < MANY; i++) {
        others[i] = allocate(100);
    }
    free(block);
    for (size_t i = 0; i < MANY; i += 2) { /* every other one: no slab is emptied */
        free(others[i]);
    }
    free(block);
}

static void twice_after_a_trim(void) {
    char *block = name(allocate(100));
    char *kept = allocate(100);
    free(block);
    (void)malloc_trim(0);
    free(block);
    kept[0] = 1;
}

static void here_then_in_another_thread(void) {
    char *block = name(allocate(100));
    free(block);
    free_elsewhere(block);
}

static void in_another_thread_then_here(void) {
    char *block = name(allocate(100));
    free_elsewhere(block);
    free(block);
}

static void in_two_other_threads(void) {
    char *block = name(allocate(100));
    free_elsewhere(block);
    free_elsewhere(block);
}

static void *free_twice_in_thread(void *block) {
    free(block);
    free(block);
    return NULL;
}

static void free_twice(void *block) {
    free(block);
    free(block);
}

static void *set_key(void *key_and_block) {
    void **pair = key_and_block;
    free(malloc(100));
    CHECK(pthread_setspecific(*(pthread_key_t *)pair[0], pair[1]) == 0);
    return NULL;
}

static void twice_in_another_thread(void) {
    char *block = name(allocate(100));
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, free_twice_in_thread, block) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

/* In a destructor that runs after the door's own: such a thread has no cache any more. */
static void twice_at_the_end_of_a_thread(void) {
    pthread_key_t key;
    pthread_t thread;
    char *block = name(allocate(100));
    CHECK(pthread_key_create(&key, free_twice) == 0);
    CHECK(pthread_create(&thread, NULL, set_key, (void *[]){&key, block}) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void realloc_of_what_is_free(void) {
    char *block = name(allocate(100));
    free(block);
    named = realloc(block, 5000);
}

/* In place, where nothing is handled yet; then it is freed as if it were a block. */
static void realloc_in_place_of_what_is_free(void) {
    char *block = name(allocate(100));
    free(block);
    free(realloc(block, 90));
}

static void huge_realloc_of_what_is_free(void) {
    char *block = name(allocate(HUGE_BYTES));
    free(block);
    named = realloc(block, 2 * HUGE_BYTES);
}

static void size_of_huge_that_is_free(void) {
    char *block = name(allocate(HUGE_BYTES));
    free(block);
    CHECK(malloc_usable_size(block) == 0);
}

/* ---- frees of what is no block ---- */

static void inside_a_small_block(void) {
    free(name((char *)allocate(100) + 48));
}
static void one_byte_into_a_small_block(void) {
    free(name((char *)allocate(100) + 1));
}
static void eight_bytes_into_a_smallest_block(void) {
    free(name((char *)allocate(16) + 8));
}
static void inside_a_page_of_small_blocks(void) {
    free(name((char *)allocate(12000) + 4096));
}
static void one_byte_into_a_run(void) {
    free(name((char *)allocate(RUN_BYTES) + 1));
}
static void a_page_into_a_run(void) {
    free(name((char *)allocate(RUN_BYTES) + 4096));
}
static void far_into_a_run(void) {
    free(name((char *)allocate(1 << 20) + (512 << 10)));
}
static void one_byte_into_a_huge_block(void) {
    free(name((char *)allocate(HUGE_BYTES) + 1));
}
static void a_page_into_a_huge_block(void) {
    free(name((char *)allocate(HUGE_BYTES) + 4096));
}
static void a_unit_into_a_huge_block(void) {
    free(name((char *)allocate(HUGE_BYTES) + (64 << 10)));
}
static void a_chunk_into_a_huge_block(void) {
    free(name((char *)allocate(HUGE_BYTES) + (4 << 20)));
}
static void inside_a_block_from_another_thread(void) {
    free_elsewhere(name((char *)allocate(100) + 16));
}
static void realloc_inside_a_block(void) {
    named = realloc(name((char *)allocate(100) + 16), 2000);
}
static void size_inside_a_run(void) {
    CHECK(malloc_usable_size(name((char *)allocate(RUN_BYTES) + 4096)) == 0);
}
static void behind_the_last_block(void) {
    free(name((char *)allocate(4 << 20) + (64 << 20)));
}

static void foreign_page(void) {
    allocate(100);
    void *page = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    free(name(page));
}
static void foreign_page_as_first_call(void) {
    void *page = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    free(name(page));
}
static void static_data(void) {
    static char data[64];
    allocate(100);
    free(name(data));
}
static void code(void) {
    allocate(100);
    free(name((void *)(uintptr_t)&code));
}
static void stack(void) {
    char local[64] = "";
    allocate(100);
    free(name(local));
}
static void null_page(void) {
    allocate(100);
    free(name((void *)(uintptr_t)16));
}
static void highest_address(void) {
    allocate(100);
    free(name((void *)(UINTPTR_MAX - 15)));
}
static void kernel_address(void) {
    allocate(100);
    free(name((void *)(uintptr_t)0xffff800000000000u));
}
static void realloc_of_foreign_page(void) {
    void *page = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    named = realloc(name(page), 100);
}
static void size_of_stack(void) {
    char local[64] = "";
    CHECK(malloc_usable_size(name(local)) == 0);
}

/* ---- sizes that are not the block's ---- */

#pragma weak free_sized
#pragma weak free_aligned_sized
static void a_size_beyond_the_block(void) {
    free_sized(name(allocate(100)), 1000);
}
static void a_size_beyond_the_run(void) {
    free_sized(name(allocate(RUN_BYTES)), 4 * RUN_BYTES);
}
static void a_size_beyond_the_huge_block(void) {
    free_sized(name(allocate(HUGE_BYTES)), 2 * HUGE_BYTES);
}
/* operator delete, delete[] and their like, by the names that C++ gives them */
void delete (void *block) __asm__("_ZdlPv");
void delete_sized(void *block, size_t size) __asm__("_ZdlPvm");
void delete_aligned_array(void *block, size_t size,
                          size_t alignment) __asm__("_ZdaPvmSt11align_val_t");
#pragma weak delete
#pragma weak delete_sized
#pragma weak delete_aligned_array
static void deleted_twice(void) {
    char *block = name(allocate(100));
    delete (block);
    delete (block);
}
static void deleted_with_a_size_beyond_the_block(void) {
    delete_sized(name(allocate(100)), 1000);
}
static void deleted_with_a_size_beyond_small_ones(void) {
    delete_sized(name(allocate(100)), RUN_BYTES);
}
static void deleted_with_a_size_beyond_the_run(void) {
    delete_sized(name(allocate(RUN_BYTES)), 4 * RUN_BYTES);
}
static void deleted_with_a_size_beyond_the_huge_block(void) {
    delete_aligned_array(name(allocate(HUGE_BYTES)), 2 * HUGE_BYTES, 64);
}
static void an_alignment_beyond_the_block(void) {
    char *block = memalign(4096, 64);
    free_aligned_sized(name(allocate(48)), 1 << 20, 48);
    free(block);
}
static void no_alignment(void) {
    free_aligned_sized(name(allocate(48)), 0, 48);
}

/* ---- the table ---- */

static const struct misuse {
    const char *name;
    void (*commit)(void);
    const char *fault; /* words of the line; NULL: any */
} misuses[] = {
#define MISUSE(function, fault)                                                                    \
    { #function, function, fault }
    MISUSE(small_twice, "double free"),
    MISUSE(smallest_twice, "double free"),
    MISUSE(large_small_twice, "double free"),
    MISUSE(run_twice, "double free"),
    MISUSE(whole_chunk_twice, NULL),
    MISUSE(huge_twice, "free of a freed block"), /* its memory may be gone */
    MISUSE(first_second_first, "double free"),
    MISUSE(runs_first_second_first, "double free"),
#if BERTH_HARDENED
    MISUSE(at_once_with_some_between, "double free"),
    MISUSE(at_once_in_another_thread, "double free"),
#endif
    MISUSE(twice_with_many_between, "double free"),
    MISUSE(twice_with_many_of_its_class_freed_between, "double free"),
    MISUSE(twice_after_a_trim, "double free"),
    MISUSE(here_then_in_another_thread, "double free"),
    MISUSE(in_another_thread_then_here, "double free"),
    MISUSE(in_two_other_threads, "double free"),
    MISUSE(twice_in_another_thread, "double free"),
    MISUSE(twice_at_the_end_of_a_thread, "double free"),
    MISUSE(realloc_of_what_is_free, "double free"),
    MISUSE(realloc_in_place_of_what_is_free, "double free"),
    MISUSE(huge_realloc_of_what_is_free, "use of a freed block"),
    MISUSE(size_of_huge_that_is_free, "use of a freed block"),
    MISUSE(inside_a_small_block, "inside a block"),
    MISUSE(one_byte_into_a_small_block, "inside a block"),
    MISUSE(eight_bytes_into_a_smallest_block, "inside a block"),
    MISUSE(inside_a_page_of_small_blocks, "inside a block"),
    MISUSE(one_byte_into_a_run, "inside a block"),
    MISUSE(a_page_into_a_run, "inside a block"),
    MISUSE(far_into_a_run, "inside a block"),
    MISUSE(one_byte_into_a_huge_block, "inside a block"),
    MISUSE(a_page_into_a_huge_block, "inside a block"),
    MISUSE(a_unit_into_a_huge_block, "inside a block"),
    MISUSE(a_chunk_into_a_huge_block, "inside a block"),
    MISUSE(inside_a_block_from_another_thread, "inside a block"),
    MISUSE(realloc_inside_a_block, "inside a block"),
    MISUSE(size_inside_a_run, "inside a block"),
    MISUSE(behind_the_last_block, "not a block"),
    MISUSE(foreign_page, "not a block"),
    MISUSE(foreign_page_as_first_call, "not a block"),
    MISUSE(static_data, "not a block"),
    MISUSE(code, "not a block"),
    MISUSE(stack, "not a block"),
    MISUSE(null_page, "not a block"),
    MISUSE(highest_address, "not a block"),
    MISUSE(kernel_address, "not a block"),
    MISUSE(realloc_of_foreign_page, "not a block"),
    MISUSE(size_of_stack, "not a block"),
    MISUSE(a_size_beyond_the_block, "size"),
    MISUSE(a_size_beyond_the_run, "size"),
    MISUSE(a_size_beyond_the_huge_block, "size"),
    MISUSE(deleted_twice, "double free"),
    MISUSE(deleted_with_a_size_beyond_the_block, "size"),
    MISUSE(deleted_with_a_size_beyond_small_ones, "size"),
    MISUSE(deleted_with_a_size_beyond_the_run, "size"),
    MISUSE(deleted_with_a_size_beyond_the_huge_block, "size"),
    MISUSE(an_alignment_beyond_the_block, "alignment"),
    MISUSE(no_alignment, "alignment"),
};

/* NULL if the process died as it must; else what is wrong. */
static const char *judge(const struct misuse *misuse, struct edge_outcome *outcome) {
    char *end = strchr(outcome->out, '\n');
    if (end == NULL) {
        return "it did not come to the misuse";
    }
    *end = '\0';
    if (!edge_died_of(outcome, SIGABRT)) {
        return edge_passed(outcome) ? "it went on" : "it did not die of SIGABRT";
    }
    if (edge_lines(outcome->text) != 1 || strncmp(outcome->text, "berth: ", 7) != 0) {
        return "not one line of berth's";
    }
    if (strstr(outcome->text, outcome->out) == NULL) {
        return "the line does not name the pointer";
    }
    if (misuse->fault != NULL && strstr(outcome->text, misuse->fault) == NULL) {
        return "the line names another fault";
    }
    if (strstr(outcome->text, "class") == NULL &&
        strstr(outcome->text, "memory of this allocator") == NULL) {
        return "the line does not name the class";
    }
    return NULL;
}

static int commit(const char *wanted) {
    for (size_t i = 0; i < COUNT_OF(misuses); i++) {
        if (strcmp(misuses[i].name, wanted) == 0) {
            misuses[i].commit();
            handle_all();
            return EDGE_PASS;
        }
    }
    return EDGE_SKIP;
}

int main(int argc, char **argv) {
    if (argc > 1) {
        return commit(argv[1]);
    }
    edge_check_door();
    unsigned failed = 0;
    for (size_t i = 0; i < COUNT_OF(misuses); i++) {
        struct edge_outcome outcome;
        edge_run_self(misuses[i].name, &outcome);
        const char *wrong = judge(&misuses[i], &outcome);
        failed += wrong != NULL;
        printf("%s %s\n", wrong == NULL ? "ok    " : "FAILED", misuses[i].name);
        if (wrong != NULL) {
            printf("       %s (status %#x, pointer %s)\n%s", wrong, (unsigned)outcome.status,
                   outcome.out, outcome.text);
        }
    }
    return failed == 0 ? EDGE_PASS : EDGE_FAIL;
}
