/* Fork in signal handlers: what a child finds there, and when it goes on with what was interrupted.
 */
#include "heap/forks.h"

#include <errno.h>

static int start(void **state) {
    (void)state;
    use_everything();
    return 0;
}

/* ---- forks in signal handlers ---- */

static char *run, *large;

static void use_what_the_holder_left(void) {
    UNIT_CHECK(berth__fork_must_detour());
    char *small = berth_alloc(berth_pool_default(), SMALL);
    UNIT_CHECK(small != NULL);
    small = berth_realloc(NULL, small, RUN);
    UNIT_CHECK(small != NULL);
    berth_free(small);
    run = berth_realloc(NULL, run, 2 * RUN);
    UNIT_CHECK(run != NULL && run[0] == 'r' && run[RUN - 1] == 'r');
    run = berth_realloc(NULL, run, 10);
    UNIT_CHECK(run != NULL && run[0] == 'r');
    large = berth_realloc(NULL, large, LARGE + LARGE / 2);
    UNIT_CHECK(large != NULL && large[0] == 'l' && large[LARGE - 1] == 'l');
    berth_free(run);
    berth_free(large);
    UNIT_CHECK(berth_trim(NULL) == 0);
    berth_thread_flush();
    berth_thread_idle();
    UNIT_CHECK(berth_pool_create("of_a_child", NULL) == NULL && errno == EAGAIN);
    UNIT_CHECK(berth_pool_find("default") == NULL && errno == EAGAIN);
    UNIT_CHECK(berth_limit_set(1 << 30) == -EAGAIN);
    UNIT_CHECK(berth_limit_reserve(1) == -EAGAIN);
    berth_limit_release(1);
    UNIT_CHECK(berth_map_file(berth_pool_default(), 0, 0, 4096, false) == NULL && errno == EAGAIN);
    UNIT_CHECK(berth_pressure_add(NULL, NULL, 0) != 0);
    UNIT_CHECK(berth_pressure_remove(NULL, NULL) == -EAGAIN);
}

static struct berth__lock *held;

/* Holds a lock, as a slow path that is interrupted does, and lets it go as when the handler has
 * returned. */
static void go_on_after_the_handler(void) BERTH_NO_TSA {
    use_what_the_holder_left();
    berth__lock_release(held);
    use_everything();
    UNIT_CHECK(!berth__fork_must_detour());
    UNIT_CHECK(berth_pool_find("default") != NULL);
}

static void while_a_lock_is_held_nothing_is_entered(void **state) {
    /* The child of a handler's fork would stop, waiting for its own lock, or use what is half done.
     */
    (void)state;
    struct berth__arenas *arenas = berth__default_arenas();
    struct berth__arena *arena = first_arena();
    struct berth__lock *locks[] = {&arenas->lock,         &arena->heaps_lock, &arena->grow_lock,
                                   &arena->lock,          &arenas->huge_lock, &berth__slots_lock,
                                   &berth__wait_lock,     &berth__meta_lock,  berth__engine_lock(),
                                   &berth__heaps[1]->lock};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(locks); i++) {
        run = memset(berth_alloc(berth_pool_default(), RUN), 'r', RUN);
        large = memset(berth_alloc(berth_pool_default(), LARGE), 'l', LARGE);
        held = locks[i];
        berth__lock_acquire(held);
        int result = in_child(go_on_after_the_handler);
        berth__lock_release(held);
        assert_int_equal(result, 0);
        berth_free(run);
        berth_free(large);
    }
}

static pid_t forked_in_handler = -1;

static void fork_once(int signal_number) {
    (void)signal_number;
    int saved_errno = errno;
    if (forked_in_handler == -1) {
        forked_in_handler = fork();
        if (forked_in_handler == 0) {
            alarm(UNIT_HANGS_S);
        }
    }
    errno = saved_errno;
}

static pthread_t waiting_thread;

static void *interrupt_when_it_waits(void *unused) {
    (void)unused;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    while (!berth__wait_anyone()) {
        a_moment();
    }
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); /* into the sleep */
    pthread_kill(waiting_thread, SIGUSR1);
    return NULL;
}

/* Exits with 0 in the child, if all is well there, and in the parent. */
static void wait_at_the_limit(void *unused) {
    (void)unused;
    pthread_t thread;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.wait_ms = 300;
    berth_pool *pool = berth_pool_create("waiting", &options);
    UNIT_CHECK(berth_limit_set(8 << 20) == 0);
    while (berth_alloc_flags(pool, 1 << 20, BERTH_NOWAIT) != NULL) {
    }
    waiting_thread = pthread_self();
    signal(SIGUSR1, fork_once);
    UNIT_CHECK(pthread_create(&thread, NULL, interrupt_when_it_waits, NULL) == 0);
    while (forked_in_handler == -1) { /* until the other thread catches a wait */
        UNIT_CHECK(berth_alloc(pool, 1 << 20) == NULL);
    }
    UNIT_CHECK(!berth__wait_anyone());
    UNIT_CHECK(berth_limit_set(1 << 30) == 0);
    UNIT_CHECK(berth_alloc_flags(pool, 3 << 20, BERTH_NOWAIT) != NULL);
    UNIT_CHECK(berth_alloc(berth_pool_default(), LARGE) != NULL);
    if (forked_in_handler > 0) {
        int status = 0;
        UNIT_CHECK(waitpid(forked_in_handler, &status, 0) == forked_in_handler && status == 0);
        pthread_join(thread, NULL);
    }
}

static void a_wait_that_was_forked_in_goes_on_in_the_child(void **state) {
    /* Leaving a queue that it is not in, it would keep others from being charged for good. */
    (void)state;
    UNIT_ONLY_IF(!UNIT_TSAN); /* likewise */
    assert_int_equal(unit_in_child(wait_at_the_limit, NULL), 0);
}

/* ---- signals ---- */

static _Atomic bool in_prepare, handled_in_prepare;
static _Atomic unsigned handled;

static void note_signal(int signal_number) {
    (void)signal_number;
    handled++;
    handled_in_prepare = handled_in_prepare || in_prepare;
}

static _Atomic bool wants_signal;

/* Registered before the engine's handlers, so it runs after them. */
static void signal_in_prepare(void) {
    if (wants_signal) {
        in_prepare = true;
        raise(SIGUSR1);
        in_prepare = false;
    }
}

__attribute__((constructor(101))) static void register_early(void) {
    pthread_atfork(signal_in_prepare, NULL, NULL);
}

static void find_signals_let_go(void) {
    sigset_t mask;
    UNIT_CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mask) == 0);
    UNIT_CHECK(!sigismember(&mask, SIGUSR1) && sigismember(&mask, SIGUSR2));
}

static void signals_wait_until_the_fork_is_over(void **state) {
    /* A handler that forks would release the locks that the outer fork has taken. */
    (void)state;
    sigset_t blocked;
    sigset_t before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &blocked, &before), 0);
    signal(SIGUSR1, note_signal);
    wants_signal = true;
    int result = in_child(find_signals_let_go);
    wants_signal = false;
    find_signals_let_go();
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
    assert_int_equal(result, 0);
    assert_int_equal(handled, 1);
    assert_false(handled_in_prepare);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(while_a_lock_is_held_nothing_is_entered),
        cmocka_unit_test(a_wait_that_was_forked_in_goes_on_in_the_child),
        cmocka_unit_test(signals_wait_until_the_fork_is_over),
    };
    return cmocka_run_group_tests(tests, start, NULL) == 0 ? 0 : 1;
}
