/* berth_map_file: mapped files as counted memory. */
#include "figures.h"

#include "os/fault.h"

#include <errno.h>
#include <fcntl.h>

enum { BYTES = 10000 };

static char path[64];

static int open_filled(void) {
    snprintf(path, sizeof(path), "/tmp/berth-map-file-XXXXXX");
    int fd = mkstemp(path);
    char content[BYTES];
    for (size_t i = 0; i < BYTES; i++) {
        content[i] = (char)(i * 7 % 251);
    }
    UNIT_CHECK(fd >= 0 && write(fd, content, BYTES) == BYTES);
    UNIT_CHECK(ftruncate(fd, 6 << 20) == 0);
    return fd;
}

static void close_filled(int fd) {
    close(fd);
    unlink(path);
}

static void a_mapped_file_shows_its_content_and_takes_changes(void **state) {
    /* Data would be wrong, or lost. */
    (void)state;
    int fd = open_filled();
    unsigned char *block = berth_map_file(berth_pool_default(), fd, 0, BYTES, true);
    assert_non_null(block);
    unsigned char *second = berth_map_file(berth_pool_default(), fd, 4096, BYTES - 4096, false);
    assert_non_null(second);
    for (size_t i = 0; i < BYTES; i++) {
        assert_int_equal(block[i], i * 7 % 251);
        assert_true(i < 4096 || second[i - 4096] == block[i]);
    }
    block[5000] = 0xee;
    assert_int_equal(second[5000 - 4096], 0xee);
    assert_int_equal(berth_usable_size(block), BYTES);
    assert_ptr_equal(berth_pool_of(block), berth_pool_default());
    berth_free(block);
    berth_free(second);
    unsigned char byte = 0;
    assert_int_equal(pread(fd, &byte, 1, 5000), 1);
    assert_int_equal(byte, 0xee);
    close_filled(fd);
    check_nothing_lives(berth_pool_default());
}

static void a_mapped_file_is_counted_and_released_like_a_block(void **state) {
    /* The limit would not hold for it, or its pool vanish under it. */
    (void)state;
    int fd = open_filled();
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.limit = 8 * MiB;
    options.wait_ms = 0;
    berth_pool *pool = berth_pool_create("files", &options);
    void *block = berth_map_file(pool, fd, 0, (5 << 20) + 1, true);
    assert_non_null(block);
    close_filled(fd);
    assert_int_equal(berth_pool_limit_used(pool), (5 << 20) + 4096);
    struct berth_pool_metrics during = figures_of(pool);
    assert_int_equal(during.file_bytes, (5 << 20) + 4096);
    assert_int_equal(during.huge_bytes, 0);
    assert_int_equal(during.live_low_bytes, during.file_bytes);
    assert_int_equal(figures().file_bytes, during.file_bytes);
    check_balance(pool);
    assert_int_equal(berth_pool_destroy(pool, 0), -EBUSY);
    errno = 0;
    assert_null(berth_alloc(pool, 4 * MiB));
    assert_int_equal(errno, ENOMEM);
    berth_free(block);
    assert_int_equal(berth_pool_limit_used(pool), 0);
    check_nothing_lives(pool);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void a_forced_end_unmaps_files_and_leaves_their_content(void **state) {
    /* The mapping would leak, or memory of the next owner reach the file. */
    (void)state;
    int fd = open_filled();
    berth_pool *pool = berth_pool_create("files", NULL);
    char *block = berth_map_file(pool, fd, 0, BYTES, true);
    block[0] = 42;
    assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), 0);
    char *next = berth_alloc_flags(berth_pool_default(), 5 * MiB, BERTH_ZERO);
    assert_true(is_zero(next, 5 * MiB));
    memset(next, 0x11, 5 * MiB);
    char byte = 0;
    assert_int_equal(pread(fd, &byte, 1, 0), 1);
    assert_int_equal(byte, 42);
    assert_int_equal(pread(fd, &byte, 1, 1), 1);
    assert_int_equal(byte, 7);
    berth_free(next);
    close_filled(fd);
}

static void memory_that_was_used_before_does_not_show_through_a_file(void **state) {
    /* A slot with retained memory would be charged twice, or keep its old content. */
    (void)state;
    int fd = open_filled();
    void *huge = berth_alloc(berth_pool_default(), 5 * MiB);
    memset(huge, 0x55, 5 * MiB);
    berth_free(huge); /* its slots stay filled, and are the next to be taken */
    unsigned char *block = berth_map_file(berth_pool_default(), fd, 0, 5 * MiB, false);
    assert_int_equal(block[1], 7);
    assert_true(is_zero(block + BYTES, 5 * MiB - BYTES));
    check_balance(berth_pool_default());
    berth_free(block);
    close_filled(fd);
    check_nothing_lives(berth_pool_default());
}

