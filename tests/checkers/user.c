/*
 * A user's program with a mistake of a kind, or, as "correct", without any: then it does much of
 * what buffers can, and a checker has nothing to say.
 */
#include <berth/berth.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static berth_pool *pool;
static volatile unsigned char sink;

static void check(int error) {
    if (error != 0) {
        fprintf(stderr, "unexpected: %s\n", strerror(-error));
        exit(1);
    }
}

static void read_from(const void *at) {
    sink = *(const volatile unsigned char *)at;
}

static void block_is_read_after_its_free(size_t bytes) {
    unsigned char *block = berth_alloc(pool, bytes);
    memset(block, 1, bytes);
    berth_free(block);
    read_from(block + bytes / 2);
}

static void a_small_block_is_read_after_its_free(void) {
    block_is_read_after_its_free(100);
}

static void a_run_is_read_after_its_free(void) {
    block_is_read_after_its_free(50000);
}

static void a_slice_is_read_after_its_release(void) {
    struct berth_slice slice;
    check(berth_slice_copy(pool, "message", 7, &slice));
    const unsigned char *data = slice.data;
    berth_slice_release(&slice);
    read_from(data);
}

static void a_slice_is_written_after_its_release(void) {
    struct berth_slice slice;
    check(berth_slice_alloc(pool, 16384, &slice));
    unsigned char *data = berth_slice_try_write(&slice);
    berth_slice_release(&slice);
    ((volatile unsigned char *)data)[5000] = 1;
}

/* All of its block's class, so that what is behind it is another block, which nobody has. */
static void a_slice_is_written_behind_its_end(void) {
    struct berth_slice slice;
    check(berth_slice_alloc(pool, 112, &slice));
    unsigned char *data = berth_slice_try_write(&slice);
    ((volatile unsigned char *)data)[112] = 1;
}

static void a_run_is_read_behind_its_end(void) {
    read_from((char *)berth_alloc(pool, 65536) + 65536);
}

static void a_chain_is_read_after_it_was_sent(void) {
    struct berth_chain chain;
    struct berth_segment segment;
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) {
        exit(1);
    }
    berth_chain_init(&chain, pool);
    check(berth_chain_append_bytes(&chain, "a message of more than a few bytes", 34));
    check(berth_chain_segment(&chain, 0, &segment));
    (void)berth_io_send(ends[0], &chain, UINT64_MAX);
    read_from(segment.data);
}

static void a_buffer_is_read_after_it_was_cleared(void) {
    struct berth_buf buf;
    size_t there;
    berth_buf_init(&buf, pool, 1000, 0);
    check(berth_buf_append(&buf, "message", 7));
    const void *data = berth_buf_peek(&buf, &there);
    berth_buf_clear(&buf);
    read_from(data);
}

static void a_temporary_buffer_is_read_after_it_was_given_back(void) {
    void *buffer = berth_temp_take(1000);
    berth_temp_give(buffer);
    read_from(buffer);
}

/* ---- no mistake ---- */

static void talk(void) {
    struct berth_chain out, in;
    struct berth_receiver receiver;
    struct berth_slice piece = BERTH_SLICE_EMPTY;
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0) {
        exit(1);
    }
    berth_chain_init(&out, pool);
    berth_chain_init(&in, pool);
    check(berth_receiver_init(&receiver, 0, 0));
    for (unsigned i = 0; i < 50; i++) {
        struct berth_slice slice;
        check(berth_slice_alloc(pool, 100 + i * 97, &slice));
        memset(berth_slice_try_write(&slice), (int)i, slice.length);
        check(berth_chain_append(&out, &slice));
        check(berth_temp_copy("temporary", 9, &slice));
        check(berth_chain_append(&out, &slice));
        (void)berth_io_send(ends[0], &out, UINT64_MAX);
        (void)(i % 2 == 0 ? berth_io_receive(ends[1], &in, &receiver)
                          : berth_io_receive_shared(ends[1], &in, &piece, 0));
        if (berth_chain_length(&in) > 0) {
            read_from(berth_chain_linearise(&in, (size_t)berth_chain_length(&in)));
        }
    }
    berth_chain_clear(&out);
    berth_chain_clear(&in);
    berth_slice_release(&piece);
    close(ends[0]);
    close(ends[1]);
}

static void all_is_correct(void) {
    void *blocks[200];
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < 200; i++) {
            blocks[i] = berth_alloc_flags(pool, i * i + 1, round % 2 == 0 ? BERTH_ZERO : 0);
            blocks[i] = berth_realloc(pool, blocks[i], i * i * 2 + 1);
            memset(blocks[i], 1, i * i * 2 + 1);
        }
        berth_free_batch(blocks, 200);
    }
    struct berth_buf buf;
    berth_buf_init(&buf, pool, 100, 0);
    for (unsigned i = 0; i < 3000; i++) {
        uint32_t number = 0;
        check(berth_buf_put_u32be(&buf, i));
        if (i % 2 == 0) {
            check(berth_buf_get_u32be(&buf, &number));
        }
    }
    berth_buf_clear(&buf);
    talk();
    berth_temp_flush();
    check(berth_pool_destroy(pool, 0));
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
#define CASE(name)                                                                                 \
    { #name, name }
    CASE(a_small_block_is_read_after_its_free),
    CASE(a_run_is_read_after_its_free),
    CASE(a_slice_is_read_after_its_release),
    CASE(a_slice_is_written_after_its_release),
    CASE(a_slice_is_written_behind_its_end),
    CASE(a_run_is_read_behind_its_end),
    CASE(a_chain_is_read_after_it_was_sent),
    CASE(a_buffer_is_read_after_it_was_cleared),
    CASE(a_temporary_buffer_is_read_after_it_was_given_back),
    CASE(all_is_correct),
};

int main(int argc, char **argv) {
    pool = berth_pool_create("user", NULL);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (argc < 2) {
            puts(cases[i].name);
        } else if (strcmp(argv[1], cases[i].name) == 0) {
            cases[i].run();
            return 0;
        }
    }
    return argc < 2 ? 0 : 2;
}
