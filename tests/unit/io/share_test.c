/* Slices that another process sees: it would see something else, or memory would go, or stay, while
 * it reads. */
#include "sockets.h"

#include <berth/share.h>

#include <dirent.h>
#include <poll.h>

enum { CAPACITY = 8 << 20, LENGTH = 100000 };

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

static berth_pool *pool, *other;
static int ends[2];

static berth_pool *make_pool(const char *name) {
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.backing = BERTH_BACKING_MEMFD;
    options.memory_size = CAPACITY;
    return berth_pool_create(name, &options);
}

static int begin(void **state) {
    (void)state;
    pool = make_pool("shared");
    other = berth_pool_create("importer", NULL);
    UNIT_CHECK(pool != NULL && other != NULL);
    UNIT_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
    return 0;
}

static int end(void **state) {
    (void)state;
    close(ends[0]);
    close(ends[1]);
    check_nothing_lives(pool);
    check_nothing_lives(other);
    UNIT_CHECK(berth_pool_destroy(other, 0) == 0);
    return berth_pool_destroy(pool, 0);
}

static struct berth_slice stream_slice(uint64_t position, size_t length) {
    struct berth_slice slice;
    UNIT_CHECK(berth_slice_alloc(pool, length, &slice) == 0);
    stream_fill(berth_slice_try_write(&slice), position, length);
    return slice;
}

static unsigned open_descriptors(void) {
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    UNIT_CHECK(folder != NULL);
    while (readdir(folder) != NULL) {
        count++;
    }
    closedir(folder);
    return count;
}

/* ---- another process ---- */

/* It takes a part of what it was given, and looks at that. */
static void take_and_look(void *unused) {
    (void)unused;
    struct berth_slice slice;
    UNIT_CHECK(berth_import_receive(ends[1], other, &slice) == 0);
    UNIT_CHECK(slice.length == LENGTH - 7);
    UNIT_CHECK(stream_is(slice.data, 7, slice.length));
    UNIT_CHECK(berth_slice_try_write(&slice) == NULL && errno == EROFS);
    UNIT_CHECK(figures_of(other).file_bytes >= LENGTH - 7);
    berth_slice_release(&slice);
    UNIT_CHECK(figures_of(other).file_bytes == 0);
}

static void end_when_let_go(berth_export *export) {
    struct pollfd other_end = {.fd = berth_export_fd(export)};
    UNIT_CHECK(poll(&other_end, 1, 20000) == 1 && (other_end.revents & POLLHUP) != 0);
    assert_int_equal(berth_export_end(export, 0), 0);
}

static void another_process_sees_what_was_written(void **state) {
    (void)state;
    struct berth_slice slice = stream_slice(0, LENGTH), part;
    berth_export *export;
    UNIT_CHECK(berth_slice_sub(&slice, 7, LENGTH - 7, &part) == 0);
    assert_int_equal(berth_export_send(ends[0], &part, &export), 0);
    assert_int_equal(berth_export_end(export, 0), -EBUSY);
    assert_null(berth_slice_try_write(&slice));
    berth_slice_release(&part);
    berth_slice_release(&slice);
    assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), -EBUSY);
    assert_int_equal(unit_in_child(take_and_look, NULL), 0);
    end_when_let_go(export);
}

static void take_and_die(void *unused) {
    (void)unused;
    struct berth_slice slice;
    UNIT_CHECK(berth_import_receive(ends[1], other, &slice) == 0);
    _exit(0);
}

static void a_process_that_dies_lets_go(void **state) {
    /* Memory would be pinned for good. */
    (void)state;
    struct berth_slice slice = stream_slice(0, LENGTH);
    berth_export *export;
    assert_int_equal(berth_export_send(ends[0], &slice, &export), 0);
    berth_slice_release(&slice);
    assert_int_equal(unit_in_child(take_and_die, NULL), 0);
    end_when_let_go(export);
}

static void a_message_that_nobody_takes_lets_go(void **state) {
    (void)state;
    struct berth_slice slice = stream_slice(0, LENGTH);
    berth_export *export, *forced;
    assert_int_equal(berth_export_send(ends[0], &slice, &export), 0);
    assert_int_equal(berth_export_send(ends[0], &slice, &forced), 0);
    berth_slice_release(&slice);
    assert_int_equal(berth_export_end(forced, 2), -EINVAL);
    assert_int_equal(berth_export_end(forced, 0), -EBUSY);
    assert_int_equal(berth_export_end(forced, BERTH_FORCE), 0);
    close(ends[1]);
    end_when_let_go(export);
}

