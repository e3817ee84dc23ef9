// Would be broken if this failed: C++ servers whose containers live in a pool, under its limit, and
// count on bad_alloc, alignment and the standard's rules for allocators.
#include <berth/berth.h>
#include <berth/memory_resource.hpp>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <list>
#include <map>
#include <memory>
#include <memory_resource>
#include <new>
#include <set>
#include <string>
#include <sys/wait.h>
#include <type_traits>
#include <unistd.h>
#include <unordered_map>
#include <utility>
#include <vector>

static int failures;

static void check(bool holds, const char *what, int line) {
    if (!holds) {
        std::printf("FAILED: line %d: %s\n", line, what);
        failures++;
    }
}
#define CHECK(condition) check((condition), #condition, __LINE__)

// A pool that must be empty again at the end of its scope.
class Pool {
  public:
    explicit Pool(const char *name, std::uint64_t limit = 0) {
        berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
        options.limit = limit;
        options.wait_ms = 0;
        pool_ = berth_pool_create(name, &options);
        CHECK(pool_ != nullptr);
    }
    Pool(const Pool &) = delete;
    Pool &operator=(const Pool &) = delete;
    ~Pool() {
        CHECK(berth_pool_destroy(pool_, 0) == 0);
    }
    berth_pool *pool() const {
        return pool_;
    }

  private:
    berth_pool *pool_;
};

template <class T> static bool is_in(const T *memory, berth_pool *pool) {
    return berth_pool_of(memory) == pool;
}

static bool is_aligned(const void *memory, std::size_t alignment) {
    return reinterpret_cast<std::uintptr_t>(memory) % alignment == 0;
}

template <class T> using Vector = std::vector<T, berth::allocator<T>>;
using String = std::basic_string<char, std::char_traits<char>, berth::allocator<char>>;

// ---- the memory resource ----

static void pmr_containers_live_in_the_pool() {
    Pool pool_owner("pmr");
    berth_pool *pool = pool_owner.pool();
    berth::memory_resource resource(pool);
    std::pmr::vector<std::pmr::string> lines(&resource);
    for (int i = 0; i < 1000; i++) {
        lines.emplace_back(std::to_string(i) + " is longer than what a string keeps inside");
    }
    CHECK(is_in(lines.data(), pool));
    CHECK(is_in(lines[999].data(), pool));
    CHECK(lines[999].compare(0, 6, "999 is") == 0);

    std::pmr::map<int, std::pmr::string> names(&resource);
    std::pmr::unordered_map<std::pmr::string, int> numbers(&resource);
    for (int i = 0; i < 1000; i++) {
        names.emplace(i, lines[static_cast<std::size_t>(i)]);
        numbers.emplace(lines[static_cast<std::size_t>(i)], i);
    }
    CHECK(is_in(names.at(500).data(), pool));
    CHECK(numbers.at(lines[500]) == 500);
    names.erase(500);
    CHECK(names.size() == 999);
}

static void a_monotonic_resource_can_stand_on_it() {
    Pool pool_owner("upstream");
    berth_pool *pool = pool_owner.pool();
    berth::memory_resource resource(pool);
    std::pmr::monotonic_buffer_resource requests(1 << 16, &resource);
    std::pmr::vector<int> numbers(10000, 7, &requests);
    CHECK(numbers[9999] == 7);
}

static void any_power_of_two_is_an_alignment() {
    Pool pool_owner("alignment");
    berth_pool *pool = pool_owner.pool();
    berth::memory_resource resource(pool);
    for (std::size_t alignment = 1; alignment <= std::size_t{8} << 20; alignment *= 2) {
        for (std::size_t size : {std::size_t{1}, std::size_t{100}, std::size_t{5000}}) {
            void *block = resource.allocate(size, alignment);
            CHECK(is_aligned(block, alignment));
            CHECK(is_in(block, pool));
            resource.deallocate(block, size, alignment);
        }
    }
}

static void resources_are_equal_by_their_pool() {
    Pool one_owner("one");
    berth_pool *one = one_owner.pool();
    Pool other_owner("other");
    berth_pool *other = other_owner.pool();
    berth::memory_resource first(one);
    berth::memory_resource same(one);
    berth::memory_resource different(other);
    CHECK(first == same);
    CHECK(first != different);
    CHECK(!first.is_equal(*std::pmr::new_delete_resource()));
    CHECK(first.pool() == one);
    CHECK(berth::memory_resource().pool() == berth_pool_default());
}

static void a_full_pool_throws_and_stays_usable() {
    Pool pool_owner("limited", 8 << 20);
    berth_pool *pool = pool_owner.pool();
    berth::memory_resource resource(pool);
    std::pmr::list<std::pmr::string> values(&resource);
    bool thrown = false;
    try {
        for (int i = 0; i < 10000; i++) {
            values.emplace_back(100000, 'v');
        }
    } catch (const std::bad_alloc &) {
        thrown = true;
    }
    CHECK(thrown);
    CHECK(values.size() > 30 && values.size() <= 83);
    CHECK(values.back() == std::pmr::string(100000, 'v'));
    values.pop_front();
    values.emplace_back(100000, 'w');
    CHECK(values.back()[99999] == 'w');
}

// ---- the allocator ----

