#!/bin/sh
# Stands in for NVIDIA's ptxas in a pod on a software GPU, which runs PTX: the result is the input.
# The same in a shell as `tensor-fusion` called by the name ptxas, which would be a large file in every pod.
input= output=elf.o
while [ $# -gt 0 ]; do
    case $1 in
    --version | -V)
        echo "ptxas: Tensor Fusion's stand-in, which passes PTX through"
        echo "Cuda compilation tools, release 13.0, V13.0.88"
        exit 0
        ;;
    -o | --output-file) output=$2 && shift ;;
    --output-file=*) output=${1#*=} ;;
    -arch | --gpu-name | -O | --opt-level | -maxrregcount | --maxrregcount) shift ;;
    -*) ;;
    *) input=$1 ;;
    esac
    shift
done
[ -n "$input" ] || { echo "ptxas: no input file was given" >&2; exit 1; }
exec cp -- "$input" "$output"
