#include "cli/door.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

/* From the build: the file's name, and the folder of libraries as seen from that of programs. */
#ifndef BERTH_DOOR_FILE
#define BERTH_DOOR_FILE "libberth-malloc.so.0"
#endif
#ifndef BERTH_DOOR_FOLDER
#define BERTH_DOOR_FOLDER "../lib"
#endif

/* The folder of the program that runs, into `folder`. Where /proc is not mounted, by the path it
 * was started with. */
static int own_folder(char folder[PATH_MAX]) {
    ssize_t length = readlink("/proc/self/exe", folder, PATH_MAX - 1);
    if (length > 0) {
        folder[length] = '\0';
    } else {
        const char *started = (const char *)(uintptr_t)getauxval(AT_EXECFN);
        if (started == NULL || realpath(started, folder) == NULL) {
            return started == NULL ? -ENOENT : -errno;
        }
    }
    *strrchr(folder, '/') = '\0';
    return 0;
}

/* A path of the door in a folder; the folder without detours, if it is there. */
static int join(char path[PATH_MAX], const char *own, const char *folder) {
    char detour[PATH_MAX];
    char straight[PATH_MAX];
    int length = snprintf(detour, sizeof(detour), "%s/%s", own, folder);
    if (length >= (int)sizeof(detour)) {
        return -ENAMETOOLONG;
    }
    const char *there = realpath(detour, straight) == NULL ? detour : straight;
    length = snprintf(path, PATH_MAX, "%s/" BERTH_DOOR_FILE, there);
    return length >= PATH_MAX ? -ENAMETOOLONG : 0;
}

int berth__door_find(struct berth__door *door) {
    static const char *const folders[BERTH_DOOR_PLACES] = {".", BERTH_DOOR_FOLDER};
    char own[PATH_MAX];
    door->found = NULL;
    int error = own_folder(own);
    for (int i = 0; error == 0 && i < BERTH_DOOR_PLACES; i++) {
        error = join(door->tried[i], own, folders[i]);
        if (error == 0 && access(door->tried[i], R_OK) == 0) {
            door->found = door->tried[i];
            return 0;
        }
    }
    return error == 0 ? -ENOENT : error;
}
