/*
 * The files of a directory that were asked for lately, with whatever a server keeps of each. A file
 * is looked at again when a second has passed since.
 */
#ifndef BERTH_PERF_SERVERS_FILES_H
#define BERTH_PERF_SERVERS_FILES_H

#include <stdint.h>
#include <time.h>

struct file {
    uint64_t size;
    struct timespec modified;
    time_t checked_s;
    const char *type;
    void *content; /* of the server's */
    struct file *next;
    char path[];
};

/* load: makes the content of an open file, which is the server's from then on; NULL: it cannot.
 * unload: drops it. */
void files_begin(const char *root, void *(*load)(struct file *file, int fd),
                 void (*unload)(void *content));

/* NULL: there is no such file, or it cannot be read. A path that ends in '/' is its index.html. */
struct file *files_find(const char *path, time_t now_s);

void files_end(void);

#endif
