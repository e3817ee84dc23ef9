#include "os/cgroup.h"

#include "base/bits.h"
#include "base/text.h"
#include "os/file.h"
#include "os/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { PATH_BYTES = 1024, FILE_BYTES = 16 << 10 };

static const char *root = "";

void berth__cgroup_set_root(const char *new_root) {
    root = new_root == NULL ? "" : new_root;
}

/* <root><mount><group>/<name>; false if that is too long. */
static bool path_in_group(char path[PATH_BYTES], const char *mount, const char *group,
                          size_t group_length, const char *name) {
    struct berth__text text;
    berth__text_init(&text, path, PATH_BYTES);
    berth__text_string(&text, root);
    berth__text_string(&text, mount);
    berth__text_bytes(&text, group, group_length);
    berth__text_char(&text, '/');
    berth__text_string(&text, name);
    return !text.overflow;
}

/* False if there is no such file. */
static bool read_in_group(const char *mount, const char *group, size_t group_length,
                          const char *name, char *buffer, size_t capacity) {
    char path[PATH_BYTES];
    return path_in_group(path, mount, group, group_length, name) &&
           berth__file_read(path, buffer, capacity) >= 0;
}

/* No number at all ("max", "-1", an empty file) is no limit. */
static uint64_t parse_number(const char *text, const char **end) {
    uint64_t value = *text >= '0' && *text <= '9' ? 0 : BERTH_CGROUP_UNLIMITED;
    for (; *text >= '0' && *text <= '9'; text++) {
        value = value > (UINT64_MAX - 9) / 10 ? UINT64_MAX : value * 10 + (uint64_t)(*text - '0');
    }
    *end = text;
    return value;
}

/* True if a controller is one of the names in "cpuset" or "cpu,cpuacct". */
static bool names_one_of(const char *names, size_t length, const char *controller) {
    const size_t wanted = strlen(controller);
    for (const char *end = names + length; names <= end;) {
        const char *comma = memchr(names, ',', (size_t)(end - names));
        size_t name_length = (size_t)((comma == NULL ? end : comma) - names);
        if (name_length == wanted && memcmp(names, controller, wanted) == 0) {
            return true;
        }
        names += name_length + 1;
    }
    return false;
}

/* The path of this process's group for a controller, from /proc/self/cgroup: a line is
 * "0::/path" (version 2) or "5:cpu,cpuacct:/path" (version 1). NULL if there is none. */
static char *group_of(char *lines, const char *controller, size_t *length) {
    for (char *line = lines; line != NULL && *line != '\0';) {
        char *line_end = strchr(line, '\n');
        size_t line_length = line_end == NULL ? strlen(line) : (size_t)(line_end - line);
        char *names = memchr(line, ':', line_length);
        char *path =
            names == NULL ? NULL : memchr(names + 1, ':', line_length - (size_t)(names + 1 - line));
        if (path != NULL) {
            size_t names_length = (size_t)(path - names - 1);
            bool found = controller == NULL ? names_length == 0
                                            : names_one_of(names + 1, names_length, controller);
            if (found) {
                *length = line_length - (size_t)(path + 1 - line);
                return path + 1;
            }
        }
        line = line_end == NULL ? NULL : line_end + 1;
    }
    return NULL;
}

/* Calls read(mount, path, length) for the group and each of its ancestors, and keeps the smallest
 * result. A container often sees its own group as "/", or a path that is not mounted: then the
 * mount's root is what there is. */
typedef uint64_t limit_of(const char *mount, const char *group, size_t length);

static uint64_t tightest(const char *mount, const char *group, size_t length, limit_of *read) {
    uint64_t smallest = read(mount, "", 0);
    while (length > 1) {
        smallest = berth__min(smallest, read(mount, group, length));
        while (length > 0 && group[length - 1] != '/') {
            length--;
        }
        length -= length > 0;
    }
    return smallest;
}

static uint64_t memory_v2(const char *mount, const char *group, size_t length) {
    char content[64];
    const char *end = NULL;
    if (!read_in_group(mount, group, length, "memory.max", content, sizeof(content))) {
        return BERTH_CGROUP_UNLIMITED;
    }
    return parse_number(content, &end);
}

