/* The part of the driver API that these programs use, as the manual declares it. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef void *CUcontext, *CUmodule, *CUfunction, *CUstream, *CUevent, *CUmemoryPool, *CUlinkState, *CUlibrary, *CUkernel;

int cuInit(unsigned);
int cuDeviceGetCount(int *);
int cuDeviceGet(CUdevice *, int);
int cuDeviceTotalMem_v2(size_t *, CUdevice);
int cuDevicePrimaryCtxRetain(CUcontext *, CUdevice);
int cuDevicePrimaryCtxRelease_v2(CUdevice);
int cuCtxCreate_v2(CUcontext *, unsigned, CUdevice);
int cuCtxDestroy_v2(CUcontext);
int cuCtxSetCurrent(CUcontext);
int cuCtxGetCurrent(CUcontext *);
int cuCtxSynchronize(void);
int cuMemGetInfo_v2(size_t *, size_t *);
int cuMemAlloc_v2(CUdeviceptr *, size_t);
int cuMemFree_v2(CUdeviceptr);
int cuMemAllocHost_v2(void **, size_t);
int cuMemFreeHost(void *);
int cuMemcpyHtoD_v2(CUdeviceptr, const void *, size_t);
int cuMemcpyDtoH_v2(void *, CUdeviceptr, size_t);
int cuMemcpyDtoHAsync_v2(void *, CUdeviceptr, size_t, CUstream);
int cuMemcpyDtoD_v2(CUdeviceptr, CUdeviceptr, size_t);
int cuMemsetD32_v2(CUdeviceptr, unsigned, size_t);
int cuMemAllocAsync(CUdeviceptr *, size_t, CUstream);
int cuMemFreeAsync(CUdeviceptr, CUstream);
int cuDeviceGetDefaultMemPool(CUmemoryPool *, CUdevice);
int cuMemPoolGetAttribute(CUmemoryPool, int, void *);
int cuMemPoolSetAttribute(CUmemoryPool, int, void *);
int cuStreamCreate(CUstream *, unsigned);
int cuStreamDestroy_v2(CUstream);
int cuStreamSynchronize(CUstream);
int cuStreamWaitEvent(CUstream, CUevent, unsigned);
int cuLaunchHostFunc(CUstream, void (*)(void *), void *);
int cuEventCreate(CUevent *, unsigned);
int cuEventRecord(CUevent, CUstream);
int cuEventSynchronize(CUevent);
int cuEventQuery(CUevent);
int cuEventElapsedTime(float *, CUevent, CUevent);
int cuEventDestroy_v2(CUevent);
int cuModuleLoadData(CUmodule *, const void *);
int cuModuleLoadDataEx(CUmodule *, const void *, unsigned, int *, void **);
int cuModuleUnload(CUmodule);
int cuModuleGetFunction(CUfunction *, CUmodule, const char *);
int cuModuleGetGlobal_v2(CUdeviceptr *, size_t *, CUmodule, const char *);
int cuLibraryLoadData(CUlibrary *, const void *, int *, void **, unsigned, int *, void **, unsigned);
int cuLibraryGetKernel(CUkernel *, CUlibrary, const char *);
int cuLibraryUnload(CUlibrary);
int cuLinkCreate_v2(unsigned, int *, void **, CUlinkState *);
int cuLinkAddData_v2(CUlinkState, int, void *, size_t, const char *, unsigned, int *, void **);
int cuLinkComplete(CUlinkState, void **, size_t *);
int cuLinkDestroy(CUlinkState);
int cuLaunchKernel(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream, void **, void **);
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *, CUfunction, int, size_t);

/* A call that must return a code. */
#define EXPECT(code, call)                                                                                             \
    do {                                                                                                               \
        int got_ = (call);                                                                                             \
        if (got_ != (code)) {                                                                                          \
            fprintf(stderr, "line %d: %s returned %d, not %d\n", __LINE__, #call, got_, (code));                       \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* A call that must succeed. */
#define OK(call) EXPECT(0, call)

/* A fact. */
#define TRUE(fact)                                                                                                     \
    do {                                                                                                               \
        if (!(fact)) {                                                                                                 \
            fprintf(stderr, "line %d: not true: %s\n", __LINE__, #fact);                                               \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)
