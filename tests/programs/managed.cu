// Memory that the program and kernels reach by one address: managed memory and mapped pinned memory, changed by both in turns,
// with everything that a program may wait by; linked structures; streams that own a piece; files read into it.
// builds: static-ptx static-sass shared-ptx cuda12-ptx
// paths: tcp unix direct
#include "check.h"

#include <unistd.h>

struct Node {
    int value;
    Node *next;
};

__global__ void add(const float *a, const float *b, float *c, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) c[i] = a[i] + b[i];
}

__global__ void step(int *values, int count, int by) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) values[i] += by;
}

__global__ void every_other(unsigned char *bytes, int count) {
    int i = 2 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (i < count) bytes[i] += 1;
}

__global__ void walk(Node *list, int *sum) {
    int total = 0;
    for (Node *node = list; node; node = node->next) {
        total += node->value;
        node->value = -node->value;
    }
    *sum = total;
}

template <typename T> T *managed(size_t count, unsigned flags = cudaMemAttachGlobal) {
    T *data = nullptr;
    CUDA(cudaMallocManaged(&data, count * sizeof(T), flags));
    return data;
}

static void turns() {
    const int count = 100000;
    float *a = managed<float>(count), *b = managed<float>(count), *c = managed<float>(count);
    for (int i = 0; i < count; i++) REQUIRE(c[i] == 0, "fresh memory holds %g", c[i]);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < count; i++) a[i] = i + round, b[i] = 2 * i;
        add<<<(count + 255) / 256, 256>>>(a, b, c, count);
        FINISH();
        for (int i = 0; i < count; i++) REQUIRE(c[i] == 3.0f * i + round, "round %d: c[%d] is %g", round, i, c[i]);
    }
    // One number, and one only, between the launches.
    a[4711] = -1;
    add<<<(count + 255) / 256, 256>>>(a, b, c, count);
    FINISH();
    REQUIRE(c[4711] == 2 * 4711 - 1 && c[4712] == 3 * 4712 + 2, "%g %g", c[4711], c[4712]);
    CUDA(cudaFree(a));
    CUDA(cudaFree(b));
    CUDA(cudaFree(c));
}

// Each way to wait makes the results visible, and lets the program write again.
static void ways_to_wait() {
    const int count = 5000;
    int *values = managed<int>(count);
    cudaStream_t stream;
    cudaEvent_t event;
    CUDA(cudaStreamCreate(&stream));
    CUDA(cudaEventCreate(&event));
    int want = 0, other = 0;
    for (int way = 0; way < 12; way++) {
        values[way] += 1000;
        step<<<4, 128, 0, stream>>>(values, count, way + 1);
        CUDA(cudaGetLastError());
        want += way + 1;
        switch (way % 6) {
        case 0: CUDA(cudaStreamSynchronize(stream)); break;
        case 1: CUDA(cudaDeviceSynchronize()); break;
        case 2:
            CUDA(cudaEventRecord(event, stream));
            CUDA(cudaEventSynchronize(event));
            break;
        case 3:
            while (cudaStreamQuery(stream) == cudaErrorNotReady) usleep(100);
            break;
        case 4:
            CUDA(cudaEventRecord(event, stream));
            while (cudaEventQuery(event) == cudaErrorNotReady) usleep(100);
            break;
        case 5: CUDA(cudaMemcpy(&other, values, sizeof other, cudaMemcpyDefault)); break;
        }
        for (int i = 0; i < count; i++)
            REQUIRE(values[i] == want + (i <= way && i < 12 ? 1000 : 0), "way %d: values[%d] is %d", way, i, values[i]);
    }
    CUDA(cudaStreamDestroy(stream));
    CUDA(cudaEventDestroy(event));
    CUDA(cudaFree(values));
}

static void lists() {
    const int count = 1000;
    Node *nodes = managed<Node>(count);
    int *sum = managed<int>(1);
    for (int i = 0; i < count; i++) nodes[i] = {i, i + 1 < count ? &nodes[i + 1] : nullptr};
    walk<<<1, 1>>>(nodes, sum);
    FINISH();
    REQUIRE(*sum == count * (count - 1) / 2, "the sum is %d", *sum);
    for (Node *node = nodes; node; node = node->next)
        REQUIRE(node->value == -(int)(node - nodes), "node %d holds %d", (int)(node - nodes), node->value);
    CUDA(cudaFree(nodes));
    CUDA(cudaFree(sum));
}

// What the device did and what the program did lie side by side, byte by byte.
static void neighbours() {
    const int count = 70000;
    unsigned char *bytes = managed<unsigned char>(count);
    for (int round = 1; round <= 3; round++) {
        for (int i = 1; i < count; i += 2) bytes[i] += 3;
        every_other<<<(count / 2 + 255) / 256, 256>>>(bytes, count);
        FINISH();
        for (int i = 0; i < count; i++) REQUIRE(bytes[i] == (i % 2 ? 3 * round : round), "byte %d is %d", i, bytes[i]);
    }
    CUDA(cudaFree(bytes));
}

