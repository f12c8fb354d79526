"""How each matrix of a file that was made with error feedback was rounded, as it records it."""

from collections.abc import Mapping
from typing import NamedTuple

from mimo_convert.formats.calibration import Calibration
from mimo_convert.formats.hessians import folder_of
from mimo_convert.model.source_model import SourceModel
from mimo_convert.plan.feedback import Feedback, Rounding, feedback_of_text, open_feedback
from quantize.backends import FEEDBACK
from quantize.feedback.choice import PLAIN


class Method(NamedTuple):
    """Whether a matrix was rounded by its importance, and with what error feedback, if any."""

    is_weighted: bool = True
    rounding: Rounding | None = None


WEIGHTED = Method()


def feedback_given(ours: SourceModel, calibration: Calibration | None, threads: int) -> Feedback | None:
    """The second moments that a file was made with, beside its calibration; None if they are not there, or it was made
    without. Raises InputError for others than the calibration names, and damaged ones."""
    if calibration is None or FEEDBACK not in ours.backends or not folder_of(calibration.where).is_dir():
        return None
    return open_feedback(calibration, threads)


def recorded_methods(ours: SourceModel, source: SourceModel, feedback: Feedback | None) -> Mapping[str, Method]:
    """The method of each matrix, by source name; of one that is not recorded, none."""
    if feedback is None:
        return {}
    recorded = feedback_of_text(ours.provenance.feedback)
    return {
        of: Method(recorded[name] != PLAIN, feedback.rounding_of(name, recorded[name]))
        for of, name in feedback.entries(source).items()
        if name in recorded
    }
