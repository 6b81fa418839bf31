// The driver API from C with PTX text: contexts, modules, globals, three ways to launch, memory operations, events.
// builds: host
// paths: tcp unix direct native
#include "driver.h"

static const char *PTX =
    ".version 7.0\n.target sm_75\n.address_size 64\n"
    ".visible .global .align 4 .u32 offset = 5;\n"
    ".const .align 4 .b32 factors[4] = {2, 3, 4, 5};\n"
    ".visible .entry scale(.param .u64 data, .param .u32 count, .param .u32 which)\n"
    "{\n"
    "    .reg .pred %p;\n    .reg .b32 %r<12>;\n    .reg .b64 %rd<8>;\n"
    "    ld.param.u64 %rd1, [data];\n    ld.param.u32 %r1, [count];\n    ld.param.u32 %r2, [which];\n"
    "    cvta.to.global.u64 %rd2, %rd1;\n"
    "    mov.u32 %r3, %ctaid.x;\n    mov.u32 %r4, %ntid.x;\n    mov.u32 %r5, %tid.x;\n"
    "    mad.lo.s32 %r6, %r3, %r4, %r5;\n"
    "    setp.ge.u32 %p, %r6, %r1;\n    @%p bra DONE;\n"
    "    mul.wide.u32 %rd3, %r6, 4;\n    add.s64 %rd4, %rd2, %rd3;\n"
    "    mul.wide.u32 %rd5, %r2, 4;\n    mov.u64 %rd6, factors;\n    add.s64 %rd7, %rd6, %rd5;\n"
    "    ld.const.u32 %r7, [%rd7];\n    ld.global.u32 %r8, [offset];\n"
    "    ld.global.u32 %r9, [%rd4];\n    mad.lo.s32 %r10, %r9, %r7, %r8;\n    st.global.u32 [%rd4], %r10;\n"
    "DONE:\n    ret;\n}\n";

enum { COUNT = 1000 };

static void expect(CUdeviceptr data, const uint32_t *want, const char *what) {
    uint32_t got[COUNT];
    CU(cuMemcpyDtoH, got, data, sizeof got);
    for (int i = 0; i < COUNT; i++) REQUIRE(got[i] == want[i], "%s: element %d is %u, expected %u", what, i, got[i], want[i]);
}