static uint64_t memory_v1(const char *mount, const char *group, size_t length) {
    char content[64];
    const char *end = NULL;
    if (!read_in_group(mount, group, length, "memory.limit_in_bytes", content, sizeof(content))) {
        return BERTH_CGROUP_UNLIMITED;
    }
    uint64_t limit = parse_number(content, &end);
    return limit >= (UINT64_C(1) << 62) ? BERTH_CGROUP_UNLIMITED : limit; /* its "no limit" */
}

static uint64_t cpus_of(uint64_t quota, uint64_t period) {
    if (period == 0 || period == BERTH_CGROUP_UNLIMITED || quota == BERTH_CGROUP_UNLIMITED) {
        return BERTH_CGROUP_UNLIMITED;
    }
    return berth__max(1, quota / period + (quota % period != 0));
}

static uint64_t cpus_v2(const char *mount, const char *group, size_t length) {
    char content[64];
    const char *end = NULL;
    if (!read_in_group(mount, group, length, "cpu.max", content, sizeof(content))) {
        return BERTH_CGROUP_UNLIMITED;
    }
    uint64_t quota = parse_number(content, &end);
    return *end == ' ' ? cpus_of(quota, parse_number(end + 1, &end)) : BERTH_CGROUP_UNLIMITED;
}

static uint64_t cpus_v1(const char *mount, const char *group, size_t length) {
    char quota[64];
    char period[64];
    const char *end = NULL;
    if (!read_in_group(mount, group, length, "cpu.cfs_quota_us", quota, sizeof(quota)) ||
        !read_in_group(mount, group, length, "cpu.cfs_period_us", period, sizeof(period))) {
        return BERTH_CGROUP_UNLIMITED;
    }
    return cpus_of(parse_number(quota, &end), parse_number(period, &end));
}

static uint64_t of_both_in(char *lines, const char *controller, const char *mount_v1,
                           limit_of *read_v1, limit_of *read_v2) {
    size_t length = 0;
    uint64_t smallest = BERTH_CGROUP_UNLIMITED;
    if (!read_in_group("/proc", "/self", 5, "cgroup", lines, FILE_BYTES)) {
        return smallest;
    }
    const char *group = group_of(lines, NULL, &length);
    if (group != NULL) {
        smallest = tightest("/sys/fs/cgroup", group, length, read_v2);
    }
    group = group_of(lines, controller, &length);
    if (group != NULL) {
        smallest = berth__min(smallest, tightest(mount_v1, group, length, read_v1));
    }
    return smallest;
}

/* The smallest stack that a thread can have would overflow of the file. */
static uint64_t of_both_versions(const char *controller, const char *mount_v1, limit_of *read_v1,
                                 limit_of *read_v2) {
    size_t bytes = berth__round_up(FILE_BYTES, berth__page_bytes);
    char *lines = berth__pages_reserve(bytes, berth__page_bytes);
    if (lines == NULL) {
        return BERTH_CGROUP_UNLIMITED;
    }
    uint64_t smallest = berth__pages_commit(lines, bytes) == 0
                            ? of_both_in(lines, controller, mount_v1, read_v1, read_v2)
                            : BERTH_CGROUP_UNLIMITED;
    berth__pages_unreserve(lines, bytes);
    return smallest;
}

uint64_t berth__cgroup_memory_limit(void) {
    return of_both_versions("memory", "/sys/fs/cgroup/memory", memory_v1, memory_v2);
}

unsigned berth__cgroup_cpus(void) {
    uint64_t cpus = of_both_versions("cpu", "/sys/fs/cgroup/cpu", cpus_v1, cpus_v2);
    return cpus == BERTH_CGROUP_UNLIMITED ? 0 : (unsigned)berth__min(cpus, UINT32_MAX);
}

static int open_in_group(const char *mount, const char *group, size_t length, const char *name) {
    char path[PATH_BYTES];
    if (!path_in_group(path, mount, group, length, name)) {
        return -ENAMETOOLONG;
    }
    int saved_errno = errno;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    fd = fd < 0 ? -errno : fd;
    errno = saved_errno;
    return fd;
}

int berth__cgroup_open_pressure(void) {
    char lines[4096]; /* the line of version 2 is the first, or the only one */
    size_t length = 0;
    const char *group = read_in_group("/proc", "/self", 5, "cgroup", lines, sizeof(lines))
                            ? group_of(lines, NULL, &length)
                            : NULL;
    int fd =
        group == NULL ? -ENOENT : open_in_group("/sys/fs/cgroup", group, length, "memory.pressure");
    return fd >= 0 ? fd : open_in_group("/proc", "/pressure", 9, "memory");
}
