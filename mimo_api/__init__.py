"""The Python interface: what the commands do, as functions of typed options that return records.

    from mimo_api import ConvertOptions, convert

    result = convert(ConvertOptions("tiny", types=["q4_k"], out=Path("out")), progress=print)
    assert result.report.passed

Each function takes its options and two callbacks: `progress`, which gets a `Progress` whenever a phase has come
further, and `message`, which gets lines about the work. Bad input raises InputError. Nothing is printed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mimo_convert.formats.calibration import Calibration
    from mimo_convert.listener import Progress
    from mimo_publish.destination import Destination
    from mimo_publish.publication import PublishResult
    from quantize.errors import InputError
    from runtime_check.report.records import Report
    from runtime_check.report.results import Outputs
    from runtime_check.run.speech.tasks import Sampling
    from runtime_check.run.transcription.transcribe import Piece, Transcript

    from .agreement import AgreementOptions, measure_agreement
    from .calibration import CalibrateOptions, calibrate
    from .checking import CheckOptions, ReferenceOptions, check, make_reference
    from .conversion import Converted, ConvertOptions, convert
    from .cost import Cost
    from .publication import PublishOptions, publish
    from .quantization import QuantizeOptions, quantize
    from .speaking.asked import SpeechOptions
    from .speaking.speech import prompt_ids, speak
    from .transcription import TranscribeOptions, transcribe

HOMES = {
    "mimo_api.agreement": ("AgreementOptions", "measure_agreement"),
    "mimo_api.conversion": ("ConvertOptions", "Converted", "convert"),
    "mimo_api.cost": ("Cost",),
    "mimo_api.quantization": ("QuantizeOptions", "quantize"),
    "mimo_api.calibration": ("CalibrateOptions", "calibrate"),
    "mimo_api.checking": ("CheckOptions", "ReferenceOptions", "check", "make_reference"),
    "mimo_api.speaking.asked": ("SpeechOptions",),
    "mimo_api.speaking.speech": ("prompt_ids", "speak"),
    "mimo_api.transcription": ("TranscribeOptions", "transcribe"),
    "mimo_api.publication": ("PublishOptions", "publish"),
    "mimo_convert.formats.calibration": ("Calibration",),
    "mimo_convert.listener": ("Progress",),
    "mimo_publish.destination": ("Destination",),
    "mimo_publish.publication": ("PublishResult",),
    "quantize.errors": ("InputError",),
    "runtime_check.report.records": ("Report",),
    "runtime_check.report.results": ("Outputs",),
    "runtime_check.run.speech.tasks": ("Sampling",),
    "runtime_check.run.transcription.transcribe": ("Piece", "Transcript"),
}
HOME = {name: module for module, names in HOMES.items() for name in names}

__all__ = [
    "AgreementOptions", "CalibrateOptions", "Calibration", "CheckOptions", "ConvertOptions", "Converted", "Cost",
    "Destination",
    "InputError", "Outputs", "Piece", "Progress", "PublishOptions", "PublishResult", "QuantizeOptions",
    "ReferenceOptions", "Report", "Sampling", "SpeechOptions", "TranscribeOptions", "Transcript", "calibrate", "check",
    "convert", "make_reference", "measure_agreement", "prompt_ids", "publish", "quantize", "speak", "transcribe",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: commands need few of them, and publishing alone takes 30 MB."""
    if name not in HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
