/* The C++ operators by their mangled names, with a C++ runtime that this test plays itself. */
#include "figures.h"

#include <signal.h>

void *_Znwm(size_t size);
void *_Znam(size_t size);
void *_ZnwmRKSt9nothrow_t(size_t size, const void *tag);
void *_ZnamRKSt9nothrow_t(size_t size, const void *tag);
void *_ZnwmSt11align_val_t(size_t size, size_t alignment);
void *_ZnamSt11align_val_t(size_t size, size_t alignment);
void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, const void *tag);
void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, const void *tag);
void _ZdlPv(void *block);
void _ZdaPv(void *block);
void _ZdlPvRKSt9nothrow_t(void *block, const void *tag);
void _ZdaPvRKSt9nothrow_t(void *block, const void *tag);
void _ZdlPvm(void *block, size_t size);
void _ZdaPvm(void *block, size_t size);
void _ZdlPvSt11align_val_t(void *block, size_t alignment);
void _ZdaPvSt11align_val_t(void *block, size_t alignment);
void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *block, size_t alignment, const void *tag);
void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *block, size_t alignment, const void *tag);
void _ZdlPvmSt11align_val_t(void *block, size_t size, size_t alignment);
void _ZdaPvmSt11align_val_t(void *block, size_t size, size_t alignment);

/* ---- the runtime: a handler, and an exception that is thrown by a long jump ---- */

typedef void new_handler(void);
static new_handler *handler;
static unsigned handler_calls;
static jmp_buf thrown;
static const void *thrown_vtable;
static const void *thrown_type;

new_handler *_ZSt15get_new_handlerv(void);
new_handler *_ZSt15get_new_handlerv(void) {
    return handler;
}

static void *exception[4];
void *__cxa_allocate_exception(size_t size);
void *__cxa_allocate_exception(size_t size) {
    UNIT_CHECK(size <= sizeof(exception));
    return exception;
}

void *_ZTVSt9bad_alloc[5];
void *_ZTISt9bad_alloc[2];
void _ZNSt9bad_allocD1Ev(void *object);
void _ZNSt9bad_allocD1Ev(void *object) {
    (void)object;
}

void __cxa_throw(void *object, void *type, void (*destroy)(void *)) __attribute__((noreturn));
void __cxa_throw(void *object, void *type, void (*destroy)(void *)) {
    UNIT_CHECK(object == exception && destroy == _ZNSt9bad_allocD1Ev);
    thrown_vtable = exception[0];
    thrown_type = type;
    longjmp(thrown, 1);
}

/* ---- */

static const char tag;

static void every_new_fits_every_delete(void **state) {
    /* C++ programs would hand a block of one allocator to another. */
    (void)state;
    const size_t sizes[] = {0, 1, 100, 5000, 20000, 5 << 20};
    for (unsigned i = 0; i < 6; i++) {
        size_t size = sizes[i];
        void *plain[] = {_Znwm(size),
                         _Znam(size),
                         _ZnwmRKSt9nothrow_t(size, &tag),
                         _ZnamRKSt9nothrow_t(size, &tag),
                         _Znwm(size),
                         _Znam(size)};
        for (unsigned k = 0; k < 6; k++) {
            assert_non_null(plain[k]);
            assert_int_equal((uintptr_t)plain[k] % 16, 0);
            memset(plain[k], 1, size);
        }
        _ZdlPv(plain[0]);
        _ZdaPv(plain[1]);
        _ZdlPvRKSt9nothrow_t(plain[2], &tag);
        _ZdaPvRKSt9nothrow_t(plain[3], &tag);
        _ZdlPvm(plain[4], size);
        _ZdaPvm(plain[5], size);
        for (size_t alignment = 8; alignment <= 8 * MiB; alignment *= 8) {
            void *aligned[] = {_ZnwmSt11align_val_t(size, alignment),
                               _ZnamSt11align_val_t(size, alignment),
                               _ZnwmSt11align_val_tRKSt9nothrow_t(size, alignment, &tag),
                               _ZnamSt11align_val_tRKSt9nothrow_t(size, alignment, &tag),
                               _ZnwmSt11align_val_t(size, alignment),
                               _ZnamSt11align_val_t(size, alignment)};
            for (unsigned k = 0; k < 6; k++) {
                assert_non_null(aligned[k]);
                assert_int_equal((uintptr_t)aligned[k] % alignment, 0);
            }
            _ZdlPvSt11align_val_t(aligned[0], alignment);
            _ZdaPvSt11align_val_t(aligned[1], alignment);
            _ZdlPvSt11align_val_tRKSt9nothrow_t(aligned[2], alignment, &tag);
            _ZdaPvSt11align_val_tRKSt9nothrow_t(aligned[3], alignment, &tag);
            _ZdlPvmSt11align_val_t(aligned[4], size, alignment);
            _ZdaPvmSt11align_val_t(aligned[5], size, alignment);
        }
    }
    _ZdlPv(NULL);
    _ZdaPv(NULL);
}

