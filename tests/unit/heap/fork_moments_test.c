/* Fork beside other threads: what a child finds, whatever they were doing. */
#include "heap/forks.h"

#include <dirent.h>

/* ---- the start; before anything else starts the engine ---- */

static _Atomic bool starting;

static void start_slowly(struct berth__engine_config *config) {
    (void)config;
    starting = true;
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
}

static void *start_engine(void *unused) {
    (void)unused;
    UNIT_CHECK(berth__engine_start());
    return NULL;
}

static void find_it_started(void) {
    UNIT_CHECK(berth__engine_start());
}

static void fork_while_it_starts(void *unused) {
    (void)unused;
    pthread_t thread;
    berth__engine_configure = start_slowly;
    UNIT_CHECK(pthread_create(&thread, NULL, start_engine, NULL) == 0);
    while (!starting) {
        a_moment();
    }
    UNIT_CHECK(in_child(find_it_started) == 0);
    pthread_join(thread, NULL);
}

static void a_child_of_a_process_that_starts_can_start(void **state) {
    /* It would wait for a thread that it does not have. */
    (void)state;
    UNIT_ONLY_IF(!UNIT_TSAN); /* makes a thread in a child */
    assert_int_equal(unit_in_child(fork_while_it_starts, NULL), 0);
}

static pid_t forked_in_start;

static void fork_in_start(struct berth__engine_config *config) {
    (void)config;
    forked_in_start = fork(); /* as a signal handler would */
    if (forked_in_start == 0) {
        alarm(UNIT_HANGS_S);
        UNIT_CHECK(!berth__engine_start()); /* in the handler */
    }
}

static void fork_in_the_start_itself(void *unused) {
    (void)unused;
    berth__engine_configure = fork_in_start;
    UNIT_CHECK(berth__engine_start());
    use_everything();
    if (forked_in_start > 0) {
        int status = 0;
        UNIT_CHECK(waitpid(forked_in_start, &status, 0) == forked_in_start && status == 0);
    }
}

static void a_start_that_was_forked_in_goes_on_in_the_child(void **state) {
    /* The handler would wait for what it interrupted. */
    (void)state;
    assert_int_equal(unit_in_child(fork_in_the_start_itself, NULL), 0);
}

/* ---- other threads ---- */

static void a_thread_that_empties_its_cache_is_busy(void **state) {
    /* A child would empty it once more, and free its arrays twice. */
    (void)state;
    start_other(berth_thread_flush);
    berth__lock_acquire(&other.cache->heap->lock);
    let_other_work();
    await_sleeper(&other.cache->heap->lock);
    assert_int_equal(other.step, 3);
    assert_true(berth__load_relaxed(&other.cache->busy));
    berth__lock_release(&other.cache->heap->lock);
    while (other.step != 4) {
        a_moment();
    }
    join_other();
}

static _Atomic bool stop;

static void *fill_and_flush(void *unused) {
    (void)unused;
    while (!stop) {
        void *blocks[360];
        for (size_t i = 0; i < BERTH_ARRAY_COUNT(blocks); i++) {
            blocks[i] = berth_alloc(berth_pool_default(), 16 + i % 90 * 16);
        }
        for (size_t i = 0; i < BERTH_ARRAY_COUNT(blocks); i++) {
            berth_free(blocks[i]);
        }
        berth_thread_flush();
    }
    return NULL;
}

/* Metadata freed twice is handed out twice. */
static void check_metadata(void) {
    UNIT_CHECK((int64_t)berth__load_relaxed(&berth__default_arenas()->cached_bound) >= 0);
    for (size_t size = 64; size <= 4096; size *= 2) {
        void *blocks[64];
        for (unsigned i = 0; i < BERTH_ARRAY_COUNT(blocks); i++) {
            blocks[i] = berth__meta_alloc(size);
            for (unsigned k = 0; k < i; k++) {
                UNIT_CHECK(blocks[k] != blocks[i]);
            }
        }
    }
}

