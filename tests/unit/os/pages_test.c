/* Pages: what each call does to the kernel's own view of the range. */
#include "os/pages.h"

#include "maps.h"
#include "os/fault.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

enum { MIB = 1 << 20 };

static int machine_pages(void **state) {
    (void)state;
    berth__pages_init(0);
    return 0;
}

static void the_page_size_is_the_machines_or_a_larger_one(void **state) {
    /* Purging would go by pages that the kernel does not have. */
    (void)state;
    size_t real = (size_t)sysconf(_SC_PAGESIZE);
    assert_int_equal(berth__page_bytes, real);
    berth__pages_init(65536);
    assert_int_equal(berth__page_bytes, 65536);
    berth__pages_init(real / 2);
    assert_int_equal(berth__page_bytes, real);
}

static void a_reservation_is_aligned_and_cannot_be_touched(void **state) {
    /* Address space would cost memory, or chunks lie across slots. */
    (void)state;
    static const size_t alignments[] = {4096, 65536, 4 * MIB, 64 * MIB};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(alignments); i++) {
        char *at = berth__pages_reserve(8 * MIB, alignments[i]);
        assert_non_null(at);
        assert_int_equal((uintptr_t)at % alignments[i], 0);
        struct unit_range range = unit_range_read(at, 8 * MIB, false);
        assert_int_equal(range.mapped, 8 * MIB);
        assert_int_equal(range.writable + range.readable, 0);
        berth__pages_unreserve(at, 8 * MIB);
        assert_int_equal(unit_range_read(at, 8 * MIB, false).mapped, 0);
    }
}

static void a_reservation_that_cannot_be_had_is_null(void **state) {
    /* Sizes near the end of addresses would wrap around to small ones. */
    (void)state;
    errno = ERANGE;
    assert_null(berth__pages_reserve(SIZE_MAX - 4095, 65536));
    assert_null(berth__pages_reserve((size_t)1 << 62, 4 * MIB));
    assert_null(berth__pages_reserve((size_t)1 << 62, 1));
    assert_int_equal(errno, ERANGE);
}

static void committed_pages_read_as_zero_and_go_again(void **state) {
    /* calloc would hand out old data, or memory would stay after it was given back. */
    (void)state;
    char *at = berth__pages_reserve(4 * MIB, 65536);
    assert_int_equal(berth__pages_commit(at + MIB, MIB), 0);
    struct unit_range range = unit_range_read(at, 4 * MIB, true);
    assert_int_equal(range.writable, MIB);
    assert_int_equal(range.resident, 0);
    memset(at + MIB, 1, MIB);
    assert_true(unit_range_read(at, 4 * MIB, true).resident >= MIB);
    assert_int_equal(berth__pages_decommit(at + MIB, MIB), 0);
    range = unit_range_read(at, 4 * MIB, true);
    assert_int_equal(range.mapped, 4 * MIB);
    assert_int_equal(range.writable + range.resident, 0);
    assert_int_equal(berth__pages_commit(at + MIB, MIB), 0);
    assert_int_equal(at[MIB] | at[2 * MIB - 1], 0);
    berth__pages_unreserve(at, 4 * MIB);
}

static void core_files_have_committed_pages_only(void **state) {
    /* gdb's would have a TiB of zeros, or lack the memory that it is written for. */
    (void)state;
    char *at = berth__pages_reserve(4 * MIB, 65536);
    assert_int_equal(berth__pages_commit_readable(at, MIB), 0);
    assert_false(unit_range_read(at, 4 * MIB, true).dumped);
    assert_int_equal(berth__pages_commit(at, 2 * MIB), 0);
    struct unit_range committed = unit_range_read(at, 2 * MIB, true);
    assert_true(committed.dumped && !committed.undumped);
    assert_false(unit_range_read(at + 2 * MIB, 2 * MIB, true).dumped);
    assert_int_equal(berth__pages_decommit(at, 2 * MIB), 0);
    struct unit_range reserved = unit_range_read(at, 4 * MIB, true);
    assert_true(reserved.undumped && !reserved.dumped);
    berth__pages_unreserve(at, 4 * MIB);
}

static void pages_committed_for_reading_read_as_zero(void **state) {
    /* The look-up of a foreign pointer would crash. */
    (void)state;
    char *at = berth__pages_reserve(MIB, 65536);
    assert_int_equal(berth__pages_commit_readable(at, MIB), 0);
    assert_int_equal(at[0] | at[MIB - 1], 0);
    assert_int_equal(unit_range_read(at, MIB, false).readable, MIB);
    berth__pages_unreserve(at, MIB);
}

