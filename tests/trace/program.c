/*
 * A program whose allocations are known, for the recorder. It calls nothing else that allocates.
 *
 *   main     100 mallocs of 100 bytes, 10 callocs of 50, each of these resized to 5000, 5 blocks of
 *            300 bytes on pages; frees them all; keeps 7 of 1024 bytes
 *   giver    10000 mallocs of 64 bytes, handed over one by one ..
 *   taker    .. and freed here; this thread outlives the program
 *
 *   program            ends by exit
 *   program killed     ends by SIGKILL
 *   program forked     before all that a child frees 20 blocks of its parent's, which the parent
 *                      keeps, makes 50 mallocs of 333 bytes and ends
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SMALL = 100, ZEROED = 10, ALIGNED = 5, KEPT = 7, HANDED = 10000, WINDOW = 96 };
enum { INHERITED = 20, CHILDS = 50 };

static void *volatile kept[KEPT + INHERITED + CHILDS];
static void *_Atomic handed[WINDOW];
static _Atomic unsigned taken;

static void *giver(void *unused) {
    for (unsigned i = 0; i < HANDED; i++) {
        while (atomic_load(&handed[i % WINDOW]))
            sched_yield();
        atomic_store(&handed[i % WINDOW], malloc(64));
    }
    return unused;
}

static void *taker(void *unused) {
    for (unsigned i = 0; i < HANDED; i++) {
        void *block;
        while (!(block = atomic_load(&handed[i % WINDOW])))
            sched_yield();
        free(block);
        atomic_store(&handed[i % WINDOW], NULL);
        atomic_fetch_add(&taken, 1);
    }
    while (!unused)
        pause();
    return NULL;
}

static void main_work(void) {
    void *small[SMALL], *zeroed[ZEROED], *aligned[ALIGNED];
    for (unsigned i = 0; i < SMALL; i++)
        small[i] = malloc(100);
    for (unsigned i = 0; i < ZEROED; i++)
        zeroed[i] = calloc(5, 10);
    for (unsigned i = 0; i < ZEROED; i++)
        zeroed[i] = realloc(zeroed[i], 5000);
    for (unsigned i = 0; i < ALIGNED; i++)
        if (posix_memalign(&aligned[i], 4096, 300))
            abort();
    for (unsigned i = 0; i < SMALL; i++)
        free(small[i]);
    for (unsigned i = 0; i < ZEROED; i++)
        free(zeroed[i]);
    for (unsigned i = 0; i < ALIGNED; i++)
        free(aligned[i]);
    for (unsigned i = 0; i < KEPT; i++)
        kept[i] = malloc(1024);
}

static void child_work(void) {
    for (unsigned i = 0; i < INHERITED; i++)
        kept[KEPT + i] = malloc(2048);
    pid_t child = fork();
    if (child == 0) {
        for (unsigned i = 0; i < INHERITED; i++)
            free(kept[KEPT + i]);
        for (unsigned i = 0; i < CHILDS; i++)
            kept[KEPT + INHERITED + i] = malloc(333);
        _exit(0);
    }
    int status;
    if (waitpid(child, &status, 0) != child || status)
        _exit(3);
}

int main(int argc, char **argv) {
    pthread_t threads[2];
    const char *way = argc > 1 ? argv[1] : "";
    if (strcmp(way, "forked") == 0)
        child_work();
    main_work();
    if (pthread_create(&threads[0], NULL, giver, NULL) ||
        pthread_create(&threads[1], NULL, taker, NULL))
        return 4;
    pthread_join(threads[0], NULL);
    while (atomic_load(&taken) < HANDED)
        sched_yield();
    if (strcmp(way, "killed") == 0)
        raise(SIGKILL);
    return 0;
}
