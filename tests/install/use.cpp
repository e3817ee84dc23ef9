// The same from C++17, with every public header; the operators stay the runtime's own.
#include <berth/berth.h>
#include <berth/memory_resource.hpp>

#include <cstdio>
#include <memory>
#include <vector>

int main() {
    auto release = [](void *block) { berth_free(block); };
    std::unique_ptr<void, decltype(release)> block(
        berth_alloc_flags(berth_pool_default(), 1 << 20, BERTH_ZERO | BERTH_ALIGN_LOG2(12)),
        release);
    berth::memory_resource pool;
    std::pmr::vector<char> bytes(1000, 'x', &pool);
    if (block == nullptr || static_cast<const char *>(block.get())[4711] != 0) {
        std::fprintf(stderr, "berth_alloc_flags did not give a zeroed block\n");
        return 1;
    }
    std::printf("%s\n", berth_version());
    return bytes[999] == 'x' ? 0 : 1;
}
