/*
 * The topology by hwloc: one domain per last-level cache, split where more than BERTH_DOMAIN_CPUS
 * share it, never across NUMA nodes.
 */
#include "os/topology.h"

#if BERTH_HWLOC
#include <hwloc.h>
#include <string.h>

/* The last-level cache above a CPU; its NUMA node's set if there is none. */
static hwloc_obj_t cache_above(hwloc_topology_t machine, hwloc_obj_t pu) {
    static const hwloc_obj_type_t levels[] = {HWLOC_OBJ_L3CACHE, HWLOC_OBJ_L2CACHE,
                                              HWLOC_OBJ_PACKAGE};
    for (unsigned i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        hwloc_obj_t found = hwloc_get_ancestor_obj_by_type(machine, levels[i], pu);
        /* A private L2 is too small a domain. */
        if (found != NULL &&
            (levels[i] != HWLOC_OBJ_L2CACHE || hwloc_bitmap_weight(found->cpuset) > 2)) {
            return found;
        }
    }
    return hwloc_get_root_obj(machine);
}

static unsigned node_of(hwloc_topology_t machine, hwloc_obj_t pu) {
    hwloc_obj_t node = NULL;
    while ((node = hwloc_get_next_obj_by_type(machine, HWLOC_OBJ_NUMANODE, node)) != NULL) {
        if (hwloc_bitmap_isset(node->cpuset, pu->os_index)) {
            return node->os_index;
        }
    }
    return 0;
}

struct domain {
    hwloc_obj_t cache;
    unsigned node, cpus;
};

/* The open domain of this cache and node, or a new one. Beyond the table's end, the last one. */
static unsigned domain_for(struct domain *domains, unsigned *count, hwloc_obj_t cache,
                           unsigned node) {
    for (unsigned d = 0; d < *count; d++) {
        if (domains[d].cache == cache && domains[d].node == node &&
            domains[d].cpus < BERTH_DOMAIN_CPUS) {
            return d;
        }
    }
    if (*count == BERTH_DOMAINS_MAX) {
        return BERTH_DOMAINS_MAX - 1;
    }
    domains[*count] = (struct domain){.cache = cache, .node = node};
    return (*count)++;
}

static void describe(hwloc_topology_t machine, struct berth__topology *topology) {
    struct domain domains[BERTH_DOMAINS_MAX];
    unsigned count = 0;
    memset(topology, 0, sizeof(*topology));
    topology->magic = BERTH_TOPOLOGY_MAGIC;
    topology->version = 1;
    hwloc_obj_t pu = NULL;
    while ((pu = hwloc_get_next_obj_by_type(machine, HWLOC_OBJ_PU, pu)) != NULL) {
        unsigned node = node_of(machine, pu);
        unsigned d = domain_for(domains, &count, cache_above(machine, pu), node);
        domains[d].cpus++;
        topology->node_of_domain[d] = (uint8_t)node;
        if (pu->os_index < BERTH_CPUS_MAX) {
            topology->domain_of_cpu[pu->os_index] = (uint8_t)d;
        }
    }
    int nodes = hwloc_get_nbobjs_by_type(machine, HWLOC_OBJ_NUMANODE);
    topology->nodes = nodes > 1 ? (uint32_t)nodes : 1;
    topology->domains = count == 0 ? 1 : count;
}

bool berth__topology_from_hwloc(struct berth__topology *topology, const char *synthetic) {
    hwloc_topology_t machine;
    if (hwloc_topology_init(&machine) != 0) {
        return false;
    }
    bool loaded = (synthetic == NULL || hwloc_topology_set_synthetic(machine, synthetic) == 0) &&
                  hwloc_topology_load(machine) == 0;
    if (loaded) {
        describe(machine, topology);
    }
    hwloc_topology_destroy(machine);
    return loaded;
}
#else
typedef int berth__topology_hwloc_unit_is_not_empty;
#endif
