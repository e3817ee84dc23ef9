/*
 * Leak records: what is on record, when it is told of, and what the record says.
 */
#include "figures.h"

#include "buffer/leak.h"
#include "buffer/owner.h"
#include "os/clock.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include <berth/berth.h>

enum { THREADS = 4, ROUNDS = UNIT_SANITIZED ? 2000 : 20000 };

static berth_pool *pool;

static struct {
    unsigned count;
    struct berth_leak last;
    uint64_t numbers_ascend;
} told;

static void on_leak(void *context, const struct berth_leak *leak) {
    (void)context;
    told.numbers_ascend += told.count == 0 || leak->number > told.last.number;
    told.count++;
    told.last = *leak;
}

static int set_up(void **state) {
    (void)state;
    memset(&told, 0, sizeof(told));
    pool = berth_pool_create("leaks", NULL);
    berth_leak_listener_set(on_leak, NULL);
    return pool == NULL || berth_leak_level_set(BERTH_LEAK_PARANOID) != 0;
}

static int tear_down(void **state) {
    (void)state;
    int error = berth_leak_level_set(BERTH_LEAK_OFF);
    berth_leak_listener_set(NULL, NULL);
    return error != 0 || berth_leak_report(NULL, 0, on_leak, NULL) != 0 ||
           berth_pool_destroy(pool, 0) != 0;
}

static size_t report(uint64_t age_ms) {
    memset(&told, 0, sizeof(told));
    return berth_leak_report(pool, age_ms, on_leak, NULL);
}

/* Exported, so that it has a name; not inlined, so that it is a caller; with something to do behind
 * the call, so that the call is not its last. */
BERTH_EXPORT BERTH_NOINLINE int leaks_test_forgets(struct berth_slice *slice);
int leaks_test_forgets(struct berth_slice *slice) {
    int error = berth_slice_alloc(pool, 1000, slice);
    UNIT_CHECK(error == 0);
    return (int)slice->length;
}

static void a_leak_is_told_of_with_the_function_that_allocated_it(void **state) {
    /* Nobody would find where the leak comes from. */
    (void)state;
    struct berth_slice slice, other;
    assert_int_equal(leaks_test_forgets(&slice), 1000);
    assert_int_equal(berth_slice_alloc(berth_pool_default(), 10, &other), 0);
    assert_int_equal(report(0), 1);
    assert_string_equal(told.last.pool, "leaks");
    assert_ptr_equal(told.last.data, slice.data);
    assert_int_equal(told.last.bytes, 1000);
    uintptr_t place = (uintptr_t)told.last.allocated.stack[0];
    assert_in_range(place, (uintptr_t)leaks_test_forgets, (uintptr_t)leaks_test_forgets + 200);
    assert_true(told.last.allocated.thread == berth__thread_self());
    char text[4096];
    berth_leak_text(&told.last, text, sizeof(text));
    assert_non_null(strstr(text, "not released: 1000 bytes at 0x"));
    assert_non_null(strstr(text, "pool \"leaks\""));
    assert_non_null(strstr(text, "leaks_test_forgets+0x"));
    char cut[20];
    berth_leak_text(&told.last, cut, sizeof(cut));
    assert_string_equal(cut, "not released: 1000 ");
    assert_int_equal(berth_leak_report(NULL, 0, on_leak, NULL), 2);
    berth_slice_release(&slice);
    berth_slice_release(&other);
    assert_int_equal(report(0), 0);
}

/* Everything that makes memory, from here. */
static void make(unsigned kind, struct berth_buf *buf, struct berth_chain *chain,
                 struct berth_slice *slice) {
    static char bytes[2000];
    switch (kind) {
    case 0: assert_non_null(berth_buf_reserve(buf, 100)); return;
    case 1: assert_int_equal(berth_buf_append(buf, bytes, 100), 0); return;
    case 2: assert_int_equal(berth_chain_append_bytes(chain, bytes, 100), 0); return;
    case 3: assert_int_equal(berth_chain_prepend_bytes(chain, bytes, 100), 0); return;
    case 4: assert_int_equal(berth_chain_append_file(chain, 0, 0, 10, false), 0); return;
    case 5: assert_int_equal(berth_slice_copy(pool, bytes, 100, slice), 0); return;
    default: assert_int_equal(berth_slice_alloc(pool, 0, slice), 0); return;
    }
}

