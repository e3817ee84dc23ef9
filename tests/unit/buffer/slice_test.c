/* Slices: references, views, writing, and memory from elsewhere. */
#include "figures.h"

#include "buffer/owner.h"

#include <errno.h>
#include <fcntl.h>

static berth_pool *pool;

static int make_pool(void **state) {
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.arenas = 1;
    options.limit = 64 * MiB;
    options.wait_ms = 0;
    pool = berth_pool_create("slices", &options);
    return pool == NULL;
}

static int end_pool(void **state) {
    (void)state;
    check_nothing_lives(pool);
    return berth_pool_destroy(pool, 0);
}

static struct berth_slice text(const char *string) {
    struct berth_slice slice;
    UNIT_CHECK(berth_slice_copy(pool, string, strlen(string), &slice) == 0);
    return slice;
}

static bool is(const struct berth_slice *slice, const char *string) {
    return slice->length == strlen(string) && memcmp(slice->data, string, slice->length) == 0;
}

static void a_slice_is_24_bytes_and_16_kib_are_four_pages(void **state) {
    /* Memory would be wasted: a fifth page for each read buffer, a cache line for each view. */
    (void)state;
    struct berth_slice slice;
    assert_int_equal(sizeof(slice), 24);
    assert_int_equal(berth_slice_alloc(pool, 16384, &slice), 0);
    assert_int_equal(berth_usable_size(slice.data), 16384);
    assert_int_equal((uintptr_t)slice.data % 4096, 0);
    assert_int_equal(berth_slice_retained(&slice), 16384);
    assert_int_equal(berth_usable_size(slice.owner_), 64);
    assert_int_equal((uintptr_t)slice.owner_ % 64, 0);
    berth_slice_release(&slice);
}

static void memory_lives_as_long_as_any_view_of_it(void **state) {
    /* A reader would see another message, or memory would never go back. */
    (void)state;
    struct berth_slice all = text("head:body"), head, body;
    assert_int_equal(berth_slice_sub(&all, 5, 4, &body), 0);
    struct berth_slice again = berth_slice_retain(&all);
    berth_slice_release(&again);
    assert_null(again.data);
    assert_int_equal(berth_slice_split(&all, 5, &head), 0);
    assert_true(is(&head, "head:") && is(&all, "body") && is(&body, "body"));
    assert_ptr_equal(all.data, body.data);
    berth_slice_release(&all);
    berth_slice_release(&head);
    assert_true(is(&body, "body"));
    assert_true(berth_slice_is_unique(&body));
    berth_slice_release(&body);
    berth_slice_release(&body); /* empty by now: nothing */
}

static void a_part_beyond_the_end_is_refused(void **state) {
    /* A view would show foreign memory. */
    (void)state;
    struct berth_slice all = text("12345"), part = all;
    static const size_t wrong[][2] = {{6, 0}, {5, 1}, {0, 6}, {3, 3}, {SIZE_MAX, 2}, {2, SIZE_MAX}};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(wrong); i++) {
        assert_int_equal(berth_slice_sub(&all, wrong[i][0], wrong[i][1], &part), -ERANGE);
        assert_null(part.owner_);
    }
    assert_int_equal(berth_slice_split(&all, 6, &part), -ERANGE);
    assert_int_equal(berth_slice_sub(&all, 5, 0, &part), 0);
    berth_slice_release(&part);
    assert_true(berth_slice_is_unique(&all));
    berth_slice_release(&all);
}

static void what_others_see_is_not_written(void **state) {
    /* A message would change under its readers, or under the kernel. */
    (void)state;
    struct berth_slice one = text("shared");
    assert_non_null(berth_slice_try_write(&one));
    struct berth_slice two = berth_slice_retain(&one);
    errno = 0;
    assert_null(berth_slice_try_write(&one));
    assert_int_equal(errno, EBUSY);
    berth_slice_release(&two);
    struct berth_slice pinned = berth_slice_pin(&one);
    assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), -EBUSY);
    assert_null(berth_slice_try_write(&one));
    assert_null(berth_slice_try_write(&pinned));
    two = berth_slice_pin(&pinned);
    berth_slice_unpin(&pinned);
    assert_null(berth_slice_try_write(&one));
    berth_slice_unpin(&two);
    assert_ptr_equal(berth_slice_try_write(&one), one.data);
    pinned = berth_slice_pin(&one);
    berth_slice_release(&one); /* the kernel's is the only reference */
    assert_null(berth_slice_try_write(&pinned));
    one = berth_slice_retain(&pinned);
    berth_slice_unpin(&pinned);
    berth_slice_set_read_only(&one);
    assert_int_equal(berth_slice_sub(&one, 0, 2, &two), 0);
    berth_slice_release(&one);
    assert_null(berth_slice_try_write(&two));
    assert_int_equal(errno, EROFS);
    berth_slice_release(&two);
}

