// Takes a vGPU's memory to the last byte, in every way that there is, and goes on after being refused one byte more.
// With a number as argument the vGPU must be exactly that large.
// builds: host
// paths: tcp direct native
#include "driver.h"

static size_t available(void) {
    size_t left, total;
    CU(cuMemGetInfo, &left, &total);
    return left;
}

static const char *COUNT_UP =
    ".version 7.0\n.target sm_75\n.address_size 64\n"
    ".visible .entry count_up(.param .u64 data)\n{\n    .reg .b64 %rd<3>;\n    .reg .b32 %r<3>;\n"
    "    ld.param.u64 %rd1, [data];\n    cvta.to.global.u64 %rd2, %rd1;\n    ld.global.u32 %r1, [%rd2];\n"
    "    add.u32 %r2, %r1, 1;\n    st.global.u32 [%rd2], %r2;\n    ret;\n}\n";

static CUfunction function;

// The last four bytes of an allocation can be written by the host and by a kernel.
static void use_end(CUdeviceptr base, size_t size) {
    uint32_t value = 41;
    CUdeviceptr last = (base + size - 4) & ~(CUdeviceptr)3;
    CU(cuMemcpyHtoD, last, &value, 4);
    void *arguments[] = {&last};
    CU(cuLaunchKernel, function, 1, 1, 1, 1, 1, 1, 0, NULL, arguments, NULL);
    CU(cuMemcpyDtoH, &value, last, 4);
    REQUIRE(value == 42, "the kernel left %u", value);
}

// A module whose variable alone is `bytes` large.
static CUresult load_with_variable(CUmodule *module, size_t bytes) {
    char ptx[300];
    snprintf(ptx, sizeof ptx, ".version 7.0\n.target sm_75\n.address_size 64\n.visible .global .align 16 .b8 room[%zu];\n", bytes);
    return DRIVER(cuModuleLoadData)(module, ptx);
}