static void both_sides_count_it(void **state) {
    /* One could give away more than its limit, unseen. */
    (void)state;
    unsigned descriptors = open_descriptors();
    struct berth_slice slice = stream_slice(0, LENGTH), seen, again;
    berth_export *export;
    assert_true(figures().reserved_bytes >= CAPACITY);
    assert_int_equal(berth_export_send(ends[0], &slice, &export), 0);
    assert_int_equal(berth_import_receive(ends[1], other, &seen), 0);
    berth_slice_release(&slice);
    berth_thread_flush();
    assert_true(figures_of(pool).live_low_bytes >= LENGTH);
    assert_true(figures_of(other).file_bytes >= LENGTH);
    again = berth_slice_retain(&seen);
    berth_slice_release(&seen);
    assert_int_equal(berth_export_end(export, 0), -EBUSY);
    assert_true(stream_is(again.data, 0, LENGTH));
    berth_slice_release(&again);
    assert_int_equal(berth_export_end(export, 0), 0);
    assert_int_equal(open_descriptors(), descriptors);
}

/* ---- what is not to be trusted ---- */

static void send_rights(const void *bytes, size_t length, const int *fds, unsigned count) {
    char control[CMSG_SPACE(4 * sizeof(int))] = {0};
    struct iovec entry = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &entry, .msg_iovlen = 1};
    if (count > 0) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    }
    UNIT_CHECK(sendmsg(ends[0], &message, 0) == (ssize_t)length);
}

static void other_messages_are_refused(void **state) {
    /* A peer could make a process read beyond a file's end, which is a signal, or use up its
     * descriptors. */
    (void)state;
    struct berth_slice slice;
    struct {
        uint32_t magic, length;
        uint64_t offset;
    } message = {0x62736c31, 1000, 0};
    int unsealed = stream_file(0, 100000), sealed = memfd_create("sealed", MFD_ALLOW_SEALING);
    UNIT_CHECK(ftruncate(sealed, 65536) == 0 && fcntl(sealed, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
    const int three[] = {sealed, unsealed, unsealed}, weak[] = {unsealed, unsealed};
    unsigned descriptors = open_descriptors();
    send_rights("x", 1, NULL, 0);
    assert_int_equal(berth_import_receive(ends[1], other, &slice), -EPROTO);
    send_rights(&message, sizeof(message), three, 1);
    assert_int_equal(berth_import_receive(ends[1], other, &slice), -EPROTO);
    send_rights(&message, sizeof(message), three, 3);
    assert_int_equal(berth_import_receive(ends[1], other, &slice), -EPROTO);
    send_rights(&message, sizeof(message) - 1, three, 2);
    assert_int_equal(berth_import_receive(ends[1], other, &slice), -EPROTO);
    send_rights(&message, sizeof(message), weak, 2);
    assert_int_equal(berth_import_receive(ends[1], other, &slice), -EPERM);
    message.offset = 64537;
    send_rights(&message, sizeof(message), three, 2);
    assert_int_equal(berth_import_receive(ends[1], other, &slice), -EPERM);
    message.offset = UINT64_MAX - 500;
    send_rights(&message, sizeof(message), three, 2);
    assert_int_equal(berth_import_receive(ends[1], other, &slice), -EPROTO);
    assert_null(slice.data);
    assert_int_equal(open_descriptors(), descriptors);
    message.offset = 64536;
    send_rights(&message, sizeof(message), three, 2);
    assert_int_equal(berth_import_receive(ends[1], other, &slice), 0);
    berth_slice_release(&slice);
    make_non_blocking(ends[1]);
    assert_int_equal(berth_import_receive(ends[1], other, &slice), -EAGAIN);
    shutdown(ends[0], SHUT_WR);
    assert_int_equal(berth_import_receive(ends[1], other, &slice), -ENODATA);
    close(unsealed);
    close(sealed);
}

static void descriptors_that_find_no_place_are_told_from_other_messages(void **state) {
    /* Who looks for a fault of the peer finds none. */
    (void)state;
    struct berth_slice slice = stream_slice(0, LENGTH), taken;
    berth_export *export;
    assert_int_equal(berth_export_send(ends[0], &slice, &export), 0);
    unsigned descriptors = open_descriptors();
    rlim_t before = allow_descriptors(0);
    int error = berth_import_receive(ends[1], other, &taken);
    (void)allow_descriptors(before);
    assert_int_equal(error, -EMFILE);
    assert_int_equal(open_descriptors(), descriptors);
    assert_int_equal(berth_export_end(export, 0), 0); /* the message is gone */
    berth_slice_release(&slice);
}

static void the_memory_can_neither_shrink_nor_be_written(void **state) {
    (void)state;
    struct berth_slice slice = stream_slice(0, LENGTH);
    berth_export *export;
    char control[CMSG_SPACE(2 * sizeof(int))], bytes[64];
    struct iovec entry = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    struct msghdr message = {.msg_iov = &entry,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    int fds[2];
    assert_int_equal(berth_export_send(ends[0], &slice, &export), 0);
    UNIT_CHECK(recvmsg(ends[1], &message, 0) > 0);
    memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fds));
    assert_int_equal(ftruncate(fds[0], 4096), -1);
    if ((fcntl(fds[0], F_GET_SEALS) & F_SEAL_FUTURE_WRITE) != 0) {
        assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0),
                         MAP_FAILED);
        assert_int_equal(pwrite(fds[0], "x", 1, 0), -1);
    }
    close(fds[0]);
    close(fds[1]);
    berth_slice_release(&slice);
    assert_int_equal(berth_export_end(export, 0), 0);
}

