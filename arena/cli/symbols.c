#include "cli/symbols.h"

#include "base/bits.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if BERTH_LIBDW
#include <elfutils/libdwfl.h>
#endif

struct entry {
    uint64_t address; /* 0: none */
    struct berth__symbol_at symbol;
};

typedef char *demangler(const char *name, char *buffer, size_t *length, int *status);

struct berth__symbols {
    char *maps; /* the file */
    char *text; /* a copy, cut into paths */
    struct berth__mapping *mappings;
    size_t mapping_count;
    struct entry *entries; /* by address, open addressing */
    size_t entry_count, entry_room;
    char **names; /* to free */
    size_t name_count, name_room;
    void *runtime; /* of C++, where there is one */
    demangler *demangle;
#if BERTH_LIBDW
    Dwfl *dwfl;
#endif
};

const char *berth__file_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

bool berth__mapping_is_own(const struct berth__mapping *mapping) {
    return mapping != NULL && strncmp(berth__file_name(mapping->path), "libberth", 8) == 0;
}

/* ---- mappings ---- */

static char *read_all(FILE *file) {
    size_t room = 64 << 10;
    size_t length = 0;
    char *text = malloc(room);
    while (text != NULL) {
        length += fread(text + length, 1, room - 1 - length, file);
        if (length < room - 1) {
            text[length] = '\0';
            return text;
        }
        room *= 2;
        char *longer = realloc(text, room);
        if (longer == NULL) {
            free(text);
        }
        text = longer;
    }
    return NULL;
}

/* "START-END r-xp OFFSET DEVICE INODE   PATH": cuts the line off. */
static struct berth__mapping parse(char *line) {
    struct berth__mapping mapping = {.path = ""};
    char *at = line;
    mapping.start = strtoull(at, &at, 16);
    mapping.end = *at == '-' ? strtoull(at + 1, &at, 16) : 0;
    at += *at == ' ';
    mapping.executable = strlen(at) > 4 && at[2] == 'x';
    at += strcspn(at, " ");
    mapping.offset = strtoull(at, &at, 16);
    for (unsigned words = 0; words < 2; words++) {
        at += strspn(at, " ");
        at += strcspn(at, " ");
    }
    mapping.path = at + strspn(at, " ");
    return mapping;
}

static bool read_mappings(struct berth__symbols *symbols, pid_t pid) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
    FILE *file = fopen(path, "re");
    symbols->maps = file == NULL ? NULL : read_all(file);
    if (file != NULL) {
        fclose(file);
    }
    symbols->text = symbols->maps == NULL ? NULL : strdup(symbols->maps);
    if (symbols->text == NULL) {
        return false;
    }
    size_t lines = 0;
    for (const char *at = symbols->text; *at != '\0'; at++) {
        lines += *at == '\n';
    }
    symbols->mappings = calloc(lines + 1, sizeof(*symbols->mappings));
    if (symbols->mappings == NULL) {
        return false;
    }
    char *line = symbols->text;
    for (char *end = strchr(line, '\n'); end != NULL; end = strchr(line, '\n')) {
        *end = '\0';
        symbols->mappings[symbols->mapping_count++] = parse(line);
        line = end + 1;
    }
    return true;
}

const struct berth__mapping *berth__symbols_mapping(const struct berth__symbols *symbols,
                                                    uint64_t address) {
    size_t low = 0;
    size_t high = symbols->mapping_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (symbols->mappings[middle].end <= address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool found = low < symbols->mapping_count && symbols->mappings[low].start <= address;
    return found ? &symbols->mappings[low] : NULL;
}

const struct berth__mapping *berth__symbols_mappings(const struct berth__symbols *symbols,
                                                     size_t *count) {
    *count = symbols->mapping_count;
    return symbols->mappings;
}

const char *berth__symbols_maps(const struct berth__symbols *symbols) {
    return symbols->maps;
}

/* ---- names ---- */

/* Keeps a name until the end, without what a terminal might act on; "?" without memory. */
static const char *keep(struct berth__symbols *symbols, char *name) {
    if (symbols->name_count == symbols->name_room) {
        size_t room = berth__max(2 * symbols->name_room, 64);
        char **names = realloc(symbols->names, room * sizeof(*names));
        if (names == NULL) {
            free(name);
            return "?";
        }
        symbols->names = names;
        symbols->name_room = room;
    }
    if (name == NULL) {
        return "?";
    }
    for (char *at = name; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f) {
            *at = '?';
        }
    }
    symbols->names[symbols->name_count++] = name;
    return name;
}

