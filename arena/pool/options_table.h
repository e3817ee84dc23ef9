/*
 * The table of options: the only place where one is declared. From it come the structure, the
 * parser, `berth options`, the man page and docs/options.md.
 *
 * X(name, type, default, least, most, text)
 *   type     SIZE (bytes; takes K, M, G, T), NUMBER, BOOL, LIMIT (SIZE, or none, or auto), THP,
 *            LEAK, STACK, PATH (of a file; without a comma)
 *   default  as it would be written
 *   least, most: bounds of SIZE and NUMBER; a value beyond is refused with a warning
 */
#ifndef BERTH_POOL_OPTIONS_TABLE_H
#define BERTH_POOL_OPTIONS_TABLE_H

#define BERTH_OPTIONS(X)                                                                           \
    X(limit, LIMIT, "none", 1 << 20, INT64_MAX,                                                    \
      "Bytes that may be mapped for chunks and huge blocks. auto: the tightest memory limit of "   \
      "the process's cgroup and its ancestors, read again as it changes.")                         \
    X(limit_reserve, SIZE, "256K for malloc, 0 for pools", 0, 1 << 30,                             \
      "Part of the limit that is kept for a caller that handles a failed allocation.")             \
    X(soft_limit, SIZE, "0", 0, INT64_MAX,                                                         \
      "Bytes below the limit at whose crossing the program is told (berth_event_add). 0: none.")   \
    X(chunk, SIZE, "4M", 256 << 10, 4 << 20,                                                       \
      "How far a chunk grows, a power of two; larger blocks get mappings of their own.")           \
    X(arenas, NUMBER, "0", 0, 64,                                                                  \
      "Arenas at most. They are made as threads become busy. 0: as many as the affinity mask, "    \
      "the CPU quota and the limit let be of use.")                                                \
    X(cache, SIZE, "0", 0, INT64_MAX,                                                              \
      "Bytes that all threads and CPUs together may cache, beyond 2 KiB per thread. 0: 8M per "    \
      "CPU, 256M at most.")                                                                        \
    X(decay_ms, NUMBER, "1000", 0, 3600000,                                                        \
      "Time over which memory that is unused, and not expected to be wanted soon, goes back to "   \
      "the kernel.")                                                                               \
    X(reclaim, BOOL, "true", 0, 1, "Whether pressure callbacks are asked when the limit is hit.")  \
    X(wait_ms, NUMBER, "511 for pools, 0 for malloc", 0, 3600000,                                  \
      "How long an allocation waits for memory at the limit before it fails.")                     \
    X(maintenance, BOOL, "false", 0, 1,                                                            \
      "Whether a thread returns unused memory while the program is idle. The child of a fork has " \
      "one from its first berth_thread_idle, berth_trim, malloc_trim or berth_pool_create on.")    \
    X(pressure, BOOL, "true", 0, 1,                                                                \
      "Whether that thread gives back what it can when the kernel says that memory is short: by "  \
      "$MEMORY_PRESSURE_WATCH, memory.pressure of the control group, or /proc/pressure/memory.")   \
    X(thp, THP, "auto", 0, 0, "Huge pages: never, auto (as the system is set), always.")           \
    X(span, SIZE, "0", 0, INT64_MAX,                                                               \
      "Addresses to reserve at the start. 0: 1T, or an eighth of RLIMIT_AS; more follow as "       \
      "needed.")                                                                                   \
    X(mappings, NUMBER, "32768", 64, INT32_MAX,                                                    \
      "Mappings that the kernel may have to keep for berth's memory; half of vm.max_map_count. "   \
      "Beyond half of this, chunks and large blocks take whole slots of 4M.")                      \
    X(stats_page, BOOL, "true", 0, 1,                                                              \
      "Whether the metrics are kept on a page that `berth stat` reads from outside.")              \
    X(stats_print, BOOL, "false", 0, 1, "Whether the metrics are printed on stderr at exit.")      \
    X(sample, SIZE, "0", 0, INT64_MAX,                                                             \
      "Mean distance, in allocated bytes, of the samples that a heap profile is made of "          \
      "(`berth prof`); 512K costs next to nothing. 0: none.")                                      \
    X(sample_stack, STACK, "frames", 0, 0,                                                         \
      "How a sample's stack is read: frames (frame pointers, where the program has them), or "     \
      "unwind (by the C library's unwinder: always whole, some microseconds each).")               \
    X(prof_final, PATH, "none", 0, 0,                                                              \
      "File for a heap profile at exit, as pprof and jeprof read it; %p is the process's number. " \
      "Samples are taken every 512K then, unless `sample` says otherwise.")                        \
    X(prof_failure, PATH, "none", 0, 0,                                                            \
      "File for a heap profile when the limit first fails a request, before the program is told: " \
      "who holds the memory then. As prof_final, in all else.")                                    \
    X(leak_print, BOOL, "false", 0, 1,                                                             \
      "Whether the sites that still hold memory at exit are printed on stderr, from samples as "   \
      "for prof_final.")                                                                           \
    X(leak_detect, LEAK, "off", 0, 0,                                                              \
      "Records of slices' and buffers' memory, to find what is never released: off; simple (one "  \
      "in 128, where it was allocated); advanced (with the whole stack, and the last uses); "      \
      "paranoid (advanced, of all).")                                                              \
    X(leak_report, BOOL, "false", 0, 1,                                                            \
      "Whether what is on record then, and was not released, is printed on stderr at exit.")       \
    X(zerocopy_min, SIZE, "16K", 1, 1 << 30,                                                       \
      "Bytes from which a send with MSG_ZEROCOPY is tried instead of copying. Unless it is set, "  \
      "connections begin with that, and each finds out what pays for it by taking times.")         \
    X(send_zc_min, SIZE, "8K", 1, 1 << 30, "The same for sends by io_uring (SEND_ZC).")            \
    X(fixed_min, SIZE, "4K", 1, 1 << 30,                                                           \
      "The same for those from memory that is registered with the ring.")                          \
    X(abort_conf, BOOL, "false", 0, 1, "Whether a bad option stops the process.")

#endif
