// What goes wrong gets CUDA's own code, and the program goes on: PTX that is broken in several ways, sizes and pointers
// that cannot be, functions that do not exist.
// builds: host
// paths: tcp direct native
#include "driver.h"

static const char *GOOD =
    ".version 7.0\n.target sm_75\n.address_size 64\n"
    ".visible .entry nop(.param .u32 value)\n{\n    ret;\n}\n";

struct broken {
    const char *what, *ptx, *position;
};

static const struct broken BROKEN[] = {
    {"an instruction that is none", ".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry k()\n{\n    frobnicate.b32 1;\n    ret;\n}\n", "6"},
    {"a register that was not declared", ".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry k()\n{\n    mov.u32 %r1, 5;\n    ret;\n}\n", "6"},
    {"an operand too few", ".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry k()\n{\n    .reg .b32 %r<3>;\n    add.s32 %r1, %r2;\n    ret;\n}\n", "7"},
    {"a label that is nowhere", ".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry k()\n{\n    bra NOWHERE;\n    ret;\n}\n", "6"},
    {"an end that is missing", ".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry k()\n{\n    ret;\n", "7"},
    {"plain prose", ".This is not PTX at all, but it begins like it.\n", "1"},
};

int main(void) {
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUfunction function;
    CU(cuInit, 0);
    CU(cuDeviceGet, &device, 0);
    CU(cuDevicePrimaryCtxRetain, &context, device);
    CU(cuCtxSetCurrent, context);

    for (size_t i = 0; i < sizeof BROKEN / sizeof *BROKEN; i++) {
        char log[2000] = "";
        CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
        void *values[] = {log, (void *)sizeof log};
        CUresult result = DRIVER(cuModuleLoadDataEx)(&module, BROKEN[i].ptx, 2, options, values);
        REQUIRE(result == CUDA_ERROR_INVALID_PTX, "%s: %s", BROKEN[i].what, driver_error(result));
        REQUIRE(strstr(log, BROKEN[i].position), "%s: the log names no line %s: `%s`", BROKEN[i].what, BROKEN[i].position, log);
        REQUIRE(strlen(log) > strlen(BROKEN[i].position) + 5, "%s: the log says nothing: `%s`", BROKEN[i].what, log);
        printf("%s: %s\n", BROKEN[i].what, log);
        // A log that is too small is cut, not overrun.
        char small[24];
        memset(small, 'x', sizeof small);
        values[0] = small, values[1] = (void *)16;
        result = DRIVER(cuModuleLoadDataEx)(&module, BROKEN[i].ptx, 2, options, values);
        REQUIRE(result == CUDA_ERROR_INVALID_PTX && small[16] == 'x' && memchr(small, 0, 16), "%s: a small log", BROKEN[i].what);
    }
    GIVES(CUDA_ERROR_INVALID_VALUE, cuModuleLoadData, &module, NULL);
    GIVES(CUDA_ERROR_INVALID_VALUE, cuModuleLoadData, NULL, GOOD);

    CU(cuModuleLoadData, &module, GOOD);
    CU(cuModuleGetFunction, &function, module, "nop");
    uint32_t value = 0;
    void *arguments[] = {&value};
    GIVES(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel, function, 1, 1, 1, 1025, 1, 1, 0, NULL, arguments, NULL);
    GIVES(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel, function, 1, 1, 1, 32, 32, 2, 0, NULL, arguments, NULL);
    GIVES(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel, function, 0, 1, 1, 1, 1, 1, 0, NULL, arguments, NULL);
    GIVES(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel, function, 1, 65536, 1, 1, 1, 1, 0, NULL, arguments, NULL);
    GIVES(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel, function, 1, 1, 1, 1, 1, 1, 1 << 30, NULL, arguments, NULL);
    CU(cuLaunchKernel, function, 1, 1, 1, 1, 1, 1, 0, NULL, arguments, NULL);
    CU(cuCtxSynchronize);

    CUdeviceptr pointer;
    char host[16] = "";
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemAlloc, &pointer, 0);
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc, &pointer, (size_t)1 << 60);
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc, &pointer, ~(size_t)0);
    CU(cuMemAlloc, &pointer, 1000);
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD, pointer + 990, host, 16);
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH, host, (CUdeviceptr)16, 16);
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD, pointer, host, (size_t)1 << 62);
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemsetD8, pointer, 1, 1001);
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemFree, pointer + 8);
    CU(cuMemFree, pointer);
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemFree, pointer);
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD, pointer, host, 16);

    CU(cuModuleUnload, module);

    int number;
    GIVES(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetAttribute, &number, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 99);
    GIVES(CUDA_ERROR_INVALID_VALUE, cuDeviceGetAttribute, &number, (CUdevice_attribute)100000, device);
    GIVES(CUDA_ERROR_INVALID_VALUE, cuInit, 7);
    const char *text;
    REQUIRE(DRIVER(cuGetErrorName)((CUresult)12345, &text) == CUDA_ERROR_INVALID_VALUE, "an error without a name");

    void *entry = &entry;
    CUdriverProcAddressQueryResult found;
    CU(cuGetProcAddress, "cuMemAlloc", &entry, 3020, CU_GET_PROC_ADDRESS_DEFAULT, &found);
    REQUIRE(entry == driver_function("cuMemAlloc_v2") && found == CU_GET_PROC_ADDRESS_SUCCESS, "cuMemAlloc of 3.2");
    GIVES(CUDA_ERROR_NOT_FOUND, cuGetProcAddress, "cuFrobnicate", &entry, 13000, CU_GET_PROC_ADDRESS_DEFAULT, &found);
    REQUIRE(entry == NULL && found == CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND, "a function that is none");
    GIVES(CUDA_ERROR_NOT_FOUND, cuGetProcAddress, "cuMemAlloc", &entry, 1000, CU_GET_PROC_ADDRESS_DEFAULT, &found);
    REQUIRE(found == CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT, "too early a version: %d", found);

    // After all that, work goes on.
    CU(cuModuleLoadData, &module, GOOD);
    CU(cuModuleGetFunction, &function, module, "nop");
    CU(cuLaunchKernel, function, 1, 1, 1, 1, 1, 1, 0, NULL, arguments, NULL);
    CU(cuCtxSynchronize);
    printf("driver_errors: ok\n");
    return 0;
}
