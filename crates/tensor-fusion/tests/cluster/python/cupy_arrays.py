# A kernel of CUDA C++, an expression, reductions and a sort, compared with NumPy's.
import cupy as cp
import numpy as np

SOURCE = r"""
extern "C" __global__ void saxpy(float a, const float *x, const float *y, float *out, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = a * x[i] + y[i];
}
"""

generator = np.random.default_rng(2)
x, y = generator.standard_normal((2, 5000)).astype(np.float32)
device_x, device_y, out = cp.asarray(x), cp.asarray(y), cp.empty(5000, dtype=cp.float32)
cp.RawKernel(SOURCE, "saxpy")((40,), (128,), (np.float32(1.5), device_x, device_y, out, np.int32(5000)))
np.testing.assert_allclose(out.get(), np.float32(1.5) * x + y, rtol=1e-6, atol=1e-6)
np.testing.assert_allclose((device_x * device_y + cp.sqrt(abs(device_x))).get(), x * y + np.sqrt(abs(x)), rtol=1e-5)
np.testing.assert_allclose(float(device_x.sum(dtype=cp.float64)), x.sum(dtype=np.float64), rtol=1e-12)
assert int(device_y.argmax()) == y.argmax()
np.testing.assert_array_equal(cp.sort(device_x).get(), np.sort(x))
print(f"cupy: {out.size} values sorted on {cp.cuda.runtime.getDeviceProperties(0)['name'].decode()}")
