"""What users of other runtimes are told."""

from pathlib import Path

from click.testing import CliRunner

from mimo_commands.convert import main as mimo_convert
from mimo_convert.write.made import MADE
from mimo_families.registry import systems
from mimo_publish.reproduction import runtime_hints
from tests import reports
from tests.hub_server import Hub

from .publishing import LM, REPO, TOKENIZER, publish, there

HINT = "CrispASR looks for mimo-tokenizer-q4_k.gguf, which is not among the files: give it --codec-model"


def test_a_runtime_that_finds_no_companion_is_named() -> None:
    report = reports.published_report()
    [hint] = runtime_hints(report, ["mimo-asr-q4_k.gguf"])
    assert hint.startswith(f"{HINT} mimo-tokenizer-")
    assert not list(runtime_hints(report, ["mimo-asr-q4_k.gguf", "mimo-tokenizer-q4_k.gguf"]))


def test_the_option_is_that_of_the_runtimes_command() -> None:
    options = {(system.name, one.name): one.companion_option for system in systems() for one in system.runtimes}
    assert {key: option for key, option in options.items() if option} == {
        ("mimo_audio", "CrispASR"): "--codec-model", ("qwen3_asr_llama_cpp", "llama.cpp"): "--mmproj",
    }  # fmt: skip


def test_nothing_is_said_where_the_name_is_among_the_files(hub: Hub, folder: Path) -> None:
    status, said = publish(folder, "--dry-run")
    assert (status, "CrispASR" in said) == (0, False)


def test_published_again_by_the_same_command_no_file_is_written_again(hub: Hub, tmp_path: Path) -> None:
    bases = ["--base-model", LM, "--tokenizer-base-model", TOKENIZER]
    arguments = ["tiny", "--outtype", "q4_k", "--out", str(tmp_path / "files"), *bases, "--publish", REPO, "--yes"]
    first, second = (CliRunner().invoke(mimo_convert, arguments) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    assert f"{HINT} mimo-tokenizer-q8_0.gguf" in first.stderr
    assert second.stderr.count(MADE) == 2
    lines = [line.split() for line in second.stdout.splitlines()]
    kinds = {words[0]: words[3] for words in lines if len(words) > 3 and words[0].endswith(".gguf")}
    assert {kinds[name] for name in there(hub) if name.endswith(".gguf")} == {"unchanged"}
