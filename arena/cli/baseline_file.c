#include "cli/baseline_file.h"

#include "base/bits.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static bool because(struct berth__baseline *baseline, const char *format, ...) BERTH_PRINTF(2, 3);

static bool because(struct berth__baseline *baseline, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(baseline->why, sizeof(baseline->why), format, args);
    va_end(args);
    return false;
}

/* ---- whose it is ---- */

static bool read_text(const char *path, char *text, size_t capacity) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, capacity - 1);
    if (fd >= 0) {
        close(fd);
    }
    text[length > 0 ? length : 0] = '\0';
    return length > 0;
}

static uint64_t start_of(pid_t pid) {
    struct berth__identity identity;
    return berth__process_identify(pid, &identity) ? identity.start_ticks : 0;
}

static void read_boot(char boot[40]) {
    memset(boot, 0, 40);
    (void)read_text("/proc/sys/kernel/random/boot_id", boot, 40);
    boot[strcspn(boot, "\n")] = '\0';
}

bool berth__baseline_is_of(struct berth__baseline *baseline, pid_t pid) {
    char boot[40];
    read_boot(boot);
    if (baseline->head.pid != (uint64_t)pid) {
        return because(baseline, "the baseline is of process %" PRIu64 ", not %d",
                       baseline->head.pid, (int)pid);
    }
    if (baseline->head.started != start_of(pid) || strcmp(baseline->head.boot, boot) != 0) {
        return because(baseline,
                       "the baseline is of an earlier process %d, %s, that has ended: make one of "
                       "this with `berth baseline %d`",
                       (int)pid, baseline->head.command, (int)pid);
    }
    return true;
}

/* ---- where it is ---- */

/* A folder that nobody else may write into, so that nobody leaves a link there. */
static bool use_folder(struct berth__baseline *baseline, const char *path) {
    struct stat found;
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return because(baseline, "%s: %s", path, strerror(errno));
    }
    if (lstat(path, &found) != 0) {
        return because(baseline, "%s: %s", path, strerror(errno));
    }
    if (!S_ISDIR(found.st_mode) || found.st_uid != geteuid() || (found.st_mode & 022) != 0) {
        return because(baseline,
                       "%s is no folder that only this user may write into: name a file with -o",
                       path);
    }
    return true;
}

bool berth__baseline_path(struct berth__baseline *baseline, pid_t pid, char *path,
                          size_t capacity) {
    const char *run = getenv("XDG_RUNTIME_DIR");
    char folder[BERTH_PATH_BYTES - 64];
    int length = run != NULL && *run == '/'
                     ? snprintf(folder, sizeof(folder), "%s/berth", run)
                     : snprintf(folder, sizeof(folder), "/tmp/berth-%u", (unsigned)geteuid());
    if ((size_t)length >= sizeof(folder)) {
        return because(baseline, "XDG_RUNTIME_DIR is too long");
    }
    snprintf(path, capacity, "%s/%d.baseline", folder, (int)pid);
    return use_folder(baseline, folder);
}

/* ---- writing ---- */

static bool write_all(int fd, const void *from, size_t bytes) {
    const char *at = from;
    while (bytes > 0) {
        ssize_t done = write(fd, at, bytes);
        if (done <= 0) {
            return false;
        }
        at += done;
        bytes -= (size_t)done;
    }
    return true;
}

bool berth__baseline_write(struct berth__baseline *baseline, const struct berth__process *process,
                           uint64_t reserved_bytes, const char *path) {
    char draft[BERTH_PATH_BYTES];
    struct berth__baseline_head *head = &baseline->head;
    *head = (struct berth__baseline_head){.magic = BERTH_BASELINE_MAGIC,
                                          .version = BERTH_BASELINE_VERSION,
                                          .head_bytes = sizeof(*head),
                                          .pid = (uint64_t)process->pid,
                                          .started = start_of(process->pid),
                                          .wall_s = (uint64_t)time(NULL),
                                          .reserved_bytes = reserved_bytes,
                                          .page_bytes = process->stats.page_bytes};
    read_boot(head->boot);
    memcpy(head->command, process->command, sizeof(head->command));
    if ((size_t)snprintf(draft, sizeof(draft), "%s.%d", path, (int)getpid()) >= sizeof(draft)) {
        return because(baseline, "the name of the file is too long");
    }
    int fd = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        return because(baseline, "%s: %s", draft, strerror(errno));
    }
    bool written = write_all(fd, head, sizeof(*head)) &&
                   write_all(fd, process->stats.page, process->stats.page_bytes);
    written = close(fd) == 0 && written && rename(draft, path) == 0;
    if (!written) {
        because(baseline, "%s: %s", path, strerror(errno));
        unlink(draft);
    }
    return written;
}

