"""Tasks by name and reply, and the options that each takes."""

import pytest

from quantize.errors import InputError
from runtime_check.choices import SPEECH, TEXT
from runtime_check.run.speech.tasks import SpeechTask, check_takes, find_task

SAY = SpeechTask("say", SPEECH, frozenset({"text", "voice"}), needs=(("text",),))
TALK = SpeechTask("talk", SPEECH, frozenset({"audio", "dialogue", "reply", "voice"}), needs=(("audio", "dialogue"),))
WRITE = SpeechTask("talk", TEXT, frozenset({"audio", "dialogue", "reply", "thinking"}))
TASKS = (SAY, TALK, WRITE)


@pytest.mark.parametrize(
    ("name", "reply", "found"),
    [("say", None, SAY), ("say", SPEECH, SAY), ("talk", None, TALK), ("talk", SPEECH, TALK), ("talk", TEXT, WRITE)],
)
def test_a_task_by_name_and_reply(name: str, reply: str | None, found: SpeechTask) -> None:
    assert find_task(TASKS, name, reply, "murmur") is found


@pytest.mark.parametrize(
    ("tasks", "name", "reply", "says"),
    [
        (TASKS, "sing", None, "--task: sing: files of murmur do not do so; expected say or talk"),
        ((), "say", None, "--task: say: files of murmur do not speak; expected transcribe"),
        (TASKS, "say", TEXT, "--reply: text, but --task say replies with speech; leave it out"),
    ],
)
def test_a_task_that_there_is_not(tasks: tuple[SpeechTask, ...], name: str, reply: str | None, says: str) -> None:
    with pytest.raises(InputError) as error:
        find_task(tasks, name, reply, "murmur")
    assert str(error.value) == says


@pytest.mark.parametrize(
    ("task", "given", "says"),
    [
        (SAY, ["text", "thinking"], "--thinking: is not for --task say; --task talk --reply text takes it"),
        (
            WRITE,
            ["voice"],
            "--voice: is not for --task talk --reply text; --task say, --task talk --reply speech take it",
        ),
        (SAY, ["voice"], "--task say: needs --text"),
        (TALK, ["voice"], "--task talk --reply speech: needs --audio or --dialogue"),
    ],
)
def test_options_of_other_tasks(task: SpeechTask, given: list[str], says: str) -> None:
    with pytest.raises(InputError) as error:
        check_takes(given, task, TASKS)
    assert str(error.value) == says


def test_options_of_every_task_are_taken() -> None:
    check_takes(["text", "voice", "threads"], SAY, TASKS)
    check_takes(["dialogue"], TALK, TASKS)
