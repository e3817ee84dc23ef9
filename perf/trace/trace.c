#include "trace.h"

#include "../workloads/load.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The mapping is of the file, so that it does not count as memory that anything allocated. */
static const void *file_map(const char *path, uint64_t *bytes) {
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status))
        load_fail("the trace cannot be opened");
    *bytes = (uint64_t)status.st_size;
    if (*bytes < sizeof(struct trace_header) || *bytes % 8)
        load_fail("not a trace, or cut off");
    const void *file = mmap(NULL, *bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    close(fd);
    if (file == MAP_FAILED)
        load_fail("the trace cannot be mapped");
    return file;
}

static void header_check(const struct trace_header *header, uint64_t bytes) {
    if (memcmp(header->magic, TRACE_MAGIC, sizeof header->magic) != 0)
        load_fail("not a trace");
    if (header->version != TRACE_VERSION)
        load_fail("a trace of another version; record it again");
    uint64_t table = header->threads * (uint64_t)sizeof(struct trace_thread);
    uint64_t left = bytes - sizeof *header;
    if (table > left || header->words != (left - table) / 8)
        load_fail("the trace is cut off, or damaged");
    struct trace_header summed = *header;
    summed.checksum = 0;
    uint64_t sum = trace_checksum(0, (const uint64_t *)&summed, sizeof summed / 8);
    if (trace_checksum(sum, (const uint64_t *)(header + 1), left / 8) != header->checksum)
        load_fail("the trace is damaged");
}

static bool thread_fits(const struct trace *trace, uint32_t thread, uint64_t position) {
    return thread < trace->header->threads && position <= trace->threads[thread].words;
}

static bool word_fits(const struct trace *trace, uint64_t word) {
    enum trace_op op = trace_op_of(word);
    uint32_t slot = trace_slot_of(word);
    if (op < TRACE_CALLS)
        return slot < trace->header->slots;
    if (op == TRACE_SPAWN || op == TRACE_WAIT || op == TRACE_PACE)
        return thread_fits(trace, slot, op == TRACE_SPAWN ? 0 : trace_size_of(word));
    return op == TRACE_TIME || (op == TRACE_MORE && slot < 64);
}

static void words_check(const struct trace *trace) {
    const struct trace_header *header = trace->header;
    uint64_t next = 0;
    for (uint32_t i = 0; i < header->threads; i++) {
        const struct trace_thread *thread = &trace->threads[i];
        if (thread->first != next || thread->words > header->words - next)
            load_fail("the trace's threads do not fit");
        next += thread->words;
    }
    if (next != header->words || !thread_fits(trace, 0, 0) || header->slots > TRACE_SLOTS_MAX ||
        header->peak_thread >= header->threads ||
        !thread_fits(trace, (uint32_t)header->peak_thread, header->peak_position))
        load_fail("the trace's counts do not fit");
    for (uint64_t i = 0; i < header->words; i++)
        if (!word_fits(trace, trace->words[i]))
            load_fail("the trace names what is not there");
}

struct trace trace_open(const char *path) {
    uint64_t bytes;
    struct trace trace = {.header = file_map(path, &bytes)};
    header_check(trace.header, bytes);
    trace.threads = (const struct trace_thread *)(trace.header + 1);
    trace.words = (const uint64_t *)(trace.threads + trace.header->threads);
    words_check(&trace);
    return trace;
}
