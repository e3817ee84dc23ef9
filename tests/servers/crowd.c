/*
 * Would be broken if this failed: servers whose connections do not all behave. Memory that is not
 * given back, bytes of another connection, descriptors that stay.
 *
 *   crowd CONNECTIONS SECONDS [LIMIT-MIB]
 *
 * As many connections at once as the descriptors allow; builds with faults have memory and system
 * calls fail now and then, and threads wait at steps of protocols.
 */
#include "crowd.h"

#include "os/fault.h"

#include <dirent.h>
#include <inttypes.h>
#include <sys/resource.h>

#if BERTH_FAULTS
static void *sabotage(void *argument) {
    struct crowd *crowd = argument;
    static const enum berth__os_call calls[] = {BERTH_OS_COMMIT, BERTH_OS_RESERVE, BERTH_OS_PURGE,
                                                BERTH_OS_SEND, BERTH_OS_RECEIVE};
    struct unit_random random = {1};
    while (!atomic_load(&crowd->clients_gone)) {
        enum berth__os_call call = calls[unit_random_below(&random, BERTH_ARRAY_COUNT(calls))];
        berth__os_fail_after(call, unit_random_below(&random, 50),
                             1 + unit_random_below(&random, 3));
        sleep_ms(2);
        berth__os_fail_after(call, 0, 0);
    }
    return NULL;
}
#endif

static unsigned descriptors(void) {
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    UNIT_CHECK(folder != NULL);
    while (readdir(folder) != NULL) {
        count++;
    }
    closedir(folder);
    return count;
}

/* Both ends of each are here. */
static unsigned connections_possible(unsigned wanted) {
    struct rlimit limit;
    UNIT_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    UNIT_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    rlim_t possible = limit.rlim_cur > 200 ? (limit.rlim_cur - 100) / 2 : 50;
    return possible < wanted ? (unsigned)possible : wanted;
}

static void listen_at(struct crowd *crowd) {
    socklen_t length = sizeof(crowd->address);
    crowd->address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    crowd->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    UNIT_CHECK(crowd->listener >= 0);
    UNIT_CHECK(bind(crowd->listener, (struct sockaddr *)&crowd->address, length) == 0);
    UNIT_CHECK(listen(crowd->listener, 4096) == 0);
    UNIT_CHECK(getsockname(crowd->listener, (struct sockaddr *)&crowd->address, &length) == 0);
}

static void run(struct crowd *crowd) {
    pthread_t servers[SERVER_THREADS], clients[CLIENT_THREADS];
    for (unsigned i = 0; i < SERVER_THREADS; i++) {
        servers[i] = start_thread(crowd_serve, crowd);
    }
    for (unsigned i = 0; i < CLIENT_THREADS; i++) {
        clients[i] = start_thread(crowd_visit, crowd);
    }
#if BERTH_FAULTS
    berth__delay_set(2000);
    pthread_t saboteur = start_thread(sabotage, crowd);
#endif
    for (unsigned i = 0; i < CLIENT_THREADS; i++) {
        join_thread(clients[i]);
    }
    atomic_store(&crowd->clients_gone, true);
#if BERTH_FAULTS
    join_thread(saboteur);
    berth__delay_set(0);
#endif
    for (unsigned i = 0; i < SERVER_THREADS; i++) {
        join_thread(servers[i]);
    }
}

static void report(const struct crowd *crowd) {
    printf("%u connections at once, %" PRIu64 " in all; %" PRIu64 " stalled, %" PRIu64
           " reset, %" PRIu64 " closed by half, %" PRIu64 " ended by the server; %" PRIu64
           " bytes verified\n",
           crowd->connections, crowd_counts.come, crowd_counts.stalled, crowd_counts.reset,
           crowd_counts.half_closed, crowd_counts.ended_by_server, crowd_counts.verified_bytes);
}

int main(int argc, char **argv) {
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    struct crowd crowd = {.connections =
                              connections_possible((unsigned)(argc > 1 ? atoi(argv[1]) : 300))};
    unsigned before = descriptors();
    options.limit = (uint64_t)(argc > 3 ? atoi(argv[3]) : 16) << 20;
    options.wait_ms = 0;
    crowd.pool = berth_pool_create("crowd", &options);
    UNIT_CHECK(crowd.pool != NULL);
    listen_at(&crowd);
    crowd.end_ms = crowd_now_ms() + (uint64_t)(argc > 2 ? atoi(argv[2]) : 3) * 1000;
    run(&crowd);
    report(&crowd);
    close(crowd.listener);
    UNIT_CHECK(crowd_counts.come > crowd.connections);
    UNIT_CHECK(crowd_counts.stalled > 0 && crowd_counts.reset > 0 && crowd_counts.half_closed > 0);
    UNIT_CHECK(crowd_counts.verified_bytes > crowd.connections * (uint64_t)1000);
    check_nothing_lives(crowd.pool);
    UNIT_CHECK(berth_pool_destroy(crowd.pool, 0) == 0);
    UNIT_CHECK(descriptors() == before);
    return 0;
}
