"""What is opened, and how it is written."""

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mimo_convert.files import check_can_write, open_regular, read_bytes, read_text, replacing, write_whole
from quantize.errors import InputError
from tests.system.signals import heed_interrupts
from tests.system.special_files import a_device, a_pipe, a_socket


@pytest.mark.parametrize(
    ("make", "what"),
    [(a_pipe, "a pipe"), (a_socket, "a socket"), (a_device, "a character device"), (Path.mkdir, "a folder")],
)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, make: object, what: str) -> None:
    make(tmp_path / "x")  # type: ignore[operator]
    with pytest.raises(InputError, match=f"^{tmp_path}/x: is {what}; expected a config$"):
        open_regular(tmp_path / "x", expected="a config")


@pytest.mark.parametrize("name", ["absent", "a\0b", "x" * 300, "\udcff"])
def test_a_name_of_nothing_is_one_clear_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError):
        open_regular(tmp_path / name)
    with pytest.raises(InputError):
        read_bytes(tmp_path / name, 10)


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert read_bytes(tmp_path / "x", 5) == b"12345"
    with pytest.raises(InputError, match="has more than 4 bytes"):
        read_bytes(tmp_path / "x", 4)


def test_text_is_utf_8(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes("\ufeffgrößer".encode())
    assert read_text(tmp_path / "x", 99, bom=True) == "größer"
    assert read_text(tmp_path / "x", 99) == "\ufeffgrößer"
    (tmp_path / "y").write_bytes(b"ab\xff")
    with pytest.raises(InputError, match="is not UTF-8: byte 2"):
        read_text(tmp_path / "y", 99)


def test_a_file_is_replaced_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("before")
    path.chmod(0o640)
    write_whole(path, b"after")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("after", 0o640)
    assert os.listdir(tmp_path) == ["r.json"]


def test_a_new_file_is_readable_as_the_umask_says(tmp_path: Path) -> None:
    write_whole(tmp_path / "x", b"")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path, there: bool) -> None:
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    if there:
        target.write_text("before")
    link.symlink_to("folder/target")
    check_can_write(link)
    write_whole(link, b"after")
    assert link.is_symlink()
    assert (target.read_text(), os.listdir(target.parent)) == ("after", ["target"])


def test_a_link_that_leads_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(InputError, match="link"):
        check_can_write(tmp_path / "link")
    with pytest.raises(InputError, match="link"):
        write_whole(tmp_path / "link", b"x")


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_what_was_there_stays_if_the_new_content_does_not_become_whole(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "r.json"
    path.write_text("before")

    def half() -> None:
        with replacing(path) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises((RuntimeError, KeyboardInterrupt, InputError)) as caught:
        half()
    if isinstance(error, OSError):
        assert str(caught.value) == f"{path}: cannot be written: No space left"
    assert (path.read_text(), os.listdir(tmp_path)) == ("before", ["r.json"])


def test_a_character_device_is_written_to_and_stays_one() -> None:
    check_can_write(Path("/dev/null"))
    write_whole(Path("/dev/null"), b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_full_device_is_named() -> None:
    with pytest.raises(InputError, match=r"^/dev/full: cannot be written: No space left on device$"):
        write_whole(Path("/dev/full"), b"x")


def test_a_pipe_that_somebody_reads_gets_the_content(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    check_can_write(tmp_path / "pipe")
    for _ in range(1000):  # until the other thread has opened it
        try:
            write_whole(tmp_path / "pipe", b"content" * 50_000)
            break
        except InputError:
            continue
    reader.join(10)
    assert found == [b"content" * 50_000]
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="cannot be written: No such device or address"):
        write_whole(tmp_path / "pipe", b"x")


def test_a_socket_is_not_replaced(tmp_path: Path) -> None:
    a_socket(tmp_path / "x")
    with pytest.raises(InputError, match="is a socket; expected the name of a regular file"):
        check_can_write(tmp_path / "x")
    assert stat.S_ISSOCK(os.stat(tmp_path / "x").st_mode)


def test_what_goes_to_the_file_that_stdout_goes_to_does_not_replace_it(tmp_path: Path) -> None:
    """`mimo-check … --json /dev/stdout > file`, or `--json file > file`."""
    code = (
        "import sys; from pathlib import Path; from mimo_convert.files import write_whole; print('first'); "
        "write_whole(Path(sys.argv[1]), b'second\\n'); print('third')"
    )
    for name in ("/dev/stdout", str(tmp_path / "out")):
        with (tmp_path / "out").open("w") as out:
            command = [sys.executable, "-c", code, name]
            subprocess.run(command, stdout=out, check=True, preexec_fn=heed_interrupts)
        assert (tmp_path / "out").read_text() == "first\nsecond\nthird\n"


@pytest.mark.parametrize("place", ["absent/r.json", ".", ""])
def test_where_nothing_can_be_written_is_known_beforehand(tmp_path: Path, place: str) -> None:
    with pytest.raises(InputError):
        check_can_write(tmp_path / place if place else Path())
