# The commands that people type. Each is one line of `cargo xtask`, which says more when asked.

.PHONY: build test test-cluster check demo bench bundle setup cluster cluster-down

build:
	cargo build --workspace --release

# Everything a newcomer watches: build, node, CUDA C++ and Numba on a remote vGPU, the limit.
demo:
	cargo xtask demo

# Ends with one line: N passed, N failed, N skipped. The last of them run on a real Kubernetes cluster, which it brings up and takes
# down: with root and Go on two nodes (a quarter of an hour more the first time), else on what the machine allows.
test:
	cargo xtask test

# Those on the cluster alone.
test-cluster:
	cargo xtask test --cluster

check:
	cargo xtask check

# Prints the table and writes target/bench.json.
bench:
	cargo xtask bench

# One archive for a machine with a GPU: target/tensor-fusion-bundle.tar.gz
bundle:
	cargo xtask bundle

setup:
	cargo xtask setup

# A real Kubernetes cluster of two nodes with Tensor Fusion on it; prints how to reach it.
cluster:
	cargo xtask cluster install

cluster-down:
	cargo xtask cluster down
