#include "heap/trace.h"

#include "base/bits.h"
#include "chunk/meta.h"
#include "heap/fork.h"
#include "heap/sample.h"
#include "os/clock.h"
#include "os/lock.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

struct berth__trace_root berth__trace_root = {
    .magic = BERTH_TRACE_MAGIC,
    .version = BERTH_TRACE_VERSION,
    .root_bytes = sizeof(struct berth__trace_root),
    .record_bytes = sizeof(struct berth__trace_record),
    .record_count = BERTH_TRACE_RECORDS,
};

static struct berth__lock lock = {.rank = BERTH_RANK_SAMPLES};

static struct berth__trace_record *ring_locked(void) BERTH_REQUIRES(lock) {
    uintptr_t ring = berth__load_relaxed(&berth__trace_root.ring);
    if (ring == 0) {
        ring = (uintptr_t)berth__meta_alloc(BERTH_TRACE_RING_BYTES);
        berth__store_release(&berth__trace_root.ring, ring);
    }
    return (struct berth__trace_record *)ring;
}

/* All but the sequence. */
static void fill(struct berth__trace_record *to, const struct berth__trace_record *from) {
    enum { SKIPPED = sizeof(to->sequence) };
    memcpy((char *)to + SKIPPED, (const char *)from + SKIPPED, sizeof(*to) - SKIPPED);
}

static void add(const struct berth__trace_record *record) {
    berth__lock_acquire(&lock);
    struct berth__trace_record *ring = ring_locked();
    if (ring != NULL) {
        uint64_t number = berth__load_relaxed(&berth__trace_root.written);
        struct berth__trace_record *to = &ring[number % BERTH_TRACE_RECORDS];
        uint64_t before = berth__load_relaxed(&to->sequence);
        berth__add_acq_rel(&to->sequence, 2 * number + 1 - before); /* Q1 */
        fill(to, record);
        berth__store_release(&to->sequence, 2 * number + 2); /* Q2 */
        berth__store_release(&berth__trace_root.written, number + 1);
    } else {
        berth__add_relaxed(&berth__trace_root.left_out, 1);
    }
    berth__lock_release(&lock);
}

/* True as long as somebody looks. Who finds that nobody does any more switches it off, unless
 * somebody has begun to look meanwhile. */
static bool is_wanted(void) {
    uint64_t until = berth__load_relaxed(&berth__trace_root.until_ms);
    bool wanted = berth__clock_coarse_ms() < until;
    if (!wanted) {
        (void)berth__cas_weak_relaxed(&berth__trace_root.until_ms, &until, 0);
    }
    return wanted;
}

void berth__trace_note(const struct berth__request *request, const struct berth__taking *taking) {
    if (berth__tls.sampling || !is_wanted()) {
        return;
    }
    int saved_errno = errno;
    void *places[BERTH_SITE_DEPTH];
    unsigned depth = berth__sample_stack(request, places);
    struct berth__trace_record record = {
        .time_ns = berth__clock_ns(),
        .requested = request->size,
        .address = (uintptr_t)taking->at,
        .bytes = taking->bytes,
        .mapped = taking->mapped,
        .thread = (uint32_t)gettid(),
        .pool = (uint16_t)request->arenas->number,
        .kind = (uint8_t)taking->kind,
        .step = (uint8_t)taking->step,
        .depth = (uint32_t)berth__min(depth, BERTH_TRACE_DEPTH),
    };
    memcpy((void *)record.place, (const void *)places, record.depth * sizeof(*places));
    add(&record);
    errno = saved_errno;
}

void berth__trace_end(void) {
    berth__store_relaxed(&berth__trace_root.until_ms, 0);
}

void berth__trace_init(void) {
    berth__fork_add_lock(&lock, NULL);
}
