#include "metrics/final.h"

#include "base/bits.h"
#include "base/text.h"
#include "heap/fork.h"
#include "heap/sample_table.h"
#include "os/dynamic.h"
#include "os/warn.h"
#include "pool/options.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { LINE_BYTES = 128 + BERTH_SITE_DEPTH * 19 };

/* ---- prof_final, prof_failure ---- */

static bool write_all(int fd, const char *from, size_t length) {
    while (length > 0) {
        ssize_t written = write(fd, from, length);
        if (written < 0 && errno != EINTR) {
            return false;
        }
        from += written > 0 ? written : 0;
        length -= written > 0 ? (size_t)written : 0;
    }
    return true;
}

/* The option's path, with the process's number for %p and % for %%. */
static void expand(struct berth__text *text, const char *path) {
    for (; *path != '\0'; path++) {
        bool is_number = path[0] == '%' && path[1] == 'p';
        if (is_number) {
            berth__text_uint(text, (uint64_t)getpid());
        } else {
            berth__text_char(text, *path);
        }
        path += is_number || (path[0] == '%' && path[1] == '%');
    }
}

static void add_number(struct berth__text *text, uint64_t number, size_t width) {
    char digits[24];
    struct berth__text of_number;
    berth__text_init(&of_number, digits, sizeof(digits));
    berth__text_uint(&of_number, number);
    for (size_t i = of_number.length; i < width; i++) {
        berth__text_char(text, ' ');
    }
    berth__text_string(text, digits);
}

/* Of a count in 1024ths: at least 1 where there are bytes, which readers insist on. */
static uint64_t whole(uint64_t count, uint64_t bytes) {
    uint64_t rounded = (count + BERTH_SAMPLE_ONE / 2) / BERTH_SAMPLE_ONE;
    return rounded == 0 && bytes != 0 ? 1 : rounded;
}

/* "  held:   bytes [ allocated:   bytes] @" */
static void add_amounts(struct berth__text *text, const struct berth__site *site) {
    add_number(text, whole(site->live_count, site->live_bytes), 6);
    berth__text_string(text, ": ");
    add_number(text, site->live_bytes, 8);
    berth__text_string(text, " [");
    add_number(text, whole(site->allocated_count, site->allocated_bytes), 6);
    berth__text_string(text, ": ");
    add_number(text, site->allocated_bytes, 8);
    berth__text_string(text, "] @");
}

static bool write_head(int fd) {
    struct berth__site sum = {0};
    struct berth__site site;
    for (uint32_t i = 0; berth__samples_copy_site(i, &site); i++) {
        sum.live_count += site.live_count;
        sum.live_bytes += site.live_bytes;
        sum.allocated_count += site.allocated_count;
        sum.allocated_bytes += site.allocated_bytes;
    }
    char line[LINE_BYTES];
    struct berth__text text;
    berth__text_init(&text, line, sizeof(line));
    berth__text_string(&text, "heap profile: ");
    add_amounts(&text, &sum);
    berth__text_string(&text, " heapprofile\n");
    return write_all(fd, line, text.length);
}

static bool write_sites(int fd) {
    struct berth__site site;
    bool written = true;
    for (uint32_t i = 0; written && berth__samples_copy_site(i, &site); i++) {
        char line[LINE_BYTES];
        struct berth__text text;
        berth__text_init(&text, line, sizeof(line));
        add_amounts(&text, &site);
        for (unsigned d = 0; d < site.depth; d++) {
            berth__text_char(&text, ' ');
            berth__text_hex(&text, (uintptr_t)site.place[d]);
        }
        berth__text_char(&text, '\n');
        written = site.depth == 0 || write_all(fd, line, text.length);
    }
    return written;
}

static bool write_maps(int fd) {
    static const char title[] = "\nMAPPED_LIBRARIES:\n";
    char piece[4096];
    int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    bool written = write_all(fd, title, sizeof(title) - 1);
    ssize_t got = 0;
    while (maps >= 0 && written && (got = read(maps, piece, sizeof(piece))) > 0) {
        written = write_all(fd, piece, (size_t)got);
    }
    if (maps >= 0) {
        close(maps);
    }
    return written;
}

static void write_profile(const char *name, const char *option) {
    char path[BERTH_OPTION_PATH_MAX + 32];
    struct berth__text text;
    berth__text_init(&text, path, sizeof(path));
    expand(&text, option);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool written = fd >= 0 && write_head(fd) && write_sites(fd) && write_maps(fd);
    int error = errno;
    if (!written) {
        berth__warn("%s: cannot write %s: %s", name, path, strerror(error));
    }
    if (fd >= 0) {
        close(fd);
    }
}

/* ---- leak_print ---- */

enum { SITES_PRINTED = 10, PLACES_PRINTED = 8 };

struct holder {
    uint64_t bytes;
    uint32_t site;
};

/* Keeps the largest, in descending order. */
static void note(struct holder *holders, struct holder holder) {
    for (unsigned i = 0; i < SITES_PRINTED; i++) {
        if (holder.bytes > holders[i].bytes) {
            struct holder next = holders[i];
            holders[i] = holder;
            holder = next;
        }
    }
}

static void print_site(uint32_t number) {
    struct berth__site site;
    (void)berth__samples_copy_site(number, &site);
    berth__warn("still held at exit: some %lu bytes in %lu blocks, allocated by",
                (unsigned long)site.live_bytes,
                (unsigned long)whole(site.live_count, site.live_bytes));
    for (unsigned d = 0; d < site.depth && d < PLACES_PRINTED; d++) {
        char line[512];
        struct berth__text text;
        berth__text_init(&text, line, sizeof(line));
        berth__dynamic_describe(&text, site.place[d]);
        berth__warn("    %s", line);
    }
}

static void print_holders(void) {
    struct holder holders[SITES_PRINTED] = {{0, 0}};
    struct berth__site site;
    uint64_t bytes = 0;
    for (uint32_t i = 0; berth__samples_copy_site(i, &site); i++) {
        bytes += site.live_bytes;
        note(holders, (struct holder){site.live_bytes, i});
    }
    berth__warn("still held at exit: some %lu bytes altogether, as estimated from samples",
                (unsigned long)bytes);
    for (unsigned i = 0; i < SITES_PRINTED && holders[i].bytes > 0; i++) {
        print_site(holders[i].site);
    }
}

void berth__final_profile(void) {
    const struct berth__options *options = berth__options_get();
    if (berth__samples_root() == NULL || berth__fork_must_detour()) {
        return;
    }
    if (options->value[BERTH_OPTION_leak_print] != 0) {
        print_holders();
    }
    if (options->value[BERTH_OPTION_prof_final] != 0) {
        write_profile("prof_final", options->paths[BERTH_PATH_OF_FINAL]);
    }
}

void berth__failure_profile(void) {
    static _Atomic bool written;
    const struct berth__options *options = berth__options_get();
    if (options->value[BERTH_OPTION_prof_failure] != 0 && berth__samples_root() != NULL &&
        !berth__exchange_relaxed(&written, true)) {
        int saved_errno = errno;
        write_profile("prof_failure", options->paths[BERTH_PATH_OF_FAILURE]);
        errno = saved_errno;
    }
}
