#include "pool/watch.h"

#include "base/text.h"
#include "os/cgroup.h"
#include "os/environ.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Some task waited for memory for 150 ms within 2 s: without privileges, a window must be a
 * multiple of 2 s. */
static const char trigger[] = "some 150000 2000000";

static const struct berth__watch none = {.fd = -1};

/* ---- what is written first ---- */

static int digit_of(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c == '\0' ? NULL : strchr(digits, c);
    return at == NULL ? -1 : (int)(at - digits);
}

/* Base64. The length, or -1 if the text is none, or is too long. */
static ssize_t decode(const char *text, char *bytes, size_t capacity) {
    size_t length = 0;
    uint32_t bits = 0;
    unsigned have = 0;
    for (; *text != '\0' && *text != '='; text++) {
        int digit = digit_of(*text);
        if (digit < 0 || length == capacity) {
            return -1;
        }
        bits = bits << 6 | (uint32_t)digit;
        have += 6;
        if (have >= 8) {
            have -= 8;
            bytes[length++] = (char)(bits >> have & 0xff);
        }
    }
    return text[strspn(text, "=")] == '\0' ? (ssize_t)length : -1;
}

/* False if the kernel did not take it. */
static bool ask(int fd, const char *bytes, size_t length) {
    ssize_t done;
    do {
        done = write(fd, bytes, length);
    } while (done < 0 && errno == EINTR);
    return done == (ssize_t)length;
}

/* ---- opening ---- */

static struct berth__watch watched(int fd, short events) {
    struct stat about;
    if (fd < 0) {
        return none;
    }
    if (fstat(fd, &about) != 0) {
        berth__file_close(fd);
        return none;
    }
    return (struct berth__watch){
        .fd = fd, .events = events, .device = about.st_dev, .inode = about.st_ino};
}

static struct berth__watch asked(int fd, short events, const char *bytes, size_t length) {
    if (fd >= 0 && length > 0 && !ask(fd, bytes, length)) {
        berth__file_close(fd);
        return none;
    }
    return watched(fd, events);
}

static int connect_to(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length >= sizeof(address.sun_path)) {
        return -1;
    }
    memcpy(address.sun_path, path, length + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        berth__file_close(fd);
        fd = -1;
    }
    return fd;
}

/* A FIFO is opened for writing, too: without a writer it would always be at its end. */
static struct berth__watch open_named(const char *path) {
    struct stat about;
    char bytes[256];
    const char *text = berth__environ_get("MEMORY_PRESSURE_WRITE");
    ssize_t length = text == NULL ? 0 : decode(text, bytes, sizeof(bytes));
    if (path[0] != '/' || strcmp(path, "/dev/null") == 0 || length < 0 || stat(path, &about) != 0) {
        return none;
    }
    if (S_ISSOCK(about.st_mode)) {
        return asked(connect_to(path), POLLIN, bytes, (size_t)length);
    }
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    return asked(fd, S_ISREG(about.st_mode) ? POLLPRI : POLLIN, bytes, (size_t)length);
}

void berth__watch_open(struct berth__watch *watch) {
    const char *path = berth__environ_get("MEMORY_PRESSURE_WATCH");
    *watch = path != NULL ? open_named(path)
                          : asked(berth__cgroup_open_pressure(), POLLPRI, trigger, sizeof(trigger));
}

/* ---- waiting ---- */

/* What the other end said is of no interest. False at its end. */
static bool drain(int fd) {
    char bytes[256];
    ssize_t got;
    do {
        got = read(fd, bytes, sizeof(bytes));
    } while (got > 0 || (got < 0 && errno == EINTR));
    return got < 0 && errno == EAGAIN;
}

static bool is_ours(const struct berth__watch *watch) {
    struct stat about;
    return fstat(watch->fd, &about) == 0 && about.st_dev == watch->device &&
           about.st_ino == watch->inode;
}

static void give_up(struct berth__watch *watch, bool ours) {
    if (ours) {
        berth__file_close(watch->fd);
    }
    *watch = none;
}

bool berth__watch_sleep(struct berth__watch *watch, unsigned ms) {
    struct pollfd poll_fd = {.fd = watch->fd, .events = watch->events};
    int ready = poll(&poll_fd, watch->fd >= 0 ? 1 : 0, (int)ms);
    if (ready <= 0 || watch->fd < 0) {
        return false;
    }
    if (!is_ours(watch)) { /* the program has closed it, or opened something of its own there */
        give_up(watch, false);
        return false;
    }
    bool said = (poll_fd.revents & watch->events) != 0;
    if ((poll_fd.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0 ||
        (said && watch->events == POLLIN && !drain(watch->fd))) {
        give_up(watch, true);
    }
    return said;
}