static const char *copy(struct berth__symbols *symbols, const char *name) {
    int status = 0;
    char *plain = symbols->demangle == NULL || strncmp(name, "_Z", 2) != 0
                      ? NULL
                      : symbols->demangle(name, NULL, NULL, &status);
    return keep(symbols, plain != NULL ? plain : strdup(name));
}

/* "libx.so+0x12ab", or "[0x7f00]" where there is no file. */
static const char *name_by_offset(struct berth__symbols *symbols,
                                  const struct berth__mapping *mapping, uint64_t address) {
    char text[256];
    if (mapping != NULL && *mapping->path == '/') {
        snprintf(text, sizeof(text), "%s+0x%" PRIx64, berth__file_name(mapping->path),
                 address - mapping->start + mapping->offset);
    } else {
        snprintf(text, sizeof(text), "[0x%" PRIx64 "]", address);
    }
    return keep(symbols, strdup(text));
}

/* ---- libdw ---- */

#if BERTH_LIBDW
static void open_dwfl(struct berth__symbols *symbols, pid_t pid) {
    static char *debug_path; /* the usual places */
    static const Dwfl_Callbacks callbacks = {.find_elf = dwfl_linux_proc_find_elf,
                                             .find_debuginfo = dwfl_standard_find_debuginfo,
                                             .debuginfo_path = &debug_path};
    symbols->dwfl = dwfl_begin(&callbacks);
    if (symbols->dwfl != NULL && (dwfl_linux_proc_report(symbols->dwfl, pid) != 0 ||
                                  dwfl_report_end(symbols->dwfl, NULL, NULL) != 0)) {
        dwfl_end(symbols->dwfl);
        symbols->dwfl = NULL;
    }
}

static void look_up(struct berth__symbols *symbols, uint64_t address,
                    struct berth__symbol_at *symbol) {
    Dwfl_Module *module =
        symbols->dwfl == NULL ? NULL : dwfl_addrmodule(symbols->dwfl, (Dwarf_Addr)address);
    if (module == NULL) {
        return;
    }
    const char *name = dwfl_module_addrname(module, (Dwarf_Addr)address);
    symbol->function = name == NULL ? NULL : copy(symbols, name);
    Dwfl_Line *line = dwfl_module_getsrc(module, (Dwarf_Addr)address);
    int number = 0;
    const char *file = line == NULL ? NULL : dwfl_lineinfo(line, NULL, &number, NULL, NULL, NULL);
    if (file != NULL) {
        symbol->file = copy(symbols, file);
        symbol->line = number > 0 ? (unsigned)number : 0;
    }
}
#else
static void look_up(struct berth__symbols *symbols, uint64_t address,
                    struct berth__symbol_at *symbol) {
    (void)symbols, (void)address, (void)symbol;
}
#endif

/* ---- all together ---- */

struct berth__symbols *berth__symbols_open(pid_t pid) {
    struct berth__symbols *symbols = calloc(1, sizeof(*symbols));
    if (symbols == NULL || !read_mappings(symbols, pid)) {
        int error = errno;
        berth__symbols_close(symbols);
        errno = error;
        return NULL;
    }
    symbols->runtime = dlopen("libstdc++.so.6", RTLD_LAZY);
    if (symbols->runtime != NULL) {
        symbols->demangle = (demangler *)(uintptr_t)dlsym(symbols->runtime, "__cxa_demangle");
    }
#if BERTH_LIBDW
    open_dwfl(symbols, pid);
#endif
    return symbols;
}

