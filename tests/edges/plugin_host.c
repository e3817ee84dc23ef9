/*
 * If this fails, a program under the malloc door cannot load libraries at run time, or blocks do
 * not survive going from the program to such a library and back.
 *
 * EDGE_PLUGIN names the library that is made of plugin.c.
 */
#include "edge.h"

#include <dlfcn.h>
#include <pthread.h>

struct plugin {
    void *handle;
    void *(*allocate)(size_t size);
    void (*free)(void *block);
    void *(*resize)(void *block, size_t size);
    char *(*duplicate)(const char *text);
};

static void load(struct plugin *plugin, int flags) {
    const char *path = getenv("EDGE_PLUGIN");
    CHECK(path != NULL);
    plugin->handle = dlopen(path, RTLD_NOW | flags);
    if (plugin->handle == NULL) {
        FAIL("%s", dlerror());
    }
    plugin->allocate = (void *(*)(size_t))(uintptr_t)dlsym(plugin->handle, "plugin_allocate");
    plugin->free = (void (*)(void *))(uintptr_t)dlsym(plugin->handle, "plugin_free");
    plugin->resize = (void *(*)(void *, size_t))(uintptr_t)dlsym(plugin->handle, "plugin_resize");
    plugin->duplicate =
        (char *(*)(const char *))(uintptr_t)dlsym(plugin->handle, "plugin_duplicate");
    CHECK(plugin->allocate != NULL && plugin->free != NULL && plugin->resize != NULL &&
          plugin->duplicate != NULL);
}

static const size_t sizes[] = {0, 1, 100, 5000, 40000, 1 << 20, 5 << 20};

/* Blocks that each side makes and the other resizes and frees. */
static void exchange(const struct plugin *plugin) {
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        char *theirs = plugin->allocate(sizes[i]);
        char *ours = malloc(sizes[i]);
        CHECK(theirs != NULL && ours != NULL);
        edge_fill(theirs, sizes[i], 1);
        edge_fill(ours, sizes[i], 2);
        theirs = realloc(theirs, 2 * sizes[i] + 1);
        ours = plugin->resize(ours, 2 * sizes[i] + 1);
        CHECK(edge_holds(theirs, sizes[i], 1) && edge_holds(ours, sizes[i], 2));
        free(theirs);
        plugin->free(ours);
    }
    char *text = plugin->duplicate("text");
    CHECK(strcmp(text, "text") == 0);
    free(text);
}

/* Blocks that stay where they were made. */
static void stay(const struct plugin *plugin) {
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        char *theirs = plugin->allocate(sizes[i]);
        CHECK(theirs != NULL);
        edge_fill(theirs, sizes[i], 1);
        theirs = plugin->resize(theirs, 2 * sizes[i] + 1);
        CHECK(edge_holds(theirs, sizes[i], 1));
        plugin->free(theirs);
    }
}

static void a_local_library_shares_the_door(void) {
    struct plugin plugin;
    load(&plugin, RTLD_LOCAL);
    exchange(&plugin);
    CHECK(dlclose(plugin.handle) == 0);
}

static void a_global_library_shares_the_door(void) {
    struct plugin plugin;
    load(&plugin, RTLD_GLOBAL);
    exchange(&plugin);
    CHECK(dlclose(plugin.handle) == 0);
}

/* Such a library looks its names up among its own dependencies first, and finds libc's malloc
 * there. What it keeps to itself must work; what it passes on is foreign to the door. */
static void a_deeply_bound_library_can_keep_to_itself(void) {
    struct plugin plugin;
    load(&plugin, RTLD_DEEPBIND);
    stay(&plugin);
    CHECK(dlclose(plugin.handle) == 0);
}

static void pass_from_deeply_bound_library(void) {
    struct plugin plugin;
    load(&plugin, RTLD_DEEPBIND);
    free(plugin.allocate(100));
}

static void a_block_of_a_deeply_bound_library_is_named(void) {
    struct edge_outcome outcome;
    edge_run_self("pass_from_deeply_bound_library", &outcome);
    if (edge_passed(&outcome)) {
        return; /* it found the door after all: better */
    }
    CHECK(edge_died_of(&outcome, SIGABRT) && edge_lines(outcome.text) == 1);
    CHECK(!edge_wants_berth() || strstr(outcome.text, "not memory of this allocator") != NULL);
}

static void a_library_can_be_loaded_many_times(void) {
    for (unsigned round = 0; round < edge_times(20, 300); round++) {
        struct plugin plugin;
        load(&plugin, RTLD_LOCAL);
        exchange(&plugin);
        CHECK(dlclose(plugin.handle) == 0);
    }
}

static void *load_in_thread(void *context) {
    (void)context;
    for (unsigned round = 0; round < edge_times(5, 100); round++) {
        struct plugin plugin;
        load(&plugin, RTLD_LOCAL);
        exchange(&plugin);
        CHECK(dlclose(plugin.handle) == 0);
    }
    return NULL;
}

static void threads_can_load_a_library_at_once(void) {
    pthread_t threads[4];
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        CHECK(pthread_create(&threads[i], NULL, load_in_thread, NULL) == 0);
    }
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
}

static const struct edge_case cases[] = {
    EDGE_CASE(a_local_library_shares_the_door),
    EDGE_CASE(a_global_library_shares_the_door),
    EDGE_CASE(a_deeply_bound_library_can_keep_to_itself),
    EDGE_CASE(a_block_of_a_deeply_bound_library_is_named),
    EDGE_CASE(a_library_can_be_loaded_many_times),
    EDGE_CASE(threads_can_load_a_library_at_once),
};

/* One that ends in an abort, and is started by another. */
static const struct edge_case hidden[] = {EDGE_CASE(pass_from_deeply_bound_library)};

int main(int argc, char **argv) {
    return edge_main_hiding(argc, argv, cases, COUNT_OF(cases), hidden, COUNT_OF(hidden));
}
