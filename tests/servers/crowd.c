/*
 * Would be broken if this failed: servers whose connections do not all behave. Memory that is not
 * given back, bytes of another connection, descriptors that stay.
 *
 *   crowd CONNECTIONS SECONDS [LIMIT-MIB]
 *
 * As many connections at once as the descriptors allow: the clients are a process of their own, the
 * same program (crowd visit PORT CONNECTIONS SECONDS). Builds with faults have memory and system
 * calls fail now and then, and threads wait at steps of protocols.
 */
#include "crowd.h"

#include "os/fault.h"

#include <dirent.h>
#include <sys/prctl.h>
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

static unsigned connections_possible(unsigned wanted) {
    struct rlimit limit;
    UNIT_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    UNIT_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    rlim_t possible = limit.rlim_cur > 200 ? limit.rlim_cur - 100 : 100;
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

/* The clients, in a process with descriptors of its own. */
static pid_t start_clients(const struct crowd *crowd, const char *seconds) {
    char port[16], connections[16];
    snprintf(port, sizeof(port), "%u", ntohs(crowd->address.sin_port));
    snprintf(connections, sizeof(connections), "%u", crowd->connections);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl("/proc/self/exe", "crowd", "visit", port, connections, seconds, (char *)NULL);
        _exit(127);
    }
    UNIT_CHECK(child > 0);
    return child;
}

static void serve_until_they_are_gone(struct crowd *crowd, pid_t clients) {
    pthread_t servers[SERVER_THREADS];
    for (unsigned i = 0; i < SERVER_THREADS; i++) {
        servers[i] = start_thread(crowd_serve, crowd);
    }
#if BERTH_FAULTS
    berth__delay_set(2000);
    pthread_t saboteur = start_thread(sabotage, crowd);
#endif
    int status = -1;
    UNIT_CHECK(waitpid(clients, &status, 0) == clients);
    atomic_store(&crowd->clients_gone, true);
#if BERTH_FAULTS
    join_thread(saboteur);
    berth__delay_set(0);
#endif
    for (unsigned i = 0; i < SERVER_THREADS; i++) {
        join_thread(servers[i]);
    }
    UNIT_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int visit(char **argv) {
    struct crowd crowd = {.connections = (unsigned)atoi(argv[3])};
    crowd.address = (struct sockaddr_in){.sin_family = AF_INET,
                                         .sin_port = htons((uint16_t)atoi(argv[2])),
                                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    crowd.end_ms = crowd_now_ms() + (uint64_t)atoi(argv[4]) * 1000;
    crowd_visit_all(&crowd);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "visit") == 0) {
        return visit(argv);
    }
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    struct crowd crowd = {.connections =
                              connections_possible((unsigned)(argc > 1 ? atoi(argv[1]) : 300))};
    unsigned before = descriptors();
    options.limit = (uint64_t)(argc > 3 ? atoi(argv[3]) : 16) << 20;
    options.wait_ms = 0;
    crowd.pool = berth_pool_create("crowd", &options);
    UNIT_CHECK(crowd.pool != NULL);
    listen_at(&crowd);
    serve_until_they_are_gone(&crowd, start_clients(&crowd, argc > 2 ? argv[2] : "3"));
    close(crowd.listener);
    check_nothing_lives(crowd.pool);
    UNIT_CHECK(berth_pool_destroy(crowd.pool, 0) == 0);
    UNIT_CHECK(descriptors() == before);
    return 0;
}
