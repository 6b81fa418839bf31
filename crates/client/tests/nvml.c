/* Asks NVML what monitoring tools ask, without any CUDA call. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci;

static void *library;

static int (*f(const char *name))() {
    int (*function)() = (int (*)())dlsym(library, name);
    if (!function) printf("no %s\n", name);
    return function;
}

int main(void) {
    library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    if (!library) return puts(dlerror()), 1;
    unsigned count = 0;
    printf("count before init: %d\n", f("nvmlDeviceGetCount_v2")(&count));
    printf("init: %d\n", f("nvmlInit_v2")());
    printf("count: %d", f("nvmlDeviceGetCount_v2")(&count));
    printf(", %u\n", count);

    void *device = NULL, *same = NULL;
    char uuid[96], name[96], text[96];
    f("nvmlDeviceGetHandleByIndex_v2")(1, &device);
    printf("uuid: %d\n", f("nvmlDeviceGetUUID")(device, uuid, (unsigned)sizeof uuid));
    f("nvmlDeviceGetHandleByUUID")(uuid, &same);
    puts(same == device && strncmp(uuid, "GPU-", 4) == 0 && strlen(uuid) == 40 ? "found by uuid" : "lost by uuid");
    pci where;
    printf("pci: %d\n", f("nvmlDeviceGetPciInfo_v3")(device, &where));
    same = NULL;
    f("nvmlDeviceGetHandleByPciBusId_v2")(where.bus_id, &same);
    puts(same == device ? "found by bus id" : "lost by bus id");
    printf("name: %d", f("nvmlDeviceGetName")(device, name, (unsigned)sizeof name));
    printf(", %s\n", name);
    printf("name in too little room: %d\n", f("nvmlDeviceGetName")(device, text, 4u));

    memory first;
    printf("memory: %d", f("nvmlDeviceGetMemoryInfo")(device, &first));
    printf(", %llu MiB, adds up: %d\n", first.total >> 20, first.free + first.used == first.total);
    memory_v2 second = {.version = 0x2000028};
    printf("memory v2: %d", f("nvmlDeviceGetMemoryInfo_v2")(device, &second));
    printf(", the same: %d\n", second.total == first.total);
    second.version = 7;
    printf("memory v2 of another version: %d\n", f("nvmlDeviceGetMemoryInfo_v2")(device, &second));

    int version = 0;
    printf("cuda version: %d", f("nvmlSystemGetCudaDriverVersion_v2")(&version));
    printf(", %d\n", version);
    unsigned processes = 0;
    printf("processes: %d", f("nvmlDeviceGetComputeRunningProcesses_v3")(device, &processes, NULL));
    printf(", %u\n", processes);
    printf("temperature: %d\n", f("nvmlDeviceGetTemperature")(device, 0u, &count));
    printf("a device that is not there: %d\n", f("nvmlDeviceGetHandleByIndex_v2")(2u, &device));
    printf("text: %s\n", ((const char *(*)(int))dlsym(library, "nvmlErrorString"))(3));
    printf("shutdown: %d\n", f("nvmlShutdown")());
    printf("shutdown again: %d\n", f("nvmlShutdown")());
    return 0;
}
