/* Fork: what the child inherits works, whatever the parent's threads were doing. */
#include "figures.h"

#include "heap/cache.h"
#include "heap/engine.h"
#include "heap/fork.h"
#include "heap/request.h"
#include "pool/pool.h"

#include <sched.h>
#include <signal.h>
#include <time.h>

static berth_pool *pool;
static void *kept[500];

static void use_everything(unsigned seed) {
    struct unit_random random = {seed};
    void *blocks[200];
    for (unsigned i = 0; i < 2000; i++) {
        unsigned slot = i % 200;
        if (i >= 200) {
            berth_free(blocks[slot]);
        }
        size_t size = unit_random_below(&random, i % 100 == 0 ? 100000 : 3000);
        blocks[slot] = berth_alloc(i % 3 == 0 ? pool : berth_pool_default(), size);
        UNIT_CHECK(blocks[slot] != NULL);
        memset(blocks[slot], 1, size);
    }
    berth_free_batch(blocks, 200);
    berth_free(berth_alloc(pool, 5 * MiB));
}

static void *work_in_thread(void *unused) {
    (void)unused;
    use_everything(2);
    return NULL;
}

static void check_kept_and_work(void *unused) {
    (void)unused;
    alarm(UNIT_HANGS_S);
    for (unsigned i = 0; i < 500; i++) {
        UNIT_CHECK(is_filled(kept[i], kept[i], 50));
        if (i % 2 == 0) {
            berth_free(kept[i]);
        }
    }
    use_everything(1);
    if (!UNIT_SANITIZED) {
        run_threads(2, work_in_thread, NULL);
    }
    berth_trim(NULL);
    check_balance(pool);
    check_balance(berth_pool_default());
}

static void keep_blocks(void) {
    for (unsigned i = 0; i < 500; i++) {
        kept[i] = berth_alloc(i % 2 == 0 ? pool : berth_pool_default(), 50 + i);
        fill(kept[i], 50);
    }
}

