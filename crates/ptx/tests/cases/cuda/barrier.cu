#include <cuda/barrier>
#include <cuda/pipeline>
#include <cooperative_groups.h>
extern "C" __global__ void barr(int *a) {
  __shared__ cuda::barrier<cuda::thread_scope_block> b; __shared__ int s[256];
  if (threadIdx.x==0) init(&b, blockDim.x);
  __syncthreads();
  s[threadIdx.x]=a[threadIdx.x];
  b.arrive_and_wait();
  a[threadIdx.x]=s[255-threadIdx.x];
}
#include <cuda/atomic>
extern "C" __global__ void atom(int *a, int *b) {
  cuda::atomic_ref<int, cuda::thread_scope_device> r(*a);
  r.fetch_add(3, cuda::std::memory_order_acq_rel); b[threadIdx.x] = r.load(cuda::std::memory_order_acquire); r.fetch_max(5);
  int e=1; r.compare_exchange_strong(e, 9);
}