/* ---- forks ---- */

struct inherited {
    struct berth_slice slice;
    berth_export *export;
    const unsigned char *data;
};

static void use_what_is_inherited(void *argument) {
    struct inherited *inherited = argument;
    berth_export *another;
    UNIT_CHECK(berth_alloc(pool, 100) == NULL && errno == EOWNERDEAD);
    UNIT_CHECK(berth_export_send(ends[0], &inherited->slice, &another) == -EOWNERDEAD);
    UNIT_CHECK(berth_export_fd(inherited->export) == -EOWNERDEAD);
    UNIT_CHECK(berth_export_end(inherited->export, BERTH_FORCE) == -EOWNERDEAD);
    UNIT_CHECK(berth_pool_destroy(pool, BERTH_FORCE) == -EOWNERDEAD);
    UNIT_CHECK(is_zero(inherited->data, LENGTH));
    memset((void *)(uintptr_t)inherited->data, 0xee, LENGTH); /* its own, if anybody's */
    berth_trim(NULL);
    void *block = berth_alloc(other, 1000);
    UNIT_CHECK(block != NULL);
    berth_free(block);
}

static void a_child_has_no_part_in_it(void **state) {
    /* Parent and child would use the same blocks for different things. */
    (void)state;
    struct inherited inherited = {.slice = stream_slice(0, LENGTH)};
    inherited.data = inherited.slice.data;
    assert_int_equal(berth_export_send(ends[0], &inherited.slice, &inherited.export), 0);
    void *freed[50];
    for (unsigned i = 0; i < 50; i++) {
        freed[i] = berth_alloc(pool, 100 + i * 300);
    }
    berth_free_batch(freed, 50);
    for (unsigned i = 0; i < 3; i++) {
        int outcome = unit_in_child(use_what_is_inherited, &inherited);
        assert_int_equal(outcome, 0);
    }
    assert_true(stream_is(inherited.data, 0, LENGTH));
    berth_slice_release(&inherited.slice);
    assert_int_equal(berth_export_end(inherited.export, BERTH_FORCE), 0);
}

/* ---- pools ---- */

static void options_that_contradict_are_refused(void **state) {
    (void)state;
    static char memory[1 << 20];
    struct berth_slice slice;
    berth_export *export;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.backing = BERTH_BACKING_MEMFD;
    assert_null(berth_pool_create("no", &options));
    options.memory_size = sizeof(memory);
    options.memory = memory;
    assert_null(berth_pool_create("no", &options));
    options.memory = NULL;
    options.io = 1;
    assert_null(berth_pool_create("no", &options));
    options.io = 0;
    options.backing = 2;
    assert_null(berth_pool_create("no", &options));
    assert_int_equal(errno, EINVAL);
    uint64_t before = figures().reserved_bytes;
    assert_null(make_pool("shared"));
    assert_int_equal(errno, EEXIST);
    assert_int_equal(figures().reserved_bytes, before);
    UNIT_CHECK(berth_slice_alloc(other, 100, &slice) == 0);
    assert_int_equal(berth_export_send(ends[0], &slice, &export), -ENOTSUP);
    assert_null(export);
    berth_slice_release(&slice);
    UNIT_CHECK(berth_slice_wrap_static("text", 4, &slice) == 0);
    assert_int_equal(berth_export_send(ends[0], &slice, &export), -ENOTSUP);
}

static void a_pool_may_begin_again(void **state) {
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        void *block;
        size_t total = 0;
        while ((block = berth_alloc_flags(pool, 100000, BERTH_NOWAIT)) != NULL) {
            memset(block, 1, 100000);
            total += 100000;
        }
        assert_in_range(total, CAPACITY / 2, CAPACITY);
        assert_int_equal(berth_pool_reset(pool, BERTH_FORCE), 0);
    }
}

#define SHARE_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        SHARE_TEST(another_process_sees_what_was_written),
        SHARE_TEST(a_process_that_dies_lets_go),
        SHARE_TEST(a_message_that_nobody_takes_lets_go),
        SHARE_TEST(both_sides_count_it),
        SHARE_TEST(other_messages_are_refused),
        SHARE_TEST(descriptors_that_find_no_place_are_told_from_other_messages),
        SHARE_TEST(the_memory_can_neither_shrink_nor_be_written),
        SHARE_TEST(a_child_has_no_part_in_it),
        SHARE_TEST(options_that_contradict_are_refused),
        SHARE_TEST(a_pool_may_begin_again),
    };
    return UNIT_RUN(tests);
}
