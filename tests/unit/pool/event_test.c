/* Events: that the program is told when memory becomes short, once, on the right thread, and only
 * of what it asked for. */
#include "figures.h"

#include "pool/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static struct {
    _Atomic unsigned told;
    struct berth_event last;
    _Atomic uint64_t thread;
} seen;

static void see(void *context, const struct berth_event *event) {
    UNIT_CHECK(context == &seen && event->struct_size == sizeof(*event));
    seen.last = *event;
    atomic_store(&seen.thread, (uint64_t)pthread_self());
    atomic_fetch_add(&seen.told, 1);
}

static int forget(void **state) {
    (void)state;
    (void)berth_event_remove(see, &seen);
    berth_trim(NULL);
    return berth_soft_limit_set(BERTH_UNLIMITED) == 0 && berth_limit_set(BERTH_UNLIMITED) == 0 ? 0
                                                                                               : 1;
}

static int start(void **state) {
    atomic_store(&seen.told, 0);
    return forget(state);
}

/* ---- the soft limit ---- */

static void a_crossing_is_told_once_until_much_less_is_used(void **state) {
    /* A server would shed load on every allocation, or never again. */
    (void)state;
    uint64_t soft = berth_limit_used() + 32 * MiB;
    assert_int_equal(berth_event_add(BERTH_EVENT_SOFT_LIMIT, see, &seen), 0);
    assert_int_equal(berth_soft_limit_set(soft), 0);
    assert_true(berth_soft_limit_get() == soft);
    berth_pool *pool = berth_pool_default();
    void *below = berth_alloc(pool, 24 * MiB);
    assert_int_equal(seen.told, 0);
    void *above = berth_alloc(pool, 16 * MiB);
    assert_int_equal(seen.told, 1);
    assert_true(seen.last.kind == BERTH_EVENT_SOFT_LIMIT && seen.last.used_bytes >= soft &&
                seen.last.limit_bytes == BERTH_UNLIMITED);
    assert_true(atomic_load(&seen.thread) == (uint64_t)pthread_self());
    void *more = berth_alloc(pool, 16 * MiB);
    berth_free(more);
    assert_int_equal(seen.told, 1);
    berth_free(above);
    berth_trim(NULL);
    assert_true(berth_limit_used() < soft - soft / 16);
    above = berth_alloc(pool, 16 * MiB);
    assert_int_equal(seen.told, 2);
    berth_free(above);
    berth_free(below);
}

static void a_little_less_does_not_arm_it_again(void **state) {
    /* What swings around the mark would be told of again and again. */
    (void)state;
    berth_pool *pool = berth_pool_default();
    void *base = berth_alloc(pool, 128 * MiB);
    uint64_t soft = berth_limit_used() + MiB;
    assert_int_equal(berth_event_add(BERTH_EVENT_SOFT_LIMIT, see, &seen), 0);
    assert_int_equal(berth_soft_limit_set(soft), 0);
    for (unsigned i = 0; i < 5; i++) {
        berth_free(berth_alloc(pool, 8 * MiB));
        berth_trim(NULL);
        assert_true(berth_limit_used() < soft);
    }
    assert_int_equal(seen.told, 1);
    berth_free(base);
}

static void what_is_used_already_is_a_crossing(void **state) {
    /* Who sets the limit late would wait for an event that has been. */
    (void)state;
    void *block = berth_alloc(berth_pool_default(), 16 * MiB);
    assert_int_equal(berth_event_add(BERTH_EVENT_SOFT_LIMIT, see, &seen), 0);
    assert_int_equal(berth_soft_limit_set(8 * MiB), 0);
    assert_int_equal(seen.told, 1);
    assert_int_equal(berth_soft_limit_set(0), -EINVAL);
    berth_free(block);
}

static void *grow_and_shrink(void *unused) {
    (void)unused;
    for (unsigned i = 0; i < 2000; i++) {
        berth_free(berth_alloc(berth_pool_default(), 6 * MiB));
    }
    return NULL;
}

