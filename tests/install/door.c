/* A program linked to the malloc door: malloc gives blocks of the default pool. */
#include <berth/berth.h>

#include <stdio.h>
#include <stdlib.h>

int main(void) {
    void *volatile block = malloc(1000);
    if (block == NULL || berth_pool_of(block) != berth_pool_default()) {
        fprintf(stderr, "malloc is not the door's\n");
        return 1;
    }
    free(block);
    printf("%s\n", berth_version());
    return 0;
}
