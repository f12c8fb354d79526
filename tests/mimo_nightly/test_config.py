"""The config of nightly runs: what it may say, and what is said of each mistake in it."""

import os
import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_convert.threads import default_threads
from mimo_nightly.agreement.records import AgreementSet
from mimo_nightly.config import Notify, Target, read_config
from mimo_nightly.config_schema import UNITS, seconds
from mimo_nightly.regression import METRICS
from quantize.errors import InputError
from runtime_check.audio.jfk import JFK

TARGET = '[[target]]\nname = "asr"\nfile = "lm.gguf"\ntokenizer = "tok.gguf"\n'
REFERENCE = 'reference = "jfk.safetensors"\n'
AGREEMENT = TARGET + REFERENCE + "[target.agreement]\n"
SET = AGREEMENT + "audio = 'set.jsonl'\nbaseline = 'f16.gguf'\n"


def read(folder: Path, text: str) -> list[Target]:
    (folder / "nightly.toml").write_text(text, encoding="utf-8")
    return list(read_config(folder / "nightly.toml").targets)


def test_a_target_has_what_it_needs_by_itself(tmp_path: Path) -> None:
    [target] = read(tmp_path, TARGET + REFERENCE)
    assert target == Target(
        name="asr", file=f"{tmp_path}/lm.gguf", beside={"tokenizer": f"{tmp_path}/tok.gguf"}, repo="", revision="main",
        reference=f"{tmp_path}/jfk.safetensors", reference_tokenizer="", audio=[str(JFK)],
        language="", timeout=2700, threads=default_threads(), repack="off", products="auto",
        tolerance={name: metric.tolerance for name, metric in METRICS.items()}, gates={}, compare_since="",
    )  # fmt: skip
    config = read_config(tmp_path / "nightly.toml")
    assert [config.history, config.pages, config.cache] == [
        tmp_path / name for name in ("history.sqlite", "pages", "cache")
    ]


def test_an_adapter_is_a_folder_seen_from_the_config_or_none(tmp_path: Path) -> None:
    for written, found in (("lora", f"{tmp_path}/lora"), ("/lora", "/lora"), ("none", "none")):
        [target] = read(tmp_path, TARGET + REFERENCE + f"adapter = '{written}'\ncontext = 'Berlin'\nattention = 'full'")
        assert (target.adapter, target.context, target.attention) == (found, "Berlin", "full")


@pytest.mark.parametrize(
    ("repo", "written", "found"),
    [
        ("", "c.gguf", "{}/c.gguf"),
        ("repo = 'a/b'\n", "sub/c.gguf", "sub/c.gguf"),
        ("repo = 'a/b'\n", "./c.gguf", "{}/./c.gguf"),
        ("repo = 'a/b'\n", "/c.gguf", "/c.gguf"),
    ],
)
def test_an_imatrix_is_a_path_or_a_name_in_the_repository(tmp_path: Path, repo: str, written: str, found: str) -> None:
    [target] = read(tmp_path, f"{TARGET}{REFERENCE}{repo}rows = 'tiny'\nimatrix = '{written}'")
    assert (target.rows, target.imatrix) == ("tiny", found.format(tmp_path))