static void a_child_works_on_what_it_inherited(void **state) {
    /* Servers that fork workers or save in the background would crash in the child. */
    (void)state;
    pool = berth_pool_create("inherited", NULL);
    keep_blocks();
    assert_int_equal(unit_in_child(check_kept_and_work, NULL), 0);
    check_kept_and_work(NULL);
    alarm(0);
    for (unsigned i = 1; i < 500; i += 2) {
        berth_free(kept[i]);
    }
    check_nothing_lives(pool);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void look_at_metrics(void *unused) {
    (void)unused;
    alarm(UNIT_HANGS_S);
    struct berth_pool_metrics before = figures_of(pool);
    UNIT_CHECK(before.threads == 0);
    void *block = berth_alloc(pool, 100000);
    uint64_t usable = berth_usable_size(block);
    UNIT_CHECK(figures_of(pool).run_lent_bytes == before.run_lent_bytes + usable);
    UNIT_CHECK(figures_of(pool).threads == 1);
    berth_free(block);
    for (unsigned i = 0; i < 500; i++) {
        if (i % 2 == 0) {
            berth_free(kept[i]);
        }
    }
    /* What the forking thread had cached is left where it was, and hides no block. */
    UNIT_CHECK(berth_pool_destroy(pool, 0) == 0);
    UNIT_CHECK(figures().pools == 1);
}

static void a_child_has_figures_of_its_own(void **state) {
    /* They would show the parent's threads, or its later blocks. */
    (void)state;
    pool = berth_pool_create("figures", NULL);
    keep_blocks();
    uint64_t live = figures_of(pool).run_lent_bytes;
    assert_int_equal(unit_in_child(look_at_metrics, NULL), 0);
    assert_int_equal(figures_of(pool).run_lent_bytes, live);
    assert_int_equal(figures_of(pool).threads, 1);
    for (unsigned i = 0; i < 500; i++) {
        berth_free(kept[i]);
    }
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static _Atomic bool stop;

static void *work_meanwhile(void *seed) {
    while (!atomic_load(&stop)) {
        use_everything((unsigned)(uintptr_t)seed);
        berth_thread_idle();
    }
    return NULL;
}

static void work_in_child(void *unused) {
    (void)unused;
    alarm(UNIT_HANGS_S);
    use_everything(7);
    if (!UNIT_SANITIZED) {
        run_threads(2, work_in_thread, NULL);
    }
    use_everything(8);
    berth_trim(NULL);
    /* What other threads were about to map, or to purge, is out of the figures for good. */
}

static void a_fork_while_threads_allocate_leaves_nothing_half_done(void **state) {
    /* The child would hang on a lock of a thread that it does not have, or find broken lists. */
    (void)state;
    enum { THREADS = 4, FORKS = 12 };
    pthread_t threads[THREADS];
    pool = berth_pool_create("meanwhile", NULL);
    atomic_store(&stop, false);
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = start_thread(work_meanwhile, (void *)(uintptr_t)i);
    }
    int failed = 0;
    for (unsigned i = 0; i < FORKS; i++) {
        failed += unit_in_child(work_in_child, NULL) != 0;
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < THREADS; i++) {
        join_thread(threads[i]);
    }
    assert_int_equal(failed, 0);
    check_nothing_lives(pool);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void fork_again(void *depth) {
    alarm(UNIT_HANGS_S);
    use_everything(3);
    uintptr_t left = (uintptr_t)depth;
    if (left > 0) {
        UNIT_CHECK(unit_in_child(fork_again, (void *)(left - 1)) == 0);
    }
    use_everything(4);
    check_balance(pool);
}

static void children_of_children_work(void **state) {
    /* Each generation would inherit what the one before left undone. */
    (void)state;
    pool = berth_pool_create("generations", NULL);
    assert_int_equal(unit_in_child(fork_again, (void *)5), 0);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

/* ---- in signal handlers ---- */

static _Atomic int children, failed_children, handled;

/* Forks wherever the signal came, also inside an allocation. The child allocates at once, keeps
 * what it got, returns into what was interrupted, and ends after some more work. */
static _Atomic bool in_child;
static void *got_in_handler[20];

static void fork_in_handler(int signal_number) {
    (void)signal_number;
    if (atomic_load(&in_child)) {
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        alarm(UNIT_HANGS_S);
        atomic_store(&in_child, true);
        const size_t sizes[] = {10, 100, 3000, 20000, 5 * MiB};
        for (unsigned i = 0; i < 20; i++) {
            got_in_handler[i] = berth_alloc_flags(berth_pool_default(), sizes[i % 5], BERTH_ZERO);
            UNIT_CHECK(is_zero(got_in_handler[i], sizes[i % 5]));
            memset(got_in_handler[i], 0x66, sizes[i % 5]);
            UNIT_CHECK(berth_usable_size(got_in_handler[i]) >= sizes[i % 5]);
            if (i % 4 == 3) {
                got_in_handler[i] = berth_realloc(NULL, got_in_handler[i], 2 * sizes[i % 5]);
                UNIT_CHECK(got_in_handler[i] != NULL);
            } else if (i % 4 == 2) {
                berth_free(got_in_handler[i]);
                got_in_handler[i] = NULL;
            }
        }
    } else if (child > 0) {
        int status = 0;
        atomic_fetch_add(&children, 1);
        while (waitpid(child, &status, 0) != child) {
        }
        atomic_fetch_add(&failed_children, status != 0);
    }
    atomic_fetch_add(&handled, 1);
}

/* Each some time after the one before was handled: a thread that is never let go on from its
 * handler is not caught anywhere else. */
static void *send_signals(void *target) {
    pthread_t thread = *(pthread_t *)target;
    struct unit_random random = {1};
    while (!atomic_load(&stop)) {
        int before = atomic_load(&handled);
        pthread_kill(thread, SIGUSR1);
        while (atomic_load(&handled) == before && !atomic_load(&stop)) {
            sched_yield();
        }
        nanosleep(&(struct timespec){.tv_nsec = (long)unit_random_below(&random, 500000)}, NULL);
    }
    return NULL;
}

static void set_blocked(int how) {
    sigset_t usr1;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(how, &usr1, NULL);
}

static void handlers_that_fork_inside_an_allocation_do_not_hang(void **state) {
    /* A crash handler or a supervisor's signal would leave a child that waits for itself. */
    (void)state;
    pool = berth_pool_create("handlers", NULL);
    atomic_store(&stop, false);
    struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART};
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    pthread_t self = pthread_self();
    pthread_t sender = start_thread(send_signals, &self);
    while (atomic_load(&children) < 25 && !atomic_load(&in_child)) {
        use_everything(5);
        berth_thread_flush(); /* more slow paths to be caught in */
    }
    set_blocked(SIG_BLOCK); /* a child of a later signal would go on as if it were the parent */
    if (atomic_load(&in_child)) {
        berth_free_batch(got_in_handler, 20);
        use_everything(6);
        use_everything(7);
        berth_trim(NULL);
        unit_keep_coverage();
        _exit(0);
    }
    atomic_store(&stop, true);
    join_thread(sender);
    signal(SIGUSR1, SIG_IGN); /* what still waits is dropped */
    set_blocked(SIG_UNBLOCK);
    signal(SIGUSR1, SIG_DFL);
    assert_int_equal(atomic_load(&failed_children), 0);
    check_nothing_lives(pool);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

/* ---- the store of last resort ---- */

static void detour(void *unused) {
    (void)unused;
    alarm(UNIT_HANGS_S);
    /* As in a handler that interrupted the default pool's heap under its lock. */
    struct berth__arenas *arenas = berth__default_arenas();
    void *before = berth_alloc(berth_pool_default(), 100);
    const size_t old_sizes[] = {100, 20000, 5 * MiB};
    char *old[3];
    for (unsigned i = 0; i < 3; i++) {
        old[i] = berth_alloc(berth_pool_default(), old_sizes[i]);
        fill(old[i], old_sizes[i]);
    }
    struct berth__heap *heap = berth__cache_peek(arenas)->heap;
    berth__lock_acquire(&heap->lock);
    pid_t child = fork();
    if (child != 0) {
        berth__lock_release(&heap->lock);
        int status = 0;
        UNIT_CHECK(waitpid(child, &status, 0) == child && status == 0);
        berth_free(before);
        use_everything(2);
        return;
    }
    UNIT_CHECK(berth__fork_must_detour());
    char *blocks[5];
    const size_t sizes[] = {1, 5000, 100000, 3 * MiB, 0};
    for (unsigned i = 0; i < 5; i++) {
        blocks[i] =
            berth_alloc_flags(berth_pool_default(), sizes[i], BERTH_ZERO | BERTH_ALIGN_LOG2(12));
        UNIT_CHECK(blocks[i] != NULL && (uintptr_t)blocks[i] % 4096 == 0);
        UNIT_CHECK(is_zero(blocks[i], sizes[i]) && berth_usable_size(blocks[i]) == sizes[i]);
        memset(blocks[i], 1, sizes[i]);
    }
    UNIT_CHECK(berth_alloc(berth_pool_default(), PTRDIFF_MAX / 2) == NULL);
    berth_free(before); /* is put off for ever: it cannot be taken now */
    berth_free(blocks[1]);
    UNIT_CHECK(berth_realloc(NULL, blocks[2], 1000) == blocks[2]);
    for (unsigned i = 0; i < 3; i++) { /* neither in place nor by remapping */
        char *moved = berth_realloc(NULL, old[i], 3 * old_sizes[i]);
        UNIT_CHECK(moved != old[i] && is_filled(moved, old[i], old_sizes[i]));
        UNIT_CHECK(berth_realloc(NULL, moved, 4 * old_sizes[i]) != moved);
    }
    berth__lock_release(&heap->lock); /* the interrupted call goes on */
    UNIT_CHECK(!berth__fork_must_detour());
    blocks[2] = berth_realloc(NULL, blocks[2], 200000);
    UNIT_CHECK(blocks[2][99999] == 1 && berth_usable_size(blocks[2]) >= 200000);
    UNIT_CHECK(berth_pool_of(blocks[0]) == berth_pool_default());
    berth_free_batch((void *const *)blocks, 5);
    use_everything(3);
    unit_keep_coverage();
    _exit(0);
}

static void a_child_that_interrupted_a_lock_s_holder_gets_memory_all_the_same(void **state) {
    /* The handler's child would wait for a lock that only it could release. */
    (void)state;
    pool = berth_pool_create("detour", NULL);
    assert_int_equal(unit_in_child(detour, NULL), 0);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

/* ---- handlers of libraries that were there before ---- */

static bool handlers_allocate;

static void allocate_in_handler(void) {
    if (handlers_allocate) {
        use_everything(3);
    }
}

static void use_everything_in_child(void *unused) {
    (void)unused;
    use_everything(4);
    check_balance(pool);
}

static void handlers_that_were_registered_before_ours_may_allocate(void **state) {
    /* They run while this thread holds all locks: it would wait for itself. */
    (void)state;
    pool = berth_pool_create("handlers", NULL);
    handlers_allocate = true;
    assert_int_equal(unit_in_child(use_everything_in_child, NULL), 0);
    handlers_allocate = false;
    berth_thread_flush();
    check_balance(pool);
    assert_int_equal(figures_of(pool).live_high_bytes, 0);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

int main(void) {
    pthread_atfork(allocate_in_handler, allocate_in_handler, allocate_in_handler);
    (void)berth_pool_default();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_works_on_what_it_inherited),
        cmocka_unit_test(a_child_has_figures_of_its_own),
        cmocka_unit_test(a_fork_while_threads_allocate_leaves_nothing_half_done),
        cmocka_unit_test(children_of_children_work),
        cmocka_unit_test(handlers_that_fork_inside_an_allocation_do_not_hang),
        cmocka_unit_test(handlers_that_were_registered_before_ours_may_allocate),
        cmocka_unit_test(a_child_that_interrupted_a_lock_s_holder_gets_memory_all_the_same),
    };
    return UNIT_RUN(tests);
}
