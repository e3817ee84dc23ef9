/*
 * If this fails, a C++ program gets memory from a form of operator new that the matching operator
 * delete does not know, or running out of memory does not do what the standard says.
 */
#include "edge.h"

#include <memory>
#include <new>
#include <string>
#include <vector>

namespace {

/* No request of this size can succeed; volatile, so that the compiler does not know. */
volatile std::size_t impossible = std::size_t(PTRDIFF_MAX) + 1;
volatile std::size_t one = 1;

void *volatile sink; /* so that no allocation is unused */

unsigned handler_calls;

bool is_aligned(const void *block, std::size_t alignment) {
    return reinterpret_cast<std::uintptr_t>(block) % alignment == 0;
}

/* ---- forms ---- */

void check_block(void *block, std::size_t size, std::size_t alignment) {
    CHECK(block != nullptr && is_aligned(block, alignment));
    CHECK(malloc_usable_size(block) >= size);
    memset(block, 1, size);
}

void plain_forms_work() {
    for (std::size_t size = 0; size < 200000; size += size / 3 + 1) {
        void *blocks[8];
        for (std::size_t i = 0; i < COUNT_OF(blocks); i += 4) {
            blocks[i] = ::operator new(size);
            blocks[i + 1] = ::operator new[](size);
            blocks[i + 2] = ::operator new(size, std::nothrow);
            blocks[i + 3] = ::operator new[](size, std::nothrow);
        }
        for (void *block : blocks) {
            check_block(block, size, 16);
        }
        ::operator delete(blocks[0]);
        ::operator delete[](blocks[1]);
        ::operator delete(blocks[2], std::nothrow);
        ::operator delete[](blocks[3], std::nothrow);
        ::operator delete(blocks[4], size);
        ::operator delete[](blocks[5], size);
        ::operator delete(blocks[6]);
        ::operator delete[](blocks[7]);
    }
    ::operator delete(nullptr);
    ::operator delete[](nullptr);
    ::operator delete(nullptr, std::nothrow);
    ::operator delete(nullptr, std::size_t(8));
}

void aligned_forms_work() {
    for (std::size_t log2 = 0; log2 <= 23; log2++) {
        auto alignment = std::align_val_t(std::size_t(1) << log2);
        for (std::size_t size = 1; size < 200000; size = size * 5 + 3) {
            void *blocks[8];
            for (std::size_t i = 0; i < COUNT_OF(blocks); i += 4) {
                blocks[i] = ::operator new(size, alignment);
                blocks[i + 1] = ::operator new[](size, alignment);
                blocks[i + 2] = ::operator new(size, alignment, std::nothrow);
                blocks[i + 3] = ::operator new[](size, alignment, std::nothrow);
            }
            for (void *block : blocks) {
                check_block(block, size, std::size_t(1) << log2);
            }
            ::operator delete(blocks[0], alignment);
            ::operator delete[](blocks[1], alignment);
            ::operator delete(blocks[2], alignment, std::nothrow);
            ::operator delete[](blocks[3], alignment, std::nothrow);
            ::operator delete(blocks[4], size, alignment);
            ::operator delete[](blocks[5], size, alignment);
            ::operator delete(blocks[6], alignment);
            ::operator delete[](blocks[7], alignment);
        }
    }
}

void expressions_and_containers_work() {
    struct alignas(256) Wide {
        char bytes[700];
    };
    for (unsigned round = 0; round < 1000; round++) {
        std::unique_ptr<Wide> single(new Wide);
        std::unique_ptr<Wide[]> several(new Wide[round % 7 + 1]);
        CHECK(is_aligned(single.get(), 256) && is_aligned(several.get(), 256));
        std::vector<std::string> texts;
        for (unsigned i = 0; i < 50; i++) {
            texts.emplace_back(i * 3, char('a' + i % 26));
        }
        CHECK(texts[30] == std::string(90, 'e'));
    }
}

/* ---- running out ---- */

template <typename Allocate> bool throws_bad_alloc(Allocate allocate) {
    try {
        allocate();
    } catch (const std::bad_alloc &error) {
        return error.what()[0] != '\0';
    }
    return false;
}

void throwing_forms_throw_bad_alloc() {
    std::set_new_handler(nullptr);
    CHECK(throws_bad_alloc([] { sink = ::operator new(impossible); }));
    CHECK(throws_bad_alloc([] { sink = ::operator new[](impossible); }));
    CHECK(throws_bad_alloc([] { sink = ::operator new(impossible, std::align_val_t(64)); }));
    CHECK(throws_bad_alloc([] { sink = ::operator new[](impossible, std::align_val_t(64)); }));
    CHECK(throws_bad_alloc([] { std::vector<char> bytes(std::size_t(PTRDIFF_MAX)); }));
    CHECK(throws_bad_alloc([] { sink = new int[impossible * one]; })); /* a kind of it */
}

void nothrow_forms_return_null() {
    std::set_new_handler(nullptr);
    CHECK(::operator new(impossible, std::nothrow) == nullptr);
    CHECK(::operator new[](impossible, std::nothrow) == nullptr);
    CHECK(::operator new(impossible, std::align_val_t(64), std::nothrow) == nullptr);
    CHECK(::operator new[](impossible, std::align_val_t(64), std::nothrow) == nullptr);
}

/* Called until it gives up, which it says by taking itself away. */
void give_up_at_third_call() {
    if (++handler_calls == 3) {
        std::set_new_handler(nullptr);
    }
}

template <typename Allocate> void expect_three_calls(Allocate allocate, bool throws) {
    handler_calls = 0;
    std::set_new_handler(give_up_at_third_call);
    CHECK(throws_bad_alloc(allocate) == throws);
    CHECK_EQUAL(handler_calls, 3);
}

void the_handler_is_called_until_it_gives_up() {
    expect_three_calls([] { sink = ::operator new(impossible); }, true);
    expect_three_calls([] { sink = ::operator new[](impossible); }, true);
    expect_three_calls([] { sink = ::operator new(impossible, std::align_val_t(64)); }, true);
    expect_three_calls([] { sink = ::operator new[](impossible, std::align_val_t(64)); }, true);
    expect_three_calls([] { CHECK(::operator new(impossible, std::nothrow) == nullptr); }, false);
    expect_three_calls([] { CHECK(::operator new[](impossible, std::nothrow) == nullptr); }, false);
    expect_three_calls(
        [] { CHECK(::operator new(impossible, std::align_val_t(64), std::nothrow) == nullptr); },
        false);
}

struct Own {};

void throw_own() {
    handler_calls++;
    throw Own();
}

void throw_bad_alloc() {
    handler_calls++;
    throw std::bad_alloc();
}

void what_the_handler_throws_reaches_the_caller() {
    std::set_new_handler(throw_own);
    for (bool array : {false, true}) {
        bool caught = false;
        try {
            sink = (array ? ::operator new[](impossible) : ::operator new(impossible));
        } catch (const Own &) {
            caught = true;
        }
        CHECK(caught);
    }
    bool caught = false;
    try {
        sink = ::operator new(impossible, std::align_val_t(64));
    } catch (const Own &) {
        caught = true;
    }
    CHECK(caught);
}

void nothrow_forms_catch_what_the_handler_throws() {
    std::set_new_handler(throw_bad_alloc);
    handler_calls = 0;
    CHECK(::operator new(impossible, std::nothrow) == nullptr);
    CHECK(::operator new[](impossible, std::nothrow) == nullptr);
    CHECK_EQUAL(handler_calls, 2);
}

void aligned_nothrow_forms_catch_what_the_handler_throws() {
    std::set_new_handler(throw_bad_alloc);
    handler_calls = 0;
    CHECK(::operator new(impossible, std::align_val_t(64), std::nothrow) == nullptr);
    CHECK(::operator new[](impossible, std::align_val_t(64), std::nothrow) == nullptr);
    CHECK_EQUAL(handler_calls, 2);
}

/* ---- memory that a handler makes room for ---- */

void *kept_back;

void give_back() {
    handler_calls++;
    ::operator delete(kept_back);
    kept_back = nullptr;
    std::set_new_handler(nullptr);
}

/* With room for one large block, but not for two. */
void a_handler_that_frees_lets_the_call_succeed() {
    edge_rerun_limited(__func__, RLIMIT_AS, 1u << 30);
    kept_back = ::operator new(600u << 20);
    std::set_new_handler(give_back);
    char *block = new char[600u << 20];
    CHECK_EQUAL(handler_calls, 1);
    block[0] = 1;
    delete[] block;
}

const struct edge_case cases[] = {
    EDGE_CASE(plain_forms_work),
    EDGE_CASE(aligned_forms_work),
    EDGE_CASE(expressions_and_containers_work),
    EDGE_CASE(throwing_forms_throw_bad_alloc),
    EDGE_CASE(nothrow_forms_return_null),
    EDGE_CASE(the_handler_is_called_until_it_gives_up),
    EDGE_CASE(what_the_handler_throws_reaches_the_caller),
    EDGE_CASE(nothrow_forms_catch_what_the_handler_throws),
    EDGE_CASE(aligned_nothrow_forms_catch_what_the_handler_throws),
    EDGE_CASE(a_handler_that_frees_lets_the_call_succeed),
};

} // namespace

EDGE_MAIN(cases)