static void standard_containers_live_in_the_pool() {
    Pool pool_owner("containers");
    berth_pool *pool = pool_owner.pool();
    Vector<int> numbers(pool);
    std::map<int, String, std::less<int>, berth::allocator<std::pair<const int, String>>> map(pool);
    std::unordered_map<int, int, std::hash<int>, std::equal_to<int>,
                       berth::allocator<std::pair<const int, int>>>
        table(pool);
    std::set<int, std::less<int>, berth::allocator<int>> set(pool);
    for (int i = 0; i < 5000; i++) {
        numbers.push_back(i);
        map.emplace(i, String(100, 'm', pool));
        table[i] = i * i;
        set.insert(i);
    }
    CHECK(is_in(numbers.data(), pool));
    CHECK(is_in(&*map.find(17), pool) || is_in(map.at(17).data(), pool));
    CHECK(table.at(70) == 4900);
    CHECK(set.count(4999) == 1);
    auto shared = std::allocate_shared<String>(berth::allocator<String>(pool), 300, 's', pool);
    CHECK(shared->size() == 300);
    CHECK(is_in(shared->data(), pool));
}

static void without_a_pool_the_default_one_serves() {
    Vector<int> numbers{1, 2, 3};
    CHECK(is_in(numbers.data(), berth_pool_default()));
}

static void elements_keep_their_alignment() {
    struct alignas(256) Wide {
        char bytes[256];
    };
    Pool pool_owner("wide");
    berth_pool *pool = pool_owner.pool();
    Vector<Wide> wide(pool);
    for (int i = 0; i < 100; i++) {
        wide.emplace_back();
        CHECK(is_aligned(wide.data(), alignof(Wide)));
    }
}

static void too_much_is_bad_alloc() {
    Pool pool_owner("small", 8 << 20);
    berth_pool *pool = pool_owner.pool();
    berth::allocator<std::uint64_t> allocator(pool);
    bool length = false;
    bool memory = false;
    try {
        std::uint64_t *block = allocator.allocate(SIZE_MAX / 4);
        allocator.deallocate(block, SIZE_MAX / 4);
    } catch (const std::bad_array_new_length &) {
        length = true;
    }
    try {
        std::uint64_t *block = allocator.allocate(2 << 20);
        allocator.deallocate(block, 2 << 20);
    } catch (const std::bad_array_new_length &) {
        memory = false;
    } catch (const std::bad_alloc &) {
        memory = true;
    }
    CHECK(length);
    CHECK(memory);
    std::uint64_t *block = allocator.allocate(1000);
    CHECK(is_in(block, pool));
    allocator.deallocate(block, 1000);
}

static void allocators_are_equal_by_their_pool() {
    Pool one_owner("one");
    berth_pool *one = one_owner.pool();
    Pool other_owner("other");
    berth_pool *other = other_owner.pool();
    berth::allocator<int> first(one);
    berth::allocator<double> rebound(first);
    CHECK(first == rebound);
    CHECK(!(first != rebound));
    CHECK(first != berth::allocator<int>(other));
    CHECK(!(first == berth::allocator<int>(other)));
    CHECK(first != berth::allocator<int>());
    CHECK(berth::allocator<int>() == berth::allocator<char>(berth_pool_default()));
    static_assert(!std::allocator_traits<berth::allocator<int>>::is_always_equal::value);
}

static void moving_takes_the_memory_and_the_pool_along() {
    static_assert(std::is_nothrow_move_assignable_v<Vector<int>>);
    Pool from_owner("from");
    berth_pool *from = from_owner.pool();
    Pool to_owner("to");
    berth_pool *to = to_owner.pool();
    Vector<int> source(1000, 1, from);
    Vector<int> target(10, 2, to);
    const int *memory = source.data();
    target = std::move(source);
    CHECK(target.data() == memory);
    CHECK(target.get_allocator().pool() == from);
    target.resize(100000);
    CHECK(is_in(target.data(), from));
}

static void swapping_exchanges_the_pools() {
    Pool one_owner("one");
    berth_pool *one = one_owner.pool();
    Pool other_owner("other");
    berth_pool *other = other_owner.pool();
    Vector<int> first(1000, 1, one);
    Vector<int> second(1000, 2, other);
    using std::swap;
    swap(first, second);
    CHECK(first[0] == 2);
    CHECK(first.get_allocator().pool() == other);
    CHECK(second.get_allocator().pool() == one);
    CHECK(is_in(first.data(), other));
}

static void copying_fills_the_pool_of_the_target() {
    Pool from_owner("from");
    berth_pool *from = from_owner.pool();
    Pool to_owner("to");
    berth_pool *to = to_owner.pool();
    Vector<int> source(1000, 1, from);
    Vector<int> target(to);
    target = source;
    CHECK(is_in(target.data(), to));
    CHECK(target == source);
    Vector<int> constructed(source);
    CHECK(is_in(constructed.data(), from));
    Vector<int> placed(source, to);
    CHECK(is_in(placed.data(), to));
}

static void a_size_beyond_the_block_stops_the_process() {
    Pool pool_owner("size");
    berth_pool *pool = pool_owner.pool();
    pid_t child = fork();
    if (child == 0) {
        berth::memory_resource resource(pool);
        resource.deallocate(resource.allocate(100), 5000);
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main() {
    pmr_containers_live_in_the_pool();
    a_monotonic_resource_can_stand_on_it();
    any_power_of_two_is_an_alignment();
    resources_are_equal_by_their_pool();
    a_full_pool_throws_and_stays_usable();
    standard_containers_live_in_the_pool();
    without_a_pool_the_default_one_serves();
    elements_keep_their_alignment();
    too_much_is_bad_alloc();
    allocators_are_equal_by_their_pool();
    moving_takes_the_memory_and_the_pool_along();
    swapping_exchanges_the_pools();
    copying_fills_the_pool_of_the_target();
    a_size_beyond_the_block_stops_the_process();
    return failures == 0 ? 0 : 1;
}
