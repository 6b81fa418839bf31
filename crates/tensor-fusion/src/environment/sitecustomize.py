"""Loaded by every Python that `tensor-fusion run` starts on a software GPU, and by those in pods on one.

numba-cuda and cuda-core link with NVIDIA's nvJitLink where it is installed. It makes machine code for NVIDIA's
processors, which a software GPU cannot run. Without it they hand their PTX to the driver, which is ours. So the one
function that finds nvJitLink for them says that there is none. Libraries that are linked against nvJitLink
(cuSPARSE, cuSOLVER) find it as ever.
"""

import sys


def _without_nvjitlink(module):
    find = module.load_nvidia_dynamic_lib

    def load_nvidia_dynamic_lib(libname):
        if libname == "nvJitLink":
            raise module.DynamicLibNotFoundError("nvJitLink makes no PTX, and a software GPU runs nothing else")
        return find(libname)

    module.load_nvidia_dynamic_lib = load_nvidia_dynamic_lib
    # cuda-core tells the user to install what we have just hidden.
    import warnings

    warnings.filterwarnings("ignore", message="cuda.bindings.nvjitlink is not available", category=RuntimeWarning)


def _absent(module):
    raise ModuleNotFoundError(f"No module named {module.__name__!r}", name=module.__name__)


class _Patches:
    """Finds modules as ever, and changes the named ones once they are loaded."""

    patches = {"cuda.pathfinder": _without_nvjitlink, "pynvjitlink": _absent}

    def find_spec(self, name, path=None, target=None):
        patch = self.patches.get(name)
        if patch is None:
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is None or not hasattr(spec.loader, "exec_module"):
            return spec
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            patch(module)

        spec.loader.exec_module = exec_module
        return spec


def _go_on():
    """Loads the `sitecustomize` that this one hides, if there is one."""
    import os
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder) != here]
    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


sys.meta_path.insert(0, _Patches())
_go_on()