static void threads_that_cross_at_once_are_told_of_as_one(void **state) {
    /* Each of a server's threads would shed load. */
    (void)state;
    void *base = berth_alloc(berth_pool_default(), 256 * MiB); /* a sixteenth is more than swings */
    assert_int_equal(berth_event_add(BERTH_EVENT_SOFT_LIMIT, see, &seen), 0);
    assert_int_equal(berth_soft_limit_set(berth_limit_used() + MiB), 0);
    run_threads(2, grow_and_shrink, NULL);
    assert_int_equal(seen.told, 1);
    berth_free(base);
}

static void start_with_a_soft_limit(void *unused) {
    (void)unused;
    setenv("BERTH_CONF", "soft_limit:16M", 1);
    UNIT_CHECK(berth_event_add(BERTH_EVENT_SOFT_LIMIT, see, &seen) == 0);
    UNIT_CHECK(berth_soft_limit_get() == 16 * MiB);
    UNIT_CHECK(berth_alloc(berth_pool_default(), 15 * MiB) != NULL && seen.told == 0);
    UNIT_CHECK(berth_alloc(berth_pool_default(), 2 * MiB) != NULL && seen.told == 1);
}

static void the_option_sets_the_soft_limit(void **state) {
    /* Who configures it without a line of code would not be told. */
    (void)state;
    assert_int_equal(unit_in_child(start_with_a_soft_limit, NULL), 0);
}

/* ---- failures ---- */

static unsigned nested;

static void fail_again(void *context, const struct berth_event *event) {
    UNIT_CHECK(event->kind == BERTH_EVENT_FAILURE);
    nested++;
    UNIT_CHECK(berth_alloc_flags(berth_pool_default(), 512 * MiB, BERTH_NOWAIT) == NULL);
    UNIT_CHECK(berth_event_remove(fail_again, context) == 0);
}

