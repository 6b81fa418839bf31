/* What holds for a whole process: devices that are shown, private tables, contexts' storage, forks. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef unsigned long long u64;

static void *library;

static int (*f(const char *name))() {
    int (*function)() = (int (*)())dlsym(library, name);
    if (!function) printf("no %s\n", name);
    return function;
}

static int destroyed;

static void destroy(void *context, void *key, void *value) {
    (void)context;
    destroyed += key == (void *)3 && value == (void *)4;
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    library = dlopen("libcuda.so.1", RTLD_NOW);
    if (!library) return puts(dlerror()), 1;
    int count = -1;
    printf("count before init: %d\n", f("cuDeviceGetCount")(&count));
    printf("init: %d\n", f("cuInit")(0u));
    f("cuDeviceGetCount")(&count);
    printf("devices: %d\n", count);

    /* The only visible device is NVML's second. */
    unsigned char bytes[16];
    char uuid[96], expected[96] = "GPU-";
    void *device = NULL;
    f("cuDeviceGetUuid_v2")(bytes, 0);
    for (int i = 0; i < 16; i++)
        sprintf(expected + strlen(expected), "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", bytes[i]);
    f("nvmlInit_v2")();
    f("nvmlDeviceGetHandleByIndex_v2")(1u, &device);
    f("nvmlDeviceGetUUID")(device, uuid, (unsigned)sizeof uuid);
    puts(strcmp(uuid, expected) == 0 ? "the second device" : "another device");

    const char *text = NULL;
    f("cuGetErrorName")(2, &text);
    printf("error 2: %s\n", text);
    printf("error 12345: %d\n", f("cuGetErrorString")(12345, &text));

    static const unsigned char unknown[16] = {0xDA, 0x91, 0x51, 0xD3};
    static const unsigned char integrity[16] = {0xD4, 0x08, 0x20, 0x55, 0xBD, 0xE6, 0x70, 0x4B,
                                                0x8D, 0x34, 0xBA, 0x12, 0x3C, 0x66, 0xE1, 0xF2};
    static const unsigned char storage[16] = {0xC6, 0x93, 0x33, 0x6E, 0x11, 0x21, 0xDF, 0x11,
                                              0xA8, 0xC3, 0x68, 0xF3, 0x55, 0xD8, 0x95, 0x93};
    void **table = (void **)1;
    int code = f("cuGetExportTable")(&table, unknown);
    printf("unknown table: %d, null: %d\n", code, table == NULL);
    f("cuGetExportTable")(&table, integrity);
    printf("slots: %zu\n", (size_t)table[0] / sizeof(void *));
    u64 answer[2] = {0, 0};
    code = ((int (*)(unsigned, u64, u64 *))table[1])(13050, (u64)time(NULL), answer);
    printf("integrity: %d, %llx\n", code, answer[0]);

    void *context = NULL, *value = NULL;
    f("cuGetExportTable")(&table, storage);
    int (*put)(void *, void *, void *, void *) = (int (*)(void *, void *, void *, void *))table[0];
    int (*get)(void **, void *, void *) = (int (*)(void **, void *, void *))table[2];
    printf("storage without a context: %d\n", get(&value, NULL, (void *)3));
    printf("context: %d\n", f("cuCtxCreate_v2")(&context, 0u, 0));
    printf("nothing stored: %d\n", get(&value, NULL, (void *)3));
    printf("put: %d\n", put(context, (void *)3, (void *)4, (void *)destroy));
    printf("get: %d", get(&value, NULL, (void *)3));
    printf(", %p\n", value);
    f("cuCtxDestroy_v2")(context);
    printf("destroyed: %d\n", destroyed);

    pid_t child = fork();
    if (child == 0) {
        printf("child: %d, %d\n", f("cuInit")(0u), f("cuDeviceGetCount")(&count));
        _exit(0);
    }
    waitpid(child, NULL, 0);
    printf("parent: %d\n", f("cuDeviceGetCount")(&count));
    return 0;
}