/* ---- reading ---- */

static void make_printable(char *text, size_t capacity) {
    text[capacity - 1] = '\0';
    for (char *at = text; *at != '\0'; at++) {
        if (*at < ' ' || *at > '~') {
            *at = '?';
        }
    }
}

bool berth__baseline_understand(struct berth__baseline *baseline, const void *bytes, size_t count) {
    struct berth__baseline_head *head = &baseline->head;
    memset(baseline, 0, sizeof(*baseline));
    if (count < sizeof(*head) || memcmp(bytes, &(uint64_t){BERTH_BASELINE_MAGIC}, 8) != 0) {
        return because(baseline, "it is no baseline of `berth baseline`");
    }
    memcpy(head, bytes, sizeof(*head));
    make_printable(head->boot, sizeof(head->boot));
    make_printable(head->command, sizeof(head->command));
    if (head->version != BERTH_BASELINE_VERSION) {
        return because(baseline, "it is a baseline of version %" PRIu32 ", and this tool reads %d",
                       head->version, BERTH_BASELINE_VERSION);
    }
    if (head->head_bytes < sizeof(*head) || head->head_bytes % sizeof(uint64_t) != 0 ||
        head->head_bytes > count || head->page_bytes != count - head->head_bytes) {
        return because(baseline, "it is damaged, or was cut off");
    }
    switch (berth__stats_read(&baseline->stats, (const char *)bytes + head->head_bytes,
                              head->page_bytes)) {
    case BERTH_PAGE_SOUND: return true;
    case BERTH_PAGE_OTHER_VERSION:
        return because(baseline,
                       "it has a stats page of version %" PRIu32 ", and this tool reads version %d",
                       baseline->stats.version, BERTH_STATS_VERSION);
    case BERTH_PAGE_NO_MEMORY: return because(baseline, "there is no memory for it");
    case BERTH_PAGE_NONE:
    case BERTH_PAGE_UNFINISHED:
    case BERTH_PAGE_DAMAGED: break;
    }
    return because(baseline, "the stats page in it is damaged");
}

/* The bytes of a file of a length that baselines may have; NULL with baseline->why. */
static void *read_whole(struct berth__baseline *baseline, const char *path, size_t *count) {
    enum { MOST = BERTH_STATS_BYTES_MOST + 4096 };
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char *bytes = fd < 0 ? NULL : malloc(MOST);
    *count = 0;
    if (fd < 0 || bytes == NULL) {
        baseline->missing = errno == ENOENT;
        because(baseline, "%s", strerror(errno));
    }
    ssize_t got = 1;
    while (bytes != NULL && got > 0 && *count < MOST) {
        got = read(fd, bytes + *count, MOST - *count);
        *count += got > 0 ? (size_t)got : 0;
    }
    if (bytes != NULL && got < 0) {
        because(baseline, "%s", strerror(errno));
        free(bytes);
        bytes = NULL;
    }
    if (fd >= 0) {
        close(fd);
    }
    return bytes;
}

bool berth__baseline_read(struct berth__baseline *baseline, const char *path) {
    size_t count;
    memset(baseline, 0, sizeof(*baseline));
    void *bytes = read_whole(baseline, path, &count);
    bool missing = baseline->missing;
    bool understood = bytes != NULL && berth__baseline_understand(baseline, bytes, count);
    baseline->page = bytes;
    baseline->missing = missing;
    if (!understood) {
        char why[256];
        snprintf(why, sizeof(why), "%.255s", baseline->why);
        return because(baseline, "%s: %s", path, why);
    }
    return true;
}

void berth__baseline_free(struct berth__baseline *baseline) {
    berth__stats_free(&baseline->stats);
    free(baseline->page);
    baseline->page = NULL;
}