int main(int argc, char **argv) {
    CUdevice device;
    CUcontext context;
    CUmodule module;
    size_t total, free_bytes, total_of_device;
    CU(cuInit, 0);
    CU(cuDeviceGet, &device, 0);
    CU(cuDeviceTotalMem, &total_of_device, device);
    CU(cuDevicePrimaryCtxRetain, &context, device);
    CU(cuCtxSetCurrent, context);
    CU(cuModuleLoadData, &module, COUNT_UP);
    CU(cuModuleGetFunction, &function, module, "count_up");
    CU(cuMemGetInfo, &free_bytes, &total);
    REQUIRE(total == total_of_device, "cuMemGetInfo says %zu, cuDeviceTotalMem %zu", total, total_of_device);
    if (argc > 1) REQUIRE(total == strtoull(argv[1], NULL, 10), "the vGPU has %zu bytes, expected %s", total, argv[1]);
    REQUIRE(free_bytes <= total && free_bytes > total / 2, "%zu of %zu are free", free_bytes, total);

    // 1. cuMemAlloc, all at once: to the byte, not one more, and again.
    CUdeviceptr pointer, more;
    size_t left = available();
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc, &pointer, left + 1);
    CU(cuMemAlloc, &pointer, left);
    REQUIRE(available() == 0, "%zu bytes are left", available());
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc, &more, 1);
    use_end(pointer, left);
    CU(cuMemFree, pointer);
    REQUIRE(available() == left, "%zu of %zu bytes came back", available(), left);

    // 2. In uneven pieces.
    CUdeviceptr pieces[7];
    size_t piece = left / 7;
    for (int i = 0; i < 7; i++) CU(cuMemAlloc, &pieces[i], i < 6 ? piece : left - 6 * piece);
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc, &more, 1);
    CU(cuMemFree, pieces[3]);
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc, &more, piece + 1);
    CU(cuMemAlloc, &pieces[3], piece);
    use_end(pieces[3], piece);
    for (int i = 0; i < 7; i++) CU(cuMemFree, pieces[i]);
    REQUIRE(available() == left, "%zu of %zu bytes came back", available(), left);

    // 3. With pitch: what is charged is pitch times height.
    size_t pitch;
    CUresult result = DRIVER(cuMemAllocPitch)(&pointer, &pitch, 1001, 100, 4);
    REQUIRE(result == CUDA_SUCCESS, "cuMemAllocPitch gave %s", driver_error(result));
    REQUIRE(available() == left - pitch * 100, "%zu bytes are charged for %zu rows of %zu", left - available(), (size_t)100, pitch);
    CU(cuMemFree, pointer);
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAllocPitch, &pointer, &pitch, 65536, left / 65536 + 1, 4);

    // 4. In stream order.
    CUstream stream;
    CU(cuStreamCreate, &stream, 0);
    CU(cuMemAllocAsync, &pointer, left, stream);
    CU(cuStreamSynchronize, stream);
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc, &more, 1);
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAllocAsync, &more, 1, stream);
    use_end(pointer, left);
    CU(cuMemFreeAsync, pointer, stream);
    CU(cuStreamSynchronize, stream);
    CU(cuMemAlloc, &pointer, left); // what a pool keeps is there when it is needed
    CU(cuMemFree, pointer);
    CUmemoryPool pool;
    CU(cuDeviceGetDefaultMemPool, &pool, device);
    CU(cuMemPoolTrimTo, pool, 0);
    REQUIRE(available() == left, "%zu of %zu bytes came back from the pool", available(), left);

    // 5. Module variables.
    result = load_with_variable(&module, left + 1);
    REQUIRE(result == CUDA_ERROR_OUT_OF_MEMORY, "a module of %zu bytes gave %s", left + 1, driver_error(result));
    result = load_with_variable(&module, left / 2);
    REQUIRE(result == CUDA_SUCCESS, "a module of %zu bytes gave %s", left / 2, driver_error(result));
    REQUIRE(available() <= left - left / 2, "the module's %zu bytes are not charged", left / 2);
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc, &more, left - left / 2 + 1);
    CU(cuModuleUnload, module);
    REQUIRE(available() == left, "%zu of %zu bytes came back from the module", available(), left);

    // 6. Ways that may be missing, but then say so.
    CUmemAllocationProp property;
    memset(&property, 0, sizeof property);
    property.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    property.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    size_t granule = 0;
    result = DRIVER(cuMemGetAllocationGranularity)(&granule, &property, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
    if (result == CUDA_SUCCESS) {
        CUmemGenericAllocationHandle handle, second;
        size_t most = left / granule * granule;
        CU(cuMemCreate, &handle, most, &property, 0);
        result = DRIVER(cuMemCreate)(&second, granule, &property, 0);
        REQUIRE(result == CUDA_ERROR_OUT_OF_MEMORY, "cuMemCreate gave %s", driver_error(result));
        GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc, &more, left - most + 1);
        CU(cuMemRelease, handle);
        REQUIRE(available() == left, "%zu of %zu bytes came back from cuMemRelease", available(), left);
    } else {
        REQUIRE(result == CUDA_ERROR_NOT_SUPPORTED, "cuMemGetAllocationGranularity gave %s", driver_error(result));
    }
    result = DRIVER(cuMemAllocManaged)(&pointer, left / 2, CU_MEM_ATTACH_GLOBAL);
    if (result == CUDA_SUCCESS) {
        REQUIRE(available() <= left - left / 2, "managed memory is not charged");
        CU(cuMemFree, pointer);
    } else {
        REQUIRE(result == CUDA_ERROR_NOT_SUPPORTED, "cuMemAllocManaged gave %s", driver_error(result));
    }
    CUDA_ARRAY_DESCRIPTOR descriptor = {1024, 1024, CU_AD_FORMAT_FLOAT, 4};
    CUarray array;
    result = DRIVER(cuArrayCreate)(&array, &descriptor);
    if (result == CUDA_SUCCESS) {
        REQUIRE(available() <= left - ((size_t)16 << 20), "arrays are not charged");
        CU(cuArrayDestroy, array);
    } else {
        REQUIRE(result == CUDA_ERROR_NOT_SUPPORTED, "cuArrayCreate gave %s", driver_error(result));
    }

    // Many small ones: alignment costs address space, not memory.
    enum { MANY = 3000 };
    static CUdeviceptr many[MANY];
    for (int i = 0; i < MANY; i++) CU(cuMemAlloc, &many[i], 1 + i % 7);
    size_t bytes = 0;
    for (int i = 0; i < MANY; i++) bytes += 1 + i % 7;
    REQUIRE(left - available() >= bytes, "%zu bytes are charged for %zu", left - available(), bytes);
    for (int i = 0; i < MANY; i++) CU(cuMemFree, many[i]);
    REQUIRE(available() == left, "%zu of %zu bytes came back", available(), left);
    CU(cuMemAlloc, &pointer, left);
    use_end(pointer, left);
    CU(cuMemFree, pointer);
    printf("vram_limit: ok\n");
    return 0;
}
