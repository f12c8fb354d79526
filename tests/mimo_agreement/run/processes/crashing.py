"""A worker that crashes on a clip: `python crashing.py SHA256 HOW FOLDER DESCRIPTOR`. HOW: `always`, or the number of
times; what it does is noted in FOLDER."""

import os
import signal
import sys
from pathlib import Path

from mimo_agreement.run.clips import Clips
from mimo_agreement.run.jobs import Job
from mimo_agreement.run.processes import worker
from runtime_check.audio.clips import Clip

_, CLIP, HOW, FOLDER, _ = sys.argv
of = Clips.of


def crashing(self: Clips, job: Job) -> Clip:
    crashed = len(list(Path(FOLDER).iterdir()))
    if job.pair.clip == CLIP and (HOW == "always" or crashed < int(HOW)):
        Path(FOLDER, f"{job.pair.lm[:8]}-{os.getpid()}").touch()
        sys.stderr.write("GGML_ASSERT: what no clip should cause\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGABRT)
    return of(self, job)


Clips.of = crashing  # type: ignore[method-assign]
worker.main()
