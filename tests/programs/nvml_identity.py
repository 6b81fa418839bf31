# nvidia-ml-py and nvitop see the vGPU that CUDA sees, its memory, and this process on it.
# builds: python
# paths: tcp
import ctypes
import os
import subprocess
import sys

import pynvml

pynvml.nvmlInit()
assert pynvml.nvmlDeviceGetCount() == 1
device = pynvml.nvmlDeviceGetHandleByIndex(0)
name, uuid = pynvml.nvmlDeviceGetName(device), pynvml.nvmlDeviceGetUUID(device)
assert name and uuid.startswith("GPU-"), (name, uuid)
assert pynvml.nvmlSystemGetDriverVersion()
assert pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByUUID(uuid)) == uuid
bus = pynvml.nvmlDeviceGetPciInfo(device).busId
assert pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByPciBusId(bus)) == uuid
before = pynvml.nvmlDeviceGetMemoryInfo(device)
assert before.used + before.free <= before.total, before

cuda = ctypes.CDLL("libcuda.so.1")


def call(function, *arguments):
    result = getattr(cuda, function)(*arguments)
    assert result == 0, f"{function} gave {result}"


context, pointer, total = ctypes.c_void_p(), ctypes.c_uint64(), ctypes.c_size_t()
call("cuInit", 0)
call("cuDeviceTotalMem_v2", ctypes.byref(total), 0)
assert total.value == before.total, (total.value, before.total)
raw = (ctypes.c_ubyte * 16)()
call("cuDeviceGetUuid", raw, 0)
text = bytes(raw).hex()
assert uuid == f"GPU-{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}", (uuid, text)
call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
call("cuCtxSetCurrent", context)
call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(200 << 20))
after = pynvml.nvmlDeviceGetMemoryInfo(device)
assert after.used - before.used >= 200 << 20 and after.total == before.total, (before, after)

utilization = pynvml.nvmlDeviceGetUtilizationRates(device)
assert 0 <= utilization.gpu <= 100 and 0 <= utilization.memory <= 100
processes = pynvml.nvmlDeviceGetComputeRunningProcesses(device)
mine = [process for process in processes if process.pid == os.getpid()]
assert len(mine) == 1 and mine[0].usedGpuMemory >= 200 << 20, processes
try:
    pynvml.nvmlDeviceGetHandleByIndex(1)
    raise AssertionError("there is a second device")
except pynvml.NVMLError as error:
    assert error.value in (pynvml.NVML_ERROR_INVALID_ARGUMENT, pynvml.NVML_ERROR_NOT_FOUND), error

# nvitop is another client of the same vGPU; it looks at it while this process holds memory.
shown = subprocess.run([sys.executable, "-m", "nvitop", "-1", "--ascii"], capture_output=True, text=True)
assert shown.returncode == 0, shown.stdout + shown.stderr
assert "GPU" in shown.stdout and str(os.getpid()) in shown.stdout, shown.stdout + shown.stderr
print("nvml_identity: ok")
