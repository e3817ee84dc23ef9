/*
 * The table of registered memory of a ring, and the chunks of a pool that are in it.
 *
 *   slot: EMPTY        nothing is registered
 *         REGISTERED   a chunk is, and is counted there (berth_pool_io_hold), so that it stays
 *         LEAVING      it was taken out of the ring's table, and the kernel may still use it for
 *                      what was submitted before. The slot's tag, its address, is the user_data of
 *                      the completion that ends this
 *
 * What a slot that was cloned from another ring holds has no tag. It goes at once: what was
 * submitted before has pins of its own, and nothing can be submitted with it any more.
 *
 * Chunks are found by their address, which is a multiple of BERTH_CHUNK, in a table of hashes, made
 * anew when slots change: that is rare, and registering costs far more.
 */
#include "io/uring_table.h"

#include "base/bits.h"
#include "base/check.h"
#include "heap/io.h"
#include "io/uring_abi.h"
#include "pool/api.h"

#include <errno.h>
#include <sys/uio.h>

enum { SLOTS_DEFAULT = 1024, SLOTS_MAX = 16384, MARKS = 16 };

enum state { EMPTY, REGISTERED, LEAVING };

struct slot {
    char *at;
    struct berth_uring_table *table;
    size_t bytes;
    uint32_t state;
    bool tagged;
};
_Static_assert(sizeof(struct slot) % MARKS == 0, "a mark in the address");

struct berth_uring_table {
    berth_pool *pool;
    uint64_t changes_seen; /* of the pool */
    int ring_fd;
    uint32_t mark;
    uint32_t capacity;   /* slots */
    uint32_t hash_mask;  /* at least twice as many places */
    uint32_t registered; /* slots that are */
    uint32_t leaving;
    bool is_full; /* the kernel pins no more, until something was given up */
    bool is_ending;
    uint16_t *hash;                 /* the slot's index + 1, or 0 */
    struct berth__io_chunk *chunks; /* room for a list of them */
    size_t chunks_max;
    struct slot slots[] __attribute__((aligned(MARKS)));
};

/* ---- finding ---- */

static uint32_t hash_of(const struct berth_uring_table *table, uintptr_t at) {
    uint64_t mixed = (uint64_t)(at / BERTH_CHUNK) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(mixed >> 40) & table->hash_mask;
}

static void make_hash(struct berth_uring_table *table) {
    memset(table->hash, 0, (table->hash_mask + 1) * sizeof(*table->hash));
    for (uint32_t i = 0; i < table->capacity; i++) {
        if (table->slots[i].state != REGISTERED) {
            continue;
        }
        uint32_t place = hash_of(table, (uintptr_t)table->slots[i].at);
        while (table->hash[place] != 0) {
            place = (place + 1) & table->hash_mask;
        }
        table->hash[place] = (uint16_t)(i + 1);
    }
}

int berth__uring_table_slot(const struct berth_uring_table *table, const void *data,
                            size_t length) {
    uintptr_t at = (uintptr_t)data / BERTH_CHUNK * BERTH_CHUNK;
    uint32_t place = hash_of(table, at);
    for (; table->hash[place] != 0; place = (place + 1) & table->hash_mask) {
        uint32_t index = table->hash[place] - 1u;
        const struct slot *slot = &table->slots[index];
        if ((uintptr_t)slot->at == at) {
            size_t offset = (size_t)((const char *)data - slot->at);
            bool inside = offset <= slot->bytes && length <= slot->bytes - offset;
            return inside ? (int)index : -1;
        }
    }
    return -1;
}

bool berth_uring_table_has(const berth_uring_table *table, const void *data, size_t length) {
    return berth__uring_table_slot(table, data, length) >= 0;
}

/* ---- registering ---- */

/* Puts memory into a slot of the ring's table, or nothing: 0 or -errno. */
static int update(const struct slot *slot, void *at, size_t bytes, uint64_t tag) {
    const struct berth_uring_table *table = slot->table;
    const struct iovec memory = {.iov_base = at, .iov_len = bytes};
    const struct berth__uring_update request = {
        .offset = (uint32_t)(slot - table->slots),
        .data = (uint64_t)(uintptr_t)&memory,
        .tags = (uint64_t)(uintptr_t)&tag,
        .count = 1,
    };
    int done = berth__uring_register(table->ring_fd, BERTH_URING_BUFFERS_UPDATE, &request,
                                     sizeof(request));
    return done < 0 ? done : done == 1 ? 0 : -ENOMEM;
}