def test_a_target_may_have_it_otherwise_than_the_others(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    shared = 'history = "h/all.db"\ntimeout = "1.5 h"\nthreads = 3\n[tolerance]\ncos_mean = 0.01\nkl_mean = 1\n'
    own = 'timeout = "90 s"\nrepack = "on"\nproducts = "ggml"\naudio = ["a.wav", "/b.jsonl"]\nlanguage = "chinese"\n'
    hub = '[[target]]\nname = "hub"\nrepo = "some/repo"\nrevision = "v1"\nfile = "lm.gguf"\ncheckpoint = "checkpoint"\n'
    more = 'checkpoint_tokenizer = "some/tokenizer"\ncompare_since = 2026-11-21T04:00:00+01:00\n'
    tables = "[target.tolerance]\ncos_mean = 0\n[target.gates]\nlayer_35 = { cos_mean = 0.95, rel_rmse = 0.1 }\n"
    one, two = read(tmp_path, f"{shared}{TARGET}{REFERENCE}{own}{hub}{more}{tables}")
    assert (one.timeout, one.threads, one.repack, one.products, one.language) == (90, 3, "on", "ggml", "chinese")
    assert one.audio == [f"{tmp_path}/a.wav", "/b.jsonl"]
    assert (one.tolerance["cos_mean"], one.tolerance["kl_mean"]) == (0.01, 1)
    assert (two.timeout, two.threads, two.repack, two.products) == (5400, 3, "off", "auto")
    assert (two.repo, two.revision, two.file, two.beside) == ("some/repo", "v1", "lm.gguf", {})
    assert (two.reference, two.reference_tokenizer) == (f"{tmp_path}/checkpoint", "some/tokenizer")
    assert (two.tolerance["cos_mean"], two.tolerance["kl_mean"]) == (0, 1)
    assert two.gates == {"layer_35": {"cos_mean": 0.95, "rel_rmse": 0.1}}
    assert two.compare_since == "2026-11-21T03:00:00Z"
    assert read_config(tmp_path / "nightly.toml").history == tmp_path / "h/all.db"


def test_a_target_may_have_an_agreement_set(tmp_path: Path) -> None:
    [target] = read(tmp_path, SET)
    assert target.agreement == AgreementSet(
        [f"{tmp_path}/set.jsonl"], ["clean"], f"{tmp_path}/f16.gguf", 1.0, language="", noise="", seed=0
    )
    assert read_config(tmp_path / "nightly.toml").answers == tmp_path / "history.sqlite.agreement"
    more = "conditions = ['clean', 'noise:babble:5.0dB']\ntolerance = 2\nlanguage = 'english'\nnoise = 'n'\nseed = 3"
    [target] = read(tmp_path, SET.replace("file", "repo = 'some/repo'\nfile") + more)
    assert target.agreement == AgreementSet(
        [f"{tmp_path}/set.jsonl"], ["clean", "noise:babble:5dB"], "f16.gguf", 2, "english", f"{tmp_path}/n", 3
    )
    [target] = read(tmp_path, SET + "cluster = 'far:1'\ninsecure_cluster = true")
    assert target.agreement
    assert (target.agreement.cluster, target.agreement.insecure_cluster) == ("far:1", True)


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("tiny", "tiny"),
        ("./tiny", "{folder}/./tiny"),
        ("there", "{folder}/there"),
        ("owner/there", "{folder}/owner/there"),
        ("owner/name", "owner/name"),
        ("owner/name@v1", "owner/name@v1"),
        ("owner/jfk.safetensors", "{folder}/owner/jfk.safetensors"),
        ("jfk", "{folder}/jfk"),
        ("/srv/jfk", "/srv/jfk"),
        ("~/jfk", "/home/someone/jfk"),
    ],
)
@pytest.mark.parametrize("key", ["reference", "checkpoint"])
def test_a_reference_is_named_as_on_a_command_line_and_paths_are_seen_from_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, written: str, found: str
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    (tmp_path / "there").mkdir()
    (tmp_path / "owner" / "there").mkdir(parents=True)
    [target] = read(tmp_path, TARGET + f"{key} = {written!r}\n{key}_tokenizer = {written!r}\n")
    assert target.reference == target.reference_tokenizer == found.format(folder=tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no target; expected [[target]] tables, at least one"),
        ("target = []", "target is []; expected [[target]] tables, at least one"),
        ("target = [3]", "target 1 is 3; expected a table"),
        ("[target]\nname = 'a'", "target is {'name': 'a'}; expected [[target]] tables, at least one"),
        ("target = ", "is not TOML: Invalid value (at end of document)"),
        (TARGET + REFERENCE + TARGET + REFERENCE, "2 targets are called 'asr'; expected a name for each"),
        ("[[target]]\nfile = 'a'", ": [[target]] number 1: has no name; expected letters, digits"),
        (TARGET.replace("asr", "../asr") + REFERENCE, ": [[target]] number 1: name is '../asr'; expected letters"),
        (TARGET.replace("asr", "a" * 101) + REFERENCE, "aaa'; expected letters, digits, . _ and -, at most 100, as in"),
        (TARGET.replace("file", "fille") + REFERENCE, ": [[target]] asr: has no file; expected text in quotes"),
        (TARGET, "asr: has neither reference nor checkpoint; expected one of them"),
        (TARGET + REFERENCE + "checkpoint = 'tiny'", "asr: has both reference and checkpoint; expected one of them"),
        (TARGET + REFERENCE + "mmproj = 'x'", "asr: has tokenizer and mmproj; expected one of them: tokenizer beside"),
        (TARGET + REFERENCE + "checkpoint_tokenizer = 'x'", "asr: has checkpoint_tokenizer, and no checkpoint"),
        (TARGET + "checkpoint = 'x'\nreference_tokenizer = 'x'", "asr: has reference_tokenizer, and no reference"),
        (TARGET + REFERENCE + "revision = 'x'", "asr: has revision, and no repo that it belongs to"),
        (TARGET + REFERENCE + "imatrix = 'x'", "asr: has imatrix, and no rows that it belongs to"),
        (
            TARGET + REFERENCE + "repo = 'a/b'\nrows = 'tiny'\nimatrix = 'a/../c.gguf'",
            "asr: imatrix is 'a/../c.gguf'; expected a file's name in the repository",
        ),
        (TARGET + REFERENCE + "repo = 'x'", "asr: repo is 'x'; expected OWNER/NAME"),
        (TARGET + REFERENCE + "audios = []", "asr: has the unknown key 'audios'; did you mean 'audio'?"),
        (TARGET + REFERENCE + "xyz = 1", "asr: has the unknown key 'xyz'; expected one of timeout, threads, repack"),
        (TARGET + REFERENCE + "audio = []", "asr: audio is []; expected text in quotes, or a list of such"),
        (TARGET + REFERENCE + "audio = ['a', 1]", "asr: audio is ['a', 1]; expected text in quotes, or a list of such"),
        (TARGET + REFERENCE + "language = 'klingon'", "language is 'klingon'; expected one of english, chinese, auto"),
        (TARGET + REFERENCE + "adapter = ''", "asr: adapter is ''; expected text in quotes"),
        (TARGET + REFERENCE + "context = 3", "asr: context is 3; expected text in quotes"),
        (TARGET + REFERENCE + "attention = 'none'", "asr: attention is 'none'; expected one of auto, full"),
        (TARGET + REFERENCE + "timeout = 90", "timeout is 90; expected a time such as \"90 s\", \"45 min\", \"2 h\""),
        (TARGET + REFERENCE + "timeout = '0 s'", "asr: timeout is '0 s'; expected a time such as"),
        (TARGET + REFERENCE + "timeout = '5 hours'", "asr: timeout is '5 hours'; expected a time such as"),
        (TARGET + REFERENCE + "threads = true", "asr: threads is True; expected a whole number from 1 to 128"),
        (TARGET + REFERENCE + "threads = 0", "asr: threads is 0; expected a whole number from 1 to 128"),
        (TARGET + REFERENCE + "repack = false", "asr: repack is False; expected one of auto, on, off"),
        (TARGET + REFERENCE + "compare_since = '2026'", "compare_since is '2026'; expected a date or time without quo"),
        (TARGET.replace("asr", "a.agreement") + REFERENCE, "which does not end in .agreement"),
        (TARGET + REFERENCE + "agreement = 1", "asr: agreement is 1; expected a table"),
        (AGREEMENT + "audio = 'a'", "asr [agreement]: has no baseline; expected text in quotes"),
        (AGREEMENT + "baseline = 'b'", "asr [agreement]: has no audio; expected text in quotes, or a list of such"),
        (SET + "insecure_cluster = true", "asr [agreement]: has insecure_cluster, and no cluster that it belongs to"),
        (SET + "cluster = 'here'", "has the cluster 'here'; expected tls://HOST:PORT, or tcp://HOST:PORT"),
        (SET + "cluster = 'far:1'", "not encrypted, and not on this machine; expected tls://HOST:PORT, or insecure_cl"),
        (SET + "tolerence = 1", "asr [agreement]: has the unknown key 'tolerence'; did you mean 'tolerance'?"),
        (SET + "tolerance = -1", "asr [agreement]: tolerance is -1; expected points of the error rate, a number from"),
        (SET + "conditions = ['loud']", "[agreement]: conditions is ['loud']; expected a list of conditions, each"),
        (SET + "conditions = ['loud']", "of the forms clean, noise:{white,pink,babble}:SNRdB, reverb:RT60s, speed:FAC"),
        (SET + "conditions = ['speed:1.1', 'speed:1.10']", "conditions is ['speed:1.1', 'speed:1.10']; expected a"),
        (SET + "conditions = []", "[agreement]: conditions is []; expected a list of conditions, each once"),
        (SET + "seed = -1", "[agreement]: seed is -1; expected a whole number of at least 0"),
        (SET + "language = 'klingon'", "[agreement]: language is 'klingon'; expected one of english, chinese, auto"),
        (SET.replace("f16", "lm"), "asr: agreement has the baseline 'lm.gguf', the file itself; expected another file"),
        (SET.replace("f16", "../f16").replace("file", "repo = 'a/b'\nfile"), "has the baseline '../f16.gguf'; expect"),
        (TARGET + REFERENCE + "gates = 0.9", "asr: gates is 0.9; expected a table"),
        (TARGET + REFERENCE + "gates.layer_00 = 0.9", "asr [gates]: layer_00 is 0.9; expected a table"),
        (TARGET + REFERENCE + "gates.layer_00 = {}", "asr [gates]: layer_00 has no gate; expected a number for one of"),
        (TARGET + REFERENCE + "gates.x.cosmean = 0.9", "[gates] [x]: has the unknown key 'cosmean'; did you mean"),
        (TARGET + REFERENCE + "gates.x.cos_mean = 99.9", "[gates] [x]: cos_mean is 99.9; expected a number from -1 to"),
        (TARGET + REFERENCE + "gates.transcript.error_rate = 5", "error_rate is 5; expected a number from 0 to 1"),
        (TARGET + REFERENCE + "tolerance.cos_mean = nan", "[tolerance]: cos_mean is nan; expected a number of at"),
        ("[tolerance]\ncos_mean = -1\n" + TARGET + REFERENCE, ": [tolerance]: cos_mean is -1; expected a number of at"),
        ("[tolerance]\ncos_men = 1\n" + TARGET + REFERENCE, "[tolerance]: has the unknown key 'cos_men'; did you mean"),
        ("history = 3\n" + TARGET + REFERENCE, "nightly.toml: history is 3; expected text in quotes"),
        ("notify.command = 'mail'\n" + TARGET + REFERENCE, "[notify]: command is 'mail'; expected a list of a program"),
        ("notify.command = []\n" + TARGET + REFERENCE, "[notify]: command is []; expected a list of a program and its"),
        ("notify.command = ['a', 1]\n" + TARGET + REFERENCE, "[notify]: command is ['a', 1]; expected a list of a"),
        ("notify.command = ['', 'a']\n" + TARGET + REFERENCE, "[notify]: command is ['', 'a']; expected a list of a"),
        ("[notify]\n" + TARGET + REFERENCE, "[notify]: has neither command nor webhook_env; expected one of them"),
        ("[notify]\ncommand = ['a']\nwebhook_env = 'B'\n" + TARGET + REFERENCE, "[notify]: has both command and webho"),
        ("[notify]\nwebhook_env = 'B'\ntranscripts = 1\n" + TARGET + REFERENCE, "transcripts is 1; expected true or f"),
        ("[notify]\nurl = 'x'\n" + TARGET + REFERENCE, "[notify]: has the unknown key 'url'; expected one of command"),
        ("page = 'x'\n" + TARGET + REFERENCE, "nightly.toml: has the unknown key 'page'; did you mean 'pages'?"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_says_where_and_what(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path}/nightly.toml: ")
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("webhook_env = '{}'", "[notify]: webhook_env is not the name of an environment variable; expected such as"),
        ("webhook_env = ['{}']", "[notify]: webhook_env is not the name of an environment variable"),
        ("webhook = '{}'", "[notify]: has the unknown key 'webhook'; did you mean 'webhook_env'?"),
        ("webhook_env = 'A'\ntranscripts = '{}'", "[notify]: transcripts is '"),
        ("'{}' = 1", "[notify]: has the unknown key '"),
        ("", "[notify]: is not a table; expected command, a program and its arguments, or webhook_env"),
    ],
)  # fmt: skip
def test_a_url_in_the_place_of_its_variable_is_not_shown(tmp_path: Path, text: str, says: str) -> None:
    """But as the value or name of another key."""
    url = "https://hooks.example.org/services/verySecretPart"
    table = f"[notify]\n{text.format(url)}\n" if text else f"notify = '{url}'\n"
    with pytest.raises(InputError) as error:
        read(tmp_path, table + TARGET + REFERENCE)
    assert str(error.value).startswith(f"{tmp_path}/nightly.toml: {says}")
    assert ("verySecretPart" in str(error.value)) == says.endswith("'")