static void all_that_allocates_is_on_record_with_its_caller(void **state) {
    /* Leaks of buffers and chains would have berth itself for their place, or none. */
    (void)state;
    for (unsigned kind = 0; kind < 7; kind++) {
        struct berth_buf buf;
        struct berth_chain chain;
        struct berth_slice slice = BERTH_SLICE_EMPTY;
        berth_buf_init(&buf, pool, 0, 0);
        berth_chain_init(&chain, pool);
        make(kind, &buf, &chain, &slice);
        assert_int_equal(report(0), 1);
        uintptr_t place = (uintptr_t)told.last.allocated.stack[0];
        if (!UNIT_SANITIZED) { /* compilers place and inline as they like then */
            assert_in_range(place, (uintptr_t)make - 2000, (uintptr_t)make + 4000);
        }
        berth_buf_clear(&buf);
        berth_chain_clear(&chain);
        berth_slice_release(&slice);
        assert_int_equal(report(0), 0);
    }
}

static void the_last_uses_are_kept_with_hints(void **state) {
    /* One would know who allocated it, but not who forgot it. */
    (void)state;
    struct berth_slice slice, others[3];
    assert_int_equal(berth_slice_alloc(pool, 10, &slice), 0);
    for (unsigned i = 0; i < 3; i++) {
        others[i] = berth_slice_retain(&slice);
    }
    berth_leak_hint(&slice, "parsed");
    berth_slice_release(&others[2]);
    assert_int_equal(report(0), 1);
    assert_int_equal(told.last.use_count, 5);
    assert_int_equal(told.last.uses_kept, BERTH_LEAK_USES_MAX);
    assert_string_equal(told.last.uses[0].what, "released");
    assert_string_equal(told.last.uses[1].what, "hint");
    assert_string_equal(told.last.uses[1].hint, "parsed");
    assert_string_equal(told.last.uses[2].what, "retained");
    assert_null(told.last.uses[2].hint);
    char text[8192];
    berth_leak_text(&told.last, text, sizeof(text));
    assert_non_null(strstr(text, "the last 4 of 5 uses"));
    assert_non_null(strstr(text, "hint \"parsed\""));
    berth_slice_release(&others[0]);
    berth_slice_release(&others[1]);
    berth_slice_release(&slice);
}

static void only_what_is_old_enough_is_told_of(void **state) {
    /* A report from a running server would be full of what it is working on. */
    (void)state;
    struct berth_slice old, young;
    assert_int_equal(berth_slice_alloc(pool, 10, &old), 0);
    sleep_ms(150);
    size_t count = 0;
    for (uint64_t before_ns = 0; before_ns == 0;) {
        assert_int_equal(berth_slice_alloc(pool, 20, &young), 0);
        before_ns = berth__clock_ns();
        count = report(100);
        if (berth__clock_ns() - before_ns > 50 * UINT64_C(1000000)) { /* it may be old by now */
            berth_slice_release(&young);
            before_ns = 0;
        }
    }
    assert_int_equal(count, 1);
    assert_int_equal(told.last.bytes, 10);
    assert_true(told.last.allocated.age_ms >= 100);
    assert_int_equal(report(0), 2);
    assert_int_equal(told.numbers_ascend, 2);
    assert_int_equal(report(1000000), 0);
    berth_slice_release(&old);
    berth_slice_release(&young);
}

static void the_end_of_a_pool_tells_once_of_what_lives(void **state) {
    /* A pool that cannot be destroyed would not say why; one ended by force would leave records of
     * memory that is gone. */
    (void)state;
    struct berth_slice slice, late;
    assert_int_equal(berth_slice_alloc(pool, 10, &slice), 0);
    assert_int_equal(berth_pool_destroy(pool, 0), -EBUSY);
    assert_int_equal(told.count, 1);
    assert_ptr_equal(told.last.data, slice.data);
    assert_int_equal(berth_pool_destroy(pool, 0), -EBUSY);
    assert_int_equal(told.count, 1);
    assert_int_equal(berth_slice_alloc(pool, 20, &late), 0);
    assert_int_equal(berth_pool_reset(pool, BERTH_FORCE), 0);
    assert_int_equal(told.count, 2);
    assert_int_equal(told.last.bytes, 20);
    assert_int_equal(berth_leak_report(NULL, 0, on_leak, NULL), 0);
    assert_int_equal(berth_slice_alloc(pool, 30, &slice), 0);
    assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), 0);
    assert_int_equal(told.count, 3);
    assert_string_equal(told.last.pool, "leaks");
    pool = berth_pool_create("leaks", NULL);
}

