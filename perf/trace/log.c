/*
 * The recorder's log. A thread fills chunks of the file, which it takes one after the other; what
 * threads share is three counters in the file's header.
 *
 * Fork: all that a process must not inherit lies in one page that the kernel wipes in a child
 * (MADV_WIPEONFORK; Linux 4.14), whichever way the child was made. A child that finds it empty
 * begins a file of its own. A thread's chunk is valid if its generation is the process's;
 * generation counts starts and is inherited, so a child's differs from its parent's. A child of
 * vfork shares its parent's memory, and so its log.
 */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

/* Hole, mostly: what the file may grow to. 16 GiB are 500 million records. */
#define SPAN_MIB_DEFAULT 16384u

enum { TRIES_MAX = 1000, PAGE = 4096 };

/* NEW: nothing was tried. STARTING: one thread makes the file, others wait. OFF: not recorded, or
   no more. NEW -> STARTING -> RECORDING or OFF by who won the first step; RECORDING -> OFF by who
   finds the file full. */
enum state { NEW, STARTING, RECORDING, OFF };

struct process {
    _Atomic uint32_t state;
    uint64_t generation; /* written in STARTING */
    struct raw_header *header;
    uint64_t chunks_max;
    struct timespec origin;
};

struct thread {
    struct raw_record *next;
    struct raw_record *end;
    uint64_t generation;
    uint32_t number;
    uint32_t hidden;
};

static struct process before; /* until there is a page */
static struct process *_Atomic shared = &before;

/* Inherited by children. */
static uint64_t generations;
static char prefix[PATH_MAX];
static void *parents_file;
static size_t parents_bytes;

static _Thread_local struct thread self;

static void complain(const char *what) {
    dprintf(STDERR_FILENO, "berth recorder: %s: %s; process %d is not recorded\n", what,
            strerror(errno), (int)getpid());
}

static struct process *process_page(void) {
    struct process *page = atomic_load_explicit(&shared, memory_order_acquire);
    if (page != &before || atomic_load(&before.state) == OFF)
        return page;
    page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || madvise(page, PAGE, MADV_WIPEONFORK)) {
        complain("a page that forks wipe");
        page = &before;
        atomic_store(&before.state, OFF);
        return page;
    }
    struct process *expected = &before;
    if (atomic_compare_exchange_strong(&shared, &expected, page))
        return page;
    munmap(page, PAGE);
    return expected;
}

static uint64_t span_bytes(void) {
    const char *text = getenv("BERTH_TRACE_MIB");
    uint64_t mib = text ? strtoull(text, NULL, 10) : 0;
    return (mib ? mib : SPAN_MIB_DEFAULT) << 20;
}