def test_somebody_is_told_if_the_config_says_so(tmp_path: Path) -> None:
    for text, notify in (
        ("", None),
        ("[notify]\ncommand = ['mail', '-s', '']\n", Notify(("mail", "-s", ""), "", transcripts=False)),
        ("[notify]\nwebhook_env = 'HOOK_1'\ntranscripts = true\n", Notify((), "HOOK_1", transcripts=True)),
    ):
        read(tmp_path, text + TARGET + REFERENCE)
        assert read_config(tmp_path / "nightly.toml").notify == notify


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nightly\.toml: no such file; expected a TOML"):
        read_config(tmp_path / "nightly.toml")
    (tmp_path / "nightly.toml").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"nightly\.toml: is not TOML: .*utf-8"):
        read_config(tmp_path / "nightly.toml")


@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * 100_000, "a = " + "{a=" * 10_000, "a." * 100_000 + "a = 1", '"a".' * 1000 + "a = 1",
     "threads = " + "9" * 10_000, "threads = 0x" + "f" * 10_000, "x = 1e400", "#" * 2_000_000,
     TARGET + REFERENCE + "gates.x.cos_mean = " + "9" * 400, TARGET + REFERENCE + "tolerance.kl_mean = inf",
     TARGET + REFERENCE + "tolerance.kl_mean = " + "9" * 400, TARGET + REFERENCE + f"timeout = '{'9' * 400} h'",
     TARGET + REFERENCE + "compare_since = 0001-01-01T00:00:00+23:59",
     TARGET + REFERENCE + "compare_since = 9999-12-31T23:59:59-23:59", 'history = "a\\u0000b"', 'cache = "\\u001b[2J"',
     TARGET + REFERENCE + 'gates."\\u001b[2J" = {}'],
    ids=range(17),
)  # fmt: skip
def test_hostile_toml_is_one_short_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path}/nightly.toml: ")
    assert len(str(error.value)) < 1000
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "name", ["../x.gguf", "/x.gguf", "a/../x", "a\\\\x", "a//x", "./x", "x.part", "x.verified/y", "x/"]
)
@pytest.mark.parametrize("key", ["file", "tokenizer", "mmproj"])
def test_a_name_in_a_repository_leads_nowhere_else(tmp_path: Path, key: str, name: str) -> None:
    keys = {"name": "a", "repo": "o/n", "file": "f.gguf", "reference": "r", key: name}
    lines = [f'{one} = "{value}"' for one, value in keys.items()]
    with pytest.raises(InputError, match=f"{key} is .*; expected a file's name in the repository"):
        read(tmp_path, "\n".join(["[[target]]", *lines]))


