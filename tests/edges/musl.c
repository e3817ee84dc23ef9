/* What tests/edges/musl runs on musl: each kind of call, threads, fork. Ends with 0 if all is well,
 * and the door is in place. */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

uint64_t berth_limit_used(void) __attribute__((weak));

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%d: failed: %s\n", __LINE__, #condition);                             \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static void churn(void) {
    enum { BLOCKS = 300 };
    char *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t size = i * i * 100 + 1; /* up to 9 MB */
        blocks[i] = i % 3 == 0 ? calloc(1, size) : i % 3 == 1 ? malloc(size) : NULL;
        CHECK(i % 3 != 2 || posix_memalign((void **)&blocks[i], 4096, size) == 0);
        CHECK(blocks[i] != NULL);
        blocks[i][0] = blocks[i][size - 1] = (char)i;
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        CHECK(blocks[i][0] == (char)i);
        blocks[i] = realloc(blocks[i], i * 50 + 1);
        CHECK(blocks[i] != NULL && blocks[i][0] == (char)i);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        free(blocks[i]);
    }
}

static void *churn_in_thread(void *context) {
    churn();
    return context;
}

static void run_threads(void) {
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) {
        CHECK(pthread_create(&threads[i], NULL, churn_in_thread, NULL) == 0);
    }
    for (size_t i = 0; i < 4; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
}

int main(void) {
    volatile size_t much = SIZE_MAX;
    CHECK(berth_limit_used != NULL);
    void *kept = malloc(1000);
    CHECK(kept != NULL && berth_limit_used() > 0);
    CHECK(malloc(much) == NULL && errno == ENOMEM);
    churn();
    run_threads();
    for (unsigned i = 0; i < 10; i++) {
        int status = 1;
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            free(kept);
            run_threads();
            exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    free(kept);
    return 0;
}
