#include "files.h"
#include "http.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUCKETS = 1024, FILES_MAX = 4096 };

static int root_fd;
static void *(*load_content)(struct file *file, int fd);
static void (*unload_content)(void *content);
static struct file *buckets[BUCKETS];
static unsigned count;

void files_begin(const char *root, void *(*load)(struct file *file, int fd),
                 void (*unload)(void *content)) {
    root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0) {
        perror(root);
        exit(1);
    }
    load_content = load;
    unload_content = unload;
}

static struct file **bucket_of(const char *path) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *path != '\0'; path++) {
        hash = (hash ^ (unsigned char)*path) * UINT64_C(0x100000001b3);
    }
    return &buckets[(hash >> 32) % BUCKETS];
}

static void drop(struct file **link) {
    struct file *file = *link;
    *link = file->next;
    unload_content(file->content);
    free(file);
    count--;
}

static void drop_all(void) {
    for (unsigned i = 0; i < BUCKETS; i++) {
        while (buckets[i] != NULL) {
            drop(&buckets[i]);
        }
    }
}

static struct file *load(const char *path, const char *name, struct file **bucket) {
    struct stat stat;
    int fd = openat(root_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &stat) != 0 || !S_ISREG(stat.st_mode)) {
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    if (count == FILES_MAX) {
        drop_all();
    }
    size_t path_bytes = strlen(path) + 1;
    struct file *file = calloc(1, sizeof(*file) + path_bytes);
    if (file == NULL) {
        abort();
    }
    memcpy(file->path, path, path_bytes);
    file->size = (uint64_t)stat.st_size;
    file->modified = stat.st_mtim;
    file->type = http_type(name);
    file->content = load_content(file, fd);
    if (file->content == NULL) {
        free(file);
        return NULL;
    }
    file->next = *bucket;
    *bucket = file;
    count++;
    return file;
}

static int is_unchanged(const struct file *file, const char *name) {
    struct stat stat;
    return fstatat(root_fd, name, &stat, 0) == 0 && (uint64_t)stat.st_size == file->size &&
           stat.st_mtim.tv_sec == file->modified.tv_sec &&
           stat.st_mtim.tv_nsec == file->modified.tv_nsec;
}

struct file *files_find(const char *path, time_t now_s) {
    struct file **bucket = bucket_of(path), **link = bucket;
    while (*link != NULL && strcmp((*link)->path, path) != 0) {
        link = &(*link)->next;
    }
    if (*link != NULL && (*link)->checked_s == now_s) {
        return *link;
    }
    char name[HTTP_PATH_MAX + 16];
    size_t length = strlen(path);
    snprintf(name, sizeof(name), ".%s%s", path, path[length - 1] == '/' ? "index.html" : "");
    if (*link != NULL && !is_unchanged(*link, name)) {
        drop(link);
        link = bucket;
        while (*link != NULL) {
            link = &(*link)->next;
        }
    }
    struct file *file = *link != NULL ? *link : load(path, name, bucket);
    if (file != NULL) {
        file->checked_s = now_s;
    }
    return file;
}

void files_end(void) {
    drop_all();
    close(root_fd);
}