static size_t volatile too_large = SIZE_MAX;

/* 1 if the call threw bad_alloc. */
#define THREW(call) (setjmp(thrown) == 0 ? ((void)(call), 0) : 1)

static void new_throws_bad_alloc_and_nothrow_gives_null(void **state) {
    /* C++ programs would use NULL, or end instead of handling the failure. */
    (void)state;
    handler = NULL;
    thrown_vtable = thrown_type = NULL;
    assert_int_equal(THREW(_Znwm(too_large)), 1);
    assert_ptr_equal(thrown_vtable, _ZTVSt9bad_alloc + 2);
    assert_ptr_equal(thrown_type, _ZTISt9bad_alloc);
    assert_int_equal(THREW(_Znam(too_large)), 1);
    assert_int_equal(THREW(_ZnwmSt11align_val_t(too_large, 64)), 1);
    assert_int_equal(THREW(_ZnamSt11align_val_t(too_large, 64)), 1);
    assert_null(_ZnwmRKSt9nothrow_t(too_large, &tag));
    assert_null(_ZnamRKSt9nothrow_t(too_large, &tag));
    assert_null(_ZnwmSt11align_val_tRKSt9nothrow_t(too_large, 64, &tag));
    assert_null(_ZnamSt11align_val_tRKSt9nothrow_t(too_large, 64, &tag));
}

static void give_up_after_three(void) {
    handler_calls++;
    if (handler_calls == 3) {
        handler = NULL;
    }
}

static void throw_at_once(void) {
    handler_calls++;
    longjmp(thrown, 2);
}

static void *held;

static void free_what_is_held(void) {
    handler_calls++;
    _ZdlPv(held);
    held = NULL;
    UNIT_CHECK(berth_limit_set(BERTH_UNLIMITED) == 0);
}

static void the_handler_is_asked_until_it_helps_or_is_gone(void **state) {
    /* Programs that free memory in their handler would get an exception all the same. */
    (void)state;
    handler = give_up_after_three;
    handler_calls = 0;
    assert_int_equal(THREW(_Znwm(too_large)), 1);
    assert_int_equal(handler_calls, 3);
    handler = give_up_after_three;
    handler_calls = 0;
    assert_null(_ZnwmRKSt9nothrow_t(too_large, &tag));
    assert_int_equal(handler_calls, 3);
    handler = throw_at_once;
    handler_calls = 0;
    assert_int_equal(THREW(_ZnwmSt11align_val_t(too_large, 64)), 1);
    assert_int_equal(handler_calls, 1);

    held = _Znwm(10 * MiB);
    berth_trim(NULL);
    assert_int_equal(berth_limit_set(berth_limit_used() + MiB), 0);
    handler = free_what_is_held;
    handler_calls = 0;
    void *block = _Znwm(10 * MiB);
    assert_non_null(block);
    assert_int_equal(handler_calls, 1);
    _ZdlPv(block);
    handler = NULL;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_new_fits_every_delete),
        cmocka_unit_test(new_throws_bad_alloc_and_nothrow_gives_null),
        cmocka_unit_test(the_handler_is_asked_until_it_helps_or_is_gone),
    };
    return UNIT_RUN(tests);
}
