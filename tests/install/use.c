/* A user's program: allocates from libberth by its installed header. */
#include <berth/berth.h>

#include <stdio.h>
#include <string.h>

int main(void) {
    berth_pool *pool = berth_pool_create("use", NULL);
    if (pool == NULL) {
        perror("berth_pool_create");
        return 1;
    }
    char *block = berth_alloc(pool, 100);
    if (block == NULL || berth_usable_size(block) < 100 || berth_pool_of(block) != pool) {
        fprintf(stderr, "berth_alloc did not give a block of the pool\n");
        return 1;
    }
    memset(block, 1, 100);
    berth_free(block);
    if (berth_pool_destroy(pool, 0) != 0) {
        fprintf(stderr, "berth_pool_destroy refused an empty pool\n");
        return 1;
    }
    printf("%s\n", berth_version());
    return 0;
}