static void fill(struct slot *slot, const struct berth__io_chunk *chunk, bool tagged) {
    slot->at = chunk->at;
    slot->bytes = chunk->bytes;
    slot->state = REGISTERED;
    slot->tagged = tagged;
    slot->table->registered++;
}

static void empty(struct slot *slot) {
    slot->state = EMPTY;
    berth_pool_io_let_go(slot->at);
}

static struct slot *empty_slot(struct berth_uring_table *table) {
    for (uint32_t i = 0; i < table->capacity; i++) {
        if (table->slots[i].state == EMPTY) {
            return &table->slots[i];
        }
    }
    return NULL;
}

static void add(struct berth_uring_table *table, const struct berth__io_chunk *chunk) {
    struct slot *slot = table->is_full ? NULL : empty_slot(table);
    if (slot == NULL || berth_pool_io_hold(table->pool, chunk->at) != 0) {
        return;
    }
    uint64_t tag = (uint64_t)(uintptr_t)slot | table->mark;
    if (update(slot, chunk->at, chunk->bytes, tag) == 0) {
        fill(slot, chunk, true);
    } else {
        table->is_full = true; /* of what may be locked */
        berth_pool_io_let_go(chunk->at);
    }
}

static void give_up(struct slot *slot) {
    struct berth_uring_table *table = slot->table;
    if (update(slot, NULL, 0, 0) != 0) {
        return; /* it stays registered, and in use */
    }
    table->registered--;
    table->is_full = false;
    if (slot->tagged) {
        slot->state = LEAVING;
        table->leaving++;
    } else {
        empty(slot);
    }
}

void berth_uring_table_complete(uint64_t user_data) {
    struct slot *slot = (struct slot *)(uintptr_t)(user_data & ~(uint64_t)(MARKS - 1));
    BERTH_CHECK(slot->state == LEAVING, "a slot of registered memory was out of use twice");
    slot->table->leaving--;
    empty(slot);
}

/* ---- the chunks of the pool ---- */

/* Brings the slots in line with a list of chunks. True if any has changed. */
static bool apply(struct berth_uring_table *table, size_t count) {
    uint32_t registered = table->registered;
    uint32_t leaving = table->leaving;
    for (size_t i = 0; i < count; i++) {
        const struct berth__io_chunk *chunk = &table->chunks[i];
        int index = berth__uring_table_slot(table, chunk->at, chunk->bytes);
        if (index >= 0 && chunk->asked) {
            give_up(&table->slots[index]);
        }
    }
    for (size_t i = 0; i < count; i++) { /* into what has become free */
        const struct berth__io_chunk *chunk = &table->chunks[i];
        if (!chunk->asked && berth__uring_table_slot(table, chunk->at, chunk->bytes) < 0) {
            add(table, chunk);
        }
    }
    return registered != table->registered || leaving != table->leaving;
}

/* All chunks; without memory for a longer list, as many as it holds. Returns how many. */
static size_t list_chunks(struct berth_uring_table *table) {
    size_t count = berth_pool_io_list(table->pool, table->chunks, table->chunks_max);
    if (count > table->chunks_max) {
        size_t most = 2 * count;
        struct berth__io_chunk *longer =
            berth_alloc_flags(table->pool, most * sizeof(*longer), BERTH_NOWAIT);
        if (longer != NULL) {
            berth_free(table->chunks);
            table->chunks = longer;
            table->chunks_max = most;
            count = berth_pool_io_list(table->pool, longer, most);
        }
    }
    return berth__min(count, table->chunks_max);
}

unsigned berth_uring_table_sync(berth_uring_table *table) {
    uint64_t changes = berth_pool_io_changes(table->pool);
    if (changes == table->changes_seen || table->is_ending) {
        return table->registered;
    }
    table->changes_seen = changes;
    if (apply(table, list_chunks(table))) {
        make_hash(table);
    }
    return table->registered;
}

/* ---- making and ending ---- */

static struct berth_uring_table *allocate(berth_pool *pool, int ring_fd, uint32_t capacity,
                                          uint32_t mark) {
    uint32_t places = 2;
    while (places < 2 * capacity) {
        places *= 2;
    }
    size_t bytes = sizeof(struct berth_uring_table) + capacity * sizeof(struct slot);
    struct berth_uring_table *table = berth_alloc_flags(pool, bytes, BERTH_ZERO);
    uint16_t *hash = berth_alloc_flags(pool, places * sizeof(*hash), BERTH_ZERO);
    struct berth__io_chunk *chunks = berth_alloc(pool, capacity * sizeof(*chunks));
    if (table == NULL || hash == NULL || chunks == NULL) {
        berth_free(table);
        berth_free(hash);
        berth_free(chunks);
        return NULL;
    }
    table->pool = pool;
    table->ring_fd = ring_fd;
    table->mark = mark;
    table->capacity = capacity;
    table->hash_mask = places - 1;
    table->hash = hash;
    table->chunks = chunks;
    table->chunks_max = capacity;
    for (uint32_t i = 0; i < capacity; i++) {
        table->slots[i].table = table;
    }
    return table;
}

