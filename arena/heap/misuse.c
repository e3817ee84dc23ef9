#include "heap/misuse.h"

#include "base/check.h"
#include "base/text.h"
#include "chunk/chunk.h"
#include "heap/mixed.h"

static void describe_slab(struct berth__text *text, const void *pointer, uint64_t entry) {
    uint64_t start = BERTH_ENTRY_KIND(entry) == BERTH_UNIT_MIXED ? berth__mixed_entry(pointer) : 0;
    if (start != 0) { /* a part may start anywhere in a block */
        const unsigned part_class = (unsigned)(BERTH_ENTRY_BIN(start) / BERTH_BIN_BYTES);
        berth__text_format(text, "class %u bytes", berth__classes[part_class].size);
        return;
    }
    const struct berth__class *class = &berth__classes[BERTH_ENTRY_BIN(entry) / BERTH_BIN_BYTES];
    uint32_t offset = (uint32_t)((uintptr_t)pointer % BERTH_UNIT);
    berth__text_format(text, "class %u bytes", class->size);
    if (offset % class->size != 0) {
        berth__text_format(text, ", %u bytes into a block", offset % class->size);
    }
}

/* Only the first unit of a huge block has an entry; the slots tell of the rest. */
static bool is_in_huge(const struct berth__chunk *slot) {
    enum berth__slot_use use =
        slot == NULL ? BERTH_SLOT_FREE : (enum berth__slot_use)berth__load_relaxed(&slot->use);
    return use == BERTH_SLOT_HUGE || use == BERTH_SLOT_HUGE_BODY;
}

static void describe_unused(struct berth__text *text, const void *pointer) {
    const struct berth__chunk *slot = berth__chunk_find(pointer);
    berth__text_string(text, is_in_huge(slot) ? "class of huge blocks"
                             : slot != NULL   ? "memory of this allocator that is not in use"
                                              : "not memory of this allocator");
}

static void describe(struct berth__text *text, const void *pointer) {
    berth__entry *at = berth__entry_find(pointer);
    uint64_t entry = at == NULL ? 0 : berth__load_relaxed(at);
    if (entry == 0) {
        describe_unused(text, pointer);
        return;
    }
    switch (BERTH_ENTRY_KIND(entry)) {
    case BERTH_UNIT_SLAB:
    case BERTH_UNIT_POOL_SLAB:
    case BERTH_UNIT_SAMPLED:
    case BERTH_UNIT_MIXED: describe_slab(text, pointer, entry); break;
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

void berth__misuse_of_no_block(const char *act, const void *pointer) {
    const struct berth__chunk *slot = berth__chunk_find(pointer);
    const char *what = is_in_huge(slot) ? "a pointer inside a block"
                       : slot != NULL   ? "a freed block, or of a pointer that is not a block"
                                        : "a pointer that is not a block";
    char fault[80];
    struct berth__text text;
    berth__text_init(&text, fault, sizeof(fault));
    berth__text_format(&text, "%s of %s", act, what);
    berth__misuse(fault, pointer);
}
