/*
 * Which CPUs share a last-level cache and a NUMA node, as the engine needs it.
 *
 * Three sources, in this order:
 *  - hwloc, where the library is linked to it (libberth and the tool): topology_hwloc.c;
 *  - a sealed memfd in which `berth run` hands hwloc's answer to the malloc door, whose number
 * stands in the environment variable BERTH_TOPOLOGY_FD;
 *  - else the affinity mask, in groups of 16 CPUs, and the node that getcpu names.
 * Read-only after berth__topology_init.
 */
#ifndef BERTH_OS_TOPOLOGY_H
#define BERTH_OS_TOPOLOGY_H

#include "os/cpu.h"

enum {
    BERTH_DOMAINS_MAX = 64,
    BERTH_DOMAIN_CPUS = 16, /* at most */
    BERTH_NODE_UNKNOWN = 0xff,
};

/* A domain: CPUs that are near each other, and are served by the same arenas. Also the content of
 * the memfd, so its layout only grows, with `version`. */
struct berth__topology {
    uint32_t magic;   /* BERTH_TOPOLOGY_MAGIC */
    uint32_t version; /* 1 */
    uint32_t domains; /* in use, >= 1 */
    uint32_t nodes;   /* NUMA nodes; 1 if there is no NUMA */
    uint8_t domain_of_cpu[BERTH_CPUS_MAX];
    uint8_t node_of_domain[BERTH_DOMAINS_MAX]; /* or BERTH_NODE_UNKNOWN */
};

#define BERTH_TOPOLOGY_MAGIC 0x62746f70u /* "btop" */

/* The description in force. */
const struct berth__topology *berth__topology_now(void);

/* CPUs that this process may use by its affinity mask. */
extern unsigned berth__cpus_allowed;

/* What is known at once: the affinity mask, or what `berth run` handed on. */
void berth__topology_init(void);

/* Asks hwloc, once, where it is linked in and the machine has more CPUs than one domain is likely
 * to have. Takes some milliseconds and allocates, so it is called when a second thread comes. */
void berth__topology_refine(void);

/* Checks and takes over a description; false: it is not one, nothing changed. */
bool berth__topology_set(const struct berth__topology *topology);

/* A number of a domain, < BERTH_DOMAINS_MAX, means another one after an exact description came;
 * with the node, it does not mean one elsewhere. */
struct berth__place {
    unsigned domain;
    unsigned node; /* BERTH_NODE_ANY everywhere on a machine without NUMA */
};
enum { BERTH_NODE_ANY = UINT32_MAX };

/* Of the CPU that runs this thread. */
struct berth__place berth__topology_here(void);

/* How many domains that can answer, as far as is known. >= 1. */
unsigned berth__topology_domain_count(void);

/* From hwloc; false where it is not linked in, or fails. The text names a synthetic topology of
 * hwloc's for tests, or is NULL for this machine. */
bool berth__topology_from_hwloc(struct berth__topology *topology, const char *synthetic);

#endif