static void writing_a_shared_slice_copies_it_first(void **state) {
    /* Either nobody could write, or all would see it. */
    (void)state;
    struct berth_slice one = text("first"), two = berth_slice_retain(&one);
    assert_int_equal(berth_slice_make_writable(pool, &two), 0);
    memcpy(berth_slice_try_write(&two), "F", 1);
    assert_true(is(&one, "first") && is(&two, "First"));
    const unsigned char *before = two.data;
    assert_int_equal(berth_slice_make_writable(pool, &two), 0);
    assert_ptr_equal(two.data, before);
    berth_slice_release(&one);
    berth_slice_release(&two);
}

struct wrapped {
    unsigned calls;
    void *data;
    size_t length;
    char memory[100];
};

static void wrapped_is_released(void *context, void *data, size_t length) {
    struct wrapped *wrapped = context;
    wrapped->calls++;
    wrapped->data = data;
    wrapped->length = length;
    errno = ERANGE; /* which release must hide */
}

static void wrapped_memory_is_given_back_exactly_once(void **state) {
    /* Its owner would free it twice, early, or never. */
    (void)state;
    struct wrapped wrapped = {.memory = "external"};
    struct berth_slice slice, part;
    assert_int_equal(berth_slice_wrap(pool, wrapped.memory, 100, NULL, NULL, &slice), -EINVAL);
    assert_int_equal(
        berth_slice_wrap(pool, wrapped.memory, 100, wrapped_is_released, &wrapped, &slice), 0);
    assert_ptr_equal(slice.data, wrapped.memory);
    assert_ptr_equal(berth_slice_try_write(&slice), wrapped.memory);
    assert_int_equal(berth_slice_sub(&slice, 10, 20, &part), 0);
    berth_slice_release(&slice);
    assert_int_equal(wrapped.calls, 0);
    part = berth_slice_pin(&part); /* kept by its pin alone, so to say */
    struct berth_slice unpinned = part;
    unpinned.flags_ = 0;
    berth_slice_release(&unpinned);
    assert_int_equal(wrapped.calls, 0);
    errno = 5;
    berth_slice_unpin(&part);
    assert_int_equal(errno, 5);
    assert_int_equal(wrapped.calls, 1);
    assert_ptr_equal(wrapped.data, wrapped.memory);
    assert_int_equal(wrapped.length, 100);
}

static void a_wrapper_that_finds_no_memory_leaves_the_memory_to_its_owner(void **state) {
    /* It would be released by both. */
    (void)state;
    struct wrapped wrapped = {.calls = 0};
    struct berth_slice slice;
    static void *blocks[64 * MiB / 64 + 1];
    size_t count = berth_alloc_batch(pool, 64, BERTH_ARRAY_COUNT(blocks), blocks);
    assert_true(count < BERTH_ARRAY_COUNT(blocks));
    assert_int_equal(berth_slice_wrap(pool, &wrapped, 1, wrapped_is_released, &wrapped, &slice),
                     -ENOMEM);
    assert_int_equal(wrapped.calls, 0);
    berth_free(blocks[--count]);
    /* A record, but no block: the record must go back. */
    assert_int_equal(berth_slice_alloc(pool, 64, &slice), -ENOMEM);
    assert_int_equal(berth_slice_wrap(pool, &wrapped, 1, wrapped_is_released, &wrapped, &slice), 0);
    berth_slice_release(&slice);
    assert_int_equal(wrapped.calls, 1);
    berth_free_batch(blocks, count);
}

