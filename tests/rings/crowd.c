/*
 * Would be broken if this failed: a server on io_uring whose connections come, stall, reset and go,
 * with fewer buffers than they want. Bytes of another connection, memory that the kernel was still
 * sending, connections that wait for ever for a buffer, anything that is left.
 *
 *   ring_crowd SERVER CONNECTIONS SECONDS BUFFERS
 *
 * The server is a program; it ends with 1 if anything lives, or a descriptor is open, at its end.
 */
#include "crowd.h"

#include <berth/uring.h>

#include <sys/prctl.h>
#include <sys/resource.h>

static pid_t start(char **argv, FILE **says) {
    int ends[2];
    UNIT_CHECK(pipe(ends) == 0);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        execl(argv[1], argv[1], "0", argv[4], "4096", "16", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    *says = fdopen(ends[0], "r");
    UNIT_CHECK(child > 0 && *says != NULL);
    return child;
}

static uint16_t port_of(FILE *says) {
    unsigned port = 0;
    UNIT_CHECK(fscanf(says, "{\"port\": %u}", &port) == 1);
    return (uint16_t)port;
}

static unsigned connections_possible(unsigned wanted) {
    struct rlimit limit;
    UNIT_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* for the server as well */
    UNIT_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    rlim_t possible = limit.rlim_cur > 200 ? limit.rlim_cur - 100 : 100;
    return possible < wanted ? (unsigned)possible : wanted;
}

/* What the server said in its last line of a count. */
static uint64_t said(const char *line, const char *name) {
    const char *at = strstr(line, name);
    UNIT_CHECK(at != NULL);
    return strtoull(at + strlen(name) + strlen("\": "), NULL, 10);
}

int main(int argc, char **argv) {
    UNIT_CHECK(argc == 5);
    unsigned needed = BERTH_URING_HAS_BUFFERS | BERTH_URING_HAS_FIXED | BERTH_URING_HAS_MULTISHOT;
    if ((berth_uring_features() & needed) != needed || access(argv[1], X_OK) != 0) {
        puts("skipped: no liburing to build the server with, or no io_uring that serves it");
        return UNIT_SKIPPED;
    }
    struct crowd crowd = {.connections = connections_possible((unsigned)atoi(argv[2]))};
    FILE *says;
    pid_t server = start(argv, &says);
    crowd.address = (struct sockaddr_in){.sin_family = AF_INET,
                                         .sin_port = htons(port_of(says)),
                                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    crowd.end_ms = crowd_now_ms() + (uint64_t)atoi(argv[3]) * 1000;
    crowd_visit_all(&crowd);
    UNIT_CHECK(kill(server, SIGTERM) == 0);
    char line[512] = "";
    while (strstr(line, "connections") == NULL) { /* behind the rest of the first */
        UNIT_CHECK(fgets(line, sizeof(line), says) != NULL);
    }
    int status = -1;
    UNIT_CHECK(waitpid(server, &status, 0) == server);
    fclose(says);
    fputs(line, stdout);
    UNIT_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    UNIT_CHECK(said(line, "starved") > 0); /* or this looks at half of it */
    UNIT_CHECK(said(line, "pool_live") == 0);
    return 0;
}