static void copies_and_files() {
    const int count = 4096;
    int *values = managed<int>(count);
    std::vector<int> host(count);
    for (int i = 0; i < count; i++) host[i] = 7 * i;
    CUDA(cudaMemcpy(values, host.data(), count * sizeof(int), cudaMemcpyHostToDevice));
    require_same(std::vector<int>(values, values + count), host, "copied in");
    values[5] = 1, host[5] = 1;
    std::vector<int> back(count);
    CUDA(cudaMemcpy(back.data(), values, count * sizeof(int), cudaMemcpyDeviceToHost));
    require_same(back, host, "copied out");
    Device<int> device(count);
    values[6] = 2, host[6] = 2;
    CUDA(cudaMemcpy(device, values, count * sizeof(int), cudaMemcpyDefault));
    require_same(device.download(), host, "copied to device memory");
    CUDA(cudaMemset(values, 0xff, count * sizeof(int)));
    CUDA(cudaDeviceSynchronize());
    require_same(std::vector<int>(values, values + count), std::vector<int>(count, -1), "filled");

    int ends[2];
    REQUIRE(pipe(ends) == 0, "no pipe");
    REQUIRE(write(ends[1], host.data(), 4096) == 4096, "the pipe is full");
    REQUIRE(read(ends[0], values, 4096) == 4096, "read(2) does not take managed memory");
    step<<<4, 256>>>(values, 1024, 1);
    FINISH();
    REQUIRE(write(ends[1], values, 4096) == 4096, "write(2) does not take managed memory");
    REQUIRE(read(ends[0], back.data(), 4096) == 4096, "the pipe is empty");
    for (int i = 0; i < 1024; i++) REQUIRE(back[i] == host[i] + 1, "read %d at %d", back[i], i);
    close(ends[0]);
    close(ends[1]);
    CUDA(cudaFree(values));
}

// A piece that a stream owns may be used by the program while others compute.
static void attached() {
    const int count = 1 << 16;
    cudaStream_t first, second;
    CUDA(cudaStreamCreate(&first));
    CUDA(cudaStreamCreate(&second));
    int *mine = managed<int>(count, cudaMemAttachHost), *yours = managed<int>(count);
    CUDA(cudaStreamAttachMemAsync(first, mine, 0, cudaMemAttachSingle));
    CUDA(cudaStreamAttachMemAsync(second, yours, 0, cudaMemAttachSingle));
    CUDA(cudaDeviceSynchronize());
    for (int round = 0; round < 5; round++) {
        step<<<8, 256, 0, second>>>(yours, count, 1);
        for (int i = 0; i < count; i += 1000) mine[i] += 10;
        step<<<8, 256, 0, first>>>(mine, count, 1);
        CUDA(cudaStreamSynchronize(first));
        for (int i = 0; i < count; i++)
            REQUIRE(mine[i] == (round + 1) * (i % 1000 ? 1 : 11), "round %d: mine[%d] is %d", round, i, mine[i]);
    }
    CUDA(cudaStreamSynchronize(second));
    for (int i = 0; i < count; i++) REQUIRE(yours[i] == 5, "yours[%d] is %d", i, yours[i]);
    CUDA(cudaStreamAttachMemAsync(first, mine, 0, cudaMemAttachHost));
    step<<<8, 256, 0, second>>>(yours, count, 1);
    mine[3] = -3;
    CUDA(cudaMemsetAsync(mine + 4, 0xff, sizeof(int), first));
    CUDA(cudaDeviceSynchronize());
    REQUIRE(mine[3] == -3 && mine[4] == -1 && mine[5] == 5, "%d %d %d", mine[3], mine[4], mine[5]);
    CUDA_FAILS(cudaStreamAttachMemAsync(first, mine, 0, 8), cudaErrorInvalidValue);
    cudaGetLastError();
    CUDA(cudaFree(mine));
    CUDA(cudaFree(yours));
    CUDA(cudaStreamDestroy(first));
    CUDA(cudaStreamDestroy(second));
}

static void mapped() {
    const int count = 3000;
    int *host = nullptr, *device = nullptr;
    CUDA(cudaHostAlloc(&host, count * sizeof(int), cudaHostAllocMapped));
    CUDA(cudaHostGetDevicePointer((void **)&device, host, 0));
    for (int i = 0; i < count; i++) host[i] = i;
    step<<<4, 256>>>(device, count, 5);
    FINISH();
    for (int i = 0; i < count; i++) REQUIRE(host[i] == i + 5, "host[%d] is %d", i, host[i]);
    // The program may write it at any time, also between a launch that does not use it and a copy.
    Device<int> other(count), copy(count);
    other.clear();
    step<<<1, 32>>>(other, count, 1);
    host[1] = -7;
    CUDA(cudaMemcpyAsync(copy, host, count * sizeof(int), cudaMemcpyDefault));
    FINISH();
    REQUIRE(copy.download()[1] == -7, "%d", copy.download()[1]);
    cudaPointerAttributes attributes;
    CUDA(cudaPointerGetAttributes(&attributes, host));
    REQUIRE(attributes.type == cudaMemoryTypeHost && attributes.devicePointer == device, "type %d", attributes.type);
    CUDA_FAILS(cudaFree(host), cudaErrorInvalidValue);
    cudaGetLastError();
    CUDA(cudaFreeHost(host));
}

