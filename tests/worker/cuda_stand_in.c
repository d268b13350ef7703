/* A stand-in for libcuda.so.1 without a device. It appends a line to the file named by CUDA_STAND_IN_LOG for each cuInit.

   gcc -shared -fPIC -o libcuda.so.1 cuda_stand_in.c */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CUDA_SUCCESS = 0, CUDA_ERROR_NOT_INITIALIZED = 3, CUDA_ERROR_NO_DEVICE = 100 };

static int initialized = 0;

int cuInit(unsigned int flags) {
    const char *path = getenv("CUDA_STAND_IN_LOG");
    (void)flags;
    initialized = 1;
    if (path) {
        int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
        if (fd < 0 || write(fd, "cuInit\n", 7) != 7 || close(fd) != 0) abort();
    }
    return CUDA_ERROR_NO_DEVICE;
}

int cuDriverGetVersion(int *version) {
    *version = 13000;
    return CUDA_SUCCESS;
}

int cuDeviceGetCount(int *count) {
    *count = 0;
    return initialized ? CUDA_ERROR_NO_DEVICE : CUDA_ERROR_NOT_INITIALIZED;
}

static int unsupported(void) { return initialized ? CUDA_ERROR_NO_DEVICE : CUDA_ERROR_NOT_INITIALIZED; }

int cuGetProcAddress_v2(const char *name, void **function, int version, unsigned long long flags, void *status) {
    (void)version, (void)flags;
    *function = !strcmp(name, "cuInit")                        ? (void *)cuInit
                : !strcmp(name, "cuDriverGetVersion")          ? (void *)cuDriverGetVersion
                : !strcmp(name, "cuDeviceGetCount")            ? (void *)cuDeviceGetCount
                : !strncmp(name, "cuGetProcAddress", 16)       ? (void *)cuGetProcAddress_v2
                                                               : (void *)unsupported;
    if (status) *(int *)status = 0;
    return CUDA_SUCCESS;
}

int cuGetProcAddress(const char *name, void **function, int version, unsigned long long flags) {
    return cuGetProcAddress_v2(name, function, version, flags, 0);
}
