#include "cli/outside.h"

#include "base/bits.h"
#include "size/classes.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

void berth__outside_open(struct berth__outside *outside, const struct berth__process *process) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)process->pid);
    long page_bytes = sysconf(_SC_PAGESIZE);
    *outside = (struct berth__outside){.memory = process->memory,
                                       .pagemap = open(path, O_RDONLY | O_CLOEXEC),
                                       .page_bytes = page_bytes > 0 ? (size_t)page_bytes : 4096};
}

void berth__outside_close(struct berth__outside *outside) {
    if (outside->pagemap >= 0) {
        close(outside->pagemap);
    }
}

static bool read_memory(void *context, uint64_t address, void *to, size_t bytes) {
    const struct berth__outside *outside = context;
    return address <= INT64_MAX &&
           pread(outside->memory, to, bytes, (off_t)address) == (ssize_t)bytes;
}

struct berth__memory berth__outside_memory(struct berth__outside *outside) {
    return (struct berth__memory){read_memory, outside};
}

/* A page's word: bit 63, it is there; bit 62, it is swapped out. */
static bool read_residency(void *context, uint64_t address, size_t pages, uint8_t *resident) {
    enum { WORDS = 1024 };
    const struct berth__outside *outside = context;
    size_t small = outside->page_bytes / BERTH_PAGE; /* of 4 KiB in a machine's page */
    uint64_t words[WORDS];
    if (outside->pagemap < 0 || small == 0) {
        return false;
    }
    for (size_t i = 0; i < pages;) {
        uint64_t first = (address + i * BERTH_PAGE) / outside->page_bytes;
        size_t count = berth__min((pages - i + small - 1) / small, WORDS);
        ssize_t got =
            pread(outside->pagemap, words, count * sizeof(*words), (off_t)(first * sizeof(*words)));
        if (got != (ssize_t)(count * sizeof(*words))) {
            return false;
        }
        for (size_t word = 0; word < count && i < pages; word++) {
            for (size_t of = 0; of < small && i < pages; of++) {
                resident[i++] = (uint8_t)(words[word] >> 63);
            }
        }
    }
    return true;
}

struct berth__residency berth__outside_residency(struct berth__outside *outside) {
    return (struct berth__residency){read_residency, outside};
}

uint64_t berth__outside_reserved(const struct berth__process *process) {
    struct berth__outside outside;
    struct berth__seen seen;
    berth__outside_open(&outside, process);
    uint64_t reserved = berth__seen_read(&seen, &process->stats, berth__outside_memory(&outside))
                            ? berth__seen_reserved(&seen)
                            : 0;
    berth__seen_close(&seen);
    berth__outside_close(&outside);
    return reserved;
}
