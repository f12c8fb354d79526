"""The kernels under AddressSanitizer and UndefinedBehaviorSanitizer, by products_driver.cpp."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.once import once

from .weights import CASES, VARIANTS

ROOT = Path(__file__).parents[3]
CMAKE = (sys.executable, "-m", "cmake")


@pytest.mark.skipif(not VARIANTS, reason="no kernels for this processor")
def test_no_kernel_touches_what_is_not_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    def build(folder: Path) -> None:
        for command in (
            (*CMAKE, "-S", ROOT, "-B", folder, "-DLANES_DRIVER=ON", "-DLANES_SANITIZE=ON", "-DCMAKE_CXX_FLAGS=-O0"),
            (*CMAKE, "--build", folder, "--parallel", "2", "--target", "products_driver"),
        ):
            ended = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert ended.returncode == 0, ended.stdout

    folder = once(tmp_path_factory, "products-sanitized", build)
    ended = subprocess.run([folder / "products_driver"], capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert int(ended.stdout.split()[0]) >= 30 * len(CASES)
