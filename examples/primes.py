"""Counts primes with Numba: a plain CUDA program in Python that knows nothing of Tensor Fusion."""
# builds: python

import numpy as np
from numba import cuda


@cuda.jit
def mark_primes(is_prime):
    number = cuda.grid(1)
    if number >= is_prime.size or number < 2:
        return
    divisor = 2
    while divisor * divisor <= number:
        if number % divisor == 0:
            return
        divisor += 1
    is_prime[number] = 1


LIMIT = 100_000
flags = cuda.to_device(np.zeros(LIMIT, dtype=np.int32))
mark_primes[(LIMIT + 127) // 128, 128](flags)
count = int(flags.copy_to_host().sum())
print(f"on {cuda.get_current_device().name}: {count} primes below {LIMIT}")
assert count == 9592
