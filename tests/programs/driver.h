// What the C programs use to call the driver API without a toolkit: the functions are found in libcuda.so.1 by name,
// as libraries do, and every call says which code it expects.
#pragma once

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cuda.h>

static void *driver_library(void) {
    static void *library;
    if (!library) library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return library;
}

static inline void *driver_function(const char *name) {
    void *function = dlsym(driver_library(), name);
    if (!function) {
        fprintf(stderr, "libcuda.so.1 has no %s\n", name);
        exit(1);
    }
    return function;
}

static inline const char *driver_error(CUresult result) {
    const char *name = NULL;
    CUresult (*get)(CUresult, const char **) = (CUresult(*)(CUresult, const char **))driver_function("cuGetErrorName");
    return get(result, &name) == CUDA_SUCCESS && name ? name : "unknown";
}

// The function of this name with the type that cuda.h declares; `cuMemAlloc` means `cuMemAlloc_v2` where cuda.h says so.
#define STRING_(name) #name
#define STRING(name) STRING_(name)
#define DRIVER(name) ((__typeof__(&name))driver_function(STRING(name)))

// Ends the program unless the call gives this code.
#define GIVES(expected, name, ...)                                                                             \
    do {                                                                                                       \
        CUresult result_ = DRIVER(name)(__VA_ARGS__);                                                          \
        if (result_ != (expected)) {                                                                           \
            fprintf(stderr, "%s:%d: %s gave %s (%d), expected %s\n", __FILE__, __LINE__, #name,                \
                    driver_error(result_), (int)result_, driver_error(expected));                              \
            exit(1);                                                                                           \
        }                                                                                                      \
    } while (0)
#define CU(name, ...) GIVES(CUDA_SUCCESS, name, __VA_ARGS__)

// Ends the program with a message unless the condition holds.
#define REQUIRE(condition, ...)                                                                                \
    do {                                                                                                       \
        if (!(condition)) {                                                                                    \
            fprintf(stderr, "%s:%d: %s does not hold: ", __FILE__, __LINE__, #condition);                      \
            fprintf(stderr, __VA_ARGS__);                                                                      \
            fprintf(stderr, "\n");                                                                             \
            exit(1);                                                                                           \
        }                                                                                                      \
    } while (0)