/* A file that nobody has yet: an exec keeps the process's number. */
static int file_new(void) {
    for (int i = 0; i < TRIES_MAX; i++) {
        char path[PATH_MAX + 32];
        snprintf(path, sizeof path, "%s.%d.%d.raw", prefix, (int)getpid(), i);
        int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}

static bool file_map(struct process *process) {
    uint64_t bytes = span_bytes();
    int fd = file_new();
    if (fd < 0)
        return false;
    void *file = MAP_FAILED;
    if (ftruncate(fd, (off_t)bytes) == 0)
        file = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    int why = errno;
    close(fd);
    errno = why;
    if (file == MAP_FAILED)
        return false;
    process->header = file;
    process->chunks_max = bytes / RAW_CHUNK_BYTES;
    parents_file = file;
    parents_bytes = bytes;
    return true;
}

static void header_fill(struct raw_header *header) {
    header->version = RAW_VERSION;
    header->pid = (uint32_t)getpid();
    prctl(PR_GET_NAME, header->program);
    atomic_store(&header->chunks, 1);
    memcpy(header->magic, RAW_MAGIC, sizeof header->magic);
}

static bool wanted(void) {
    const char *path = getenv("BERTH_TRACE");
    if (path && *path && !prefix[0])
        snprintf(prefix, sizeof prefix, "%s", path);
    return prefix[0] != 0;
}

/* What STARTING becomes. */
static enum state process_begin(struct process *process) {
    if (parents_file)
        munmap(parents_file, parents_bytes);
    parents_file = NULL;
    if (!wanted())
        return OFF;
    if (!file_map(process)) {
        complain(prefix);
        return OFF;
    }
    header_fill(process->header);
    clock_gettime(CLOCK_MONOTONIC_COARSE, &process->origin);
    process->generation = ++generations;
    return RECORDING;
}

static bool process_records(struct process *process) {
    uint32_t state = atomic_load_explicit(&process->state, memory_order_acquire); /* A1: R1 */
    if (state == NEW) {
        if (!environ) /* before the C library knows it */
            return false;
        if (atomic_compare_exchange_strong(&process->state, &state, STARTING)) {
            state = process_begin(process);
            atomic_store_explicit(&process->state, state, memory_order_release); /* R1 */
        }
    }
    while (state == STARTING) {
        sched_yield();
        state = atomic_load_explicit(&process->state, memory_order_acquire); /* A1 */
    }
    return state == RECORDING;
}

/* What other threads still write into the chunks that they have is cut off by finish.c. */
static void process_full(struct process *process) {
    uint64_t none = 0;
    atomic_compare_exchange_strong(&process->header->full, &none,
                                   atomic_load(&process->header->order));
    atomic_store(&process->state, OFF);
}

static struct raw_chunk *chunk_new(struct process *process, uint32_t thread) {
    uint64_t number = atomic_fetch_add(&process->header->chunks, 1);
    if (number >= process->chunks_max) {
        process_full(process);
        return NULL;
    }
    char *bytes = (char *)process->header + number * RAW_CHUNK_BYTES;
    struct raw_chunk *chunk = (struct raw_chunk *)bytes;
    chunk->generation = process->generation;
    chunk->thread = thread;
    return chunk;
}

static bool thread_number(struct process *process, uint32_t *number) {
    *number = atomic_fetch_add(&process->header->threads, 1);
    if (*number < RAW_THREADS_MAX)
        return true;
    process_full(process);
    return false;
}

static void thread_fills(struct raw_chunk *chunk) {
    struct raw_record *records = (struct raw_record *)chunk;
    self.next = records + 1;
    self.end = records + RAW_CHUNK_RECORDS;
}

/* The next chunk; the first of a process or of a thread, too. */
static bool thread_continue(struct process *process) {
    if (!process_records(process))
        return false;
    if (self.generation != process->generation && !thread_number(process, &self.number))
        return false;
    self.generation = process->generation;
    struct raw_chunk *chunk = chunk_new(process, self.number);
    if (!chunk)
        return false;
    thread_fills(chunk);
    return true;
}

static bool thread_ready(struct process **process) {
    *process = atomic_load_explicit(&shared, memory_order_acquire);
    if (self.next != self.end && self.generation == (*process)->generation)
        return true;
    int error = errno;
    *process = process_page();
    bool ready = thread_continue(*process);
    errno = error;
    return ready;
}

static uint32_t time_ms(const struct process *process) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint32_t)((now.tv_sec - process->origin.tv_sec) * 1000 +
                      (now.tv_nsec - process->origin.tv_nsec) / 1000000);
}

struct raw_record *log_write(enum raw_op op, const void *address, size_t size,
                             unsigned align_log2) {
    struct process *process;
    if (!thread_ready(&process))
        return NULL;
    struct raw_record *record = self.next++;
    record->order = atomic_fetch_add(&process->header->order, 1);
    record->address = (uint64_t)(uintptr_t)address;
    record->size = size;
    record->time_ms = time_ms(process);
    record->align_log2 = (uint8_t)align_log2;
    record->hidden = self.hidden > 0;
    *(volatile uint8_t *)&record->op = (uint8_t)op;
    return record;
}

struct raw_chunk *log_thread_new(void *(*start)(void *), void *argument,
                                 struct raw_record **spawn) {
    struct process *process;
    uint32_t number;
    if (!thread_ready(&process) || !thread_number(process, &number))
        return NULL;
    struct raw_chunk *chunk = chunk_new(process, number);
    if (!chunk)
        return NULL;
    chunk->start = start;
    chunk->argument = argument;
    *spawn = log_write(RAW_SPAWN, (const void *)(uintptr_t)number, 0, 0);
    return chunk;
}

void log_thread_begin(struct raw_chunk *chunk) {
    self.generation = chunk->generation;
    self.number = chunk->thread;
    thread_fills(chunk);
}

void log_hide(void) {
    self.hidden++;
}

void log_show(void) {
    self.hidden--;
}
