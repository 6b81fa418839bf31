/* Memory through the C interface: copies, fills, pools, pinned memory, and a limit that is exact. */
#include "cuda.h"

static void count(void *data) { ++*(int *)data; }

int main(void) {
    int devices = 0, calls = 0;
    size_t total = 0, free_bytes = 0;
    CUcontext context, again;
    EXPECT(3, cuDeviceGetCount(&devices)); /* before cuInit */
    OK(cuInit(0));
    OK(cuDeviceGetCount(&devices));
    TRUE(devices == 1);
    OK(cuDeviceTotalMem_v2(&total, 0));
    TRUE(total == 64 << 20);
    CUdeviceptr block = 0, other = 0, rest = 0;
    EXPECT(201, cuMemAlloc_v2(&block, 16)); /* no context */
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuCtxSetCurrent(context));
    OK(cuCtxGetCurrent(&again));
    TRUE(again == context);

    /* The first byte too many. */
    OK(cuMemAlloc_v2(&block, 1000));
    OK(cuMemGetInfo_v2(&free_bytes, &total));
    TRUE(free_bytes == total - 1000);
    EXPECT(2, cuMemAlloc_v2(&rest, free_bytes + 1));
    OK(cuMemAlloc_v2(&rest, free_bytes));
    EXPECT(2, cuMemAlloc_v2(&other, 1));
    OK(cuMemFree_v2(rest));
    EXPECT(1, cuMemFree_v2(rest));

    /* Copies and fills. */
    unsigned char bytes[1000], back[1000];
    for (int i = 0; i < 1000; i++) bytes[i] = i * 7;
    OK(cuMemcpyHtoD_v2(block, bytes, 1000));
    EXPECT(1, cuMemcpyHtoD_v2(block, bytes, 1001));
    OK(cuMemAlloc_v2(&other, 1000));
    OK(cuMemcpyDtoD_v2(other, block, 1000));
    OK(cuMemsetD32_v2(other + 8, 0x01020304, 2));
    OK(cuMemcpyDtoH_v2(back, other, 1000));
    unsigned char filled[8] = {4, 3, 2, 1, 4, 3, 2, 1};
    TRUE(memcmp(back, bytes, 8) == 0 && memcmp(back + 8, filled, 8) == 0 && memcmp(back + 16, bytes + 16, 984) == 0);
    OK(cuMemFree_v2(other));
    EXPECT(1, cuMemcpyDtoH_v2(back, other, 1000)); /* freed */

    /* Streams, events and callbacks, into pinned memory. */
    CUstream stream;
    CUevent before, after;
    void *pinned;
    float milliseconds = -1;
    OK(cuMemAllocHost_v2(&pinned, 1000));
    OK(cuStreamCreate(&stream, 1));
    OK(cuEventCreate(&before, 0));
    OK(cuEventCreate(&after, 0));
    EXPECT(400, cuEventElapsedTime(&milliseconds, before, after));
    OK(cuEventRecord(before, stream));
    OK(cuMemcpyDtoHAsync_v2(pinned, block, 1000, stream));
    OK(cuLaunchHostFunc(stream, count, &calls));
    OK(cuEventRecord(after, stream));
    OK(cuStreamWaitEvent(0, after, 0));
    OK(cuStreamSynchronize(stream));
    OK(cuEventQuery(after));
    OK(cuEventElapsedTime(&milliseconds, before, after));
    TRUE(calls == 1 && milliseconds >= 0 && memcmp(pinned, bytes, 1000) == 0);
    OK(cuMemFreeHost(pinned));

    /* Pools give back what they keep before anything fails. */
    CUmemoryPool pool;
    unsigned long long threshold = ~0ull, reserved = 0;
    OK(cuDeviceGetDefaultMemPool(&pool, 0));
    OK(cuMemPoolSetAttribute(pool, 4, &threshold));
    OK(cuMemAllocAsync(&other, 32 << 20, stream));
    OK(cuMemFreeAsync(other, stream));
    OK(cuCtxSynchronize());
    OK(cuMemPoolGetAttribute(pool, 5, &reserved));
    TRUE(reserved == 32 << 20);
    OK(cuMemAlloc_v2(&rest, (64 << 20) - 1000));
    OK(cuMemPoolGetAttribute(pool, 5, &reserved));
    TRUE(reserved == 0);
    EXPECT(2, cuMemAllocAsync(&other, 1, stream));
    OK(cuMemFree_v2(rest));

    /* What is gone is gone. */
    OK(cuEventDestroy_v2(before));
    EXPECT(400, cuEventRecord(before, stream));
    OK(cuStreamDestroy_v2(stream));
    EXPECT(400, cuStreamSynchronize(stream));
    OK(cuDevicePrimaryCtxRelease_v2(0));
    EXPECT(709, cuMemAlloc_v2(&other, 1));
    OK(cuCtxCreate_v2(&context, 0, 0));
    OK(cuMemGetInfo_v2(&free_bytes, &total));
    TRUE(free_bytes == total);
    OK(cuCtxDestroy_v2(context));
    EXPECT(201, cuCtxDestroy_v2(context));
    puts("all as expected");
    return 0;
}
