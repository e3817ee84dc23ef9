/*
 * If this fails, a program under resource limits (addresses, data, locked memory, descriptors,
 * strict overcommit) gets less memory than it may have, does not get it again after freeing it, or
 * crashes where malloc should return NULL.
 */
#include "edge.h"

#include <pthread.h>
#include <sys/mman.h>

/* ---- until nothing is left ---- */

/* Allocated blocks, linked through their first bytes. */
struct link {
    struct link *next;
    size_t size;
};

static size_t take_all(size_t size, struct link **list) {
    size_t total = 0;
    for (;;) {
        errno = 0;
        struct link *link = malloc(size);
        if (link == NULL) {
            CHECK_EQUAL(errno, ENOMEM);
            return total;
        }
        memset(link, 1, size);
        *link = (struct link){.next = *list, .size = size};
        *list = link;
        total += size;
    }
}

static void give_all(struct link *list) {
    while (list != NULL) {
        struct link *next = list->next;
        CHECK(edge_is_zero((char *)list + list->size, 0));
        free(list);
        list = next;
    }
}

static const size_t sizes[] = {64, 1000, 12000, 40000, 300000, 2 << 20, 6 << 20};

/* Takes everything in blocks of each size in turn, and gives it back; each time there must be at
 * least `share` per cent of the limit. */
static void take_all_again_and_again(size_t limit, unsigned share) {
    for (unsigned round = 0; round < 2; round++) {
        for (size_t i = 0; i < COUNT_OF(sizes); i += edge_times(2, 1)) {
            struct link *list = NULL;
            size_t total = take_all(sizes[i], &list);
            give_all(list);
            if (total < limit / 100 * share) {
                FAIL("round %u, blocks of %zu bytes: only %zu MiB of %zu", round, sizes[i],
                     total >> 20, limit >> 20);
            }
        }
    }
}

static void all_but_little_of_256_mib_of_addresses_can_be_used(void) {
    edge_rerun_limited(__func__, RLIMIT_AS, 256u << 20);
    take_all_again_and_again(256u << 20, 50);
}

static void a_large_part_of_64_mib_of_addresses_can_be_used(void) {
    edge_rerun_limited(__func__, RLIMIT_AS, 64u << 20);
    take_all_again_and_again(64u << 20, 25);
}

/* Enough for a program that needs little, with glibc's malloc. */
static void with_32_mib_of_addresses_a_program_starts(void) {
    edge_rerun_limited(__func__, RLIMIT_AS, 32u << 20);
    struct link *list = NULL;
    CHECK(take_all(3000, &list) > 2u << 20);
    give_all(list);
}

static void all_but_little_of_1_gib_of_addresses_can_be_used(void) {
    if (getenv("EDGE_LONG") == NULL) {
        edge_skip("takes long");
    }
    edge_rerun_limited(__func__, RLIMIT_AS, 1u << 30);
    take_all_again_and_again(1u << 30, 60);
}

static void all_but_little_of_256_mib_of_data_can_be_used(void) {
    edge_rerun_limited(__func__, RLIMIT_DATA, 256u << 20);
    take_all_again_and_again(256u << 20, 60);
}

static void one_block_may_be_half_of_the_addresses(void) {
    edge_rerun_limited(__func__, RLIMIT_AS, 1u << 30);
    for (size_t size = 600u << 20; size >= 100u << 20; size -= 100u << 20) {
        char *block = malloc(size);
        if (block == NULL) {
            FAIL("no %zu MiB of 1024", size >> 20);
        }
        block[0] = block[size - 1] = 1;
        free(block);
    }
}

static void small_requests_succeed_after_a_large_one_failed(void) {
    edge_rerun_limited(__func__, RLIMIT_AS, 256u << 20);
    for (unsigned i = 0; i < 100; i++) {
        errno = 0;
        CHECK(malloc((size_t)1 << 30) == NULL && errno == ENOMEM);
        char *block = malloc(100 + i);
        CHECK(block != NULL);
        char *grown = realloc(block, (size_t)1 << 30);
        CHECK(grown == NULL && errno == ENOMEM);
        CHECK(calloc(1, (size_t)1 << 30) == NULL && memalign(4096, (size_t)1 << 30) == NULL);
        free(block);
    }
}

static void *take_and_give(void *context) {
    for (unsigned round = 0; round < 5; round++) {
        struct link *list = NULL;
        (void)take_all(3000, &list);
        give_all(list);
    }
    return context;
}

static void threads_can_run_out_together(void) {
    edge_rerun_limited(__func__, RLIMIT_AS, 256u << 20);
    pthread_t threads[4];
    pthread_attr_t small;
    CHECK(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 128 << 10) == 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        CHECK(pthread_create(&threads[i], &small, take_and_give, NULL) == 0);
    }
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    take_all_again_and_again(256u << 20, 35);
    CHECK(pthread_attr_destroy(&small) == 0);
}

/* ---- limits that a running program sets ---- */

static void *do_little(void *context) {
    free(malloc(100));
    return context;
}

/* Addresses that are reserved count, too. So all further memory must do with what is left; and
 * malloc with the limit. */
