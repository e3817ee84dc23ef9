/*
 * What buffers cost: allocate and release, references, and whether short slices are better sent
 * beside each other or copied together. Linked with libberth; the figures of
 * docs/decisions/0014-buffers.md come from it.
 *
 *   buffers [ROUNDS]    prints the median and the least of interleaved rounds, in nanoseconds of
 *                       processor time
 */
#include <berth/berth.h>

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { REPEATS = 200000, ROUNDS_MAX = 99, SLICES = 64 };

static berth_pool *pool, *one_thread_pool;
static int ends[2]; /* a TCP connection over loopback */

/* The thread's processor time: other programs may run. */
static double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void *volatile sink;

/* ---- allocating and releasing ---- */

static void with_malloc(size_t size) {
    void *block = malloc(size);
    sink = block;
    free(block);
}

static void with_berth_alloc(size_t size) {
    void *block = berth_alloc(pool, size);
    sink = block;
    berth_free(block);
}

static void with_berth_pool_free(size_t size) {
    void *block = berth_alloc(pool, size);
    sink = block;
    berth_pool_free(pool, block);
}

/* The record before the data in one block: the layout that was not chosen. */
static void with_header_inside(size_t size) {
    char *block = berth_alloc(pool, size + 64);
    memset(block, 0, 64);
    sink = block;
    berth_pool_free(pool, block);
}

static void with_slice(size_t size) {
    struct berth_slice slice;
    if (berth_slice_alloc(pool, size, &slice) != 0) {
        die("berth_slice_alloc");
    }
    sink = (void *)(uintptr_t)slice.data;
    berth_slice_release(&slice);
}

static void with_buffer(size_t size) {
    struct berth_buf buf;
    berth_buf_init(&buf, pool, size, 0);
    sink = berth_buf_reserve(&buf, size);
    berth_buf_clear(&buf);
}

/* ---- references ---- */

static struct berth_slice shared, alone, confined;
struct berth_slice others[2]; /* further references, so that the counts are not 1 */

static void retain_shared(size_t unused) {
    (void)unused;
    struct berth_slice another = berth_slice_retain(&shared);
    berth_slice_release(&another);
}

/* From one to two and back: a plain store, and one read-modify-write. */
static void retain_alone(size_t unused) {
    (void)unused;
    struct berth_slice another = berth_slice_retain(&alone);
    berth_slice_release(&another);
}

static void retain_confined(size_t unused) {
    (void)unused;
    struct berth_slice another = berth_slice_retain(&confined);
    berth_slice_release(&another);
}

static void cut_a_part(size_t unused) {
    (void)unused;
    struct berth_slice part;
    (void)berth_slice_sub(&shared, 10, 20, &part);
    berth_slice_release(&part);
}

static atomic_bool stop;

static void *contend(void *slice) {
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        struct berth_slice another = berth_slice_retain(slice);
        berth_slice_release(&another);
    }
    return NULL;
}

/* While another thread does the same. */
static struct berth_slice contended;

static void retain_contended(size_t unused) {
    (void)unused;
    struct berth_slice another = berth_slice_retain(&contended);
    berth_slice_release(&another);
}

/* ---- integers and messages ---- */

static struct berth_buf words;

static void put_and_get(size_t unused) {
    (void)unused;
    uint32_t value = 0;
    (void)berth_buf_put_u32be(&words, 7);
    (void)berth_buf_get_u32be(&words, &value);
}

static struct berth_chain fan;

static void share_a_chain(size_t unused) {
    (void)unused;
    struct berth_chain to;
    berth_chain_init(&to, pool);
    (void)berth_chain_share(&fan, 0, berth_chain_length(&fan), &to);
    berth_chain_clear(&to);
}

/* ---- sending ---- */

static unsigned char *pieces[SLICES];

static void connect_ends(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int size = 4 << 20;
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0) {
        die("a listener on loopback");
    }
    ends[0] = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    if (connect(ends[0], (struct sockaddr *)&address, sizeof(address)) != 0) {
        die("connect");
    }
    ends[1] = accept(listener, NULL, NULL);
    close(listener);
    for (unsigned i = 0; i < SLICES; i++) { /* not all at the same place of their pages */
        enum { PIECE = 8192 };
        unsigned char *block = berth_alloc(pool, PIECE);
        memset(block, (int)i, PIECE);
        pieces[i] = block + i * 320 % 4096;
    }
}

static void drain(size_t bytes) {
    while (bytes > 0) {
        ssize_t got = recv(ends[1], NULL, bytes, MSG_TRUNC);
        if (got <= 0) {
            die("recv");
        }
        bytes -= (size_t)got;
    }
}

