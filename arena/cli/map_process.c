#include "cli/map_process.h"

#include <string.h>

/* Without what means something in HTML or JSON. */
static void plain(char *to, size_t capacity, const char *from) {
    size_t length = strnlen(from, capacity - 1);
    for (size_t i = 0; i < length; i++) {
        to[i] = from[i];
        if (strchr("<>&\"'\\", from[i]) != NULL) {
            to[i] = '?';
        }
    }
    to[length] = '\0';
}

bool berth__process_map_read(struct berth__process_map *map, const struct berth__process *process) {
    struct berth__outside outside;
    memset(map, 0, sizeof(*map));
    plain(map->command, sizeof(map->command), process->command);
    plain(map->version, sizeof(map->version), process->stats.berth_version);
    map->title = (struct berth__map_title){(int)process->pid, map->command, map->version};
    berth__outside_open(&outside, process);
    struct berth__seen *seen = &map->seen;
    bool read = berth__seen_read(seen, &process->stats, berth__outside_memory(&outside)) &&
                berth__seen_read_caches(seen);
    map->why = seen->why;
    if (read) {
        read = berth__map_read(&map->map, seen, berth__outside_residency(&outside));
        map->why = map->map.why;
    }
    if (read) {
        berth__map_sampled_open(&map->sampled, process);
        map->map.sites = berth__map_sites_of(&map->sampled);
    }
    berth__outside_close(&outside);
    return read;
}

void berth__process_map_free(struct berth__process_map *map) {
    berth__map_sampled_close(&map->sampled);
    berth__map_free(&map->map);
    berth__seen_close(&map->seen);
}
