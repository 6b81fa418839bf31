# tinygrad: a small model forward and backward, against the same arithmetic in NumPy.
# builds: python
# paths: tcp
import os

os.environ["DEV"] = "CUDA"

import numpy as np
from tinygrad import Device, Tensor

assert Device.DEFAULT.startswith("CUDA"), Device.DEFAULT

generator = np.random.default_rng(5)
x = generator.standard_normal((32, 20)).astype(np.float32)
target = generator.standard_normal((32, 3)).astype(np.float32)
w1 = (generator.standard_normal((20, 16)) * 0.3).astype(np.float32)
b1 = np.zeros(16, dtype=np.float32)
w2 = (generator.standard_normal((16, 3)) * 0.3).astype(np.float32)


def reference(w1, b1, w2):
    pre = x.astype(np.float64) @ w1 + b1
    hidden = np.maximum(pre, 0)
    difference = hidden @ w2 - target
    loss = (difference**2).mean()
    d_out = 2 * difference / difference.size
    d_hidden = (d_out @ w2.T) * (pre > 0)
    return loss, x.T.astype(np.float64) @ d_hidden, d_hidden.sum(axis=0), hidden.T @ d_out


first = last = None
for step in range(4):
    parameters = [Tensor(w) for w in (w1, b1, w2)]
    t1, tb, t2 = parameters
    loss = (((Tensor(x) @ t1 + tb).relu() @ t2 - Tensor(target)) ** 2).mean()
    computed = [gradient.numpy() for gradient in loss.gradient(*parameters)]
    value, *gradients = reference(w1, b1, w2)
    np.testing.assert_allclose(loss.numpy(), value, rtol=1e-4)
    for got, want in zip(computed, gradients):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-5)
    w1, b1, w2 = [(w - 0.1 * gradient).astype(np.float32) for w, gradient in zip((w1, b1, w2), computed)]
    first, last = first or float(value), float(value)
assert last < first, (first, last)

image = generator.standard_normal((2, 3, 12, 12)).astype(np.float32)
kernel = generator.standard_normal((4, 3, 3, 3)).astype(np.float32)
got = Tensor(image).conv2d(Tensor(kernel)).max_pool2d((2, 2)).numpy()
want = np.zeros((2, 4, 10, 10))
for dy in range(3):
    for dx in range(3):
        want += np.einsum("nchw,oc->nohw", image[:, :, dy : dy + 10, dx : dx + 10].astype(np.float64), kernel[:, :, dy, dx])
want = want.reshape(2, 4, 5, 2, 5, 2).max(axis=(3, 5))
np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)

scores = generator.standard_normal((8, 100)).astype(np.float32)
soft = Tensor(scores).softmax().numpy()
exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
np.testing.assert_allclose(soft, exponents / exponents.sum(axis=1, keepdims=True), rtol=1e-4)
print("tinygrad_train: ok")
