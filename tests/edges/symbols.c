/*
 * If this fails, some name of glibc's malloc or of the C++ operators is not served by the malloc
 * door, so that a block of one allocator reaches the free of another; or the door drags libraries
 * and thread-local memory into C programs.
 *
 * EDGE_LIBRARY names the door, which is loaded by dlopen here: this program itself runs on glibc's
 * malloc.
 */
#include "edge.h"

#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>

#ifndef BERTH_DEBUG
#define BERTH_DEBUG 0
#endif

static const char *const names[] = {
    "malloc", "free", "calloc", "realloc", "reallocarray", "memalign", "posix_memalign",
    "aligned_alloc", "valloc", "pvalloc", "cfree", "malloc_usable_size", "malloc_trim",
    "malloc_stats", "malloc_info", "mallinfo", "mallinfo2", "mallopt",
    /* C23 */
    "free_sized", "free_aligned_sized",
    /* what glibc exports besides, for libraries that wrap malloc */
    "__libc_malloc", "__libc_free", "__libc_calloc", "__libc_realloc", "__libc_memalign",
    "__libc_valloc", "__libc_pvalloc", "__libc_mallinfo", "__libc_mallopt",
    /* operator new and new[]: plain, nothrow, aligned, aligned and nothrow */
    "_Znwm", "_Znam", "_ZnwmRKSt9nothrow_t", "_ZnamRKSt9nothrow_t", "_ZnwmSt11align_val_t",
    "_ZnamSt11align_val_t", "_ZnwmSt11align_val_tRKSt9nothrow_t",
    "_ZnamSt11align_val_tRKSt9nothrow_t",
    /* operator delete and delete[]: plain, nothrow, sized, aligned, and combinations */
    "_ZdlPv", "_ZdaPv", "_ZdlPvRKSt9nothrow_t", "_ZdaPvRKSt9nothrow_t", "_ZdlPvm", "_ZdaPvm",
    "_ZdlPvSt11align_val_t", "_ZdaPvSt11align_val_t", "_ZdlPvSt11align_val_tRKSt9nothrow_t",
    "_ZdaPvSt11align_val_tRKSt9nothrow_t", "_ZdlPvmSt11align_val_t", "_ZdaPvmSt11align_val_t"};

static void *open_door(void) {
    const char *path = getenv("EDGE_LIBRARY");
    CHECK(path != NULL);
    void *door = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (door == NULL) {
        FAIL("%s", dlerror());
    }
    return door;
}

static struct link_map *map_of(void *door) {
    struct link_map *map = NULL;
    CHECK(dlinfo(door, RTLD_DI_LINKMAP, &map) == 0);
    return map;
}

static void the_door_defines_every_name(void) {
    void *door = open_door();
    const char *path = map_of(door)->l_name;
    char missing[900] = "";
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        Dl_info info = {0};
        void *address = dlsym(door, names[i]);
        bool own =
            address != NULL && dladdr(address, &info) != 0 && strcmp(info.dli_fname, path) == 0;
        if (!own) {
            strcat(strcat(missing, " "), names[i]);
        }
    }
    if (missing[0] != '\0') {
        FAIL("not defined by the door:%s", missing);
    }
}

/* Values of the door's dynamic section with this tag, as strings. */
static size_t strings_of(struct link_map *map, int64_t tag, const char **strings, size_t most) {
    const char *table = NULL;
    size_t count = 0;
    for (ElfW(Dyn) *at = map->l_ld; at->d_tag != DT_NULL; at++) {
        table = at->d_tag == DT_STRTAB ? (const char *)at->d_un.d_ptr : table;
    }
    for (ElfW(Dyn) *at = map->l_ld; at->d_tag != DT_NULL; at++) {
        if (at->d_tag == tag && count < most) {
            strings[count++] = table + at->d_un.d_val;
        }
    }
    return count;
}

static void the_door_needs_nothing_but_libc(void) {
    const char *needed[16];
    size_t count = strings_of(map_of(open_door()), DT_NEEDED, needed, COUNT_OF(needed));
    for (size_t i = 0; i < count; i++) {
        bool libc = strncmp(needed[i], "libc.", 5) == 0 || strncmp(needed[i], "ld-", 3) == 0;
        /* parts of libc until 2.34 */
        bool part =
            strcmp(needed[i], "libpthread.so.0") == 0 || strcmp(needed[i], "libdl.so.2") == 0;
        if (!libc && !part) {
            FAIL("the door needs %s", needed[i]);
        }
    }
    CHECK(dlopen("libstdc++.so.6", RTLD_NOW | RTLD_NOLOAD) == NULL);
}

static int find_tls(struct dl_phdr_info *info, size_t size, void *found) {
    (void)size;
    if (strstr(info->dlpi_name, "libberth-malloc") != NULL) {
        for (size_t i = 0; i < info->dlpi_phnum; i++) {
            if (info->dlpi_phdr[i].p_type == PT_TLS) {
                *(size_t *)found = info->dlpi_phdr[i].p_memsz;
            }
        }
    }
    return 0;
}

/* Static thread-local memory is scarce: libraries that are loaded later want some, too. */
static void the_door_takes_little_static_tls(void) {
    size_t tls_bytes = 0;
    (void)open_door();
    dl_iterate_phdr(find_tls, &tls_bytes);
    CHECK(tls_bytes > 0);
    if (!BERTH_DEBUG) {
        CHECK(tls_bytes <= 64);
    }
}

typedef void *alloc_function(size_t);
typedef void free_function(void *);
static alloc_function *door_malloc;
static free_function *door_free;

static void *use_door(void *context) {
    static void *blocks[3000];
    (void)context;
    for (size_t i = 0; i < COUNT_OF(blocks); i++) {
        blocks[i] = door_malloc(i * 7);
        CHECK(blocks[i] != NULL);
        edge_fill(blocks[i], i * 7, i);
    }
    for (size_t i = 0; i < COUNT_OF(blocks); i++) {
        CHECK(edge_holds(blocks[i], i * 7, i));
        door_free(blocks[i]);
    }
    return NULL;
}

/* Two allocators in one process, each with its own blocks, also in threads that are older than the
 * second. */
static void the_door_can_be_loaded_late(void) {
    void *door = open_door();
    door_malloc = (alloc_function *)(uintptr_t)dlsym(door, "malloc");
    door_free = (free_function *)(uintptr_t)dlsym(door, "free");
    CHECK(door_malloc != malloc);
    use_door(NULL);
    for (unsigned round = 0; round < 20; round++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, use_door, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    void *ours = malloc(100);
    free(ours);
}

static const struct edge_case cases[] = {
    EDGE_CASE(the_door_defines_every_name),
    EDGE_CASE(the_door_needs_nothing_but_libc),
    EDGE_CASE(the_door_takes_little_static_tls),
    EDGE_CASE(the_door_can_be_loaded_late),
};

EDGE_MAIN(cases)
