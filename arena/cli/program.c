#include "cli/program.h"

#include "base/compiler.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* A regular file that may be executed. */
static bool is_program(const char *path, struct stat *status) {
    return stat(path, status) == 0 && S_ISREG(status->st_mode) && access(path, X_OK) == 0;
}

/* The file that execvp would start. */
static bool find(const char *command, char path[PATH_MAX], struct stat *status) {
    const char *folders = strchr(command, '/') == NULL ? getenv("PATH") : "";
    if (folders == NULL) {
        folders = "/bin:/usr/bin";
    }
    for (;;) {
        size_t length = strcspn(folders, ":");
        const char *slash = length == 0 ? "" : "/";
        int written = snprintf(path, PATH_MAX, "%.*s%s%s", (int)length, folders, slash, command);
        if (written < PATH_MAX && is_program(path, status)) {
            return true;
        }
        if (folders[length] == '\0') {
            return false;
        }
        folders += length + 1;
    }
}

/* The kernel will raise the privileges of who starts it, so the dynamic linker starts it clean. */
static bool is_privileged(const char *path, const struct stat *status) {
    bool other_user = (status->st_mode & S_ISUID) != 0 && status->st_uid != getuid();
    bool other_group = (status->st_mode & S_ISGID) != 0 && (status->st_mode & S_IXGRP) != 0 &&
                       status->st_gid != getgid();
    bool capabilities = getuid() != 0 && getxattr(path, "security.capability", NULL, 0) > 0;
    return other_user || other_group || capabilities;
}

/* An ELF program without a dynamic linker. What cannot be read is taken to be an ordinary one. */
static bool is_static(const char *path) {
    Elf64_Ehdr head;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool elf = fd >= 0 && pread(fd, &head, sizeof(head), 0) == (ssize_t)sizeof(head) &&
               memcmp(head.e_ident, ELFMAG, SELFMAG) == 0 && head.e_ident[EI_CLASS] == ELFCLASS64 &&
               head.e_phentsize == sizeof(Elf64_Phdr);
    bool interpreted = !elf;
    for (unsigned i = 0; elf && i < head.e_phnum; i++) {
        Elf64_Phdr part;
        off_t at = (off_t)(head.e_phoff + i * sizeof(part));
        if (pread(fd, &part, sizeof(part), at) != (ssize_t)sizeof(part) ||
            part.p_type == PT_INTERP) {
            interpreted = true;
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return !interpreted;
}

const char *berth__program_obstacle(const char *command) {
    char path[PATH_MAX];
    struct stat status;
    if (!find(command, path, &status)) {
        return NULL; /* execvp will say it better */
    }
    if (is_privileged(path, &status)) {
        return "runs with raised privileges, so the dynamic linker leaves the allocator out";
    }
    return is_static(path) ? "is linked statically and keeps its own allocator" : NULL;
}
