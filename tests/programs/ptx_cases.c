// Runs the cases of the PTX compiler's own tests on whatever GPU libcuda.so.1 leads to: the same files say what our compiler
// and NVIDIA's must make of a kernel. Each case runs in a process of its own, since some end their context.
// Arguments: case files; without any, those of the repository or of the bundle.
// builds: host
// paths: tcp direct native
#include "driver.h"

#include <glob.h>
#include <libgen.h>
#include <limits.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 16, LONGEST = 1 << 16 };

typedef struct {
    char name[64];
    unsigned char *bytes;
    size_t size;
    int is_buffer;
    CUdeviceptr address;
} Argument;

typedef struct {
    char buffer[64], type[16];
    unsigned char *bytes;
    size_t size;
} Expectation;

typedef struct {
    char name[128], kernel[128], prints[1024];
    unsigned grid[3], block[3], shared, stack;
    int cooperative, traps, overflows, arguments, expectations, has_prints;
    Argument argument[MOST];
    Expectation expectation[MOST];
} Case;

static size_t width_of(const char *type) {
    if (!strcmp(type, "bytes") || strchr(type, '8')) return 1;
    return (size_t)atoi(type + 1) / 8;
}

// Bytes of the values that are left in `strtok`'s line. There is room for a whole parameter behind them.
static unsigned char *encode(const char *type, size_t *size) {
    unsigned char *bytes = calloc(1, LONGEST);
    size_t width = width_of(type);
    *size = 0;
    for (char *word; (word = strtok(NULL, " \n"));) {
        REQUIRE(*size + 64 < LONGEST, "a line of more than %d bytes", LONGEST);
        if (!strcmp(type, "f32")) {
            float value = strtof(word, NULL);
            memcpy(bytes + *size, &value, 4);
        } else if (!strcmp(type, "f64")) {
            double value = strtod(word, NULL);
            memcpy(bytes + *size, &value, 8);
        } else {
            uint64_t value = word[0] == '-' ? (uint64_t)strtoll(word, NULL, 10) : strtoull(word, NULL, 10);
            memcpy(bytes + *size, &value, width);
        }
        *size += width;
    }
    return bytes;
}

static void read_extent(unsigned extent[3]) {
    for (int axis = 0; axis < 3; axis++) extent[axis] = (unsigned)atoi(strtok(NULL, " \n"));
}

static void read_line(Case *c, char *line) {
    const char *text = line + strlen("prints ");
    char kept[1024] = "";
    if (!strncmp(line, "prints ", 7)) snprintf(kept, sizeof kept, "%s", text);
    char *key = strtok(line, " \n");
    if (!key) return;
    if (!strcmp(key, "kernel")) snprintf(c->kernel, sizeof c->kernel, "%s", strtok(NULL, " \n"));
    else if (!strcmp(key, "grid")) read_extent(c->grid);
    else if (!strcmp(key, "block")) read_extent(c->block);
    else if (!strcmp(key, "shared")) c->shared = (unsigned)atoi(strtok(NULL, " \n"));
    else if (!strcmp(key, "stack")) c->stack = (unsigned)atoi(strtok(NULL, " \n"));
    else if (!strcmp(key, "cooperative")) c->cooperative = 1;
    else if (!strcmp(key, "traps")) {
        const char *how = strtok(NULL, " \n");
        c->traps = 1;
        c->overflows = how && !strcmp(how, "stack");
    }
    else if (!strcmp(key, "prints")) {
        c->has_prints = 1;
        char *to = c->prints;
        for (const char *from = kept; *from && *from != '\n'; from++) {
            if (from[0] == '\\' && from[1] == 'n') *to++ = '\n', from++;
            else *to++ = *from;
        }
    } else if (!strcmp(key, "buffer") || !strcmp(key, "value")) {
        REQUIRE(c->arguments < MOST, "%s has more than %d parameters", c->name, MOST);
        Argument *a = &c->argument[c->arguments++];
        a->is_buffer = !strcmp(key, "buffer");
        if (a->is_buffer) snprintf(a->name, sizeof a->name, "%s", strtok(NULL, " \n"));
        const char *type = strtok(NULL, " \n");
        a->bytes = encode(type, &a->size);
    } else if (!strcmp(key, "expect")) {
        REQUIRE(c->expectations < MOST, "%s expects more than %d buffers", c->name, MOST);
        Expectation *e = &c->expectation[c->expectations++];
        snprintf(e->buffer, sizeof e->buffer, "%s", strtok(NULL, " \n"));
        snprintf(e->type, sizeof e->type, "%s", strtok(NULL, " \n"));
        e->bytes = encode(e->type, &e->size);
    } else REQUIRE(0, "`%s` is no word of a case file", key);
}

static char *read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    REQUIRE(file, "cannot open %s", path);
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *text = calloc(1, (size_t)size + 1);
    REQUIRE(fread(text, 1, (size_t)size, file) == (size_t)size, "cannot read %s", path);
    fclose(file);
    return text;
}

static void check_printed(const Case *c, FILE *captured) {
    char printed[4096] = "";
    rewind(captured);
    size_t size = fread(printed, 1, sizeof printed - 1, captured);
    printed[size] = 0;
    REQUIRE(!strcmp(printed, c->prints), "%s printed `%s`, expected `%s`", c->name, printed, c->prints);
}