static void free_table(struct berth_uring_table *table) {
    berth_free(table->hash);
    berth_free(table->chunks);
    berth_free(table);
}

static int register_table(int ring_fd, uint32_t slots) {
    const struct berth__uring_buffers table = {.count = slots, .flags = BERTH_URING_SPARSE};
    return berth__uring_register(ring_fd, BERTH_URING_REGISTER_BUFFERS2, &table, sizeof(table));
}

berth_uring_table *berth_uring_table_create(berth_pool *pool, int ring_fd, unsigned slots,
                                            unsigned mark) {
    bool can = (berth_uring_features() & BERTH_URING_HAS_FIXED) != 0;
    if (slots > SLOTS_MAX || mark >= MARKS || !can) {
        errno = can ? EINVAL : berth__uring_missing();
        return NULL;
    }
    uint32_t capacity = slots != 0 ? slots : SLOTS_DEFAULT;
    struct berth_uring_table *table = allocate(pool, ring_fd, capacity, mark);
    if (table == NULL) {
        return NULL;
    }
    int error = register_table(ring_fd, capacity);
    if (error != 0) {
        free_table(table);
        errno = -error;
        return NULL;
    }
    (void)berth_uring_table_sync(table);
    return table;
}

static int clone_table(const struct berth_uring_table *from, int ring_fd) {
    if (from->registered == 0 || (berth_uring_features() & BERTH_URING_HAS_CLONES) == 0) {
        return -EOPNOTSUPP;
    }
    const struct berth__uring_clone request = {.source_fd = (uint32_t)from->ring_fd};
    return berth__uring_register(ring_fd, BERTH_URING_CLONE, &request, 1);
}

/* The ring has what the other one has, and that stays registered there meanwhile. */
static void copy_slots(struct berth_uring_table *clone, const struct berth_uring_table *from) {
    for (uint32_t i = 0; i < from->capacity; i++) {
        const struct slot *slot = &from->slots[i];
        if (slot->state != REGISTERED) {
            continue;
        }
        const struct berth__io_chunk chunk = {.at = slot->at, .bytes = slot->bytes};
        if (berth_pool_io_hold(clone->pool, slot->at) == 0) {
            fill(&clone->slots[i], &chunk, false);
        }
    }
    make_hash(clone);
}

berth_uring_table *berth_uring_table_clone(berth_uring_table *table, int ring_fd, unsigned mark) {
    if (mark >= MARKS) {
        errno = EINVAL;
        return NULL;
    }
    struct berth_uring_table *clone = allocate(table->pool, ring_fd, table->capacity, mark);
    if (clone == NULL) {
        return NULL;
    }
    int error = clone_table(table, ring_fd);
    if (error == 0) {
        copy_slots(clone, table);
    } else if (error != -EBUSY) {
        error = register_table(ring_fd, clone->capacity); /* each for itself */
    }
    if (error != 0) {
        free_table(clone);
        errno = -error;
        return NULL;
    }
    (void)berth_uring_table_sync(clone);
    return clone;
}

/* Its memory is registered with no ring any more, or with one that is gone. */
static void forget_slots(struct berth_uring_table *table) {
    for (uint32_t i = 0; i < table->capacity; i++) {
        if (table->slots[i].state != EMPTY) {
            empty(&table->slots[i]);
        }
    }
}

int berth_uring_table_destroy(berth_uring_table *table, unsigned flags) {
    if ((flags & ~(unsigned)BERTH_FORCE) != 0) {
        return -EINVAL;
    }
    if ((flags & BERTH_FORCE) != 0) {
        forget_slots(table);
        free_table(table);
        return 0;
    }
    table->is_ending = true;
    for (uint32_t i = 0; i < table->capacity; i++) {
        if (table->slots[i].state == REGISTERED) {
            give_up(&table->slots[i]);
        }
    }
    if (table->leaving > 0 || table->registered > 0) {
        return -EBUSY;
    }
    (void)berth__uring_register(table->ring_fd, BERTH_URING_UNREGISTER_BUFFERS, NULL, 0);
    free_table(table);
    return 0;
}
