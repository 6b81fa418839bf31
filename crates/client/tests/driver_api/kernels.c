/* Kernels through the C interface: modules, libraries, links, launches, messages and errors. */
#include "cuda.h"

#define HEADER ".version 8.0\n.target sm_80\n.address_size 64\n"

static const char *const ADD = HEADER
    ".visible .global .align 4 .u32 counter = 5;\n"
    ".visible .entry add(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n)\n"
    "{\n"
    ".reg .pred %p<2>; .reg .b32 %r<6>; .reg .f32 %f<4>; .reg .b64 %rd<11>;\n"
    "ld.param.u64 %rd1, [a]; ld.param.u64 %rd2, [b]; ld.param.u64 %rd3, [c]; ld.param.u32 %r1, [n];\n"
    "mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x;\n"
    "mad.lo.s32 %r5, %r2, %r3, %r4;\n"
    "setp.ge.s32 %p1, %r5, %r1;\n"
    "@%p1 bra DONE;\n"
    "cvta.to.global.u64 %rd4, %rd1; cvta.to.global.u64 %rd5, %rd2; cvta.to.global.u64 %rd6, %rd3;\n"
    "mul.wide.s32 %rd7, %r5, 4;\n"
    "add.s64 %rd8, %rd4, %rd7; add.s64 %rd9, %rd5, %rd7; add.s64 %rd10, %rd6, %rd7;\n"
    "ld.global.f32 %f1, [%rd8]; ld.global.f32 %f2, [%rd9];\n"
    "add.f32 %f3, %f1, %f2;\n"
    "st.global.f32 [%rd10], %f3;\n"
    "DONE: ret;\n"
    "}\n";

static const char *const STORE = HEADER
    ".visible .entry store(.param .u64 where, .param .u32 what)\n"
    "{\n"
    ".reg .b32 %r<2>; .reg .b64 %rd<2>;\n"
    "ld.param.u64 %rd1, [where]; ld.param.u32 %r1, [what];\n"
    "st.global.u32 [%rd1], %r1;\n"
    "ret;\n"
    "}\n";

enum { COUNT = 1000, BYTES = COUNT * 4 };

static float a[COUNT], b[COUNT], c[COUNT];
static CUdeviceptr da, db, dc;

static void check_sums(void) {
    OK(cuMemcpyDtoH_v2(c, dc, BYTES));
    for (int i = 0; i < COUNT; i++) TRUE(c[i] == a[i] + b[i]);
    OK(cuMemsetD32_v2(dc, 0, COUNT));
}

int main(void) {
    CUcontext context;
    CUmodule module;
    CUfunction add, store;
    OK(cuInit(0));
    OK(cuCtxCreate_v2(&context, 0, 0));
    OK(cuMemAlloc_v2(&da, BYTES));
    OK(cuMemAlloc_v2(&db, BYTES));
    OK(cuMemAlloc_v2(&dc, BYTES));
    for (int i = 0; i < COUNT; i++) a[i] = i * 0.5f, b[i] = 1000 - i;
    OK(cuMemcpyHtoD_v2(da, a, BYTES));
    OK(cuMemcpyHtoD_v2(db, b, BYTES));

    /* A module, arguments one by one and packed. */
    OK(cuModuleLoadData(&module, ADD));
    OK(cuModuleGetFunction(&add, module, "add"));
    EXPECT(500, cuModuleGetFunction(&store, module, "subtract"));
    int n = COUNT, blocks = 0;
    void *params[] = {&da, &db, &dc, &n};
    OK(cuLaunchKernel(add, 4, 1, 1, 256, 1, 1, 0, 0, params, 0));
    check_sums();
    struct {
        CUdeviceptr a, b, c;
        int n;
    } packed = {da, db, dc, n};
    size_t size = sizeof packed;
    void *extra[] = {(void *)1, &packed, (void *)2, &size, 0};
    OK(cuLaunchKernel(add, 4, 1, 1, 256, 1, 1, 0, (CUstream)2, 0, extra));
    OK(cuCtxSynchronize());
    check_sums();
    OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, add, 256, 0));
    TRUE(blocks > 0);
    EXPECT(1, cuLaunchKernel(add, 0, 1, 1, 256, 1, 1, 0, 0, params, 0));
    EXPECT(1, cuLaunchKernel(add, 1, 1, 1, 2048, 1, 1, 0, 0, params, 0));
    EXPECT(1, cuLaunchKernel(add, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0));
    EXPECT(400, cuLaunchKernel((CUfunction)packed.a, 1, 1, 1, 1, 1, 1, 0, 0, params, 0));

    /* Variables have one address and their first value. */
    CUdeviceptr counter, again;
    unsigned value = 0;
    OK(cuModuleGetGlobal_v2(&counter, &size, module, "counter"));
    OK(cuModuleGetGlobal_v2(&again, 0, module, "counter"));
    TRUE(counter == again && size == 4);
    OK(cuMemcpyDtoH_v2(&value, counter, 4));
    TRUE(value == 5);

    /* A link of two texts, loaded as a library; its kernel is launched like a function. */
    CUlinkState link;
    CUlibrary library;
    CUkernel kernel;
    void *image;
    OK(cuLinkCreate_v2(0, 0, 0, &link));
    OK(cuLinkAddData_v2(link, 1, (void *)ADD, strlen(ADD) + 1, "add", 0, 0, 0));
    OK(cuLinkAddData_v2(link, 1, (void *)STORE, strlen(STORE), "store", 0, 0, 0));
    OK(cuLinkComplete(link, &image, &size));
    OK(cuLibraryLoadData(&library, image, 0, 0, 0, 0, 0, 0));
    OK(cuLinkDestroy(link));
    OK(cuLibraryGetKernel(&kernel, library, "add"));
    OK(cuLaunchKernel(kernel, 4, 1, 1, 256, 1, 1, 0, 0, params, 0));
    check_sums();
    OK(cuLibraryUnload(library));
    EXPECT(400, cuLaunchKernel(kernel, 4, 1, 1, 256, 1, 1, 0, 0, params, 0));
    OK(cuModuleUnload(module));
    EXPECT(400, cuLaunchKernel(add, 4, 1, 1, 256, 1, 1, 0, 0, params, 0));

    /* What the compiler says about nonsense. */
    char log[256] = "";
    int options[] = {5, 6};
    void *values[] = {log, (void *)sizeof log};
    EXPECT(218, cuModuleLoadDataEx(&module, HEADER ".visible .entry k() { nonsense; }", 2, options, values));
    TRUE(strlen(log) > 0 && (size_t)values[1] == strlen(log) + 1);
    fprintf(stderr, "log: %s\n", log);

    /* An address that is nobody's is found, and stays an error. */
    OK(cuModuleLoadData(&module, STORE));
    OK(cuModuleGetFunction(&store, module, "store"));
    CUdeviceptr nowhere = dc + (1ull << 30);
    void *bad[] = {&nowhere, &value};
    OK(cuLaunchKernel(store, 1, 1, 1, 1, 1, 1, 0, 0, bad, 0));
    EXPECT(700, cuCtxSynchronize());
    EXPECT(700, cuMemcpyDtoH_v2(c, dc, BYTES));
    puts("all as expected");
    return 0;
}