static void a_file_block_grows_into_ordinary_memory(void **state) {
    /* realloc would lose its content, or change the file. */
    (void)state;
    int fd = open_filled();
    unsigned char *block = berth_map_file(berth_pool_default(), fd, 0, BYTES, true);
    assert_ptr_equal(berth_realloc(NULL, block, BYTES - 100), block);
    unsigned char *grown = berth_realloc(NULL, block, 3 * BYTES);
    assert_ptr_not_equal(grown, block);
    for (size_t i = 0; i < BYTES; i++) {
        assert_int_equal(grown[i], i * 7 % 251);
    }
    grown[0] = 99;
    char byte = 99;
    assert_int_equal(pread(fd, &byte, 1, 0), 1);
    assert_int_equal(byte, 0);
    berth_free(grown);
    close_filled(fd);
    check_nothing_lives(berth_pool_default());
}

static void refuse(int fd, int64_t offset, size_t length, bool writable, int error) {
    uint64_t used = berth_limit_used();
    errno = 0;
    assert_null(berth_map_file(berth_pool_default(), fd, offset, length, writable));
    assert_int_equal(errno, error);
    assert_int_equal(berth_limit_used(), used);
}

static void what_cannot_be_mapped_is_refused_and_not_counted(void **state) {
    /* Each failed attempt would lose room below the limit, or a slot. */
    (void)state;
    int fd = open_filled();
    int read_only = open(path, O_RDONLY);
    int directory = open("/tmp", O_RDONLY);
    berth_trim(NULL);
    for (unsigned i = 0; i < 3; i++) {
        refuse(-1, 0, BYTES, false, EBADF);
        refuse(read_only, 0, BYTES, true, EACCES);
        refuse(directory, 0, BYTES, false, ENODEV);
        refuse(fd, 0, 0, false, EINVAL);
        refuse(fd, 1, BYTES, false, EINVAL);
        refuse(fd, -4096, BYTES, false, EINVAL);
        refuse(fd, 0, SIZE_MAX, false, EINVAL);
        refuse(fd, 0, PTRDIFF_MAX / 2, false, ENOMEM);
    }
    void *block = berth_map_file(berth_pool_default(), read_only, 0, BYTES, false);
    assert_non_null(block);
    berth_free(block);
    close(read_only);
    close(directory);
    close_filled(fd);
    check_nothing_lives(berth_pool_default());
}

static void a_file_gets_room_like_any_request(void **state) {
    /* It would fail while memory lies unused. */
    (void)state;
    int fd = open_filled();
    assert_int_equal(berth_limit_set(8 * MiB), 0);
    void *huge = berth_alloc(berth_pool_default(), 5 * MiB);
    assert_null(berth_map_file(berth_pool_default(), fd, 0, 6 * MiB, false));
    assert_int_equal(errno, ENOMEM);
    berth_free(huge);
    void *small[100];
    assert_int_equal(berth_alloc_batch(berth_pool_default(), 10000, 100, small), 100);
    berth_free_batch(small, 100);
    void *block = berth_map_file(berth_pool_default(), fd, 0, 6 * MiB, false);
    assert_non_null(block);
    assert_true(berth_limit_used() <= 8 * MiB);
    berth_free(block);
    assert_int_equal(berth_limit_set(BERTH_UNLIMITED), 0);
    close_filled(fd);
    check_nothing_lives(berth_pool_default());
}

static void a_file_that_cannot_be_unmapped_goes_later(void **state) {
    /* It would stay mapped, and charged, for good. */
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS);
#if BERTH_FAULTS
    int fd = open_filled();
    berth_trim(NULL);
    uint64_t before = berth_limit_used();
    void *block = berth_map_file(berth_pool_default(), fd, 0, BYTES, true);
    assert_non_null(block);
    berth__os_fail_after(BERTH_OS_DECOMMIT, 0, 1);
    berth_free(block);
    assert_int_equal(berth_limit_used(), before + 12288); /* it is still there */
    check_balance(berth_pool_default());
    berth_trim(NULL);
    assert_int_equal(berth_limit_used(), before);
    close_filled(fd);
#endif
}

int main(void) {
    (void)berth_pool_default();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mapped_file_shows_its_content_and_takes_changes),
        cmocka_unit_test(a_mapped_file_is_counted_and_released_like_a_block),
        cmocka_unit_test(a_forced_end_unmaps_files_and_leaves_their_content),
        cmocka_unit_test(memory_that_was_used_before_does_not_show_through_a_file),
        cmocka_unit_test(a_file_block_grows_into_ordinary_memory),
        cmocka_unit_test(what_cannot_be_mapped_is_refused_and_not_counted),
        cmocka_unit_test(a_file_gets_room_like_any_request),
        cmocka_unit_test(a_file_that_cannot_be_unmapped_goes_later),
    };
    return UNIT_RUN(tests);
}
