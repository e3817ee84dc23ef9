/*
 * Broken, if this fails: a child finds an engine that was half started, or gives back what a thread
 * was just giving back itself, and then hangs or lends a block twice.
 *
 * The program starts itself anew for each start of the engine, forks at once, and goes on forking
 * while its threads empty their caches. Children check what they are lent; one that hangs is ended
 * by its alarm.
 */
#include <berth/berth.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STARTS = 7, FORKS = 25, THREADS = 4, CLASSES = 40, BLOCKS = 48, CHILD_SECONDS = 100 };

static atomic_bool stop;

static size_t size_of(int class) {
    return 16 + (size_t) class * 48;
}

static void *flush_without_end(void *unused) {
    berth_pool *pool = berth_pool_default();
    void *blocks[CLASSES];
    while (!stop) {
        for (int c = 0; c < CLASSES; c++) {
            blocks[c] = berth_alloc(pool, size_of(c));
        }
        berth_free_batch(blocks, CLASSES);
        berth_thread_flush();
    }
    return unused;
}

/* Fills blocks of every class, and looks whether two of them are the same memory. NULL if not. */
static void *check_blocks(void *unused) {
    (void)unused;
    static const char overlap = 'x';
    berth_pool *pool = berth_pool_default();
    unsigned char *blocks[CLASSES][BLOCKS];
    for (int c = 0; c < CLASSES; c++) {
        for (int i = 0; i < BLOCKS; i++) {
            blocks[c][i] = berth_alloc(pool, size_of(c));
            memset(blocks[c][i], c, size_of(c));
        }
    }
    const void *found = NULL;
    for (int c = 0; c < CLASSES; c++) {
        for (int i = 0; i < BLOCKS; i++) {
            found = blocks[c][i][0] == c && blocks[c][i][size_of(c) - 1] == c ? found : &overlap;
            berth_free(blocks[c][i]);
        }
    }
    return (void *)(uintptr_t)found;
}

static void run_child(void) {
    pthread_t threads[THREADS];
    alarm(CHILD_SECONDS);
    for (int i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, check_blocks, NULL);
    }
    int status = 0;
    for (int i = 0; i < THREADS; i++) {
        void *overlap = NULL;
        pthread_join(threads[i], &overlap);
        status = overlap != NULL ? 1 : status;
    }
    _exit(status);
}

static int fork_often(void) {
    pthread_t threads[THREADS];
    int bad = 0;
    for (int i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, flush_without_end, NULL);
    }
    for (int i = 0; i < FORKS; i++) {
        int status = 0;
        pid_t child = fork();
        if (child == 0) {
            run_child();
        }
        waitpid(child, &status, 0);
        if (status != 0) {
            fprintf(stderr, "fork %d: the child ended with status %#x\n", i, (unsigned)status);
            bad = 1;
        }
    }
    stop = true;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    return bad;
}

int main(int argc, char **argv) {
    if (argc > 1) {
        return fork_often();
    }
    int bad = 0;
    for (int i = 0; i < STARTS; i++) {
        int status = 0;
        pid_t child = fork();
        if (child == 0) {
            execl("/proc/self/exe", argv[0], "go", (char *)NULL);
            _exit(127);
        }
        waitpid(child, &status, 0);
        bad |= status != 0;
    }
    return bad;
}