void berth__symbols_close(struct berth__symbols *symbols) {
    if (symbols == NULL) {
        return;
    }
#if BERTH_LIBDW
    if (symbols->dwfl != NULL) {
        dwfl_end(symbols->dwfl);
    }
#endif
    if (symbols->runtime != NULL) {
        dlclose(symbols->runtime);
    }
    for (size_t i = 0; i < symbols->name_count; i++) {
        free(symbols->names[i]);
    }
    free(symbols->names);
    free(symbols->entries);
    free(symbols->mappings);
    free(symbols->text);
    free(symbols->maps);
    free(symbols);
}

static struct entry *slot_of(struct entry *entries, size_t room, uint64_t address) {
    size_t at = (size_t)(address * UINT64_C(0x9e3779b97f4a7c15) >> 20) % room;
    while (entries[at].address != 0 && entries[at].address != address) {
        at = (at + 1) % room;
    }
    return &entries[at];
}

static bool make_room(struct berth__symbols *symbols) {
    if (2 * symbols->entry_count < symbols->entry_room) {
        return true;
    }
    size_t room = berth__max(4 * symbols->entry_room, 1024);
    struct entry *entries = calloc(room, sizeof(*entries));
    if (entries == NULL) {
        return false;
    }
    for (size_t i = 0; i < symbols->entry_room; i++) {
        if (symbols->entries[i].address != 0) {
            *slot_of(entries, room, symbols->entries[i].address) = symbols->entries[i];
        }
    }
    free(symbols->entries);
    symbols->entries = entries;
    symbols->entry_room = room;
    return true;
}

const struct berth__symbol_at *berth__symbols_find(struct berth__symbols *symbols,
                                                   uint64_t return_address) {
    static const struct berth__symbol_at unknown = {.function = "?"};
    uint64_t address = return_address - 1; /* of the call, which may end its function */
    if (return_address == 0 || !make_room(symbols)) {
        return &unknown;
    }
    struct entry *entry = slot_of(symbols->entries, symbols->entry_room, return_address);
    if (entry->address == 0) {
        struct berth__symbol_at symbol = {.mapping = berth__symbols_mapping(symbols, address)};
        look_up(symbols, address, &symbol);
        if (symbol.function == NULL) {
            symbol.function = name_by_offset(symbols, symbol.mapping, address);
        }
        *entry = (struct entry){.address = return_address, .symbol = symbol};
        symbols->entry_count++;
    }
    return &entry->symbol;
}

/* ---- stacks ---- */

const char *berth__symbols_library(const struct berth__symbols *symbols, uint64_t return_address) {
    const struct berth__mapping *mapping = berth__symbols_mapping(symbols, return_address - 1);
    return mapping == NULL || *mapping->path == '\0' ? "[no file]"
                                                     : berth__file_name(mapping->path);
}

bool berth__symbol_is_offset(const struct berth__symbol_at *symbol) {
    return strchr(symbol->function, '+') != NULL || *symbol->function == '[';
}

void berth__symbols_write(FILE *to, struct berth__symbols *symbols, uint64_t return_address) {
    const struct berth__symbol_at *symbol = berth__symbols_find(symbols, return_address);
    fputs(symbol->function, to);
    if (symbol->file != NULL) {
        fprintf(to, " (%s:%u)", berth__file_name(symbol->file), symbol->line);
    } else if (!berth__symbol_is_offset(symbol)) {
        fprintf(to, " (%s)", berth__symbols_library(symbols, return_address));
    }
}

unsigned berth__symbols_trim(const struct berth__symbols *symbols, const uint64_t *places,
                             unsigned depth, unsigned *first) {
    unsigned from = 0;
    while (from < depth &&
           berth__mapping_is_own(berth__symbols_mapping(symbols, places[from] - 1))) {
        from++;
    }
    from = from == depth && depth > 0 ? depth - 1 : from;
    unsigned end = from;
    for (; end < depth; end++) {
        const struct berth__mapping *mapping = berth__symbols_mapping(symbols, places[end] - 1);
        if (mapping == NULL || !mapping->executable) {
            break;
        }
    }
    *first = from;
    return end - from;
}
