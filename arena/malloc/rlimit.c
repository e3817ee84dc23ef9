/*
 * A limit on addresses that a running program sets, for the shared door.
 *
 * Addresses that are only reserved count against RLIMIT_AS. A program that limits itself needs the
 * greater part of it for other things, as one that starts under the limit does. So the door has the
 * calls that set limits: they do what the C library's do, and then have reserved addresses given
 * back. A limit that comes from another process, or from a bare system call, goes unnoticed.
 *
 * Not in libberth-malloc.a, where these names would meet those of the C library.
 */
#include "heap/engine.h"
#include "heap/fork.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* In the C library's headers, the type of `resource` depends on the mode. */
BERTH_EXPORT int berth__door_prlimit(pid_t pid, int resource, const struct rlimit *limit,
                                     struct rlimit *old) __asm__("prlimit");
BERTH_EXPORT int berth__door_setrlimit(int resource,
                                       const struct rlimit *limit) __asm__("setrlimit");

int berth__door_prlimit(pid_t pid, int resource, const struct rlimit *limit, struct rlimit *old) {
    int result = (int)syscall(SYS_prlimit64, pid, resource, limit, old);
    bool ours = resource == RLIMIT_AS && (pid == 0 || pid == getpid());
    if (result == 0 && limit != NULL && ours && !berth__fork_went_unseen() &&
        !berth__fork_must_detour()) {
        berth__engine_follow_address_limit();
    }
    return result;
}

int berth__door_setrlimit(int resource, const struct rlimit *limit) {
    return berth__door_prlimit(0, resource, limit, NULL);
}

/* A limit has 64 bits under either name. */
_Static_assert(sizeof(struct rlimit) == 16, "two numbers of 64 bits");
BERTH_EXPORT int berth__door_prlimit64(pid_t pid, int resource, const struct rlimit *limit,
                                       struct rlimit *old) __asm__("prlimit64")
    __attribute__((alias("prlimit")));
BERTH_EXPORT int berth__door_setrlimit64(int resource,
                                         const struct rlimit *limit) __asm__("setrlimit64")
    __attribute__((alias("setrlimit")));
