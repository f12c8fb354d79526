"""What a report knows of a file by its header: above all its type, with the mix that rules made."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from gguf import GGUFValueType

from mimo_commands.convert import main as mimo_convert
from mimo_convert.model.model_file import OpenFiles
from mimo_families.registry import families
from runtime_check.run.facts import file_facts
from runtime_check.run.records import FileFacts
from tests.gguf_edit import Key, rewrite
from tests.mimo_convert.budget.made_up import written_calibration


def facts_of(path: Path) -> FileFacts:
    files = OpenFiles(families())
    return file_facts("speech_lm", files.model(path), files)


@pytest.fixture(scope="module")
def mixed(small_lm: Path, small_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A speech LM as Q4_K, with head and embeddings in Q6_K."""
    folder = tmp_path_factory.mktemp("mixed")
    beside = ["--tokenizer", str(small_tokenizer), "--no-check", "--out", str(folder)]
    options = ["--outtype", "q4_k", "--tensor-type", r"lm_head|llm\.embed=q6_k", *beside]
    result = CliRunner().invoke(mimo_convert, [str(small_lm), *options])
    assert result.exit_code == 0, result.output
    [path] = folder.glob("mimo-asr-*.gguf")
    return path


def test_a_mix_is_what_rules_made_of_a_type_beside_its_fallbacks(mixed: Path) -> None:
    facts = facts_of(mixed)
    assert facts.label == "q4_k + 2 q6_k"
    assert {"q4_0", "f32"} < facts.tensor_types.keys(), "these are not of rules"


def test_a_named_recipe_is_told_from_the_rules_beside_it(tmp_path: Path) -> None:
    options = ["--recipe", "q4_k_m", "--tensor-type", "lm_head=f16", "--no-check", "--out", str(tmp_path)]
    assert CliRunner().invoke(mimo_convert, ["tiny", *options]).exit_code == 0
    facts = facts_of(tmp_path / "mimo-asr-q4_k_m-mix.gguf")
    assert (facts.outtype, facts.recipe_name, facts.own_rules) == ("q4_k", "q4_k_m", ("lm_head=f16",))
    assert facts.recipe[0] == "lm_head=f16"
    assert len(facts.recipe) > 1
    assert facts.label.startswith("q4_k_m: q4_k + ")


@pytest.mark.parametrize(
    ("recipe", "type", "judged_as"),
    [("mixed-8-4", "q8_0", "q4_k"), ("q4_k_m", "q4_k", "q4_k"), ("q5_k_m", "q5_k", "q5_k")],
)
def test_a_named_recipe_is_judged_as_its_type_of_fewest_bits(
    tmp_path: Path, recipe: str, type: str, judged_as: str
) -> None:
    """However few weights have it: a file of few weights of 4 bits errs as one of 4 bits in what these compute."""
    CliRunner().invoke(mimo_convert, ["tiny", "--recipe", recipe, "--no-check", "--out", str(tmp_path)])
    facts = facts_of(tmp_path / f"mimo-asr-{recipe}.gguf")
    assert (facts.type, facts.judged_as) == (type, judged_as)


def test_a_file_of_a_given_size_is_judged_as_its_type_of_fewest_bits(tmp_path: Path) -> None:
    calibration = written_calibration("tiny", tmp_path / "c.gguf")
    size = ["--target-size", "3.6MB", "--calibration", str(calibration), "--tensor-type", "codebook_head.0=f16"]
    done = CliRunner().invoke(mimo_convert, ["tiny", *size, "--no-check", "--out", str(tmp_path)])
    assert done.exit_code == 0
    facts = facts_of(tmp_path / "mimo-asr-q3_k-3.6MB.gguf")
    assert facts.chosen is not None
    assert (facts.chosen.target, facts.own_rules, facts.variant) == ("3.6MB", ("codebook_head.0=f16",), "3.6MB")
    assert (facts.type, facts.judged_as) == ("q3_k", "q3_k")
    by_use = {(use.stack, use.use): use.types for use in facts.chosen.uses}
    assert by_use["", "head"][1] == "f16"
    assert "q3_k" in by_use["model.layers", "mlp_gate"]


def test_without_a_named_recipe_a_file_is_judged_as_most_of_its_weights(mixed: Path) -> None:
    facts = facts_of(mixed)
    assert (facts.gate_type, facts.judged_as) == ("", facts.type)


def test_the_rules_of_a_recipe_that_is_not_known_here_are_all_ones_own(mixed: Path, tmp_path: Path) -> None:
    """Of a later version's file."""
    key = Key("mimo_convert.recipe_name", "mixed-9-1", GGUFValueType.STRING)
    facts = facts_of(rewrite(mixed, tmp_path / "x.gguf", add=[key]))
    assert (facts.recipe_name, facts.own_rules) == ("mixed-9-1", facts.recipe)


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "../x", "\x1b[31m", 15])
def test_what_is_no_name_is_no_recipe(mixed: Path, tmp_path: Path, name: object) -> None:
    kind = GGUFValueType.STRING if isinstance(name, str) else GGUFValueType.UINT32
    facts = facts_of(rewrite(mixed, tmp_path / "x.gguf", add=[Key("mimo_convert.recipe_name", name, kind)]))
    assert (facts.recipe_name, facts.own_rules, facts.gate_type) == ("", (), "")


def test_the_mix_of_another_tools_file_is_seen_in_its_tensors(mixed: Path, tmp_path: Path) -> None:
    """Such as Q4_K_M, of whose general.file_type no type is made."""

    def keys(key: Key) -> Key | None:
        if key.name == "general.file_type":
            return Key(key.name, 15, GGUFValueType.UINT32)
        return None if key.name.startswith("mimo_convert.") else key

    facts = facts_of(rewrite(mixed, tmp_path / "q4_k_m.gguf", keys=keys))
    assert (facts.type, facts.outtype, facts.recipe) == ("q4_k", "", ())
    assert facts.label == "q4_k + 2 q6_k"