static void simple_records_one_in_128_without_a_period(void **state) {
    /* All of the sampled would be of one kind of message, where a program does the same in turns.
     */
    (void)state;
    enum { COUNT = 64 * 128 };
    static struct berth_slice slices[COUNT];
    assert_int_equal(berth_leak_level_set(BERTH_LEAK_SIMPLE), 0);
    unsigned of_residue[4] = {0}, gaps[256] = {0}, different = 0, since = 0, on_record = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(berth_slice_alloc(pool, 16, &slices[i]), 0);
        since++;
        if ((slices[i].owner_->traits & BERTH_OWNER_ON_RECORD) != 0) {
            assert_in_range(since, 1, 2 * BERTH_LEAK_INTERVAL);
            different += gaps[since % 256]++ == 0;
            of_residue[i % 4]++;
            on_record++;
            since = 0;
        }
    }
    assert_in_range(on_record, 40, 96);
    assert_in_range(different, 20, 96);
    for (unsigned i = 0; i < 4; i++) {
        assert_in_range(of_residue[i], 1, 48);
    }
    assert_int_equal(report(0), on_record);
    assert_int_equal(told.last.allocated.depth, 1);
    for (unsigned i = 0; i < COUNT; i++) {
        berth_slice_release(&slices[i]);
    }
}

static void nothing_is_on_record_when_off(void **state) {
    /* Programs that never asked would pay. */
    (void)state;
    assert_int_equal(berth_leak_level_set(BERTH_LEAK_OFF), 0);
    assert_int_equal(berth_leak_level_set((enum berth_leak_level)4), -EINVAL);
    assert_int_equal(berth_leak_level_get(), BERTH_LEAK_OFF);
    struct berth_slice slice;
    assert_int_equal(berth_slice_alloc(pool, 10, &slice), 0);
    berth_leak_hint(&slice, "nothing");
    assert_int_equal(report(0), 0);
    berth_slice_release(&slice);
}

/* ---- threads ---- */

static atomic_uint running;
static struct berth_slice shared[THREADS];

static void check_leak(void *context, const struct berth_leak *leak) {
    (void)context;
    UNIT_CHECK(strcmp(leak->pool, "leaks") == 0 && leak->bytes >= 1 && leak->bytes <= 100);
    UNIT_CHECK(leak->uses_kept <= BERTH_LEAK_USES_MAX && leak->allocated.depth >= 1);
}

static void *allocate_and_release(void *argument) {
    unsigned self = atomic_fetch_add((atomic_uint *)argument, 1);
    if (self == 0) {
        while (atomic_load(&running) > 0) {
            (void)berth_leak_report(pool, 0, check_leak, NULL);
        }
        return NULL;
    }
    struct unit_random random = {self};
    struct berth_slice held[8] = {BERTH_SLICE_EMPTY};
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct berth_slice *slice = &held[unit_random_below(&random, 8)];
        berth_slice_release(slice);
        UNIT_CHECK(berth_slice_alloc(pool, 1 + unit_random_below(&random, 100), slice) == 0);
        struct berth_slice another = berth_slice_retain(&shared[self]); /* memory of all */
        berth_leak_hint(&another, "in a thread");
        berth_slice_release(&another);
    }
    for (unsigned i = 0; i < 8; i++) {
        berth_slice_release(&held[i]);
    }
    berth_slice_release(&shared[self]);
    berth_thread_flush();
    atomic_fetch_sub(&running, 1);
    return NULL;
}

