#include "base/check.h"
#include "base/text.h"
#include "os/warn.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

/* Not to be cancelled in: the caller may hold locks, and malloc_stats is no cancellation point. */
static void write_all(const char *from, size_t left) {
    int cancel_state = 0;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    while (left > 0) {
        ssize_t done = write(STDERR_FILENO, from, left);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            break; /* nowhere to say it */
        }
        from += done;
        left -= (size_t)done;
    }
    pthread_setcancelstate(cancel_state, NULL);
}

/* "berth: " + the message + newline; the last byte of the buffer is kept for the newline. */
static void print_line(const char *format, va_list args) {
    char buffer[512];
    struct berth__text line;
    berth__text_init(&line, buffer, sizeof(buffer) - 1);
    berth__text_string(&line, "berth: ");
    berth__text_format_args(&line, format, args);
    line.capacity = sizeof(buffer);
    berth__text_char(&line, '\n');
    write_all(buffer, line.length);
}

void berth__fatal(const char *format, ...) {
    va_list args;
    va_start(args, format);
    print_line(format, args);
    va_end(args);
    abort();
}

void berth__warn(const char *format, ...) {
    int saved_errno = errno;
    va_list args;
    va_start(args, format);
    print_line(format, args);
    va_end(args);
    errno = saved_errno;
}