static void purged_pages_hold_no_memory_and_stay_usable(void **state) {
    /* Purging would free nothing, or the next block there would crash or hold old data. */
    (void)state;
    char *at = berth__pages_reserve(MIB, 65536);
    assert_int_equal(berth__pages_commit(at, MIB), 0);
    memset(at, 7, MIB);
    assert_int_equal(berth__pages_purge(at + 65536, 65536), 0);
    assert_int_equal(at[65535], 7);
    assert_int_equal(at[65536] | at[131071], 0);
    assert_int_equal(at[131072], 7);
    at[65536] = 1;
    berth__pages_unreserve(at, MIB);
}

static void huge_pages_are_asked_for_or_declined_by_mapping(void **state) {
    /* The option thp would do nothing. */
    (void)state;
    char *at = berth__pages_reserve(8 * MIB, 4 * MIB);
    assert_int_equal(berth__pages_commit(at, 8 * MIB), 0);
    if (madvise(at, 4096, MADV_NOHUGEPAGE) != 0) {
        skip(); /* a kernel without them */
    }
    errno = ERANGE;
    berth__pages_want_huge(at, 4 * MIB, true);
    berth__pages_want_huge(at + 4 * MIB, 4 * MIB, false);
    berth__pages_want_huge(NULL, 4096, true); /* a hint: nothing fails */
    assert_int_equal(errno, ERANGE);
    assert_true(unit_range_read(at, 4 * MIB, true).huge);
    assert_false(unit_range_read(at, 4 * MIB, true).no_huge);
    assert_true(unit_range_read(at + 4 * MIB, 4 * MIB, true).no_huge);
    berth__pages_unreserve(at, 8 * MIB);
}

static void a_node_is_preferred_without_failing(void **state) {
    /* A machine without that node, or without NUMA, would not start. */
    (void)state;
    char *at = berth__pages_reserve(MIB, 65536);
    assert_int_equal(berth__pages_commit(at, MIB), 0);
    errno = ERANGE;
    berth__pages_prefer_node(at, MIB, 0);
    berth__pages_prefer_node(at, MIB, 63);
    berth__pages_prefer_node(at, MIB, 1023);
    berth__pages_prefer_node(at, MIB, 1024);
    berth__pages_prefer_node(at, MIB, UINT32_MAX);
    assert_int_equal(errno, ERANGE);
    at[0] = 1;
    berth__pages_unreserve(at, MIB);
}

static void moved_pages_keep_their_content_and_leave_a_reservation(void **state) {
    /* A large realloc would lose data, or let another mapping into our addresses. */
    (void)state;
    char *at = berth__pages_reserve(8 * MIB, 65536);
    char *to = at + 4 * MIB;
    assert_int_equal(berth__pages_commit(at, 2 * MIB), 0);
    memset(at, 5, 2 * MIB);
    errno = ERANGE;
    bool reserved = false;
    assert_int_equal(berth__pages_move(at, to, 2 * MIB, &reserved), 0);
    assert_int_equal(errno, ERANGE);
    assert_true(reserved);
    assert_int_equal(unit_range_read(at, 8 * MIB, false).writable, 2 * MIB);
    assert_int_equal(to[0] & to[2 * MIB - 1], 5);
    assert_int_equal(unit_range_read(at, 8 * MIB, false).mapped, 8 * MIB);
    assert_true(unit_range_read(at, 4 * MIB, true).resident == 0);
    berth__pages_unreserve(at, 8 * MIB);
}

/* So little that the kernel refuses to move, after it has unmapped the target. */
static void move_with_no_room(void *unused) {
    (void)unused;
    char *at = berth__pages_reserve(32 * MIB, 65536);
    char *to = at + 16 * MIB;
    UNIT_CHECK(at != NULL && berth__pages_commit(at, 12 * MIB) == 0);
    at[0] = 5;
    struct rlimit limit = {.rlim_cur = 16 * MIB, .rlim_max = RLIM_INFINITY};
    UNIT_CHECK(setrlimit(RLIMIT_DATA, &limit) == 0);
    bool reserved = false;
    int error = berth__pages_move(at, to, 12 * MIB, &reserved);
    UNIT_CHECK(reserved);
    limit.rlim_cur = RLIM_INFINITY;
    UNIT_CHECK(setrlimit(RLIMIT_DATA, &limit) == 0);
    UNIT_CHECK(error == -ENOMEM || error == -EINVAL || error == 0);
    UNIT_CHECK(unit_range_read(at, 32 * MIB, false).mapped == 32 * MIB);
    UNIT_CHECK((error == 0 ? to : at)[0] == 5);
}

static void a_move_that_fails_leaves_no_hole(void **state) {
    /* Another thread's mapping could land between our blocks, and be unmapped with them. */
    (void)state;
    UNIT_ONLY_IF(!UNIT_TSAN);
    assert_int_equal(unit_in_child(move_with_no_room, NULL), 0);
}

