// A C++ program linked to the malloc door: `new` gives blocks of the default pool.
#include <berth/berth.h>

#include <cstdio>
#include <string>

int main() {
    std::string text(1000, 'x');
    if (berth_pool_of(text.data()) != berth_pool_default()) {
        std::fprintf(stderr, "operator new is not the door's\n");
        return 1;
    }
    std::printf("%s\n", berth_version());
    return 0;
}