int main(void) {
    int version = 0, count = 0, value = 0;
    CUdevice device;
    CUcontext context, current, second;
    GIVES(CUDA_ERROR_NOT_INITIALIZED, cuDeviceGetCount, &count);
    CU(cuInit, 0);
    CU(cuDriverGetVersion, &version);
    REQUIRE(version >= 12000, "version %d", version);
    CU(cuDeviceGetCount, &count);
    REQUIRE(count >= 1, "%d devices", count);
    CU(cuDeviceGet, &device, 0);
    GIVES(CUDA_ERROR_INVALID_DEVICE, cuDeviceGet, &device, count);
    CU(cuDeviceGet, &device, 0);
    char name[200];
    CU(cuDeviceGetName, name, sizeof name, device);
    REQUIRE(strlen(name) > 3, "name `%s`", name);
    CU(cuDeviceGetAttribute, &value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, device);
    REQUIRE(value == 32, "warps of %d", value);

    GIVES(CUDA_ERROR_INVALID_CONTEXT, cuCtxSynchronize);
    CUresult (*create)(CUcontext *, unsigned, CUdevice) = driver_function("cuCtxCreate_v2");
    REQUIRE(create(&context, 0, device) == CUDA_SUCCESS, "cuCtxCreate_v2");
    CU(cuCtxGetCurrent, &current);
    REQUIRE(current == context, "a new context is current");
    REQUIRE(create(&second, 0, device) == CUDA_SUCCESS, "cuCtxCreate_v2");
    CU(cuCtxPopCurrent, &current);
    REQUIRE(current == second, "the second context was on top");
    CU(cuCtxGetCurrent, &current);
    REQUIRE(current == context, "the first context is below");
    CU(cuCtxDestroy, second);
    CUdevice of_context;
    CU(cuCtxGetDevice, &of_context);
    REQUIRE(of_context == device, "device %d", of_context);

    CUmodule module;
    CUfunction function;
    CU(cuModuleLoadData, &module, PTX);
    CU(cuModuleGetFunction, &function, module, "scale");
    GIVES(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction, &function, module, "nothing");
    CU(cuModuleGetFunction, &function, module, "scale");
    CU(cuFuncGetAttribute, &value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, function);
    REQUIRE(value >= 256 && value <= 1024, "%d threads", value);

    uint32_t host[COUNT], want[COUNT];
    for (int i = 0; i < COUNT; i++) host[i] = want[i] = (uint32_t)i * 7919u;
    CUdeviceptr data, base;
    size_t size;
    CU(cuMemAlloc, &data, sizeof host);
    REQUIRE(data % 256 == 0, "address %llx", (unsigned long long)data);
    CU(cuMemGetAddressRange, &base, &size, data + 100);
    REQUIRE(base == data && size == sizeof host, "range %llx %zu", (unsigned long long)base, size);
    CU(cuMemcpyHtoD, data, host, sizeof host);

    uint32_t count_argument = COUNT, which = 1;
    void *arguments[] = {&data, &count_argument, &which};
    CU(cuLaunchKernel, function, (COUNT + 127) / 128, 1, 1, 128, 1, 1, 0, NULL, arguments, NULL);
    for (int i = 0; i < COUNT; i++) want[i] = want[i] * 3 + 5;
    expect(data, want, "kernelParams");

    struct {
        CUdeviceptr data;
        uint32_t count, which;
    } packed = {data, COUNT, 3};
    size_t packed_size = sizeof packed;
    void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &packed, CU_LAUNCH_PARAM_BUFFER_SIZE, &packed_size, CU_LAUNCH_PARAM_END};
    CU(cuLaunchKernel, function, (COUNT + 63) / 64, 1, 1, 64, 1, 1, 0, NULL, NULL, extra);
    for (int i = 0; i < COUNT; i++) want[i] = want[i] * 5 + 5;
    expect(data, want, "extra");

    CUdeviceptr offset;
    CU(cuModuleGetGlobal, &offset, &size, module, "offset");
    REQUIRE(size == 4, "size %zu", size);
    uint32_t new_offset = 11;
    CU(cuMemcpyHtoD, offset, &new_offset, 4);
    which = 0;
    CUstream stream;
    CU(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
    CUlaunchConfig config;
    memset(&config, 0, sizeof config);
    config.gridDimX = (COUNT + 31) / 32, config.gridDimY = config.gridDimZ = 1;
    config.blockDimX = 32, config.blockDimY = config.blockDimZ = 1;
    config.hStream = stream;
    CU(cuLaunchKernelEx, &config, function, arguments, NULL);
    CU(cuStreamSynchronize, stream);
    for (int i = 0; i < COUNT; i++) want[i] = want[i] * 2 + 11;
    expect(data, want, "cuLaunchKernelEx");

    CU(cuMemsetD32, data, 0xDEADBEEF, 100);
    CU(cuMemsetD16, data + 400, 0x1234, 100);
    CU(cuMemsetD8Async, data + 600, 0x5A, 200, stream);
    CU(cuStreamSynchronize, stream);
    for (int i = 0; i < 100; i++) want[i] = 0xDEADBEEF;
    for (int i = 100; i < 150; i++) want[i] = 0x12341234;
    for (int i = 150; i < 200; i++) want[i] = 0x5A5A5A5A;
    expect(data, want, "memset");
    CU(cuMemcpyDtoD, data + 2000, data, 400);
    memcpy(want + 500, want, 400);
    expect(data, want, "device to device");

    CUevent start, end;
    float milliseconds = -1;
    CU(cuEventCreate, &start, CU_EVENT_DEFAULT);
    CU(cuEventCreate, &end, CU_EVENT_DEFAULT);
    CU(cuEventRecord, start, stream);
    CU(cuLaunchKernelEx, &config, function, arguments, NULL);
    CU(cuEventRecord, end, stream);
    CU(cuEventSynchronize, end);
    CU(cuEventElapsedTime, &milliseconds, start, end);
    REQUIRE(milliseconds >= 0 && milliseconds < 60000, "%f ms", milliseconds);

    unsigned type = 0;
    CU(cuPointerGetAttribute, &type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, data + 8);
    REQUIRE(type == CU_MEMORYTYPE_DEVICE, "type %u", type);
    GIVES(CUDA_ERROR_INVALID_VALUE, cuPointerGetAttribute, &type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (CUdeviceptr)(uintptr_t)host);

    size_t free_before, free_after, total;
    CU(cuMemGetInfo, &free_before, &total);
    CU(cuMemFree, data);
    CU(cuMemGetInfo, &free_after, &total);
    REQUIRE(free_after > free_before && free_after <= total, "%zu, %zu of %zu", free_before, free_after, total);
    CU(cuEventDestroy, start);
    CU(cuEventDestroy, end);
    CU(cuStreamDestroy, stream);
    CU(cuModuleUnload, module);
    CU(cuCtxDestroy, context);

    // The primary context, as runtimes use it.
    CU(cuDevicePrimaryCtxRetain, &context, device);
    CU(cuCtxSetCurrent, context);
    CU(cuModuleLoadData, &module, PTX);
    CU(cuModuleGetGlobal, &offset, &size, module, "offset");
    CU(cuMemcpyDtoH, &new_offset, offset, 4);
    REQUIRE(new_offset == 5, "a module loaded again starts afresh: %u", new_offset);
    CU(cuModuleUnload, module);
    CU(cuDevicePrimaryCtxRelease, device);
    printf("driver_api: ok\n");
    return 0;
}
