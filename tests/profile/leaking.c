/* A native library of a Java program, which forgets 64 KiB with each call. */
#include <jni.h>
#include <stdlib.h>
#include <string.h>

JNIEXPORT void JNICALL Java_Leaking_forget(JNIEnv *environment, jclass class) {
    (void)environment, (void)class;
    void *volatile block = malloc(65536);
    if (block != NULL) {
        memset(block, 1, 65536);
    }
}