static void static_memory_is_never_counted_nor_written(void **state) {
    /* Constants would be freed, or written. */
    (void)state;
    struct berth_slice slice, part;
    assert_int_equal(berth_slice_wrap_static("constant", 8, &slice), 0);
    assert_int_equal(berth_slice_sub(&slice, 3, 5, &part), 0);
    struct berth_slice pinned = berth_slice_pin(&part);
    assert_true(is(&pinned, "stant"));
    berth_slice_unpin(&pinned);
    assert_false(berth_slice_is_unique(&slice));
    assert_int_equal(berth_slice_retained(&slice), 0);
    assert_null(berth_slice_try_write(&slice));
    assert_int_equal(berth_slice_make_writable(pool, &part), 0);
    assert_true(is(&part, "stant") && berth_slice_is_unique(&part));
    berth_slice_release(&slice);
    berth_slice_release(&part);
}

static void a_file_is_mapped_from_any_offset(void **state) {
    /* Files would be sent with the wrong bytes, or stay mapped. */
    (void)state;
    char path[] = "/tmp/berth-slice-XXXXXX";
    int fd = mkstemp(path);
    unlink(path);
    char content[1000];
    for (unsigned i = 0; i < sizeof(content); i++) {
        content[i] = (char)(i * 7 % 251);
    }
    assert_int_equal(ftruncate(fd, 200000), 0);
    assert_int_equal(pwrite(fd, content, 1000, 100001), 1000);
    struct berth_slice slice;
    assert_int_equal(berth_slice_map_file(pool, fd, -1, 10, false, &slice), -EINVAL);
    assert_int_equal(berth_slice_map_file(pool, fd, 0, 0, false, &slice), -EINVAL);
    assert_int_equal(berth_slice_map_file(pool, -1, 0, 10, false, &slice), -EBADF);
    assert_int_equal(berth_slice_map_file(pool, fd, 100001, 1000, true, &slice), 0);
    memcpy(berth_slice_try_write(&slice), "written", 7);
    char read_back[7];
    assert_int_equal(pread(fd, read_back, 7, 100001), 7);
    assert_memory_equal(read_back, "written", 7);
    assert_memory_equal(slice.data + 7, content + 7, 993);
    struct berth_slice part;
    assert_int_equal(berth_slice_sub(&slice, 500, 500, &part), 0);
    berth_slice_release(&slice);
    close(fd);
    assert_memory_equal(part.data, content + 500, 500);
    assert_true(figures_of(pool).file_bytes > 0);
    berth_slice_release(&part);
    assert_int_equal(figures_of(pool).file_bytes, 0);
}

static void a_small_slice_of_a_big_block_is_found_and_copied(void **state) {
    /* A few bytes of each message would keep all of its memory. */
    (void)state;
    struct berth_slice big, small;
    assert_int_equal(berth_slice_alloc(pool, 100000, &big), 0);
    memcpy(berth_slice_try_write(&big), "keep me", 7);
    assert_int_equal(berth_slice_sub(&big, 0, 7, &small), 0);
    berth_slice_release(&big);
    assert_int_equal(berth_slice_retained(&small), 100000);
    assert_int_equal(berth_slice_compact(pool, &small, 100000), 0);
    assert_int_equal(berth_slice_compact(pool, &small, 4), 1);
    assert_true(is(&small, "keep me"));
    assert_int_equal(berth_slice_retained(&small), 7);
    assert_int_equal(berth_slice_compact(pool, &small, 0), 0);
    berth_slice_release(&small);
}

static void lengths_that_no_slice_has_are_refused(void **state) {
    /* Lengths would wrap. */
    (void)state;
    struct berth_slice slice;
    size_t length = (size_t)BERTH_SLICE_MAX + 1;
    assert_int_equal(berth_slice_alloc(pool, length, &slice), -EMSGSIZE);
    assert_int_equal(berth_slice_wrap(pool, &slice, length, wrapped_is_released, NULL, &slice),
                     -EMSGSIZE);
    assert_int_equal(berth_slice_wrap_static("", length, &slice), -EMSGSIZE);
    assert_int_equal(berth_slice_map_file(pool, 0, 0, length, false, &slice), -EMSGSIZE);
    assert_int_equal(berth_slice_alloc(pool, 0, &slice), 0);
    assert_int_equal(slice.length, 0);
    berth_slice_release(&slice);
}

