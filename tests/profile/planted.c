/*
 * A program with known sites, sizes and ages, for `run`.
 *
 *   planted hold    allocates what is planned, says "ready", and goes on to allocate a little until
 *                   its stdin ends
 *   planted end     allocates the same, and ends
 *
 * Of each site, what it holds: hold_many 200,000 blocks of 100 bytes; hold_large 100 of 300,000;
 * freed_again nothing, of 40,000 blocks of 1000 bytes.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__clang__)
#define SITE __attribute__((noinline))
#else
#define SITE __attribute__((noipa))
#endif

SITE void *hold_many(void) {
    void *volatile block = malloc(100);
    return block;
}

SITE void *hold_large(void) {
    void *volatile block = malloc(300000);
    return block;
}

SITE void freed_again(void) {
    void *volatile block = malloc(1000);
    free(block);
}

SITE void *hold_meanwhile(void) {
    void *volatile block = malloc(5000);
    return block;
}

SITE void plant(void) {
    for (int i = 0; i < 200000; i++) {
        (void)hold_many();
    }
    for (int i = 0; i < 100; i++) {
        (void)hold_large();
    }
    for (int i = 0; i < 40000; i++) {
        freed_again();
    }
}

int main(int argc, char **argv) {
    plant();
    if (argc == 2 && strcmp(argv[1], "hold") == 0) {
        struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
        puts("ready");
        fflush(stdout);
        while (poll(&in, 1, 1) == 0) {
            for (int i = 0; i < 20; i++) {
                (void)hold_meanwhile();
                freed_again();
            }
        }
    }
    return 0;
}
