/* The stats page's writer: that what is on it is what the process would say itself. */
#include "figures.h"

#include "cli/page_read.h"
#include "metrics/page.h"
#include "metrics/write.h"
#include "os/clock.h"
#include "os/fault.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

enum { PATIENCE_MS = 20000 };

/* Waits until a snapshot was taken that began after this call. */
static const struct berth__stats_head *refreshed(void) {
    uint64_t asked_ns = berth__clock_ns();
    for (unsigned waited = 0; waited < PATIENCE_MS; waited += 5) {
        const struct berth__stats_head *head = berth__stats_page();
        if (head != NULL && berth__load_acquire(&head->magic) == BERTH_STATS_MAGIC &&
            berth__load_relaxed(&head->taken_ns) > asked_ns) {
            return head;
        }
        usleep(5000);
        berth_trim(NULL);
    }
    UNIT_CHECK(false); /* no snapshot was taken */
    return NULL;
}

static void *copy_of(const struct berth__stats_head *head) {
    void *copy = malloc(head->page_bytes);
    UNIT_CHECK(copy != NULL);
    memcpy(copy, (const void *)head, head->page_bytes);
    return copy;
}

/* ---- texts ---- */

struct text {
    char *bytes;
    size_t length;
};

static void keep(void *context, const char *bytes, size_t length) {
    struct text *text = context;
    text->bytes = realloc(text->bytes, text->length + length + 1);
    UNIT_CHECK(text->bytes != NULL);
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    text->bytes[text->length] = '\0';
}

static void expect_same(enum berth_metrics_format format) {
    struct berth__stats stats;
    struct text by_page = {NULL, 0};
    struct text by_process = {NULL, 0};
    void *copy = copy_of(refreshed());
    assert_int_equal(berth_metrics_write(format, BERTH_METRICS_ALL, keep, &by_process), 0);
    assert_int_equal(
        berth__stats_read(&stats, copy, ((struct berth__stats_head *)copy)->page_bytes),
        BERTH_PAGE_SOUND);
    stats.snapshot.pid = (unsigned)getpid();
    berth__snapshot_write(&stats.snapshot, format, BERTH_METRICS_ALL, keep, &by_page);
    assert_string_equal(by_page.bytes, by_process.bytes);
    berth__stats_free(&stats);
    free(copy);
    free(by_page.bytes);
    free(by_process.bytes);
}

static void the_page_says_what_the_process_says(void **state) {
    /* `berth stat` would show something else than the program's own metrics. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.limit = 100 * MiB;
    berth_pool *second = berth_pool_create("second.pool-1", &options);
    for (unsigned i = 0; i < 40; i++) {
        UNIT_CHECK(berth_alloc(berth_pool_default(), i * 500) != NULL);
        UNIT_CHECK(berth_alloc(second, i * 60000) != NULL);
    }
    (void)refreshed(); /* the page's own memory is counted, too */
    expect_same(BERTH_METRICS_JSON);
    expect_same(BERTH_METRICS_OPENMETRICS);
    expect_same(BERTH_METRICS_TEXT);
}

static size_t resident_bytes(const struct berth__stats_head *head) {
    unsigned char there[BERTH_STATS_BYTES_MOST / 4096];
    size_t pages = 0;
    UNIT_CHECK(mincore((void *)(uintptr_t)head, head->page_bytes, there) == 0);
    for (size_t i = 0; i < head->page_bytes / 4096; i++) {
        pages += there[i] & 1;
    }
    return pages * 4096;
}

static void many_pools_get_a_larger_page_and_few_a_small_one(void **state) {
    /* A server with hundreds of pools would show some of them; each small process pay megabytes. */
    (void)state;
    const struct berth__stats_head *head = refreshed();
    assert_int_equal(head->page_bytes, BERTH_STATS_BYTES_LEAST);
    assert_true(resident_bytes(head) <= BERTH_STATS_BYTES_LEAST);
    berth_pool *pools[300];
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(pools); i++) {
        char name[16];
        snprintf(name, sizeof(name), "pool%u", i);
        pools[i] = berth_pool_create(name, NULL);
        UNIT_CHECK(pools[i] != NULL && berth_alloc(pools[i], 100) != NULL);
    }
    head = refreshed();
    assert_true(head->page_bytes > BERTH_STATS_BYTES_LEAST);
    assert_int_equal(head->rows_left_out, 0);
    assert_int_equal(berth__stats_page() == head, 1);
    expect_same(BERTH_METRICS_JSON);
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(pools); i++) {
        assert_int_equal(berth_pool_destroy(pools[i], BERTH_FORCE), 0);
    }
    expect_same(BERTH_METRICS_JSON);
}

/* ---- forks ---- */

static void look_at_own_page(void *context) {
    const struct berth__stats_head *parents = context;
    UNIT_CHECK(berth__load_relaxed(&parents->magic) == 0 && parents->made_ns == 0); /* wiped */
    uint64_t forked_ns = berth__clock_ns();
    UNIT_CHECK(berth_alloc(berth_pool_default(), 20000000) != NULL);
    const struct berth__stats_head *own = refreshed();
    UNIT_CHECK(own->made_ns >= forked_ns && own->sequence % 2 == 0);
}

static void a_child_has_a_page_of_its_own(void **state) {
    /* A worker would be shown with its master's figures, or write them over. */
    (void)state;
    const struct berth__stats_head *head = refreshed();
    uint64_t sequence = head->sequence;
    assert_int_equal(unit_in_child(look_at_own_page, (void *)(uintptr_t)head), 0);
    assert_true(head->sequence == sequence && head->magic == BERTH_STATS_MAGIC);
}