static void bytes_are_compared_found_and_shown(void **state) {
    /* Protocols would be parsed wrongly. */
    (void)state;
    struct berth_slice a = text("GET / HTTP/1.1\r\n"), b = text("GET /");
    assert_true(berth_slice_compare(&a, &b) > 0 && berth_slice_compare(&b, &a) < 0);
    assert_int_equal(berth_slice_compare(&a, &a), 0);
    assert_int_equal(berth_slice_find(&a, 0, "\r\n", 2), 14);
    assert_int_equal(berth_slice_find(&a, 14, "\r\n", 2), 14);
    assert_int_equal(berth_slice_find(&a, 15, "\r\n", 2), -ENOENT);
    assert_int_equal(berth_slice_find(&a, 17, "", 0), -ENOENT);
    assert_int_equal(berth_slice_find(&a, 16, "", 0), 16);
    char dump[256];
    static const char expected[] =
        "00000000  47 45 54 20 2f 20 48 54  54 50 2f 31 2e 31 0d 0a  |GET / HTTP/1.1..|\n"
        "00000010  00 ff                                             |..|\n";
    unsigned char bytes[18];
    memcpy(bytes, a.data, 16);
    bytes[16] = 0, bytes[17] = 0xff;
    assert_int_equal(berth_hex_dump(bytes, 18, dump, sizeof(dump)), sizeof(expected) - 1);
    assert_string_equal(dump, expected);
    assert_int_equal(berth_hex_dump(bytes, 18, dump, 20), sizeof(expected) - 1);
    assert_int_equal(strlen(dump), 19);
    assert_int_equal(berth_hex_dump(bytes, 18, NULL, 0), sizeof(expected) - 1);
    berth_slice_release(&a);
    berth_slice_release(&b);
}

static void in_the_steady_state_nothing_is_mapped_or_refilled(void **state) {
    /* Each message would pay for its record. */
    (void)state;
    struct berth_slice slice;
    for (unsigned i = 0; i < 1000; i++) { /* caches grow to what is needed */
        assert_int_equal(berth_slice_alloc(pool, 4096, &slice), 0);
        berth_slice_release(&slice);
    }
    berth_thread_flush(); /* settled */
    for (unsigned round = 0; round < 2; round++) {
        struct berth_pool_metrics before = figures_of(pool);
        uint64_t metadata = figures().metadata_bytes;
        for (unsigned i = 0; i < 100000; i++) {
            assert_int_equal(berth_slice_alloc(pool, 4096, &slice), 0);
            berth_slice_release(&slice);
        }
        assert_int_equal(figures_of(pool).capacity_bytes, before.capacity_bytes);
        assert_int_equal(figures().metadata_bytes, metadata);
    }
}

static void a_pool_of_one_thread_counts_without_atomics_and_as_well(void **state) {
    /* Its memory would be freed early or never. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.one_thread = 1;
    berth_pool *own = berth_pool_create("own", &options);
    struct berth_slice slice, parts[100];
    assert_int_equal(berth_slice_copy(own, "0123456789", 10, &slice), 0);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(berth_slice_sub(&slice, i % 10, 1, &parts[i]), 0);
    }
    berth_slice_release(&slice);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(parts[i].data[0], '0' + i % 10);
        assert_int_equal(berth_slice_is_unique(&parts[i]), i == 99);
        berth_slice_release(&parts[i]);
    }
    check_nothing_lives(own);
    assert_int_equal(berth_pool_destroy(own, 0), 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_pool, end_pool)
    const struct CMUnitTest tests[] = {
        TEST(a_slice_is_24_bytes_and_16_kib_are_four_pages),
        TEST(memory_lives_as_long_as_any_view_of_it),
        TEST(a_part_beyond_the_end_is_refused),
        TEST(what_others_see_is_not_written),
        TEST(writing_a_shared_slice_copies_it_first),
        TEST(wrapped_memory_is_given_back_exactly_once),
        TEST(a_wrapper_that_finds_no_memory_leaves_the_memory_to_its_owner),
        TEST(static_memory_is_never_counted_nor_written),
        TEST(a_file_is_mapped_from_any_offset),
        TEST(a_small_slice_of_a_big_block_is_found_and_copied),
        TEST(lengths_that_no_slice_has_are_refused),
        TEST(bytes_are_compared_found_and_shown),
        TEST(in_the_steady_state_nothing_is_mapped_or_refilled),
        TEST(a_pool_of_one_thread_counts_without_atomics_and_as_well),
    };
    return UNIT_RUN(tests);
}