static void caches_may_be_emptied_meanwhile(void **state) {
    /* As above, wherever in the emptying the other thread is. */
    (void)state;
    pthread_t thread;
    stop = false;
    assert_int_equal(pthread_create(&thread, NULL, fill_and_flush, NULL), 0);
    for (unsigned i = 0; i < 150; i++) {
        berth_thread_flush();
        assert_int_equal(in_child(check_metadata), 0);
    }
    stop = true;
    pthread_join(thread, NULL);
}

static _Atomic bool released;

static void hold_the_heap_for_long(void) {
    berth__lock_acquire(&other.cache->heap->lock);
    other.step = 5;
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    released = true;
    berth__lock_release(&other.cache->heap->lock);
}

static void find_it_released(void) {
    UNIT_CHECK(released);
    use_everything();
}

static void a_fork_waits_for_whoever_holds_a_lock(void **state) {
    /* What a thread that is off the processor had half done would be the child's for good. */
    (void)state;
    start_other(hold_the_heap_for_long);
    let_other_work();
    while (other.step != 5) {
        a_moment();
    }
    assert_int_equal(in_child(find_it_released), 0);
    join_other();
}

static void find_no_sleepers(void) {
    struct berth__lock *lock = &first_arena()->heaps_lock;
    UNIT_CHECK(berth__load_relaxed(&lock->sleepers) == 0);
    UNIT_CHECK(berth__load_relaxed(&lock->waking) == 0);
}

static void nobody_sleeps_on_a_childs_locks(void **state) {
    /* Each release would call the kernel, to wake nobody. */
    (void)state;
    struct berth__lock *lock = &first_arena()->heaps_lock;
    berth__store_relaxed(&lock->sleepers, 3);
    berth__store_relaxed(&lock->waking, 1);
    int result = in_child(find_no_sleepers);
    berth__store_relaxed(&lock->sleepers, 0);
    berth__store_relaxed(&lock->waking, 0);
    assert_int_equal(result, 0);
}

/* ---- threads that begin and end ---- */

static struct berth__heap *adopted;

static void find_it_orphaned(void) {
    UNIT_CHECK(is_orphan(adopted));
    UNIT_CHECK(is_orphan(other.cache->heap));
    use_everything();
}

static void adopt_a_heap(void) {
    adopted = berth__heap_adopt(other.cache->arena);
    other.step = 5;
    while (other.step != 6) {
        a_moment();
    }
    berth__heap_orphan(adopted);
}

static void heaps_without_a_cache_are_adopted_in_the_child(void **state) {
    /* A thread between taking a heap and showing its cache would lose it, with what is free there.
     */
    (void)state;
    start_other(adopt_a_heap);
    let_other_work();
    while (other.step != 5) {
        a_moment();
    }
    int result = in_child(find_it_orphaned);
    other.step = 6;
    join_other();
    assert_int_equal(result, 0);
}

static bool is_listed(const struct berth__cache *cache) {
    struct berth__list *caches = &berth__default_arenas()->caches;
    for (struct berth__list *at = caches->next; at != caches; at = at->next) {
        if (BERTH_LIST_ENTRY(at, struct berth__cache, link) == cache) {
            return true;
        }
    }
    return false;
}

static void a_thread_that_ends_empties_its_cache_where_a_fork_finds_it(void **state) {
    /* A child would lose what the cache holds, and its part of the budget. */
    (void)state;
    start_other(NULL);
    struct berth__lock *lock = &other.cache->heap->lock;
    berth__lock_acquire(lock);
    let_other_work();
    while (berth__load_relaxed(&lock->sleepers) == 0) {
        a_moment();
    }
    assert_true(is_listed(other.cache));
    berth__lock_release(lock);
    join_other();
    assert_true(is_listed(other.cache)); /* left to others */
    berth_trim(NULL);
    assert_false(is_listed(other.cache));
}

static void check_budget(void) {
    UNIT_CHECK(berth__load_relaxed(&berth__cache_budget) == (int64_t)berth__cache_budget_total);
}