static void limit_addresses_late(void) {
    free(malloc(100));
    char *held = malloc(9 << 20);
    CHECK(held != NULL);
    edge_fill(held, 9 << 20, 1);
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
    limit.rlim_cur = (rlim_t)1 << 30;
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, do_little, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    struct link *list = NULL;
    size_t total = take_all(3u << 20, &list);
    CHECK(total > 512u << 20 && total < 1u << 30);
    give_all(list);
    CHECK(edge_holds(held, 9 << 20, 1));
    free(held);
}

static void run_limited_late(void) {
    struct edge_outcome outcome;
    edge_run_self("limit_addresses_late", &outcome);
    if (!edge_passed(&outcome)) {
        FAIL("status %#x: %s", (unsigned)outcome.status, outcome.text);
    }
}

static void addresses_can_be_limited_late_with_a_small_span(void) {
    CHECK(setenv("BERTH_CONF", "span:16M", 1) == 0);
    run_limited_late();
}

/* Scripts limit themselves so. The archive does not hear of it: there the names are libc's. */
static void addresses_can_be_limited_late(void) {
#ifdef EDGE_STATIC
    edge_skip("in a static program, setrlimit is the C library's");
#endif
    run_limited_late();
}

/* A child that has the parent's memory must not give its addresses away. */
static void a_vfork_childs_limit_is_its_own(void) {
    size_t spanned = 0;
    for (unsigned round = 0; round < 2; round++) {
        size_t kib = 0;
        FILE *status = fopen("/proc/self/status", "re");
        char line[128];
        while (status != NULL && fgets(line, sizeof(line), status) != NULL) {
            (void)sscanf(line, "VmSize: %zu", &kib);
        }
        CHECK(status != NULL && fclose(status) == 0 && kib > 0);
        CHECK(round == 0 || kib > spanned / 2);
        spanned = kib;
        pid_t child = round == 0 ? vfork() : -1;
        if (child == 0) {
            struct rlimit limit = {256 << 20, 256 << 20};
            _exit(setrlimit(RLIMIT_AS, &limit) == 0 ? 0 : 1);
        }
        int state = 0;
        CHECK(round != 0 || (waitpid(child, &state, 0) == child && state == 0));
    }
}

/* ---- locked memory ---- */

/* Pages that are locked cannot be purged: what is not zero must not be taken for it. */
static void locked_memory_is_cleared_by_calloc(void) {
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
        edge_skip("this user may not lock memory");
    }
    for (unsigned round = 0; round < 3; round++) {
        for (size_t size = 100; size < 16u << 20; size = size * 5 / 2) {
            char *blocks[4];
            for (size_t i = 0; i < COUNT_OF(blocks); i++) {
                blocks[i] = calloc(1, size);
                CHECK(blocks[i] != NULL && edge_is_zero(blocks[i], size));
                memset(blocks[i], 0xa5, size);
            }
            for (size_t i = 0; i < COUNT_OF(blocks); i++) {
                free(blocks[i]);
            }
            (void)malloc_trim(0);
        }
    }
}

/* ---- descriptors ---- */

static void *allocate_kinds(void *context) {
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        char *block = malloc(sizes[i]);
        CHECK(block != NULL);
        free(block);
    }
    return context;
}

/* A program may close all that is open, and use every number itself. */
static void no_descriptor_is_needed(void) {
    struct rlimit limit = {3, 3};
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    for (unsigned i = 0; i < 8; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, allocate_kinds, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    allocate_kinds(NULL);
}

/* ---- strict overcommit ---- */

static void strict_overcommit_is_no_hindrance(void) {
    char mode[8] = "";
    int fd = open("/proc/sys/vm/overcommit_memory", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, mode, sizeof(mode) - 1) < 1 || mode[0] != '2') {
        edge_skip("vm.overcommit_memory is not 2, and it is the machine's");
    }
    close(fd);
    char *blocks[64];
    for (size_t i = 0; i < COUNT_OF(blocks); i++) {
        blocks[i] = malloc((i + 1) * 100000);
        CHECK(blocks[i] != NULL);
        memset(blocks[i], 1, (i + 1) * 100000);
    }
    for (size_t i = 0; i < COUNT_OF(blocks); i++) {
        free(blocks[i]);
    }
}

static const struct edge_case cases[] = {
    EDGE_CASE(all_but_little_of_256_mib_of_addresses_can_be_used),
    EDGE_CASE(with_32_mib_of_addresses_a_program_starts),
    EDGE_CASE(a_large_part_of_64_mib_of_addresses_can_be_used),
    EDGE_CASE(all_but_little_of_1_gib_of_addresses_can_be_used),
    EDGE_CASE(all_but_little_of_256_mib_of_data_can_be_used),
    EDGE_CASE(one_block_may_be_half_of_the_addresses),
    EDGE_CASE(small_requests_succeed_after_a_large_one_failed),
    EDGE_CASE(threads_can_run_out_together),
    EDGE_CASE(addresses_can_be_limited_late_with_a_small_span),
    EDGE_CASE(addresses_can_be_limited_late),
    EDGE_CASE(a_vfork_childs_limit_is_its_own),
    EDGE_CASE(locked_memory_is_cleared_by_calloc),
    EDGE_CASE(no_descriptor_is_needed),
    EDGE_CASE(strict_overcommit_is_no_hindrance),
};
static const struct edge_case hidden[] = {
    EDGE_CASE(limit_addresses_late),
};

int main(int argc, char **argv) {
    return edge_main_hiding(argc, argv, cases, COUNT_OF(cases), hidden, COUNT_OF(hidden));
}
