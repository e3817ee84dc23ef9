/*
 * The kernel's own view of a range of this process's addresses, from /proc/self/smaps or maps.
 */
#ifndef BERTH_UNIT_MAPS_H
#define BERTH_UNIT_MAPS_H

#include "unit.h"

#include <inttypes.h>
#include <string.h>

struct unit_range {
    size_t mapped;   /* bytes of any mapping */
    size_t writable; /* bytes readable and writable */
    size_t readable; /* bytes readable, but not writable */
    size_t resident; /* bytes in memory; of mappings wholly inside the range */
    bool huge, no_huge;
    bool dumped, undumped; /* in a core file: some of it, not all of it */
    unsigned mappings;
};

/* Only the permissions, in one pass over /proc/self/maps, or all of it from smaps. */
static inline struct unit_range unit_range_read(const void *at, size_t bytes, bool resident) {
    struct unit_range range = {0};
    uintptr_t from = (uintptr_t)at;
    uintptr_t to = from + bytes;
    FILE *file = fopen(resident ? "/proc/self/smaps" : "/proc/self/maps", "r");
    UNIT_CHECK(file != NULL);
    char line[512];
    bool inside = false;
    while (fgets(line, sizeof(line), file) != NULL) {
        uintptr_t first = 0;
        uintptr_t end = 0;
        char permissions[5];
        size_t kib = 0;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s", &first, &end, permissions) == 3) {
            first = first < from ? from : first;
            end = end > to ? to : end;
            inside = first < end;
            size_t part = inside ? end - first : 0;
            range.mapped += part;
            range.writable += permissions[1] == 'w' ? part : 0;
            range.readable += permissions[1] != 'w' && permissions[0] == 'r' ? part : 0;
            range.mappings += inside;
        } else if (inside && sscanf(line, "Rss: %zu kB", &kib) == 1) {
            range.resident += kib * 1024;
        } else if (inside && strncmp(line, "VmFlags:", 8) == 0) {
            range.huge = range.huge || strstr(line, " hg") != NULL;
            range.no_huge = range.no_huge || strstr(line, " nh") != NULL;
            bool undumped = strstr(line, " dd") != NULL;
            range.undumped = range.undumped || undumped;
            range.dumped = range.dumped || !undumped;
        }
    }
    fclose(file);
    return range;
}

#endif
