#include "cli/threads.h"

#include "cli/figures.h"
#include "cli/outside.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The threads that the kernel knows, ascending. */
struct tids {
    uint32_t *tid;
    size_t count;
};

enum { DESCRIPTOR_WORDS = 512 }; /* of what lies at a thread's pointer: its number is among them */

static int ascending(const void *a, const void *b) {
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static int is_number(const struct dirent *entry) {
    return entry->d_name[strspn(entry->d_name, "0123456789")] == '\0';
}

static struct tids read_tids(pid_t pid) {
    char path[64];
    struct tids tids = {NULL, 0};
    struct dirent **found = NULL;
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    int count = scandir(path, &found, is_number, versionsort);
    if (found == NULL) {
        return tids;
    }
    tids.tid = calloc((size_t)count + 1, sizeof(*tids.tid));
    for (int i = 0; i < count; i++) {
        if (tids.tid != NULL) {
            tids.tid[tids.count++] = (uint32_t)strtoul(found[i]->d_name, NULL, 10);
        }
        free(found[i]);
    }
    free(found);
    if (tids.count > 0) {
        qsort(tids.tid, tids.count, sizeof(*tids.tid), ascending);
    }
    return tids;
}

static bool is_tid(const struct tids *tids, uint32_t number) {
    return tids->count > 0 && bsearch(&number, tids->tid, tids->count, sizeof(number), ascending);
}

/* ---- from a thread's pointer to its number ---- */

static bool read_descriptor(const struct berth__seen *seen, uint64_t owner,
                            uint32_t words[DESCRIPTOR_WORDS]) {
    const struct berth__memory *memory = &seen->memory;
    return owner != 0 &&
           memory->read(memory->context, owner, words, DESCRIPTOR_WORDS * sizeof(*words));
}

/* The C library keeps a thread's number near where its pointer points; where exactly is its own
 * business. It is the place where all threads have a number of the list, each another one (halves
 * of pointers can be such numbers, too); DESCRIPTOR_WORDS if there is none. */
static unsigned find_place(const struct berth__seen *seen, const struct tids *tids) {
    enum { LOOKED_AT = 64 };
    bool possible[DESCRIPTOR_WORDS];
    bool any = false;
    uint32_t words[DESCRIPTOR_WORDS];
    uint32_t before[DESCRIPTOR_WORDS] = {0}; /* no thread's number */
    memset(possible, true, sizeof(possible));
    for (size_t i = 0; i < seen->cache_count && i < LOOKED_AT; i++) {
        if (!read_descriptor(seen, seen->caches[i].owner, words)) {
            continue;
        }
        any = true;
        for (unsigned place = 0; place < DESCRIPTOR_WORDS; place++) {
            possible[place] =
                possible[place] && words[place] != before[place] && is_tid(tids, words[place]);
        }
        memcpy(before, words, sizeof(before));
    }
    unsigned place = 0;
    while (place < DESCRIPTOR_WORDS && !(any && possible[place])) {
        place++;
    }
    return place;
}

/* 0: not known. */
static uint32_t tid_of(const struct berth__seen *seen, const struct tids *tids, unsigned place,
                       uint64_t owner) {
    uint32_t words[DESCRIPTOR_WORDS];
    return place < DESCRIPTOR_WORDS && read_descriptor(seen, owner, words) &&
                   is_tid(tids, words[place])
               ? words[place]
               : 0;
}

void berth__thread_name(pid_t pid, uint32_t tid, char name[BERTH_THREAD_NAME]) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task/%" PRIu32 "/comm", (int)pid, tid);
    int fd = tid == 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : read(fd, name, 16);
    if (fd >= 0) {
        close(fd);
    }
    name[length > 0 ? length : 0] = '\0';
    name[strcspn(name, "\n")] = '\0';
    for (char *at = name; *at != '\0'; at++) {
        if (*at < ' ' || *at > '~') {
            *at = '?';
        }
    }
}

/* ---- the table ---- */

static int by_bytes(const void *a, const void *b) {
    const struct berth__seen_cache *left = a;
    const struct berth__seen_cache *right = b;
    uint64_t of_left = left->cached_bytes + left->stash_bytes;
    uint64_t of_right = right->cached_bytes + right->stash_bytes;
    return (of_left < of_right) - (of_left > of_right);
}

static void print_cache(const struct berth__process *process, const struct berth__seen *seen,
                        const struct berth__seen_cache *cache, uint32_t tid) {
    char number[16] = "-";
    char name[BERTH_THREAD_NAME] = "";
    char heap[16] = "shared";
    char text[4][BERTH_SIZE_TEXT];
    if (tid != 0) {
        snprintf(number, sizeof(number), "%" PRIu32, tid);
        berth__thread_name(process->pid, tid, name);
    }
    if (cache->owns_heap) {
        snprintf(heap, sizeof(heap), "%" PRIu32, cache->heap);
    }
    printf("%8s %-15s  %-14.14s %-6s %6s %9s %8" PRIu64 " %9s %7" PRIu64 " %9s %9s\n", number, name,
           seen->pools[cache->pool].name,
           cache->owner == 0 ? "vacant"
           : cache->parked   ? "parked"
                             : "active",
           heap, berth__short_size(text[0], cache->cached_bytes), cache->cached_blocks,
           berth__short_size(text[3], cache->stash_bytes), cache->stash_blocks,
           berth__short_size(text[1], cache->remote_bytes),
           berth__short_size(text[2], cache->granted_bytes));
}

static void print_table(const struct berth__process *process, struct berth__seen *seen) {
    struct tids tids = read_tids(process->pid);
    unsigned place = find_place(seen, &tids);
    if (seen->cache_count > 0) {
        qsort(seen->caches, seen->cache_count, sizeof(*seen->caches), by_bytes);
    }
    printf("%zu thread%s, caches: %zu\n", tids.count, tids.count == 1 ? "" : "s",
           seen->cache_count);
    printf("%8s %-15s  %-14s %-6s %6s %9s %8s %9s %7s %9s %9s\n", "TID", "NAME", "POOL", "STATE",
           "HEAP", "CACHED", "BLOCKS", "STASH", "BLOCKS", "GATHERED", "GRANTED");
    for (size_t i = 0; i < seen->cache_count; i++) {
        const struct berth__seen_cache *cache = &seen->caches[i];
        print_cache(process, seen, cache, tid_of(seen, &tids, place, cache->owner));
    }
    free(tids.tid);
}

const char *berth__threads_print(const struct berth__process *process) {
    struct berth__outside outside;
    struct berth__seen seen;
    berth__outside_open(&outside, process);
    bool read = berth__seen_read(&seen, &process->stats, berth__outside_memory(&outside)) &&
                berth__seen_read_caches(&seen);
    const char *why = seen.why;
    if (read) {
        print_table(process, &seen);
        why = NULL;
    }
    berth__seen_close(&seen);
    berth__outside_close(&outside);
    return why;
}
