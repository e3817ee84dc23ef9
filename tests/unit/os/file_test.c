/* Small files into a buffer. */
#include "os/file.h"

#include "os/fault.h"
#include "unit.h"

#include <errno.h>
#include <string.h>

static char path[] = "/tmp/berth-unit-file-XXXXXX";

static int make_file(void **state) {
    (void)state;
    int fd = mkstemp(path);
    bool written = fd >= 0 && write(fd, "0123456789", 10) == 10;
    close(fd);
    return written ? 0 : -1;
}

static int remove_file(void **state) {
    (void)state;
    return unlink(path);
}

static void a_file_is_read_whole_and_ends_in_a_zero_byte(void **state) {
    /* Limits of a cgroup would be cut or followed by garbage. */
    (void)state;
    char buffer[64];
    memset(buffer, 'x', sizeof(buffer));
    errno = ERANGE;
    assert_int_equal(berth__file_read(path, buffer, sizeof(buffer)), 10);
    assert_string_equal(buffer, "0123456789");
    assert_int_equal(errno, ERANGE);
}

static void a_longer_file_is_cut_at_the_buffers_end(void **state) {
    /* A long /proc file would be written over the stack. */
    (void)state;
    char buffer[8] = "xxxxxxx";
    assert_int_equal(berth__file_read(path, buffer, 5), 4);
    assert_string_equal(buffer, "0123");
    assert_int_equal(buffer[5], 'x');
}

static void what_cannot_be_read_is_an_error_and_keeps_errno(void **state) {
    /* A missing file would be an empty one: a limit of 0. */
    (void)state;
    char buffer[8];
    errno = ERANGE;
    assert_int_equal(berth__file_read("/nonexistent", buffer, sizeof(buffer)), -ENOENT);
    assert_int_equal(berth__file_read("/tmp", buffer, sizeof(buffer)), -EISDIR);
#if BERTH_FAULTS
    berth__os_fail_after(BERTH_OS_FILE, 0, 1);
    assert_int_equal(berth__file_read(path, buffer, sizeof(buffer)), -ENOMEM);
#endif
    assert_int_equal(errno, ERANGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read_whole_and_ends_in_a_zero_byte),
        cmocka_unit_test(a_longer_file_is_cut_at_the_buffers_end),
        cmocka_unit_test(what_cannot_be_read_is_an_error_and_keeps_errno),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file) == 0 ? 0 : 1;
}
