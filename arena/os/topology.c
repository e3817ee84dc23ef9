#include "os/topology.h"

#include "base/bits.h"
#include "os/environ.h"
#include "os/file.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef BERTH_HWLOC
#define BERTH_HWLOC 0
#endif

/* With so few CPUs that we may use, it is not worth asking hwloc about them. */
enum { CPUS_OF_SMALL_MACHINE = 4, COARSE_NODES = 8 };

/* By the affinity mask alone; replaced as a whole by an exact one, which other threads may see
 * late. */
static struct berth__topology coarse = {.domains = 1, .nodes = 1};
static struct berth__topology exact;
static _Atomic(const struct berth__topology *) now = &coarse;

const struct berth__topology *berth__topology_now(void) {
    return atomic_load_explicit(&now, memory_order_acquire);
}

static bool is_exact(void) {
    return berth__topology_now() == &exact;
}

unsigned berth__cpus_allowed = 1;

static bool is_valid(const struct berth__topology *topology) {
    if (topology->magic != BERTH_TOPOLOGY_MAGIC || topology->version != 1 ||
        topology->domains < 1 || topology->domains > BERTH_DOMAINS_MAX) {
        return false;
    }
    for (unsigned cpu = 0; cpu < BERTH_CPUS_MAX; cpu++) {
        if (topology->domain_of_cpu[cpu] >= topology->domains) {
            return false;
        }
    }
    return true;
}

bool berth__topology_set(const struct berth__topology *topology) {
    if (!is_valid(topology)) {
        return false;
    }
    exact = *topology;
    atomic_store_explicit(&now, &exact, memory_order_release);
    return true;
}

/* The descriptor that `berth run` left open for us. It is not closed: an exec'd child inherits the
 * variable too. */
static bool from_memfd(void) {
    const char *text = berth__environ_get("BERTH_TOPOLOGY_FD");
    if (text == NULL) {
        return false;
    }
    char *end = NULL;
    long fd = strtol(text, &end, 10);
    struct stat stat_of_fd;
    if (*text == '\0' || *end != '\0' || fd < 0 || fd > INT32_MAX ||
        fstat((int)fd, &stat_of_fd) != 0 ||
        (size_t)stat_of_fd.st_size != sizeof(struct berth__topology)) {
        return false;
    }
    void *map = mmap(NULL, sizeof(struct berth__topology), PROT_READ, MAP_PRIVATE, (int)fd, 0);
    bool taken = map != MAP_FAILED && berth__topology_set(map);
    if (map != MAP_FAILED) {
        munmap(map, sizeof(struct berth__topology));
    }
    return taken;
}

/* CPUs of the mask, in order, in groups. */
static void from_mask(const struct berth__cpu_set *allowed, unsigned count) {
    unsigned rank = 0;
    unsigned groups = (count + BERTH_DOMAIN_CPUS - 1) / BERTH_DOMAIN_CPUS;
    groups = (unsigned)berth__min(groups, BERTH_DOMAINS_MAX);
    for (unsigned cpu = 0; cpu < BERTH_CPUS_MAX && groups > 1; cpu++) {
        coarse.domain_of_cpu[cpu] = (uint8_t)berth__min(rank / BERTH_DOMAIN_CPUS, groups - 1);
        rank += berth__bit_test(allowed->bits, cpu);
    }
    coarse.domains = groups;
    memset(coarse.node_of_domain, BERTH_NODE_UNKNOWN, sizeof(coarse.node_of_domain));
}

/* From a list such as 0-1,4: the highest number, plus one. */
static unsigned nodes_online(void) {
    char text[64];
    if (berth__file_read("/sys/devices/system/node/online", text, sizeof(text)) <= 0) {
        return 1;
    }
    unsigned last = 0;
    for (const char *at = text; *at != '\0'; at++) {
        bool digit = *at >= '0' && *at <= '9';
        bool first = at == text || at[-1] < '0' || at[-1] > '9';
        last = !digit ? last : (first ? 0 : last * 10) + (unsigned)(*at - '0');
    }
    return (unsigned)berth__min(last + 1, COARSE_NODES);
}

void berth__topology_init(void) {
    int saved_errno = errno;
    struct berth__cpu_set allowed;
    berth__cpus_allowed = berth__cpu_allowed(&allowed);
    if (!from_memfd()) {
        from_mask(&allowed, berth__cpus_allowed);
        coarse.nodes = berth__cpus_allowed > 1 ? nodes_online() : 1;
    }
    errno = saved_errno;
}

void berth__topology_refine(void) {
    static _Atomic bool refined;
    if (!BERTH_HWLOC || is_exact() || berth__cpus_allowed <= CPUS_OF_SMALL_MACHINE ||
        atomic_exchange(&refined, true)) {
        return;
    }
    static struct berth__topology found;
    int saved_errno = errno;
    if (berth__topology_from_hwloc(&found, NULL)) {
        (void)berth__topology_set(&found);
    }
    errno = saved_errno;
}

/* Without an exact description, eight domains of each of eight nodes can be told apart. */
static struct berth__place coarse_place(unsigned domain) {
    unsigned node = berth__cpu_current_node();
    if (coarse.nodes == 1 && node == 0) {
        return (struct berth__place){domain, BERTH_NODE_ANY};
    }
    domain = domain % COARSE_NODES + COARSE_NODES * (node % COARSE_NODES);
    return (struct berth__place){domain, node};
}

struct berth__place berth__topology_here(void) {
    const struct berth__topology *topology = berth__topology_now();
    unsigned domain = topology->domain_of_cpu[berth__cpu_current() % BERTH_CPUS_MAX];
    if (topology != &exact) {
        return coarse_place(domain);
    }
    unsigned node = topology->nodes > 1 ? topology->node_of_domain[domain] : BERTH_NODE_UNKNOWN;
    return (struct berth__place){domain, node == BERTH_NODE_UNKNOWN ? BERTH_NODE_ANY : node};
}

unsigned berth__topology_domain_count(void) {
    const struct berth__topology *topology = berth__topology_now();
    return topology == &exact ? topology->domains : topology->domains * topology->nodes;
}

#if !BERTH_HWLOC
bool berth__topology_from_hwloc(struct berth__topology *topology, const char *synthetic) {
    (void)topology, (void)synthetic;
    return false;
}
#endif