@pytest.mark.parametrize("repo", ["..", "../..", "a/..", "./a", "a/b/c", "a", "a /b", "a/b..c"])
def test_a_repository_has_an_owner_and_a_name(tmp_path: Path, repo: str) -> None:
    with pytest.raises(InputError, match="expected OWNER/NAME"):
        read(tmp_path, TARGET + REFERENCE + f"repo = '{repo}'")


def test_a_config_that_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, what in (
        (tmp_path / "pipe", "a pipe"),
        (tmp_path, "a folder"),
        (Path("/dev/zero"), "a character device"),
    ):
        with pytest.raises(InputError, match=f"^{path}: is {what}; expected a TOML file"):
            read_config(path)


TOML = st.recursive(
    st.text(max_size=8) | st.integers() | st.floats() | st.booleans() | st.dates()
    | st.datetimes(timezones=st.timezones() | st.none()) | st.times(),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3),
    max_leaves=5,
)  # fmt: skip
KEYS = ["name", "file", "tokenizer", "repo", "revision", "reference", "reference_tokenizer", "checkpoint", "audio",
        "language", "timeout", "threads", "repack", "products", "tolerance", "gates", "rows", "imatrix",
        "compare_since"]  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(KEYS), TOML, max_size=3),
    st.dictionaries(st.just("notify") | st.text(max_size=5), TOML, max_size=1),
)
def test_any_value_at_any_key_is_taken_or_one_line(own: dict[str, object], top: dict[str, object]) -> None:
    """As the parser gives them: TOML text of them is the parser's business."""
    values = {"target": [{"name": "a", "file": "f.gguf", "reference": "r", **own}], **top}
    with patch("mimo_nightly.config.tomllib.loads", lambda text: values), tempfile.NamedTemporaryFile() as file:
        try:
            config = read_config(Path(file.name))
        except InputError:
            pass
        else:
            assert all(0 < target.timeout < 1e9 for target in config.targets)


def test_targets_are_chosen_by_their_names(tmp_path: Path) -> None:
    read(tmp_path, TARGET + REFERENCE + TARGET.replace("asr", "two") + REFERENCE)
    config = read_config(tmp_path / "nightly.toml")
    assert config.chosen([]) == config.targets
    assert [target.name for target in config.chosen(["two", "asr", "two"])] == ["asr", "two"]
    with pytest.raises(InputError, match=r"'asl' is not in .*; did you mean 'asr'"):
        config.chosen(["asl"])


@given(st.decimals(1, 400, places=2), st.sampled_from(sorted(UNITS)), st.sampled_from(["", " ", "  "]))
def test_a_time_is_a_number_and_its_unit(number: object, unit: str, space: str) -> None:
    assert seconds(f"{number}{space}{unit}") == pytest.approx(float(str(number)) * UNITS[unit])
