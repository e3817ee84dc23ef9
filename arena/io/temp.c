/*
 * Temporary buffers. What a thread keeps is its own: no other looks at it, so there is nothing here
 * to be argued but the pool's making, which threads may try at once. One makes it, the others find
 * it by its name.
 */
#include "base/atomics.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/poison.h"

#include <berth/temp.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

enum { BYTES_LEAST = 4096 }; /* shorter ones are made as long, so that they suit the next */

struct kept {
    unsigned count;
    struct {
        void *buffer;
        size_t bytes;
    } at[BERTH_TEMP_COUNT_MAX];
};

static _Atomic(berth_pool *) pool;
static _Atomic size_t bytes_max = BERTH_TEMP_BYTES;
static _Atomic unsigned count_max = BERTH_TEMP_COUNT;

/* A thread's; the key is for its end alone. */
static __thread struct kept *kept;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool has_key;

static const char name[] = "berth.temp";

static berth_pool *temp_pool(void) {
    berth_pool *there = berth__load_acquire(&pool);
    if (there == NULL) {
        there = berth_pool_create(name, NULL);
        if (there == NULL && errno == EEXIST) {
            there = berth_pool_find(name);
        }
        if (there != NULL) {
            berth__store_release(&pool, there);
        }
    }
    return there;
}

/* ---- what a thread keeps ---- */

/* Frees the last of them until there are no more than so many. */
static size_t free_beyond(struct kept *mine, unsigned count) {
    size_t bytes = 0;
    while (mine->count > count) {
        mine->count--;
        bytes += mine->at[mine->count].bytes;
        berth__unpoison(mine->at[mine->count].buffer, mine->at[mine->count].bytes);
        berth_free(mine->at[mine->count].buffer);
    }
    return bytes;
}

static void on_thread_end(void *argument) {
    free_beyond(argument, 0);
    berth_free(argument);
    kept = NULL;
}

static void make_key(void) {
    has_key = pthread_key_create(&key, on_thread_end) == 0;
}

/* This thread's, made with its first buffer; NULL: it can keep none. */
static struct kept *mine_or_new(void) {
    if (BERTH_LIKELY(kept != NULL)) {
        return kept;
    }
    (void)pthread_once(&key_once, make_key);
    struct kept *mine = has_key ? berth_alloc(temp_pool(), sizeof(*mine)) : NULL;
    if (mine != NULL && pthread_setspecific(key, mine) != 0) {
        berth_free(mine);
        mine = NULL;
    }
    if (mine != NULL) {
        mine->count = 0;
        kept = mine;
    }
    return mine;
}

/* The shortest that suits, taken out; NULL if there is none. */
static void *take_kept(struct kept *mine, size_t bytes) {
    unsigned best = mine->count;
    for (unsigned i = 0; i < mine->count; i++) {
        if (mine->at[i].bytes >= bytes &&
            (best == mine->count || mine->at[i].bytes < mine->at[best].bytes)) {
            best = i;
        }
    }
    if (best == mine->count) {
        return NULL;
    }
    void *buffer = mine->at[best].buffer;
    berth__unpoison(buffer, mine->at[best].bytes);
    mine->at[best] = mine->at[--mine->count];
    return buffer;
}

/* ---- public ---- */

void *berth_temp_take(size_t bytes) {
    void *buffer = kept == NULL ? NULL : take_kept(kept, bytes);
    berth_pool *from = buffer == NULL ? temp_pool() : NULL;
    if (from != NULL) {
        size_t wanted = berth__max(bytes, BYTES_LEAST);
        buffer = berth_alloc(from, berth__max(bytes, berth_good_size(wanted)));
    }
    return buffer;
}

BERTH_NORETURN BERTH_COLD static void misuse(const char *fault, const void *buffer) {
    berth__fatal("%s: %p", fault, buffer);
}

static void check_is_lent(const struct kept *mine, const void *buffer) {
    if (berth_pool_of(buffer) != berth__load_acquire(&pool)) {
        misuse("giving back what is no temporary buffer", buffer);
    }
    for (unsigned i = 0; mine != NULL && i < mine->count; i++) {
        if (mine->at[i].buffer == buffer) {
            misuse("giving back a temporary buffer twice", buffer);
        }
    }
}

void berth_temp_give(void *buffer) {
    if (buffer == NULL) {
        return;
    }
    int saved_errno = errno;
    check_is_lent(kept, buffer);
    struct kept *mine = mine_or_new();
    unsigned most = berth__load_relaxed(&count_max);
    size_t bytes = berth_usable_size(buffer);
    if (mine != NULL) {
        (void)free_beyond(mine, most);
    }
    if (mine == NULL || mine->count >= most || bytes > berth__load_relaxed(&bytes_max)) {
        berth_free(buffer);
    } else {
        mine->at[mine->count].buffer = buffer;
        mine->at[mine->count].bytes = bytes;
        mine->count++;
        berth__poison(buffer, bytes);
    }
    errno = saved_errno;
}

static void on_released(void *context, void *data, size_t length) {
    (void)context, (void)length;
    berth_temp_give(data);
}

int berth_temp_copy(const void *data, size_t length, struct berth_slice *slice) {
    *slice = (struct berth_slice)BERTH_SLICE_EMPTY;
    if (length > BERTH_SLICE_MAX) {
        return -EMSGSIZE;
    }
    int saved_errno = errno;
    void *buffer = berth_temp_take(length);
    errno = saved_errno;
    if (buffer == NULL) {
        return -ENOMEM;
    }
    int error =
        berth_slice_wrap(berth__load_acquire(&pool), buffer, length, on_released, NULL, slice);
    if (error != 0) {
        berth_temp_give(buffer);
    } else if (length > 0) {
        memcpy(buffer, data, length);
    }
    return error;
}

int berth_temp_bounds_set(size_t bytes, unsigned count) {
    if (count > BERTH_TEMP_COUNT_MAX) {
        return -EINVAL;
    }
    berth__store_relaxed(&bytes_max, bytes);
    berth__store_relaxed(&count_max, count);
    return 0;
}

size_t berth_temp_flush(void) {
    struct kept *mine = kept;
    if (mine == NULL) {
        return 0;
    }
    size_t bytes = free_beyond(mine, 0);
    if (pthread_setspecific(key, NULL) == 0) {
        kept = NULL;
        berth_free(mine);
    }
    return bytes;
}