/* ---- readers meanwhile ---- */

static _Atomic bool stop;

static void *churn(void *unused) {
    (void)unused;
    void *blocks[400];
    while (!berth__load_relaxed(&stop)) {
        for (unsigned i = 0; i < BERTH_ARRAY_COUNT(blocks); i++) {
            blocks[i] = berth_alloc(berth_pool_default(), i * 97);
        }
        for (unsigned i = 0; i < BERTH_ARRAY_COUNT(blocks); i++) {
            berth_free(blocks[i]);
        }
        (void)berth__stats_tick(true);
    }
    return NULL;
}

static unsigned unfinished; /* times that a writer was met at its work */

/* As another process does it: by the kernel. */
static bool read_once(int memory, const struct berth__stats_head *head, void *copy) {
    struct berth__stats_head before;
    struct berth__stats_head after;
    off_t at = (off_t)(uintptr_t)head;
    UNIT_CHECK(pread(memory, &before, sizeof(before), at) == (ssize_t)sizeof(before));
    UNIT_CHECK(pread(memory, copy, BERTH_STATS_BYTES_LEAST, at) == BERTH_STATS_BYTES_LEAST);
    UNIT_CHECK(pread(memory, &after, sizeof(after), at) == (ssize_t)sizeof(after));
    unfinished += before.sequence % 2 != 0;
    return before.sequence == after.sequence && before.sequence % 2 == 0;
}

static void what_is_read_while_others_write_is_one_snapshot(void **state) {
    /* The sum of the pools would not be the process's, once in a while. */
    (void)state;
    enum { THREADS = 2, WANTED = 200, TRIES_MAX = 200000 };
    const struct berth__stats_head *head = refreshed();
    int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    void *copy = malloc(BERTH_STATS_BYTES_LEAST);
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, churn, NULL), 0);
    }
    unsigned taken = 0;
#if BERTH_FAULTS
    berth__delay_set(2); /* in the midst of a snapshot, among others */
#endif
    for (unsigned i = 0; i < TRIES_MAX && (taken < WANTED || (BERTH_FAULTS && unfinished == 0));
         i++) {
        if (read_once(memory, head, copy)) {
            struct berth__stats stats;
            assert_int_equal(berth__stats_read(&stats, copy, BERTH_STATS_BYTES_LEAST),
                             BERTH_PAGE_SOUND);
            assert_true(stats.snapshot.count[BERTH_LEVEL_POOL] ==
                        berth__stats_figure(&stats, "pools", 0));
            berth__stats_free(&stats);
            taken++;
        }
    }
#if BERTH_FAULTS
    berth__delay_set(0);
    assert_true(unfinished > 0);
#endif
    berth__store_relaxed(&stop, true);
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_true(taken >= WANTED);
    free(copy);
    close(memory);
}

/* ---- without ---- */

static void start_again(void *variable) {
    setenv(variable, "1", 1);
    setenv("BERTH_CONF", strcmp(variable, "UNIT_OFF") == 0 ? "stats_page:false" : "", 1);
    execl("/proc/self/exe", "page_test", (char *)NULL);
}

static int with_page_off(void) {
    usleep(50000);
    UNIT_CHECK(berth_alloc(berth_pool_default(), 20000000) != NULL);
    berth_trim(NULL);
    return berth__stats_page() != NULL;
}

static int without_memory(void) {
    UNIT_CHECK(berth_pool_default() != NULL);
#if BERTH_FAULTS
    usleep(50000);
    berth__os_fail_after(BERTH_OS_RESERVE, 0, 1);
    (void)berth__stats_tick(false);
    UNIT_CHECK(berth__stats_page() == NULL);
    usleep(1100000); /* then it tries again */
    berth__os_fail_after(BERTH_OS_COMMIT, 0, 1);
    (void)berth__stats_tick(false);
    UNIT_CHECK(berth__stats_page() == NULL);
    usleep(1100000);
    berth__os_fail_after(BERTH_OS_ADVISE, 0, 2); /* an old kernel: the child wipes the page */
    (void)refreshed();
    berth__os_fail_after(BERTH_OS_ADVISE, 0, 0);
    const struct berth__stats_head *head = berth__stats_page();
    pid_t child = fork();
    if (child == 0) {
        _exit(berth__load_relaxed(&head->magic) != 0 || refreshed() == NULL);
    }
    int status = 1;
    UNIT_CHECK(waitpid(child, &status, 0) == child && status == 0);
#endif
    return 0;
}

static void the_option_switches_it_off(void **state) {
    /* Who does not want it would have it. */
    (void)state;
    static char variable[] = "UNIT_OFF";
    assert_int_equal(unit_in_child(start_again, variable), 0);
}

static void without_memory_for_it_nothing_else_changes(void **state) {
    /* A process at its bounds would be stopped for its statistics' sake. */
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS);
    static char variable[] = "UNIT_SCARCE";
    assert_int_equal(unit_in_child(start_again, variable), 0);
}

int main(void) {
    if (getenv("UNIT_OFF") != NULL) {
        return with_page_off();
    }
    if (getenv("UNIT_SCARCE") != NULL) {
        return without_memory();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_says_what_the_process_says),
        cmocka_unit_test(a_child_has_a_page_of_its_own),
        cmocka_unit_test(what_is_read_while_others_write_is_one_snapshot),
        cmocka_unit_test(many_pools_get_a_larger_page_and_few_a_small_one),
        cmocka_unit_test(the_option_switches_it_off),
        cmocka_unit_test(without_memory_for_it_nothing_else_changes),
    };
    return UNIT_RUN(tests);
}
