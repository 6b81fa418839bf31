// Handles that were freed or never were get CUDA's code for that, and nothing is harmed.
// builds: host
// paths: tcp direct native
#include "driver.h"

static const char *GOOD =
    ".version 7.0\n.target sm_75\n.address_size 64\n"
    ".visible .entry nop(.param .u32 value)\n{\n    ret;\n}\n";

int main(void) {
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUfunction function;
    CUstream stream;
    CUevent event;
    uint32_t value = 0;
    void *arguments[] = {&value};
    CU(cuInit, 0);
    CU(cuDeviceGet, &device, 0);
    CU(cuDevicePrimaryCtxRetain, &context, device);
    CU(cuCtxSetCurrent, context);
    CU(cuModuleLoadData, &module, GOOD);
    CU(cuModuleGetFunction, &function, module, "nop");

    GIVES(CUDA_ERROR_INVALID_HANDLE, cuStreamSynchronize, (CUstream)0x1234);
    GIVES(CUDA_ERROR_INVALID_HANDLE, cuEventRecord, (CUevent)0x5678, NULL);
    GIVES(CUDA_ERROR_INVALID_HANDLE, cuLaunchKernel, (CUfunction)0x9AB0, 1, 1, 1, 1, 1, 1, 0, NULL, arguments, NULL);
    GIVES(CUDA_ERROR_INVALID_HANDLE, cuModuleGetFunction, &function, (CUmodule)0x77, "nop");
    CU(cuModuleGetFunction, &function, module, "nop");
    CU(cuStreamCreate, &stream, 0);
    CU(cuStreamDestroy, stream);
    GIVES(CUDA_ERROR_INVALID_HANDLE, cuStreamQuery, stream);
    GIVES(CUDA_ERROR_INVALID_HANDLE, cuLaunchKernel, function, 1, 1, 1, 1, 1, 1, 0, stream, arguments, NULL);
    CU(cuEventCreate, &event, 0);
    CU(cuEventDestroy, event);
    GIVES(CUDA_ERROR_INVALID_HANDLE, cuEventSynchronize, event);
    CU(cuLaunchKernel, function, 1, 1, 1, 1, 1, 1, 0, NULL, arguments, NULL);
    CU(cuCtxSynchronize);
    CU(cuModuleUnload, module);
    GIVES(CUDA_ERROR_INVALID_HANDLE, cuModuleUnload, module);
    GIVES(CUDA_ERROR_INVALID_HANDLE, cuLaunchKernel, function, 1, 1, 1, 1, 1, 1, 0, NULL, arguments, NULL);
    CU(cuModuleLoadData, &module, GOOD);
    CU(cuModuleGetFunction, &function, module, "nop");
    CU(cuLaunchKernel, function, 1, 1, 1, 1, 1, 1, 0, NULL, arguments, NULL);
    CU(cuCtxSynchronize);
    printf("bad_handles: ok\n");
    return 0;
}
