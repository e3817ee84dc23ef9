#include "pool/tag.h"

#include "heap/engine.h"
#include "heap/fork.h"
#include "pool/api.h"
#include "pool/init.h"
#include "pool/pool.h"

#include <errno.h>
#include <string.h>

enum { SLOTS = 1024 }; /* of which a quarter is used at most */

static struct tag {
    char name[BERTH_TAG_NAME_MAX + 1];
    _Atomic(struct berth__arenas *) scope;
    _Atomic unsigned pools;
    _Atomic uint64_t peak;
} tags[BERTH_TAGS_MAX + 1]; /* by number; number 0 is none's */

static struct berth__lock lock = {.rank = BERTH_RANK_NAMES};
static _Atomic uint16_t slots[SLOTS]; /* numbers by hash, then the next free ones; 0: free */
static _Atomic unsigned count;

void berth__tags_register_lock(void) {
    berth__fork_add_lock(&lock, NULL);
}

/* FNV-1a. 0: it is no name of a tag. */
static uint32_t hash_of(const char *name) {
    uint32_t hash = 2166136261u;
    size_t length = 0;
    for (; name[length] >= ' ' && name[length] <= '~' && length <= BERTH_TAG_NAME_MAX; length++) {
        hash = (hash ^ (unsigned char)name[length]) * 16777619u;
    }
    bool valid = length >= 1 && length <= BERTH_TAG_NAME_MAX && name[length] == '\0';
    return valid ? hash | 1u << 31 : 0;
}

/* The slot that has the name's number, or the free one where it belongs. */
static _Atomic uint16_t *slot_of(const char *name, uint32_t hash) {
    for (uint32_t at = hash % SLOTS;; at = (at + 1) % SLOTS) {
        unsigned number = berth__load_acquire(&slots[at]); /* T1 */
        if (number == 0 || strcmp(tags[number].name, name) == 0) {
            return &slots[at];
        }
    }
}

unsigned berth__tag_find(const char *name) {
    uint32_t hash = hash_of(name);
    return hash == 0 ? 0 : berth__load_acquire(slot_of(name, hash)); /* T1 */
}

int berth__tag_named(const char *name) {
    uint32_t hash = name == NULL ? 0 : hash_of(name);
    if (hash == 0) {
        return -EINVAL;
    }
    unsigned number = berth__load_acquire(slot_of(name, hash)); /* T1 */
    if (BERTH_LIKELY(number != 0)) {
        return (int)number;
    }
    berth__lock_acquire(&lock);
    _Atomic uint16_t *slot = slot_of(name, hash);
    number = berth__load_relaxed(slot);
    unsigned made = berth__load_relaxed(&count);
    if (number == 0 && made < BERTH_TAGS_MAX) {
        number = made + 1;
        memcpy(tags[number].name, name, strlen(name) + 1); /* its length was looked at */
        berth__store_release(&count, number);
        berth__store_release(slot, (uint16_t)number); /* T1 */
    }
    berth__lock_release(&lock);
    return number == 0 ? -ENOSPC : (int)number;
}

unsigned berth__tags_count(void) {
    return berth__load_acquire(&count);
}

const char *berth__tag_name(unsigned tag) {
    return tags[tag].name;
}

void berth__tag_count_pool(unsigned tag, int more) {
    if (tag != 0) {
        berth__add_relaxed(&tags[tag].pools, (unsigned)more);
    }
}

unsigned berth__tag_pools(unsigned tag) {
    return berth__load_relaxed(&tags[tag].pools);
}

struct berth__arenas *berth__tag_scope(unsigned tag) {
    return berth__load_acquire(&tags[tag].scope);
}

uint64_t berth__tag_peak(unsigned tag, uint64_t live_bytes) {
    uint64_t peak = berth__load_relaxed(&tags[tag].peak);
    while (peak < live_bytes && !berth__cas_weak_relaxed(&tags[tag].peak, &peak, live_bytes)) {
    }
    return berth__max(peak, live_bytes);
}

/* ---- public ---- */

/* The first push of the tag makes the pool of its scopes. NULL with errno. */
static BERTH_NOINLINE struct berth__arenas *make_scope(unsigned tag) {
    berth_pool *pool = berth__pool_of_scopes(tag, tags[tag].name);
    if (pool == NULL) {
        return NULL;
    }
    struct berth__arenas *arenas = berth__pool_arenas(pool);
    berth__store_release(&tags[tag].scope, arenas);
    return arenas;
}

int berth__do_tag_push(const char *name) {
    if (!berth__start()) {
        return -ENOMEM;
    }
    if (berth__fork_must_detour()) {
        return -EAGAIN;
    }
    int tag = berth__tag_named(name);
    if (tag < 0) {
        return tag;
    }
    int saved_errno = errno;
    struct berth__arenas *arenas = berth__tag_scope((unsigned)tag);
    if (BERTH_UNLIKELY(arenas == NULL)) {
        arenas = make_scope((unsigned)tag);
    }
    int error = arenas == NULL ? -errno : berth__scope_push(arenas);
    errno = saved_errno;
    return error;
}

int berth__do_tag_pop(void) {
    return berth__scope_pop() ? 0 : -EINVAL;
}
