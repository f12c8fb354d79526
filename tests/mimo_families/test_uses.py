"""What each family says of its matrices: recipes go by it."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mimo_convert.formats.config import Config
from mimo_convert.model.family import Family, Layout, Tensor
from mimo_convert.model.uses import USES
from mimo_convert.plan.named_recipes import NAMED
from mimo_convert.plan.recipe_rules import rules_of_recipe
from mimo_families.qwen3_asr.layout import FAMILY as QWEN3_ASR
from mimo_families.qwen3_asr.llama_cpp.layout import MMPROJ, TEXT
from mimo_families.registry import families
from quantize.recipes import ROLE_TYPES, choose_type, parse_rule
from tests.murmur.layout import FAMILY as MURMUR
from tests.opened import AUDIO_TOKENIZER, SPEECH_LM
from tests.qwen3_checkpoint import REAL_AUDIO, REAL_TEXT, config_values
from tests.synthetic import REAL_ASR_CONFIG, REAL_DECODER_CONFIG, REAL_TOKENIZER_CONFIG

MURMUR_CONFIG = {
    "tie_word_embeddings": True, "vocab_size": 288, "width": 256, "n_blocks": 12, "n_heads": 4, "n_kv_heads": 2,
    "head_dim": 64, "ffn": 512, "context": 1024, "n_bands": 32, "stacked": 8, "theta": 10000.0, "eps": 1e-6,
}  # fmt: skip


BLOCK = ("attn.q", "attn.k", "attn.v", "attn.o", "fc1", "fc2")
VOCODER = frozenset(  # no recipe makes it smaller than F16
    f"voc.{name}.weight" for name in ("embed", "head", *(f"blk.{i}.{one}" for i in range(16) for one in BLOCK))
)


class Case(NamedTuple):
    """A family at a size, and the matrices that have no use: recipes give them their base type."""

    family: Family
    config: dict[str, Any]
    others: frozenset[str] = frozenset()
    is_mixed: bool = True  # by recipes; an encoder alone is of one type

    def tensors(self, layout: Layout) -> list[Tensor]:
        """Every tensor of a file."""
        return list(self.family.tensors(self.family.dimensions(Config(Path("config.json"), self.config)), layout))


CASES = {
    case.family.architecture: case
    for case in (
        Case(SPEECH_LM, REAL_ASR_CONFIG, frozenset({"audio.hidden_proj.weight"})),
        Case(AUDIO_TOKENIZER, REAL_TOKENIZER_CONFIG | REAL_DECODER_CONFIG, VOCODER),
        Case(QWEN3_ASR, config_values(REAL_TEXT, REAL_AUDIO)),
        Case(TEXT, config_values(REAL_TEXT, REAL_AUDIO)),
        Case(MMPROJ, config_values(REAL_TEXT, REAL_AUDIO), is_mixed=False),
        Case(MURMUR, MURMUR_CONFIG),
    )
}

pytestmark = pytest.mark.parametrize("name", CASES)


def test_every_matrix_has_one_use(name: str) -> None:
    case = CASES[name]
    for layout in case.family.layouts:
        without = set()
        for tensor in case.tensors(layout):
            found = [use.use for use in case.family.uses if use.layer_of(tensor.name) is not None]
            if ROLE_TYPES[tensor.role] is None:
                assert len(found) <= 1, tensor.name
                without |= set() if found else {tensor.name}
        assert without <= case.others
        assert layout.without or without == case.others


def test_every_use_is_of_some_matrix_and_can_be_a_rule(name: str) -> None:
    case = CASES[name]
    tensors = {t.name for layout in case.family.layouts for t in case.tensors(layout) if ROLE_TYPES[t.role] is None}
    for use in case.family.uses:
        rule = parse_rule(f"{use.pattern_of()}=q6_k", use.use)
        matched = {tensor for tensor in tensors if use.layer_of(tensor) is not None}
        assert use.use in USES
        assert matched == {tensor for tensor in tensors if rule.is_found_in(tensor)} != set()


@pytest.mark.parametrize("recipe", NAMED)
def test_every_recipe_mixes_every_family(name: str, recipe: str) -> None:
    case, named = CASES[name], NAMED[recipe]
    for layout in case.family.layouts:
        tensors = case.tensors(layout)
        rules = rules_of_recipe(named, case.family.uses, tensors)
        types = {choose_type(t.role, 256, named.base, t.name, rules)[0].name for t in tensors}
        assert not case.is_mixed or {share.ggml_type.name for share in named.shares} - {"q8_0"} <= types


def test_every_registered_family_is_among_these(name: str) -> None:
    assert {family.architecture for family in families()} <= CASES.keys()
