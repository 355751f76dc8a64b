"""scikit-build-core's build backend, for the LibTorch of the environment into which pip installs the wheel.

pip hides that environment from a build; its paths are known all the same. Only where it has no torch that can be built
with is one required for the build, from PyPI. The wheel depends on exactly the torch that it was built with.
"""

import importlib.metadata
import os
import re
import sys
import sysconfig
from pathlib import Path

from scikit_build_core import build as scikit_build

CHECKOUT = Path(__file__).resolve().parents[2]
SITE_PACKAGES = sysconfig.get_path("platlib")


def written_in(file, pattern):
    path = CHECKOUT / file
    if not path.exists():
        raise SystemExit(f"igpt: {path} is missing: the wheel is built from the checkout in which scripts/wheel lies")
    return re.search(pattern, path.read_text()).group(1)


def find_torch():
    """The public version ("2.11.0") and the folder of the torch to build with; nothing where there is none."""
    minimum = tuple(map(int, written_in("scripts/cmake/FindLibTorch.cmake", r"LibTorch_MINIMUM ([\d.]+)").split(".")))
    for places in ([SITE_PACKAGES], sys.path):
        for torch in importlib.metadata.distributions(name="torch", path=places):
            version = torch.version.partition("+")[0]
            if tuple(map(int, re.findall(r"\d+", version)[: len(minimum)])) >= minimum:
                return version, Path(str(torch.locate_file("torch")))
    return None


def torch_to_build_with():
    if torch := find_torch():
        return torch
    version = written_in("scripts/setup.sh", r"torch_version=(\S+)")
    raise SystemExit(
        f"igpt: this environment has no torch that igpt can be built with; pip install torch=={version}, or leave out "
        "--no-build-isolation"
    )


def get_requires_for_build_wheel(config_settings=None):
    required = scikit_build.get_requires_for_build_wheel(config_settings)
    if not find_torch():
        required.append("torch==" + written_in("scripts/setup.sh", r"torch_version=(\S+)"))
    return required


def dynamic_metadata(settings, project):
    version = written_in("CMakeLists.txt", r"project\(igpt VERSION ([\d.]+)")
    return {"version": version, "dependencies": [f"torch=={torch_to_build_with()[0]}"]}


prepare_metadata_for_build_wheel = scikit_build.prepare_metadata_for_build_wheel


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    os.environ["Torch_DIR"] = str(torch_to_build_with()[1] / "share/cmake/Torch")  # FindLibTorch.cmake looks there first
    way = os.path.relpath(SITE_PACKAGES, sysconfig.get_path("scripts"))
    settings = {"cmake.define.IGPT_WHEEL": way, **(config_settings or {})}
    return scikit_build.build_wheel(wheel_directory, settings, metadata_directory)


def build_sdist(sdist_directory, config_settings=None):
    raise SystemExit("igpt: there is no source distribution; in a checkout, pip install ./scripts/wheel")
