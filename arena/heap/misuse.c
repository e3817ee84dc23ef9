#include "heap/misuse.h"

#include "base/check.h"
#include "base/text.h"
#include "chunk/chunk.h"

static void describe_slab(struct berth__text *text, const void *pointer, uint64_t entry) {
    const struct berth__class *class = &berth__classes[BERTH_ENTRY_BIN(entry) / BERTH_BIN_BYTES];
    uint32_t offset = (uint32_t)((uintptr_t)pointer % BERTH_UNIT);
    berth__text_format(text, "class %u bytes", class->size);
    if (offset % class->size != 0) {
        berth__text_format(text, ", %u bytes into a block", offset % class->size);
    }
}

/* What has no entry: foreign, not in use, or in a huge block, which has one where it starts. */
static void describe_slot(struct berth__text *text, const void *pointer) {
    const struct berth__chunk *slot = berth__chunk_find(pointer);
    uint32_t use = slot == NULL ? BERTH_SLOT_FREE : berth__load_relaxed(&slot->use);
    bool huge = use == BERTH_SLOT_HUGE || use == BERTH_SLOT_HUGE_BODY;
    berth__text_string(text, slot == NULL ? "not memory of this allocator"
                             : huge       ? "class of huge blocks"
                                          : "memory of this allocator that is not in use");
}

static void describe(struct berth__text *text, const void *pointer) {
    berth__entry *slot = berth__entry_find(pointer);
    uint64_t entry = slot == NULL ? 0 : berth__load_relaxed(slot);
    if (entry == 0) {
        describe_slot(text, pointer);
        return;
    }
    switch (BERTH_ENTRY_KIND(entry)) {
    case BERTH_UNIT_SLAB:
    case BERTH_UNIT_POOL_SLAB:
    case BERTH_UNIT_SAMPLED: describe_slab(text, pointer, entry); break;
    case BERTH_UNIT_RUN: berth__text_string(text, "class of page runs"); break;
    case BERTH_UNIT_HUGE: berth__text_string(text, "class of huge blocks"); break;
    }
}

void berth__misuse(const char *fault, const void *pointer) {
    char buffer[128];
    struct berth__text text;
    berth__text_init(&text, buffer, sizeof(buffer));
    describe(&text, pointer);
    berth__fatal("%s: pointer %p (%s)", fault, pointer, buffer);
}