static void a_child_has_the_whole_budget(void **state) {
    /* It would shrink with each generation of a server that replaces itself by fork. */
    (void)state;
    void *blocks[400];
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(blocks); i++) {
        blocks[i] = berth_alloc(berth_pool_default(), 1000);
    }
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(blocks); i++) {
        berth_free(blocks[i]);
    }
    assert_true(berth__load_relaxed(&berth__tls.cache->granted) > 0);
    assert_int_equal(in_child(check_budget), 0);
    berth_thread_flush();
}

static struct berth__arenas *arenas_of_runs;

static void lend_a_run(void) {
    berth_free(berth_alloc(berth_pool_default(), RUN));
}

static bool has_cpu_caches(const struct berth__arenas *arenas) {
    for (unsigned i = 0; i < BERTH_CPU_CACHES; i++) {
        if (berth__load_relaxed(&arenas->cpu_caches[i]) != NULL) {
            return true;
        }
    }
    return false;
}

/* Leaves the caches that there are lying: this is a child. */
static void make_a_cpu_cache(void *unused) {
    (void)unused;
    start_other(lend_a_run);
    arenas_of_runs = other.cache->arenas;
    berth__run_caches_flush(arenas_of_runs);
    struct berth__lock *lock = &arenas_of_runs->lock;
    berth__lock_acquire(lock);
    for (unsigned i = 0; i < BERTH_CPU_CACHES; i++) {
        berth__store_relaxed(&arenas_of_runs->cpu_caches[i], NULL);
    }
    let_other_work();
    await_sleeper(lock);
    UNIT_CHECK(!has_cpu_caches(arenas_of_runs));
    berth__lock_release(lock);
    join_other();
    UNIT_CHECK(has_cpu_caches(arenas_of_runs));
}

static void no_cpu_cache_comes_up_while_a_fork_is_prepared(void **state) {
    /* Its lock would not be taken, and a child could find it half done. */
    (void)state;
    UNIT_ONLY_IF(!UNIT_TSAN); /* makes a thread in a child */
    assert_int_equal(unit_in_child(make_a_cpu_cache, NULL), 0);
}

/* ---- waits ---- */

static void *wait_in_vain(void *unused) {
    (void)unused;
    struct berth__waiter waiter;
    berth__wait_begin(&waiter, 60000, &berth__ledger.queue);
    while (other.step != 3) {
        a_moment();
    }
    berth__wait_end(&waiter);
    return NULL;
}

static void find_nobody_waiting(void) {
    UNIT_CHECK(!berth__wait_anyone());
    UNIT_CHECK(berth__load_relaxed(&berth__ledger.queue.count) == 0);
    struct berth__waiter waiter;
    berth__wait_begin(&waiter, 60000, &berth__ledger.queue);
    berth__wait_notify();
    UNIT_CHECK(berth__wait_sleep(&waiter)); /* as the head */
    berth__wait_end(&waiter);
}

static void other_threads_do_not_wait_in_the_child(void **state) {
    /* The child's own waits would be behind theirs. */
    (void)state;
    pthread_t thread;
    other.step = 2;
    assert_int_equal(pthread_create(&thread, NULL, wait_in_vain, NULL), 0);
    while (!berth__wait_anyone()) {
        a_moment();
    }
    int result = in_child(find_nobody_waiting);
    let_other_work();
    pthread_join(thread, NULL);
    assert_int_equal(result, 0);
}

/* ---- layers above ---- */

static _Atomic bool called;

static void call_for_long(void *context, berth_pool *pool, size_t bytes) {
    (void)context, (void)pool, (void)bytes;
    called = true;
    while (called) {
        a_moment();
    }
}

static void count_call(void *context, berth_pool *pool, size_t bytes) {
    (void)pool, (void)bytes;
    ++*(int *)context;
}

static void *ask_for_too_much(void *unused) {
    (void)unused;
    UNIT_CHECK(berth_alloc_flags(berth_pool_default(), LARGE, BERTH_NOWAIT) == NULL);
    return NULL;
}