static void a_file_lies_over_reserved_pages_until_they_are_decommitted(void **state) {
    /* Mapped files would not be seen, or never go. */
    (void)state;
    char path[] = "/tmp/berth-unit-pages-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(ftruncate(fd, MIB), 0);
    assert_int_equal(pwrite(fd, "content", 8, 65536), 8);
    char *at = berth__pages_reserve(2 * MIB, 65536);
    assert_int_equal(berth__pages_map_file(at, 65536, fd, 65536, true), 0);
    assert_string_equal(at, "content");
    at[0] = 'C';
    char read_back[8] = "";
    assert_int_equal(pread(fd, read_back, 8, 65536), 8);
    assert_string_equal(read_back, "Content");
    assert_int_equal(berth__pages_map_file(at, 65536, fd, 65536, false), 0);
    assert_int_equal(unit_range_read(at, 65536, false).readable, 65536);
    assert_int_equal(berth__pages_map_file(at, 65536, -1, 0, false), -EBADF);
    assert_int_equal(berth__pages_decommit(at, 65536), 0);
    assert_int_equal(unit_range_read(at, 2 * MIB, false).mapped, 2 * MIB);
    assert_int_equal(unit_range_read(at, 2 * MIB, false).readable, 0);
    berth__pages_unreserve(at, 2 * MIB);
    close(fd);
}

static void a_file_that_cannot_be_mapped_leaves_no_hole(void **state) {
    /* As a move that fails; a socket is a file whose driver refuses late. */
    (void)state;
    char *at = berth__pages_reserve(2 * MIB, 65536);
    int ends[2];
    int udp = socket(AF_INET, SOCK_DGRAM, 0);
    int tcp = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(pipe(ends), 0);
    const int fds[] = {udp, tcp, ends[0], -1};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(fds); i++) {
        assert_true(berth__pages_map_file(at + 65536, MIB, fds[i], 0, true) < 0);
        assert_int_equal(unit_range_read(at, 2 * MIB, false).mapped, 2 * MIB);
        close(fds[i]);
    }
    close(ends[1]);
    berth__pages_unreserve(at, 2 * MIB);
}

static void every_call_reports_a_kernel_that_refuses_and_keeps_errno(void **state) {
    /* A full kernel would be taken for memory that is there. */
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS);
#if BERTH_FAULTS
    char *at = berth__pages_reserve(2 * MIB, 65536);
    for (int call = 0; call < BERTH_OS_CALL_COUNT; call++) {
        berth__os_fail_after((enum berth__os_call)call, 0, UINT64_MAX);
    }
    errno = ERANGE;
    assert_null(berth__pages_reserve(MIB, 1));
    assert_null(berth__pages_reserve(MIB, 65536));
    assert_int_equal(berth__pages_commit(at, MIB), -ENOMEM);
    assert_int_equal(berth__pages_commit_readable(at, MIB), -ENOMEM);
    assert_int_equal(berth__pages_decommit(at, MIB), -ENOMEM);
    assert_int_equal(berth__pages_purge(at, MIB), -ENOMEM);
    bool reserved = false;
    assert_int_equal(berth__pages_move(at, at + MIB, MIB, &reserved), -ENOMEM);
    assert_true(reserved);
    assert_int_equal(berth__pages_map_file(at, MIB, 0, 0, false), -ENOMEM);
    berth__pages_want_huge(at, MIB, true);
    berth__pages_prefer_node(at, MIB, 0);
    berth__pages_unreserve(at, MIB);
    assert_int_equal(errno, ERANGE);
    assert_int_equal(unit_range_read(at, 2 * MIB, false).mapped, 2 * MIB);
    for (int call = 0; call < BERTH_OS_CALL_COUNT; call++) {
        berth__os_fail_after((enum berth__os_call)call, 0, 0);
    }
    berth__pages_unreserve(at, 2 * MIB);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_size_is_the_machines_or_a_larger_one),
        cmocka_unit_test(a_reservation_is_aligned_and_cannot_be_touched),
        cmocka_unit_test(a_reservation_that_cannot_be_had_is_null),
        cmocka_unit_test(committed_pages_read_as_zero_and_go_again),
        cmocka_unit_test(core_files_have_committed_pages_only),
        cmocka_unit_test(pages_committed_for_reading_read_as_zero),
        cmocka_unit_test(purged_pages_hold_no_memory_and_stay_usable),
        cmocka_unit_test(huge_pages_are_asked_for_or_declined_by_mapping),
        cmocka_unit_test(a_node_is_preferred_without_failing),
        cmocka_unit_test(moved_pages_keep_their_content_and_leave_a_reservation),
        cmocka_unit_test(a_move_that_fails_leaves_no_hole),
        cmocka_unit_test(a_file_lies_over_reserved_pages_until_they_are_decommitted),
        cmocka_unit_test(a_file_that_cannot_be_mapped_leaves_no_hole),
        cmocka_unit_test(every_call_reports_a_kernel_that_refuses_and_keeps_errno),
    };
    return cmocka_run_group_tests(tests, machine_pages, NULL) == 0 ? 0 : 1;
}