static void reports_and_uses_in_threads_at_once_are_whole(void **state) {
    /* Looking for a leak in a busy server would corrupt it. */
    (void)state;
    atomic_uint threads = 0;
    atomic_store(&running, THREADS - 1);
    assert_int_equal(berth_slice_alloc(pool, 50, &shared[0]), 0);
    for (unsigned i = 1; i < THREADS; i++) {
        shared[i] = berth_slice_retain(&shared[0]);
    }
    run_threads(THREADS, allocate_and_release, &threads);
    assert_int_equal(report(0), 1);
    assert_int_equal(told.last.use_count, (uint64_t)(THREADS - 1) * (3 * ROUNDS + 2));
    berth_slice_release(&shared[0]);
    assert_int_equal(report(0), 0);
    check_nothing_lives(pool);
}

/* ---- a process's options, and forks ---- */

static atomic_bool ending;

static void leak_and_exit(void *unused) {
    (void)unused;
    struct berth_slice slice;
    UNIT_CHECK(berth_leak_level_get() == BERTH_LEAK_PARANOID);
    pool = berth_pool_create("exit", NULL);
    (void)leaks_test_forgets(&slice);
    exit(0);
}

static void the_options_print_leaks_at_exit(void **state) {
    /* A program would have to be changed to be searched. */
    (void)state;
    char command[256], text[8192] = "";
    snprintf(command, sizeof(command),
             "BERTH_CONF=leak_detect:paranoid,leak_report:true /proc/%d/exe exit 2>&1",
             (int)getpid());
    FILE *output = popen(command, "r");
    assert_non_null(output);
    size_t length = fread(text, 1, sizeof(text) - 1, output);
    assert_int_equal(pclose(output), 0);
    text[length] = '\0';
    assert_non_null(strstr(text, "berth: not released: 1000 bytes"));
    assert_non_null(strstr(text, "berth:     leaks_test_forgets+0x"));
}

static void use_in_child(void *context) {
    struct berth_slice *slice = context;
    struct berth_slice another = berth_slice_retain(slice);
    berth_slice_release(&another);
    UNIT_CHECK(report(0) == 1);
    berth_slice_release(slice);
    UNIT_CHECK(report(0) == 0);
}

static void a_child_goes_on_with_the_records(void **state) {
    /* Servers that fork workers would hang in them, or not be searched. */
    (void)state;
    struct berth_slice slice;
    assert_int_equal(berth_slice_alloc(pool, 10, &slice), 0);
    assert_int_equal(unit_in_child(use_in_child, &slice), 0);
    assert_int_equal(report(0), 1);
    berth_slice_release(&slice);
}

static void *note_uses(void *slice) {
    while (!atomic_load(&ending)) {
        struct berth_slice another = berth_slice_retain(slice);
        berth_slice_release(&another);
    }
    return NULL;
}

static void use_others_in_child(void *context) {
    struct berth_slice *slice = context;
    alarm(UNIT_HANGS_S);
    struct berth_slice another = berth_slice_retain(slice);
    berth_slice_release(&another);
    UNIT_CHECK(report(0) == 2);
}

static void a_child_finds_the_list_free(void **state) {
    /* A worker would hang for ever if another thread had the lock as it was forked. */
    (void)state;
    UNIT_ONLY_IF(!UNIT_TSAN);
    struct berth_slice slice, others;
    assert_int_equal(berth_slice_alloc(pool, 10, &slice), 0);
    assert_int_equal(berth_slice_alloc(pool, 10, &others), 0);
    atomic_store(&ending, false);
    pthread_t thread = start_thread(note_uses, &others);
    for (unsigned i = 0; i < 300; i++) {
        assert_int_equal(unit_in_child(use_others_in_child, &slice), 0);
    }
    atomic_store(&ending, true);
    join_thread(thread);
    berth_slice_release(&others);
    berth_slice_release(&slice);
}

/* ---- what is kept for how little ---- */

static void expect_kept(uint64_t held, uint64_t viewed) {
    struct berth_process_metrics all = figures();
    UNIT_CHECK(all.slices_held_bytes == held);
    UNIT_CHECK(all.slices_viewed_bytes == viewed);
}