static void call_back_in_child(void) {
    int calls = 0;
    UNIT_CHECK(berth_pressure_add(count_call, &calls, 0) == 0);
    UNIT_CHECK(berth_pressure_remove(call_for_long, NULL) == 0);
    ask_for_too_much(NULL);
    UNIT_CHECK(calls == 1);
}

static void fork_beside_a_callback(void *unused) {
    (void)unused;
    pthread_t thread;
    UNIT_CHECK(berth_limit_set(8 << 20) == 0);
    UNIT_CHECK(berth_alloc(berth_pool_default(), LARGE) != NULL);
    UNIT_CHECK(berth_pressure_add(call_for_long, NULL, 0) == 0);
    UNIT_CHECK(pthread_create(&thread, NULL, ask_for_too_much, NULL) == 0);
    while (!called) {
        a_moment();
    }
    int result = in_child(call_back_in_child);
    called = false;
    pthread_join(thread, NULL);
    UNIT_CHECK(result == 0);
}

static void callbacks_run_in_the_child_of_one_that_runs(void **state) {
    /* None would ever be asked there, and removing one would wait for ever. */
    (void)state;
    UNIT_ONLY_IF(!UNIT_TSAN); /* likewise */
    assert_int_equal(unit_in_child(fork_beside_a_callback, NULL), 0);
}

static unsigned thread_count(void) {
    unsigned count = 0;
    DIR *tasks = opendir("/proc/self/task");
    UNIT_CHECK(tasks != NULL);
    for (struct dirent *task = readdir(tasks); task != NULL; task = readdir(tasks)) {
        count += task->d_name[0] != '.';
    }
    closedir(tasks);
    return count;
}

static void start_maintenance_when_asked(void) {
    UNIT_CHECK(thread_count() == 1);
    use_everything(); /* ends with a trim */
    UNIT_CHECK(thread_count() == 2);
}

/* Started again, because the options are read once. */
static void have_maintenance(void *unused) {
    (void)unused;
    setenv("BERTH_CONF", "maintenance:true", 1);
    execl("/proc/self/exe", "fork_test", "maintenance", NULL);
    UNIT_CHECK(false);
}

static int with_maintenance(void) {
    UNIT_CHECK(berth_pool_create("any", NULL) != NULL);
    UNIT_CHECK(thread_count() == 2);
    UNIT_CHECK(in_child(start_maintenance_when_asked) == 0);
    return 0;
}

static void a_child_has_no_thread_until_it_asks_for_one(void **state) {
    /* Most children go on to another program, or to what a second thread forbids. */
    (void)state;
    UNIT_ONLY_IF(!UNIT_TSAN); /* has threads of its own */
    assert_int_equal(unit_in_child(have_maintenance, NULL), 0);
}

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) {
        return with_maintenance();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_of_a_process_that_starts_can_start),
        cmocka_unit_test(a_start_that_was_forked_in_goes_on_in_the_child),
        cmocka_unit_test(a_thread_that_empties_its_cache_is_busy),
        cmocka_unit_test(caches_may_be_emptied_meanwhile),
        cmocka_unit_test(a_fork_waits_for_whoever_holds_a_lock),
        cmocka_unit_test(nobody_sleeps_on_a_childs_locks),
        cmocka_unit_test(heaps_without_a_cache_are_adopted_in_the_child),
        cmocka_unit_test(a_thread_that_ends_empties_its_cache_where_a_fork_finds_it),
        cmocka_unit_test(a_child_has_the_whole_budget),
        cmocka_unit_test(no_cpu_cache_comes_up_while_a_fork_is_prepared),
        cmocka_unit_test(other_threads_do_not_wait_in_the_child),
        cmocka_unit_test(callbacks_run_in_the_child_of_one_that_runs),
        cmocka_unit_test(a_child_has_no_thread_until_it_asks_for_one),
    };
    return UNIT_RUN(tests);
}