static void what_it_is() {
    int managed_memory = 0, concurrent = 1, mapping = 0;
    CUDA(cudaDeviceGetAttribute(&managed_memory, cudaDevAttrManagedMemory, 0));
    CUDA(cudaDeviceGetAttribute(&concurrent, cudaDevAttrConcurrentManagedAccess, 0));
    CUDA(cudaDeviceGetAttribute(&mapping, cudaDevAttrCanMapHostMemory, 0));
    REQUIRE(managed_memory == 1 && concurrent == 0 && mapping == 1, "%d %d %d", managed_memory, concurrent, mapping);
    CUDA(cudaFree(nullptr));
    size_t before, after, total;
    CUDA(cudaMemGetInfo(&before, &total));
    const size_t bytes = 1234567;
    char *data = managed<char>(bytes);
    CUDA(cudaMemGetInfo(&after, &total));
    REQUIRE(before - after == bytes, "it takes %zu bytes", before - after);
    cudaPointerAttributes attributes;
    CUDA(cudaPointerGetAttributes(&attributes, data + 1000));
    REQUIRE(attributes.type == cudaMemoryTypeManaged && attributes.hostPointer == data + 1000 &&
                attributes.devicePointer == data + 1000,
            "type %d", attributes.type);
#if CUDART_VERSION >= 13000
    cudaMemLocation here = {cudaMemLocationTypeDevice, 0}, cpu = {cudaMemLocationTypeHost, 0};
    CUDA(cudaMemPrefetchAsync(data, bytes, here, 0, 0));
    CUDA(cudaMemAdvise(data, bytes, cudaMemAdviseSetPreferredLocation, cpu));
    CUDA_FAILS(cudaMemPrefetchAsync(data, bytes + 1, here, 0, 0), cudaErrorInvalidValue);
#else
    CUDA(cudaMemPrefetchAsync(data, bytes, 0, 0));
    CUDA(cudaMemAdvise(data, bytes, cudaMemAdviseSetPreferredLocation, cudaCpuDeviceId));
    CUDA_FAILS(cudaMemPrefetchAsync(data, bytes + 1, 0, 0), cudaErrorInvalidValue);
#endif
    cudaGetLastError();
    CUDA(cudaFree(data));
    CUDA(cudaMemGetInfo(&after, &total));
    REQUIRE(before == after, "%zu bytes are left behind", before - after);
    void *none = nullptr;
    CUDA_FAILS(cudaMallocManaged(&none, (size_t)1 << 50), cudaErrorMemoryAllocation);
    CUDA_FAILS(cudaMallocManaged(&none, 16, 4), cudaErrorInvalidValue);
    cudaGetLastError();
}

__managed__ int counter = 40;
__managed__ Node head = {5, nullptr};
__managed__ float table[3000];
__device__ int hidden = 7;

__global__ void visit(int by) {
    atomicAdd(&counter, by + hidden);
    for (Node *node = &head; node; node = node->next) node->value += by;
    for (int i = threadIdx.x; i < 3000; i += blockDim.x) table[i] += 0.5f * i;
}

// Variables of the program and of kernels at once, with initial values, which a copy by symbol and a pointer reach too.
static void variables() {
    REQUIRE(counter == 40 && head.value == 5 && !head.next && table[2999] == 0, "%d %d", counter, head.value);
    counter++;
    Node *second = managed<Node>(1);
    *second = {6, nullptr};
    head.next = second;
    table[7] = 1;
    visit<<<1, 1>>>(10);
    FINISH();
    REQUIRE(counter == 41 + 10 + 7, "the counter is %d", counter);
    REQUIRE(head.value == 15 && second->value == 16 && head.next == second, "%d %d", head.value, second->value);
    for (int i = 0; i < 3000; i++) REQUIRE(table[i] == 0.5f * i + (i == 7), "table[%d] is %g", i, table[i]);
    int value = 100;
    CUDA(cudaMemcpyToSymbol(counter, &value, sizeof value));
    REQUIRE(counter == 100, "the counter is %d", counter);
    cudaPointerAttributes attributes;
    CUDA(cudaPointerGetAttributes(&attributes, &table[1]));
    REQUIRE(attributes.type == cudaMemoryTypeManaged && attributes.hostPointer == &table[1], "type %d", attributes.type);
    void *address = nullptr;
    CUDA(cudaGetSymbolAddress(&address, counter));
    REQUIRE(address == &counter, "%p is not %p", address, (void *)&counter);
    CUDA(cudaFree(second));
}

int main() {
    what_it_is();
    variables();
    turns();
    ways_to_wait();
    lists();
    neighbours();
    copies_and_files();
    attached();
    mapped();
    return passed("managed");
}
