#!/bin/sh
# Shows this container's vGPUs: starts the program that does, where the image can run it.
for loader in /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-aarch64.so.1; do
    if [ -e "$loader" ]; then
        exec "@FOLDER@/lib/nvidia-smi" "$@"
    fi
done
echo "nvidia-smi: this image has no GNU C library (glibc 2.17 or later), which CUDA programs and Tensor Fusion's library need:" >&2
echo "nvidia-smi: \`/lib64/ld-linux-x86-64.so.2\` is missing. Images built on musl (Alpine) cannot use GPUs." >&2
exit 1
