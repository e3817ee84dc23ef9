/* berth: a pooled arena allocator for network servers. MIT licence. */
#ifndef BERTH_VERSION_H
#define BERTH_VERSION_H

/** The version of these headers; berth_version tells that of the library. */
#define BERTH_VERSION_MAJOR 0
#define BERTH_VERSION_MINOR 1
#define BERTH_VERSION_PATCH 0

/** Marks what the shared libraries export. */
#define BERTH_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/**
 * The version of the library that is loaded, "major.minor.patch".
 *
 * Threads: any. Owns: a constant string. Blocks: wait-free. Since: 0.1.
 */
BERTH_API const char *berth_version(void);

#ifdef __cplusplus
}
#endif

#endif
