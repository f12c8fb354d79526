"""The kernels under AddressSanitizer and UndefinedBehaviorSanitizer, by products_driver.cpp.

Of the variant `avx_vnni` the driver has a build without the one instruction that makes it: few processors have that.

With LANES_TARGET=aarch64 (`make neon`) they are built by a cross compiler, too, and run by an emulator, against the
bytes of this machine's own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quantize.types import TYPES
from tests.system.once import once

from .weights import VARIANTS

ROOT = Path(__file__).parents[3]
CMAKE = (sys.executable, "-m", "cmake")
CROSS = (
    "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++"
)  # fmt: skip
STAND_IN = "avx_vnni"  # runs on every processor with AVX2
EMULATOR = ("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu")


LAYERS = "layers"


def hashes_by_kernel(factory: pytest.TempPathFactory, target: str) -> dict[tuple[str, str], tuple[str, str]]:
    """(variant, number of the type) → hashes of the products of several columns and of few, and (variant, LAYERS) →
    those of attention and GELU, of a build for `target`."""
    cross = target != "native"

    def build(folder: Path) -> None:
        options = ["-DLANES_DRIVER=ON", "-DLANES_SANITIZE=ON", "-DCMAKE_CXX_FLAGS=-O0", *(CROSS if cross else ())]
        for command in (
            (*CMAKE, "-S", ROOT, "-B", folder, *options),
            (*CMAKE, "--build", folder, "--parallel", "2", "--target", "products_driver"),
        ):
            ended = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert ended.returncode == 0, ended.stdout

    program = str(once(factory, f"products-{target}", build) / "products_driver")
    options = {**os.environ, "ASAN_OPTIONS": f"detect_leaks={int(not cross)}"}  # not under an emulator
    command = [*(EMULATOR if cross else ()), program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, env=options)
    assert (ended.returncode, ended.stderr) == (0, "")
    rows = [line.split() for line in ended.stdout.splitlines()]
    return {(variant, what): (first, second) for variant, what, first, second in rows}


@pytest.mark.skipif(not VARIANTS, reason="no kernels for this processor")
def test_no_kernel_touches_what_is_not_its_own_and_all_variants_compute_alike(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Several columns give the same bytes in every variant, and so do few with weights in blocks, and layers."""
    found = hashes_by_kernel(tmp_path_factory, "native")
    numbers = [str(type.ggml) for type in TYPES.values()]
    assert set(found) == {(variant, what) for variant in {STAND_IN, *VARIANTS} for what in (LAYERS, *numbers)}
    if (target := os.environ.get("LANES_TARGET", "native")) != "native":
        emulated = hashes_by_kernel(tmp_path_factory, target)
        assert {variant for variant, _ in emulated} == {"neon_dot"}
        found |= emulated
    assert len({hashes for (_, what), hashes in found.items() if what == LAYERS}) == 1
    for type in TYPES.values():
        of_type = {variant: hashes for (variant, what), hashes in found.items() if what == str(type.ggml)}
        assert len({several for several, _ in of_type.values()}) == 1, type.name
        assert len({few for _, few in of_type.values()}) == 1 or type.block == 1, type.name
