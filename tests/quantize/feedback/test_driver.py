"""The kernels under sanitizers, by feedback_driver.cpp; with LANES_TARGET=aarch64 (`make neon`), those for ARM by an
emulator. The bytes are those of this machine's own."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from quantize.feedback.factor import LAMBDA, factor
from quantize.feedback.library import variants
from quantize.feedback.rounding import with_feedback
from quantize.types import Type
from tests.quantize.test_lanes import CMAKE, FOR_TARGET, ON_TARGET, ROOT, TARGET
from tests.system.once import once

from .samples import FEEDBACK_TYPES, importance_of, sample, searched

pytestmark = pytest.mark.skipif(not variants(), reason="no kernels for this platform")
VARIANTS = variants() if TARGET == "native" else ("neon",)
N, ALPHA = 512, 0.1


def build(folder: Path) -> None:
    sanitized = ("-DLANES_SANITIZE=ON", "-DCMAKE_CXX_FLAGS=-O0")
    for command in (
        (*CMAKE, "-S", ROOT, "-B", folder, "-DLANES_DRIVER=ON", *sanitized, *FOR_TARGET[TARGET]),
        (*CMAKE, "--build", folder, "--parallel", "2", "--target", "feedback_driver"),
    ):
        ended = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert ended.returncode == 0, ended.stdout


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "feedback_driver", build) / "feedback_driver"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("ggml_type", FEEDBACK_TYPES, ids=lambda ggml_type: ggml_type.name)
def test_bytes_are_the_same_and_nothing_is_touched_beside_the_buffers(
    driver: Path, tmp_path: Path, variant: str, ggml_type: Type
) -> None:
    rows, moments = sample(N, 5)
    blocks, found = searched(rows, ggml_type, importance_of(moments)), factor(moments, ALPHA)
    damping = np.float32(LAMBDA * moments.diagonal().astype(np.float64).mean())
    files = {"rows": rows, "moments": moments, "order": found.order, "blocks": blocks}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data.tobytes())
    numbers = (float(np.float32(1 - ALPHA)).hex(), float(damping).hex(), 1)
    command = [*ON_TARGET[TARGET], driver, variant, ggml_type.ggml, N, *numbers, *(tmp_path / name for name in files)]
    options = {**os.environ, "ASAN_OPTIONS": f"detect_leaks={int(TARGET == 'native')}"}
    ended = subprocess.run([*map(str, command)], capture_output=True, env=options, timeout=300)
    assert (ended.returncode, ended.stderr.decode()) == (0, "")
    assert ended.stdout == with_feedback(rows, blocks, ggml_type, found).tobytes()
