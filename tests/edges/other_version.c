/* Looks, to libberth, like the malloc door of another version; see both.c. */
#include <stdint.h>

__attribute__((visibility("default"))) extern const struct engine berth_engine, berth_door_engine;

struct engine {
    uint32_t abi, size, door, unused;
};
const struct engine berth_engine = {.abi = 9999, .size = 1 << 16, .door = 1};
const struct engine berth_door_engine = {.abi = 9999, .size = 1 << 16, .door = 1};
