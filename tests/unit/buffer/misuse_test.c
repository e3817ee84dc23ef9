/* Misuse of buffers: one line that names the fault, then an abort; never silence. */
#include "figures.h"

#include "buffer/owner.h"

#include <errno.h>
#include <signal.h>

static struct berth_slice slice_of(size_t length) {
    struct berth_slice slice;
    UNIT_CHECK(berth_slice_alloc(berth_pool_default(), length, &slice) == 0);
    return slice;
}

static void release_twice(void *unused) {
    (void)unused;
    struct berth_slice slice = slice_of(100), copy = slice;
    berth_slice_release(&slice);
    berth_slice_release(&copy);
}

static void release_twice_with_another_record_in_its_place(void *unused) {
    (void)unused;
    struct berth_slice slice = slice_of(100), copy = slice;
    berth_slice_release(&slice);
    struct berth_slice other = slice_of(100);
    UNIT_CHECK(other.owner_ == copy.owner_);
    berth_slice_release(&copy);
}

static void retain_after_release(void *unused) {
    (void)unused;
    struct berth_slice slice = slice_of(100), copy = slice;
    berth_slice_release(&slice);
    (void)berth_slice_retain(&copy);
}

static void view_after_release(void *unused) {
    (void)unused;
    struct berth_slice slice = slice_of(100), copy = slice, part;
    berth_slice_release(&slice);
    (void)berth_slice_sub(&copy, 0, 1, &part);
}

static void write_after_release(void *unused) {
    (void)unused;
    struct berth_slice slice = slice_of(100), copy = slice;
    berth_slice_release(&slice);
    (void)berth_slice_try_write(&copy);
}

static void append_after_release(void *unused) {
    (void)unused;
    struct berth_chain chain;
    berth_chain_init(&chain, berth_pool_default());
    struct berth_slice slice = slice_of(100), copy = slice;
    berth_slice_release(&slice);
    (void)berth_chain_append(&chain, &copy);
}

static void read_a_chain_whose_slice_was_released(void *unused) {
    (void)unused;
    struct berth_chain chain;
    berth_chain_init(&chain, berth_pool_default());
    struct berth_slice slice = slice_of(5000), copy = slice;
    (void)berth_chain_append(&chain, &slice);
    berth_slice_release(&copy);
    char bytes[10];
    (void)berth_chain_copy_out(&chain, 0, bytes, sizeof(bytes));
}

static void release_a_pinned_slice(void *unused) {
    (void)unused;
    struct berth_slice slice = slice_of(100), pinned = berth_slice_pin(&slice);
    berth_slice_release(&pinned);
}

static void detach_a_pinned_slice(void *unused) {
    (void)unused;
    struct berth_slice slice = slice_of(100), pinned = berth_slice_pin(&slice);
    (void)berth_slice_detach(&pinned);
}

static void release_a_detached_reference_twice(void *unused) {
    (void)unused;
    struct berth_slice slice = slice_of(100);
    struct berth_owner *owner = berth_slice_detach(&slice);
    berth_owner_release(owner);
    berth_owner_release(owner);
}

static void unpin_what_is_not_pinned(void *unused) {
    (void)unused;
    struct berth_slice slice = slice_of(100);
    berth_slice_unpin(&slice);
}

static void lose_a_pin(void *unused) {
    (void)unused;
    struct berth_slice slice = slice_of(100), pinned = berth_slice_pin(&slice);
    pinned.flags_ = 0;
    berth_slice_release(&pinned);
    berth_slice_release(&slice);
}

static void commit_beyond_the_room(void *unused) {
    (void)unused;
    struct berth_buf buf;
    berth_buf_init(&buf, berth_pool_default(), 100, 0);
    UNIT_CHECK(berth_buf_reserve(&buf, 100) != NULL);
    berth_buf_commit(&buf, berth_buf_room(&buf) + 1);
}

static void commit_without_a_block(void *unused) {
    (void)unused;
    struct berth_buf buf;
    berth_buf_init(&buf, berth_pool_default(), 100, 0);
    berth_buf_commit(&buf, 1);
}

static void count_below_zero(void *unused) {
    (void)unused;
    struct berth_slice slice = slice_of(100);
    berth__store_relaxed(&slice.owner_->count, 0);
    berth_slice_release(&slice);
}

