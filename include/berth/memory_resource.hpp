/*
 * Pools for C++17 containers: a std::pmr::memory_resource and a standard allocator.
 *
 *     berth::memory_resource requests(pool);
 *     std::pmr::vector<std::pmr::string> lines(&requests);
 *
 *     std::vector<int, berth::allocator<int>> numbers(pool);
 *
 * Header only, over the calls of pool.h; berth.h, which is C too, does not include it. Where the
 * compiler has exceptions off, a failed allocation ends the process.
 */
#ifndef BERTH_MEMORY_RESOURCE_HPP
#define BERTH_MEMORY_RESOURCE_HPP

#include <berth/pool.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory_resource>
#include <new>
#include <type_traits>

namespace berth {

namespace detail {

/* What every block has (berth_alloc). */
inline constexpr std::size_t usual_alignment = 16;

[[noreturn]] inline void fail() {
#if defined(__cpp_exceptions)
    throw std::bad_alloc();
#else
    std::abort();
#endif
}

inline void *allocate(berth_pool *pool, std::size_t bytes, std::size_t alignment) {
    void *block = nullptr;
    if (pool != nullptr) {
        block = alignment <= usual_alignment ? berth_alloc(pool, bytes)
                                             : berth_alloc_aligned(pool, alignment, bytes);
    }
    if (block == nullptr) {
        fail();
    }
    return block;
}

} // namespace detail

/**
 * A pool as a std::pmr::memory_resource.
 *
 * Two are equal if their pools are the same. do_allocate serves any power of two as alignment;
 * do_deallocate checks the size against the block (berth_free_sized).
 *
 * Errors: allocate throws std::bad_alloc when berth_alloc fails. Threads: any, and all at once.
 * Owns: nothing; it borrows the pool, which must outlive what was allocated. Blocks: as berth_alloc
 * and berth_free. Since: 0.1.
 */
class memory_resource : public std::pmr::memory_resource {
  public:
    explicit memory_resource(berth_pool *pool = berth_pool_default()) noexcept : pool_(pool) {
    }

    berth_pool *pool() const noexcept {
        return pool_;
    }

  private:
    void *do_allocate(std::size_t bytes, std::size_t alignment) override {
        return detail::allocate(pool_, bytes, alignment);
    }

    void do_deallocate(void *block, std::size_t bytes, std::size_t) override {
        berth_free_sized(block, bytes);
    }

    bool do_is_equal(const std::pmr::memory_resource &other) const noexcept override {
#if defined(__cpp_rtti)
        const auto *same_kind = dynamic_cast<const memory_resource *>(&other);
        return same_kind != nullptr && same_kind->pool_ == pool_;
#else
        return this == &other;
#endif
    }

    berth_pool *pool_;
};

/**
 * A standard allocator over a pool, the default pool if none is named.
 *
 * Two are equal if their pools are the same. A container that is moved or swapped takes its memory
 * along, and with it the pool, since a block can be freed from anywhere: neither copies elements
 * nor throws, and swapping is defined for containers of two pools. A copy by assignment fills
 * memory of the pool that the container already has; a copy by construction, of the source's pool.
 *
 * Errors: allocate throws std::bad_alloc when berth_alloc fails, std::bad_array_new_length (one
 * too) for more elements than there can be. Threads: any, and all at once. Owns: nothing; it
 * borrows the pool, which must outlive what was allocated. Blocks: as berth_alloc and berth_free.
 * Since: 0.1.
 */
template <class T> class allocator {
  public:
    using value_type = T;
    using size_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    using propagate_on_container_copy_assignment = std::false_type;
    using propagate_on_container_move_assignment = std::true_type;
    using propagate_on_container_swap = std::true_type;
    using is_always_equal = std::false_type;

    allocator() noexcept : pool_(berth_pool_default()) {
    }

    /* Not explicit: a container may be given a pool where it wants an allocator. */
    allocator(berth_pool *pool) noexcept : pool_(pool) {
    }

    template <class U> allocator(const allocator<U> &other) noexcept : pool_(other.pool()) {
    }

    berth_pool *pool() const noexcept {
        return pool_;
    }

    [[nodiscard]] T *allocate(std::size_t count) {
        constexpr std::size_t most = static_cast<std::size_t>(PTRDIFF_MAX) / sizeof(T);
        if (count > most) {
#if defined(__cpp_exceptions)
            throw std::bad_array_new_length();
#else
            detail::fail();
#endif
        }
        return static_cast<T *>(detail::allocate(pool_, count * sizeof(T), alignof(T)));
    }

    void deallocate(T *block, std::size_t count) noexcept {
        berth_free_sized(block, count * sizeof(T));
    }

  private:
    berth_pool *pool_;
};

template <class T, class U>
bool operator==(const allocator<T> &one, const allocator<U> &other) noexcept {
    return one.pool() == other.pool();
}

template <class T, class U>
bool operator!=(const allocator<T> &one, const allocator<U> &other) noexcept {
    return one.pool() != other.pool();
}

} // namespace berth

#endif
