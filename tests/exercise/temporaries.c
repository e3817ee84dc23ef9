/*
 * The server of docs/operations/finding-a-leak.md: 3000 worker threads, each of which keeps the
 * temporary buffers that it once needed, whatever their size, and for ever; a mistake that the
 * JDK's sockets made. The resident memory of such a server grows for as long as large messages meet
 * workers that have not had one yet.
 *
 *   temporaries [WORKERS [REQUESTS_PER_S]]     until it is ended
 *
 * Requests come from a generator inside. Of a hundred, one is large.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { KEPT_MAX = 16, STACK_BYTES = 64 << 10, SMALL_BYTES = 2000, LARGE_BYTES = 150000 };

struct buffer {
    char *data;
    size_t bytes;
};

/* A worker's temporary buffers: the mistake. */
struct temporaries {
    struct buffer kept[KEPT_MAX];
    unsigned count;
};

struct worker {
    pthread_t thread;
    struct temporaries temporaries;
    sem_t requests;
    _Atomic size_t request_bytes; /* of the latest */
};

/* The smallest kept buffer that is long enough, or a new one. */
__attribute__((noinline)) static struct buffer temporary_take(struct temporaries *temporaries,
                                                              size_t bytes) {
    for (unsigned i = 0; i < temporaries->count; i++) {
        if (temporaries->kept[i].bytes >= bytes) {
            struct buffer found = temporaries->kept[i];
            temporaries->kept[i] = temporaries->kept[--temporaries->count];
            return found;
        }
    }
    return (struct buffer){malloc(bytes), bytes};
}

__attribute__((noinline)) static void temporary_keep(struct temporaries *temporaries,
                                                     struct buffer buffer) {
    if (temporaries->count < KEPT_MAX) {
        temporaries->kept[temporaries->count++] = buffer;
    } else {
        free(buffer.data);
    }
}

__attribute__((noinline)) static void reply(struct temporaries *temporaries, size_t bytes) {
    struct buffer buffer = temporary_take(temporaries, bytes);
    if (buffer.data != NULL) {
        memset(buffer.data, 'x', bytes);
    }
    temporary_keep(temporaries, buffer);
}

__attribute__((noinline)) static void serve(struct worker *worker, size_t bytes) {
    char *request = malloc(bytes / 4 + 100);
    if (request != NULL) {
        memset(request, 'r', bytes / 4 + 100);
    }
    reply(&worker->temporaries, bytes);
    free(request);
}

static void *work(void *argument) {
    struct worker *worker = argument;
    for (;;) {
        if (sem_wait(&worker->requests) == 0) {
            serve(worker, worker->request_bytes);
        }
    }
    return NULL;
}

static unsigned number_or(const char *text, unsigned otherwise) {
    return text == NULL ? otherwise : (unsigned)strtoul(text, NULL, 10);
}

int main(int count, char **arguments) {
    unsigned workers_max = number_or(count > 1 ? arguments[1] : NULL, 3000);
    unsigned per_second = number_or(count > 2 ? arguments[2] : NULL, 2000);
    struct worker *workers = calloc(workers_max, sizeof *workers);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    for (unsigned i = 0; i < workers_max; i++) {
        sem_init(&workers[i].requests, 0, 0);
        int error = pthread_create(&workers[i].thread, &attributes, work, &workers[i]);
        if (error != 0) {
            fprintf(stderr, "temporaries: worker %u: %s\n", i, strerror(error));
            return 1;
        }
    }
    printf("process %d, %u workers\n", (int)getpid(), workers_max);
    fflush(stdout);
    unsigned random = 1;
    struct timespec pause = {0, 10000000};
    for (;;) {
        for (unsigned i = 0; i < per_second / 100; i++) {
            random = random * 1103515245u + 12345u;
            struct worker *worker = &workers[(random >> 8) % workers_max];
            random = random * 1103515245u + 12345u;
            worker->request_bytes = (random >> 16) % 100 == 0 ? LARGE_BYTES : SMALL_BYTES;
            sem_post(&worker->requests);
        }
        nanosleep(&pause, NULL);
    }
}