static void count_without_end(void *unused) {
    (void)unused;
    struct berth_slice slice = slice_of(100);
    berth__store_relaxed(&slice.owner_->count, (uint32_t)BERTH_OWNER_COUNT_MAX + 1);
    (void)berth_slice_retain(&slice);
}

static void *retain_and_release(void *argument) {
    struct berth_slice *slice = argument;
    struct berth_slice another = berth_slice_retain(slice);
    berth_slice_release(&another);
    return NULL;
}

static void another_thread_in_a_pool_of_one(void *unused) {
    (void)unused;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.one_thread = 1;
    struct berth_slice slice;
    UNIT_CHECK(berth_slice_alloc(berth_pool_create("one", &options), 10, &slice) == 0);
    join_thread(start_thread(retain_and_release, &slice));
}

static void *retain_for_long(void *slice) {
    for (unsigned i = 0; i < 10000000; i++) {
        retain_and_release(slice);
    }
    return NULL;
}

/* Seen when both count at the same time. */
static void one_reference_in_two_threads(void *unused) {
    (void)unused;
    struct berth_slice slice = slice_of(100);
    run_threads(2, retain_for_long, &slice);
}

static void use_a_chain_of_zeros(void *unused) {
    (void)unused;
    struct berth_chain chain;
    memset(&chain, 0, sizeof(chain));
    (void)berth_chain_append_bytes(&chain, "abc", 3);
}

static void use_a_buffer_of_zeros(void *unused) {
    (void)unused;
    struct berth_buf buf;
    memset(&buf, 0, sizeof(buf));
    (void)berth_buf_append(&buf, "abc", 3);
}

static struct misuse {
    void (*commit)(void *);
    const char *line;
    bool debug_only;
    bool poisoned; /* AddressSanitizer is first to see it */
} const misuses[] = {
    {release_twice, "berth: use of a slice that was released: data at 0x", false, true},
    {release_twice_with_another_record_in_its_place, "berth: use of a slice that was released",
     false, false},
    {retain_after_release, "berth: use of a slice that was released", false, true},
    {view_after_release, "berth: use of a slice that was released", false, true},
    {write_after_release, "berth: use of a slice that was released", false, true},
    {append_after_release, "berth: use of a slice that was released", false, true},
    {read_a_chain_whose_slice_was_released, "berth: use of a slice that was released", false, true},
    {release_a_pinned_slice, "berth: releasing a pinned slice", false, false},
    {detach_a_pinned_slice, "berth: detaching a pinned slice", false, false},
    {release_a_detached_reference_twice, "berth: releasing a slice that was released", false, true},
    {unpin_what_is_not_pinned, "berth: unpinning a slice that is not pinned", false, false},
    {lose_a_pin, "berth: releasing the last reference to pinned memory", false, false},
    {commit_beyond_the_room, "berth: commit of ", false, false},
    {commit_without_a_block, "berth: commit of 1 bytes to a buffer with room for 0", false, false},
    {use_a_chain_of_zeros, "berth: use of a chain that was not initialised", false, false},
    {use_a_buffer_of_zeros, "berth: use of a buffer that was not initialised", false, false},
    {count_below_zero, "berth: releasing a slice that was released", false, false},
    {count_without_end, "berth: more references than can be counted", false, false},
    {another_thread_in_a_pool_of_one,
     "berth: a buffer of a pool with one_thread is used by another", true, false},
    {one_reference_in_two_threads, "berth: a reference is used by two threads at once", true,
     false},
};

static void misuse_ends_with_one_line_and_an_abort(void **state) {
    /* A server would go on with messages that change under it. */
    (void)state;
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(misuses); i++) {
        char line[512];
        if (misuses[i].debug_only && (!BERTH_DEBUG || UNIT_SANITIZED)) {
            continue;
        }
        int outcome = unit_in_child_line(misuses[i].commit, NULL, line, sizeof(line));
        if (BERTH_ASAN && misuses[i].poisoned) {
            assert_true(outcome != 0);
            continue;
        }
        if (outcome != -SIGABRT || strncmp(line, misuses[i].line, strlen(misuses[i].line)) != 0) {
            fail_msg("misuse %u: outcome %d, \"%s\"", i, outcome, line);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(misuse_ends_with_one_line_and_an_abort)};
    return UNIT_RUN(tests);
}