static void send_beside(size_t each) {
    struct iovec entries[SLICES];
    for (unsigned i = 0; i < SLICES; i++) {
        entries[i] = (struct iovec){pieces[i], each};
    }
    if (writev(ends[0], entries, SLICES) != (ssize_t)(SLICES * each)) {
        die("writev");
    }
    drain(SLICES * each);
}

static void send_copied(size_t each) {
    char *block = berth_alloc(pool, SLICES * each);
    for (unsigned i = 0; i < SLICES; i++) {
        memcpy(block + i * each, pieces[i], each);
    }
    if (write(ends[0], block, SLICES * each) != (ssize_t)(SLICES * each)) {
        die("write");
    }
    berth_free(block);
    drain(SLICES * each);
}

/* ---- running ---- */

static const struct row {
    const char *name;
    void (*run)(size_t size);
    size_t size;
    unsigned repeats;
} rows[] = {
#define SIZES(name, run)                                                                           \
    {name, run, 64, REPEATS}, {name, run, 1024, REPEATS}, {name, run, 16384, REPEATS}, {           \
        name, run, 65536, REPEATS                                                                  \
    }
    SIZES("malloc and free", with_malloc),
    SIZES("berth_alloc and free", with_berth_alloc),
    SIZES("berth_alloc and berth_pool_free", with_berth_pool_free),
    SIZES("record before the data", with_header_inside),
    SIZES("slice: alloc and release", with_slice),
    SIZES("buffer: reserve and clear", with_buffer),
    {"retain and release, shared", retain_shared, 0, REPEATS},
    {"retain and release, alone", retain_alone, 0, REPEATS},
    {"retain and release, one_thread", retain_confined, 0, REPEATS},
    {"retain and release, contended by 2", retain_contended, 1, REPEATS},
    {"sub-slice and release", cut_a_part, 0, REPEATS},
    {"u32 written and read", put_and_get, 0, REPEATS},
    {"chain of 3 shared and cleared", share_a_chain, 0, REPEATS},
#define SENDS(each)                                                                                \
    {"64 slices sent beside each other", send_beside, each, 300}, {                                \
        "64 slices copied together", send_copied, each, 300                                        \
    }
    SENDS(64),
    SENDS(256),
    SENDS(512),
    SENDS(1024),
    SENDS(1536),
    SENDS(2048),
    SENDS(4096),
};
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static double measured[ROWS][ROUNDS_MAX];

static double measure(const struct row *row) {
    pthread_t thread;
    bool contended_row = row->run == retain_contended;
    atomic_store(&stop, false);
    struct berth_slice theirs;
    if (contended_row) {
        theirs = berth_slice_retain(&contended);
        pthread_create(&thread, NULL, contend, &theirs);
        usleep(1000);
    }
    double start = now_ns();
    for (unsigned i = 0; i < row->repeats; i++) {
        row->run(row->size);
    }
    double ns = (now_ns() - start) / row->repeats;
    if (contended_row) {
        atomic_store(&stop, true);
        pthread_join(thread, NULL);
        berth_slice_release(&theirs);
    }
    return ns;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void prepare(void) {
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    pool = berth_pool_create("bench", NULL);
    options.one_thread = 1;
    one_thread_pool = berth_pool_create("bench-one-thread", &options);
    connect_ends();
    berth_slice_alloc(pool, 100, &alone);
    berth_slice_alloc(pool, 100, &shared);
    berth_slice_alloc(pool, 100, &contended);
    berth_slice_alloc(one_thread_pool, 100, &confined);
    others[0] = berth_slice_retain(&shared);
    others[1] = berth_slice_retain(&confined);
    berth_buf_init(&words, pool, 4096, 0);
    berth_chain_init(&fan, pool);
    for (unsigned i = 0; i < 3; i++) {
        struct berth_slice slice;
        berth_slice_alloc(pool, 4096, &slice);
        berth_chain_append(&fan, &slice);
    }
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 9;
    rounds = rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
    prepare();
    for (int round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < ROWS; i++) {
            measured[i][round] = measure(&rows[i]);
        }
    }
    printf("%-36s %8s %10s %10s\n", "", "bytes", "median ns", "least");
    for (unsigned i = 0; i < ROWS; i++) {
        qsort(measured[i], (size_t)rounds, sizeof(double), ascending);
        printf("%-36s %8zu %10.1f %10.1f\n", rows[i].name, rows[i].size, measured[i][rounds / 2],
               measured[i][0]);
    }
    return 0;
}