// What the process of one case does; ends it.
static void run_case(Case *c, const char *ptx) {
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUfunction function;
    CU(cuInit, 0);
    CU(cuDeviceGet, &device, 0);
    CU(cuDevicePrimaryCtxRetain, &context, device);
    CU(cuCtxSetCurrent, context);
    if (c->stack) CU(cuCtxSetLimit, CU_LIMIT_STACK_SIZE, c->stack);
    CU(cuModuleLoadData, &module, ptx);
    CU(cuModuleGetFunction, &function, module, c->kernel);
    void *arguments[MOST];
    for (int i = 0; i < c->arguments; i++) {
        Argument *a = &c->argument[i];
        if (a->is_buffer) {
            CU(cuMemAlloc, &a->address, a->size);
            CU(cuMemcpyHtoD, a->address, a->bytes, a->size);
            arguments[i] = &a->address;
        } else arguments[i] = a->bytes;
    }
    fflush(stdout);
    FILE *captured = tmpfile();
    int standard_output = dup(STDOUT_FILENO);
    if (c->has_prints) dup2(fileno(captured), STDOUT_FILENO);
    const unsigned *g = c->grid, *b = c->block;
    if (c->cooperative) CU(cuLaunchCooperativeKernel, function, g[0], g[1], g[2], b[0], b[1], b[2], c->shared, NULL, arguments);
    else CU(cuLaunchKernel, function, g[0], g[1], g[2], b[0], b[1], b[2], c->shared, NULL, arguments, NULL);
    if (c->overflows) {
        // Cards differ in how they notice.
        CUresult status = DRIVER(cuCtxSynchronize)();
        REQUIRE(status == CUDA_ERROR_HARDWARE_STACK_ERROR || status == CUDA_ERROR_ILLEGAL_ADDRESS ||
                    status == CUDA_ERROR_LAUNCH_FAILED,
                "%s ended with %d", c->name, (int)status);
    } else GIVES(c->traps ? CUDA_ERROR_ASSERT : CUDA_SUCCESS, cuCtxSynchronize, );
    fflush(stdout);
    dup2(standard_output, STDOUT_FILENO);
    if (c->has_prints) check_printed(c, captured);
    for (int i = 0; i < c->expectations && !c->traps; i++) {
        Expectation *e = &c->expectation[i];
        Argument *from = NULL;
        for (int k = 0; k < c->arguments; k++)
            if (c->argument[k].is_buffer && !strcmp(c->argument[k].name, e->buffer)) from = &c->argument[k];
        REQUIRE(from && e->size <= from->size, "%s has no buffer `%s` of %zu bytes", c->name, e->buffer, e->size);
        unsigned char *found = malloc(e->size);
        CU(cuMemcpyDtoH, found, from->address, e->size);
        size_t width = width_of(e->type);
        for (size_t at = 0; at < e->size; at += width)
            REQUIRE(!memcmp(found + at, e->bytes + at, width), "%s: element %zu of `%s`, type %s", c->name, at / width,
                    e->buffer, e->type);
    }
    exit(0);
}

// Runs the case and says how it went; 1 if it failed.
static int finish_case(Case *c, const char *file, const char *ptx) {
    if (!c->name[0]) return 0;
    fflush(NULL);
    pid_t child = fork();
    REQUIRE(child >= 0, "cannot start a process");
    if (child == 0) run_case(c, ptx);
    int status = 1;
    waitpid(child, &status, 0);
    if (status) fprintf(stderr, "%s: %s FAILED\n", file, c->name);
    return status != 0;
}

int main(int count, char **arguments) {
    glob_t found = {0};
    if (count < 2) {
        char own[PATH_MAX] = "", pattern[PATH_MAX + 64];
        REQUIRE(readlink("/proc/self/exe", own, sizeof own - 1) > 0, "cannot tell where this program is");
        const char *folder = dirname(own);
        snprintf(pattern, sizeof pattern, "%s/../ptx/*.case", folder);
        if (glob(pattern, 0, NULL, &found)) {
            snprintf(pattern, sizeof pattern, "%s/../../crates/ptx/tests/cases/*.case", folder);
            REQUIRE(!glob(pattern, 0, NULL, &found), "there are no case files");
        }
        arguments = found.gl_pathv;
        count = (int)found.gl_pathc;
    } else arguments++, count--;
    int cases = 0, failed = 0;
    for (int i = 0; i < count; i++) {
        const char *file = arguments[i];
        char name[PATH_MAX];
        snprintf(name, sizeof name, "%s", file);
        char *ending = strrchr(name, '.');
        REQUIRE(ending, "%s is no case file", name);
        strcpy(ending, ".ptx");
        char *ptx = read_file(name), *text = read_file(file);
        Case *c = calloc(1, sizeof *c);
        for (char *line = text, *next; line; line = next) {
            if ((next = strchr(line, '\n'))) *next++ = 0;
            if (!strncmp(line, "case ", 5)) {
                failed += finish_case(c, file, ptx);
                memset(c, 0, sizeof *c);
                snprintf(c->name, sizeof c->name, "%s", line + 5);
                cases++;
            } else read_line(c, line);
        }
        failed += finish_case(c, file, ptx);
    }
    REQUIRE(!failed, "%d of %d cases failed", failed, cases);
    printf("ptx_cases: %d cases: ok\n", cases);
    return 0;
}
