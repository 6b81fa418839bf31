// The linker: two pieces of PTX become one image, with the log and the output that callers ask for; a broken piece says
// where it is broken.
// builds: host
// paths: tcp direct
#include "driver.h"

static const char *FIRST =
    ".version 7.0\n.target sm_75\n.address_size 64\n"
    ".visible .entry put(.param .u64 out)\n{\n    .reg .b64 %rd<3>;\n    .reg .b32 %r<2>;\n"
    "    ld.param.u64 %rd1, [out];\n    cvta.to.global.u64 %rd2, %rd1;\n    mov.u32 %r1, 1234;\n"
    "    st.global.u32 [%rd2], %r1;\n    ret;\n}\n";

static const char *BROKEN = ".version 7.0\n.target sm_75\n.address_size 64\n"
                            ".visible .entry wrong()\n{\n    .reg .b32 %r<2>;\n    add.s32 %r1, %r1;\n    ret;\n}\n";

int main(void) {
    CUdevice device;
    CUcontext context;
    CU(cuInit, 0);
    CU(cuDeviceGet, &device, 0);
    CU(cuDevicePrimaryCtxRetain, &context, device);
    CU(cuCtxSetCurrent, context);

    char error_log[4096] = "";
    CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    void *values[] = {error_log, (void *)sizeof error_log};
    CUlinkState state;
    CU(cuLinkCreate, 2, options, values, &state);
    CU(cuLinkAddData, state, CU_JIT_INPUT_PTX, (void *)FIRST, strlen(FIRST) + 1, "first", 0, NULL, NULL);
    void *image;
    size_t size;
    CU(cuLinkComplete, state, &image, &size);
    REQUIRE(image && size > 0, "an image of %zu bytes", size);
    CUmodule module;
    CUfunction function;
    CU(cuModuleLoadData, &module, image);
    CU(cuLinkDestroy, state);
    CU(cuModuleGetFunction, &function, module, "put");
    CUdeviceptr out;
    CU(cuMemAlloc, &out, 4);
    void *arguments[] = {&out};
    CU(cuLaunchKernel, function, 1, 1, 1, 1, 1, 1, 0, NULL, arguments, NULL);
    uint32_t got = 0;
    CU(cuMemcpyDtoH, &got, out, 4);
    REQUIRE(got == 1234, "the linked kernel stored %u", got);

    values[1] = (void *)sizeof error_log; // holds the length of the last messages now
    CU(cuLinkCreate, 2, options, values, &state);
    CUresult added = DRIVER(cuLinkAddData)(state, CU_JIT_INPUT_PTX, (void *)BROKEN, strlen(BROKEN) + 1, "broken", 0, NULL, NULL);
    CUresult completed = added ? added : DRIVER(cuLinkComplete)(state, &image, &size);
    REQUIRE(completed == CUDA_ERROR_INVALID_PTX, "a broken piece gave %s", driver_error(completed));
    REQUIRE(strchr(error_log, '7') && strlen(error_log) > 5, "the log names no line: `%s`", error_log);
    CU(cuLinkDestroy, state);
    printf("driver_link: ok\n");
    return 0;
}
