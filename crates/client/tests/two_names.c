/* Opens the library under both names, as programs do that use CUDA and NVML. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

typedef int (*call)(void);
typedef int (*get_address)(const char *, void **, int, unsigned long long, int *);

static int (*error_name)(int, const char **);

/* The CUDA runtime calls us from here, when thread-local values are gone. */
static void last(void) {
    const char *name = NULL;
    printf("at exit %d\n", error_name(2, &name));
}

int main(void) {
    void *cuda = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    void *nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!cuda || !nvml) {
        printf("%s\n", dlerror());
        return 1;
    }
    error_name = (int (*)(int, const char **))dlsym(cuda, "cuGetErrorName");
    atexit(last);
    puts(dlsym(cuda, "nvmlInit_v2") == dlsym(nvml, "nvmlInit_v2") ? "same instance" : "two instances");

    get_address get = (get_address)dlsym(cuda, "cuGetProcAddress_v2");
    void *address = NULL;
    int status = -1;
    int code = get("cuInit", &address, 2000, 0, &status);
    puts(code == 0 && status == 0 && address == dlsym(cuda, "cuInit") ? "found cuInit" : "lost cuInit");
    code = get("cuNoSuchThing", &address, 13000, 0, &status);
    puts(code == 500 && status == 1 && address == NULL ? "not found cuNoSuchThing" : "found cuNoSuchThing");

    printf("absent says %d\n", ((call)dlsym(cuda, "cuParamSetTexRef"))());
    printf("nvml absent says %d\n", ((call)dlsym(nvml, "nvmlDeviceGetFanSpeed"))());
    return 0;
}
