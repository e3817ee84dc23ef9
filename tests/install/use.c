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
    struct berth_buf buf;
    uint32_t number = 0;
    berth_buf_init(&buf, pool, 100, 0);
    if (berth_buf_put_u32be(&buf, 7) != 0 || berth_buf_get_u32be(&buf, &number) != 0 ||
        number != 7) {
        fprintf(stderr, "a buffer did not give back what was written\n");
        return 1;
    }
    berth_buf_clear(&buf);
    if (berth_pool_destroy(pool, 0) != 0) {
        fprintf(stderr, "berth_pool_destroy refused an empty pool\n");
        return 1;
    }
    printf("%s\n", berth_version());
    return 0;
}