static void a_failure_is_told_to_the_thread_whose_request_failed(void **state) {
    /* Nobody would know which request met the limit, nor be able to note where. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.wait_ms = 0;
    berth_pool *pool = berth_pool_create("fails", &options);
    assert_int_equal(berth_event_add(BERTH_EVENT_FAILURE, see, &seen), 0);
    assert_int_equal(berth_limit_set(berth_limit_used() + 8 * MiB), 0);
    errno = 0;
    assert_null(berth_alloc(pool, 64 * MiB));
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(seen.told, 1);
    assert_true(seen.last.kind == BERTH_EVENT_FAILURE && seen.last.pool == pool &&
                seen.last.bytes == 64 * MiB && seen.last.limit_bytes == berth_limit_get());
    assert_true(atomic_load(&seen.thread) == (uint64_t)pthread_self());
    assert_int_equal(berth_event_add(BERTH_EVENT_FAILURE, fail_again, &nested), 0);
    assert_null(berth_alloc(pool, 64 * MiB));
    assert_int_equal(nested, 1); /* what it asked for in vain was no event, and it is gone */
    assert_int_equal(seen.told, 2);
    assert_null(berth_alloc(pool, 64 * MiB));
    assert_int_equal(nested, 1);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

/* ---- the list ---- */

static void nothing(void *context, const struct berth_event *event) {
    (void)context;
    (void)event;
}

static void bad_registrations_are_refused(void **state) {
    /* A slip would be an event that never comes, or comes twice. */
    (void)state;
    assert_int_equal(berth_event_add(BERTH_EVENT_FAILURE, NULL, NULL), -EINVAL);
    assert_int_equal(berth_event_add(0, see, &seen), -EINVAL);
    assert_int_equal(berth_event_add(BERTH_EVENT_MALLOC_SAFE, see, &seen), -EINVAL);
    assert_int_equal(berth_event_add(8, see, &seen), -EINVAL);
    assert_int_equal(berth_event_remove(see, &seen), -ENOENT);
    assert_int_equal(berth_event_remove(NULL, NULL), -ENOENT);
    static char contexts[33];
    for (unsigned i = 0; i < 32; i++) {
        assert_int_equal(berth_event_add(BERTH_EVENT_FAILURE, nothing, &contexts[i]), 0);
    }
    assert_int_equal(berth_event_add(BERTH_EVENT_FAILURE, nothing, &contexts[3]), -EEXIST);
    assert_int_equal(berth_event_add(BERTH_EVENT_FAILURE, nothing, &contexts[32]), -ENOSPC);
    for (unsigned i = 0; i < 32; i++) {
        assert_int_equal(berth_event_remove(nothing, &contexts[i]), 0);
    }
    assert_int_equal(berth_event_add(BERTH_EVENT_FAILURE, nothing, &contexts[32]), 0);
    assert_int_equal(berth_event_remove(nothing, &contexts[32]), 0);
}

static pthread_barrier_t turn;
static _Atomic bool done;

static void stay(void *context, const struct berth_event *event) {
    (void)event;
    pthread_barrier_wait(&turn);
    sleep_ms(20); /* so that who removes comes while it runs; if not, the test says less */
    atomic_store((_Atomic bool *)context, true);
}

static void *ask_in_vain(void *unused) {
    UNIT_CHECK(berth_alloc_flags(berth_pool_default(), 512 * MiB, BERTH_NOWAIT) == NULL);
    return unused;
}

static void removing_waits_for_a_callback_that_runs(void **state) {
    /* Its context would be freed while it is used. */
    (void)state;
    pthread_barrier_init(&turn, NULL, 2);
    assert_int_equal(berth_limit_set(berth_limit_used() + 8 * MiB), 0);
    assert_int_equal(berth_event_add(BERTH_EVENT_FAILURE, stay, &done), 0);
    pthread_t thread = start_thread(ask_in_vain, NULL);
    pthread_barrier_wait(&turn);
    assert_int_equal(berth_event_remove(stay, &done), 0);
    assert_true(atomic_load(&done));
    join_thread(thread);
    pthread_barrier_destroy(&turn);
}

/* ---- pressure ---- */

static char folder[] = "/tmp/berth-event-XXXXXX";
static char place[64];

static const char *path_of(const char *name) {
    snprintf(place, sizeof(place), "%s/%s", folder, name);
    return place;
}

/* In a child, since the options are read once. */
static void be_watched(const char *path) {
    setenv("MEMORY_PRESSURE_WATCH", path, 1);
    setenv("BERTH_CONF", "maintenance:true,decay_ms:100000", 1);
    UNIT_CHECK(berth_event_add(BERTH_EVENT_PRESSURE, see, &seen) == 0);
    void *blocks[40];
    berth_pool *pool = berth_pool_create("watched", NULL);
    UNIT_CHECK(pool != NULL && berth_alloc_batch(pool, 100000, 40, blocks) == 40);
    for (unsigned i = 0; i < 40; i++) {
        memset(blocks[i], 1, 100000);
    }
    berth_free_batch(blocks, 40);
    UNIT_CHECK(figures_of(pool).run_cached_bytes + figures_of(pool).run_dirty_bytes > 2 * MiB);
}

static void expect_relief(void) {
    while (atomic_load(&seen.told) == 0) {
        sleep_ms(5); /* or the test is stopped */
    }
    UNIT_CHECK(seen.last.kind == BERTH_EVENT_PRESSURE && seen.last.bytes > 2 * MiB);
    UNIT_CHECK(atomic_load(&seen.thread) != (uint64_t)pthread_self());
}

static void hear_by_fifo(void *unused) {
    (void)unused;
    be_watched(path_of("fifo"));
    int fd = open(path_of("fifo"), O_RDWR);
    UNIT_CHECK(fd >= 0 && write(fd, "short", 5) == 5);
    expect_relief();
    while (poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 1) {
        sleep_ms(5); /* it reads what was said */
    }
    _exit(0);
}

static void pressure_told_by_a_fifo_returns_memory(void **state) {
    /* A service would be killed with memory that it does not use. */
    (void)state;
    UNIT_ONLY_IF(!UNIT_SANITIZED); /* no threads after a fork */
    assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
    assert_int_equal(unit_in_child(hear_by_fifo, NULL), 0);
    unlink(path_of("fifo"));
}

static void hear_by_socket(void *listener) {
    setenv("MEMORY_PRESSURE_WRITE", "d2F0Y2g=", 1); /* "watch" */
    be_watched(path_of("socket"));
    int fd = accept(*(int *)listener, NULL, NULL);
    char said[16] = "";
    UNIT_CHECK(fd >= 0 && read(fd, said, sizeof(said)) == 5 && memcmp(said, "watch", 5) == 0);
    UNIT_CHECK(write(fd, "!", 1) == 1);
    expect_relief();
    _exit(0);
}

static void pressure_told_by_a_socket_returns_memory(void **state) {
    /* The half of the protocol that needs a word first would not work. */
    (void)state;
    UNIT_ONLY_IF(!UNIT_SANITIZED);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path_of("socket"));
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(unit_in_child(hear_by_socket, &listener), 0);
    close(listener);
    unlink(path_of("socket"));
}