static void small_slices_of_large_blocks_are_told(void **state) {
    /* A server that keeps 100 bytes of each packet would hold all of them, and nobody knew. */
    (void)state;
    struct berth_slice whole, part, head;
    expect_kept(0, 0);
    assert_int_equal(berth_slice_alloc(pool, 64 * KiB, &whole), 0);
    expect_kept(64 * KiB, 64 * KiB);
    assert_int_equal(berth_slice_sub(&whole, 5, 100, &part), 0);
    expect_kept(64 * KiB, 64 * KiB); /* no byte twice */
    berth_slice_release(&whole);
    expect_kept(64 * KiB, 100);
    assert_int_equal(berth_slice_split(&part, 30, &head), 0);
    expect_kept(64 * KiB, 100);
    berth_slice_release(&part);
    expect_kept(64 * KiB, 30);
    assert_int_equal(berth_slice_compact(pool, &head, 2), 1);
    expect_kept(30, 30);
    berth_slice_release(&head);
    expect_kept(0, 0);
}

static void chains_and_buffers_tell_what_they_view(void **state) {
    (void)state;
    struct berth_chain chain, front;
    berth_chain_init(&chain, pool);
    berth_chain_init(&front, pool);
    struct berth_slice slice;
    assert_int_equal(berth_slice_alloc(pool, 10000, &slice), 0);
    assert_int_equal(berth_chain_append(&chain, &slice), 0);
    assert_int_equal(berth_chain_consume(&chain, 6000), 0);
    expect_kept(10000, 4000);
    assert_int_equal(berth_chain_split(&chain, 1000, &front), 0);
    expect_kept(10000, 4000);
    berth_chain_clear(&chain);
    expect_kept(10000, 1000);
    berth_chain_clear(&front);
    expect_kept(0, 0);

    struct berth_buf buf;
    berth_buf_init(&buf, pool, 4096, 0);
    assert_int_equal(berth_buf_append(&buf, "0123456789", 10), 0);
    expect_kept(4096, 4096); /* it may write all of it */
    assert_int_equal(berth_buf_take_slice(&buf, 4, &slice), 0);
    berth_buf_clear(&buf);
    expect_kept(4096, 4);
    berth_slice_release(&slice);
    expect_kept(0, 0);
}

static void what_a_pool_takes_with_it_is_kept_no_more(void **state) {
    /* The figures would grow for ever. */
    (void)state;
    berth_pool *other = berth_pool_create("other", NULL);
    struct berth_slice slice;
    assert_int_equal(berth_slice_alloc(other, 1000, &slice), 0);
    expect_kept(1000, 1000);
    assert_int_equal(berth_pool_destroy(other, BERTH_FORCE), 0);
    expect_kept(0, 0);
}

static void drawn_records_stand_for_the_others(void **state) {
    (void)state;
    enum { MANY = 4096, EACH = 1000 };
    static struct berth_slice slices[MANY];
    assert_int_equal(berth_leak_level_set(BERTH_LEAK_SIMPLE), 0);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(berth_slice_alloc(pool, EACH, &slices[i]), 0);
    }
    struct berth_process_metrics all = figures();
    assert_in_range(all.slices_held_bytes, MANY * EACH / 3, MANY * EACH * 3);
    for (unsigned i = 0; i < MANY; i++) {
        berth_slice_release(&slices[i]);
    }
    expect_kept(0, 0);
}

int main(int count, char **arguments) {
    if (count > 1 && strcmp(arguments[1], "exit") == 0) {
        leak_and_exit(NULL);
    }
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_leak_is_told_of_with_the_function_that_allocated_it),
        TEST(all_that_allocates_is_on_record_with_its_caller),
        TEST(the_last_uses_are_kept_with_hints),
        TEST(only_what_is_old_enough_is_told_of),
        TEST(the_end_of_a_pool_tells_once_of_what_lives),
        TEST(simple_records_one_in_128_without_a_period),
        TEST(nothing_is_on_record_when_off),
        TEST(reports_and_uses_in_threads_at_once_are_whole),
        TEST(small_slices_of_large_blocks_are_told),
        TEST(chains_and_buffers_tell_what_they_view),
        TEST(what_a_pool_takes_with_it_is_kept_no_more),
        TEST(drawn_records_stand_for_the_others),
        cmocka_unit_test(the_options_print_leaks_at_exit),
        TEST(a_child_goes_on_with_the_records),
        TEST(a_child_finds_the_list_free),
    };
    return UNIT_RUN(tests);
}