static struct berth__watch watch_of(const char *path, const char *bytes) {
    struct berth__watch watch;
    setenv("MEMORY_PRESSURE_WATCH", path, 1);
    if (bytes != NULL) {
        setenv("MEMORY_PRESSURE_WRITE", bytes, 1);
    } else {
        unsetenv("MEMORY_PRESSURE_WRITE");
    }
    berth__watch_open(&watch);
    return watch;
}

static void what_cannot_be_watched_is_left_alone(void **state) {
    /* A service whose manager says nothing, or nonsense, would not start, or spin. */
    (void)state;
    static const char *const bad[] = {"/dev/null", "relative", "", "/no/such/file"};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(bad); i++) {
        struct berth__watch watch = watch_of(bad[i], NULL);
        assert_int_equal(watch.fd, -1);
        assert_false(berth__watch_sleep(&watch, 1));
    }
    assert_int_equal(mkfifo(path_of("other"), 0600), 0);
    assert_int_equal(watch_of(place, "not base64!").fd, -1);
    struct berth__watch watch = watch_of(place, NULL);
    assert_true(watch.fd >= 0 && watch.events == POLLIN);
    assert_false(berth__watch_sleep(&watch, 1));
    /* The program closes what it does not know, and gets the number for something of its own. */
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "mine", 4), 4);
    assert_int_equal(dup2(ends[0], watch.fd), watch.fd);
    int number = watch.fd;
    assert_false(berth__watch_sleep(&watch, 1000));
    assert_int_equal(watch.fd, -1);
    char mine[5] = "";
    assert_int_equal(read(number, mine, 4), 4);
    assert_string_equal(mine, "mine");
    close(number);
    close(ends[0]);
    close(ends[1]);
    unlink(place);
}

static void a_file_of_the_kernel_s_gets_the_trigger(void **state) {
    /* The kernel would never say anything. */
    (void)state;
    int fd = open(path_of("file"), O_CREAT | O_RDWR, 0600);
    struct berth__watch watch = watch_of(place, "c29tZSAyMDAwMDAgMjAwMDAwMA==");
    assert_true(watch.fd >= 0 && watch.events == POLLPRI);
    char said[64] = "";
    assert_true(read(fd, said, sizeof(said) - 1) > 0);
    assert_string_equal(said, "some 200000 2000000");
    close(watch.fd);
    close(fd);
    unlink(place);
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state) {
    (void)state;
    return rmdir(folder);
}

#define EVENT_TEST(name) cmocka_unit_test_setup_teardown(name, start, forget)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pressure_told_by_a_fifo_returns_memory), /* before the options are read */
        cmocka_unit_test(pressure_told_by_a_socket_returns_memory),
        cmocka_unit_test(the_option_sets_the_soft_limit),
        cmocka_unit_test(what_cannot_be_watched_is_left_alone),
        cmocka_unit_test(a_file_of_the_kernel_s_gets_the_trigger),
        EVENT_TEST(a_crossing_is_told_once_until_much_less_is_used),
        EVENT_TEST(a_little_less_does_not_arm_it_again),
        EVENT_TEST(what_is_used_already_is_a_crossing),
        EVENT_TEST(threads_that_cross_at_once_are_told_of_as_one),
        EVENT_TEST(a_failure_is_told_to_the_thread_whose_request_failed),
        EVENT_TEST(bad_registrations_are_refused),
        EVENT_TEST(removing_waits_for_a_callback_that_runs),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder) == 0 ? 0 : 1;
}
