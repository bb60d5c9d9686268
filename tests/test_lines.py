"""Lines of text files: against Python's own splitting of the joined text."""

import gzip
import io
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies

from seq2seq_kit.errors import DataError
from seq2seq_kit.text.lines import count_lines, decode_lines, read_chosen_lines, read_lines


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


LINES = {
    "empty file": (b"", []),
    "one empty line": (b"\n", [""]),
    "last line without an end": (b"a\nb", ["a", "b"]),
    "last line with an end": (b"a\nb\n", ["a", "b"]),
    "empty lines count": (b"\n\na\n\n", ["", "", "a", ""]),
    "one CR is dropped before LF": (b"a\r\nb\r\r\n\r\n", ["a", "b\r", ""]),
    "CR alone ends no line": (b"a\rb\r", ["a\rb\r"]),
    "BOM at the start": (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),
    "only a BOM": (b"\xef\xbb\xbf", []),
    "a BOM, then an empty line": (b"\xef\xbb\xbf\n", [""]),
    "NUL and tab": (b"a\0b\tc\n\0\n", ["a\0b\tc", "\0"]),
    "spaces stay": (b"  a  \n \n", ["  a  ", " "]),
    "other line ends of Unicode": (
        "a\x0b\x0c\x1c\x85\u2028\u2029b\nc".encode(),
        ["a\x0b\x0c\x1c\x85\u2028\u2029b", "c"],
    ),
    "four-byte characters": ("\U0001f600\u6625\n".encode(), ["\U0001f600\u6625"]),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("content", "expected"), LINES.values(), ids=LINES.keys())
def test_lines_end_at_newlines_only(
    tmp_path: Path, content: bytes, expected: list[str], packed: bool
) -> None:
    # The name says nothing about the packing: only the first bytes do.
    path = write(tmp_path / "text.txt", gzip.compress(content) if packed else content)
    assert list(read_lines(path)) == expected
    assert count_lines(path) == len(expected)


def test_joined_gzip_members_are_one_text(tmp_path: Path) -> None:
    path = write(tmp_path / "text.gz", gzip.compress(b"a\nb") + gzip.compress(b"c\nd\n"))
    assert list(read_lines(path)) == ["a", "bc", "d"]


def test_a_plain_file_may_be_named_gz(tmp_path: Path) -> None:
    assert list(read_lines(write(tmp_path / "text.gz", "a\nb\n"))) == ["a", "b"]


def test_standard_input_is_read_by_the_same_rules() -> None:
    lines = decode_lines([b"\xef\xbb\xbfa\r\n", b"\xff\n"], name="standard input")
    assert next(lines) == "a"
    with pytest.raises(DataError, match="standard input, line 2"):
        next(lines)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"good\nbad \xe4 byte\n", ["line 2", "byte 5", "0xe4", "iconv -f LATIN1"]),
        (b"\xef\xbb\xbf\xff\n", ["line 1", "byte 1", "0xff"]),
        (b"cut \xe6\x98", ["line 1", "byte 5", "0xe6"]),
        (b"surrogate \xed\xa0\x80\n", ["line 1", "byte 11", "0xed"]),
        ("text\n".encode("utf-16"), ["line 1", "UTF-16", "iconv -f UTF-16"]),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0", ["line 1", "0x89", "is not a text file"]),
        (b"PK\3\4\n\xff\0\n", ["line 2", "0xff", "is not a text file"]),
    ],
)
def test_bytes_that_are_not_utf8_are_named_with_their_place(
    tmp_path: Path, content: bytes, parts: list[str]
) -> None:
    path = write(tmp_path / "text.txt", content)
    with pytest.raises(DataError) as error:
        list(read_lines(path))
    for part in [str(path), *parts]:
        assert part in str(error.value)


def test_lines_before_a_fault_are_read(tmp_path: Path) -> None:
    lines = read_lines(write(tmp_path / "text.txt", b"first\n\xff\n"))
    assert next(lines) == "first"


def test_a_truncated_gzip_file_is_named(tmp_path: Path) -> None:
    whole = gzip.compress("".join(f"line {n}\n" for n in range(9999)).encode())
    path = write(tmp_path / "text.gz", whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"text\.gz: expected a whole gzip file.*cut off after"):
        count_lines(path)


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b"a\n" * 99)[:-8] + bytes(8),  # wrong checksum
        gzip.compress(b"a\n") + b"rubbish",
        b"\x1f\x8b\x08\x00" + b"\xff" * 40,
    ],
    ids=["checksum", "rubbish at the end", "rubbish"],
)
def test_a_damaged_gzip_file_is_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"text\.gz: the gzip data are damaged"):
        count_lines(write(tmp_path / "text.gz", content))


def test_a_missing_file_and_a_folder_have_different_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.txt: .*no such file"):
        list(read_lines(tmp_path / "nothing.txt"))
    with pytest.raises(DataError, match="it is a folder"):
        list(read_lines(tmp_path))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "text.gz", gzip.compress(b"a line of some length\n" * 200_000))
    tracemalloc.start()
    count_lines(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000  # bytes; the text is 4,400,000


@pytest.mark.parametrize("numbers", [[], [1], [5], [1, 2, 5], [2, 4], [3, 5, 9]])
def test_chosen_lines_are_those_of_the_whole_file(tmp_path: Path, numbers: list[int]) -> None:
    path = write(tmp_path / "a.txt", "\ufeffone\ntwo\r\n\nvier\u2028\nfive")
    lines = list(read_lines(path))
    expected = [lines[number - 1] for number in numbers if number <= len(lines)]
    assert list(read_chosen_lines(path, numbers)) == expected


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    lines=strategies.lists(
        strategies.text(alphabet=strategies.characters(exclude_categories=["Cs"])).map(
            lambda text: text.replace("\n", "\r")
        )
    ),
    end=strategies.sampled_from(["\n", "\r\n"]),
    has_mark=strategies.booleans(),
    is_packed=strategies.booleans(),
)
def test_lines_of_any_text_come_back(
    lines: list[str],
    end: str,
    has_mark: bool,
    is_packed: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    # A line that begins with a mark or ends in "\r" looks like one with another line end.
    lines = [line.lstrip("\ufeff").rstrip("\r") for line in lines]
    data = "".join(line + end for line in lines).encode()
    data = b"\xef\xbb\xbf" * has_mark + data
    path = tmp_path_factory.mktemp("lines") / "text"
    path.write_bytes(gzip.compress(data) if is_packed else data)
    assert list(read_lines(path)) == lines


@settings(max_examples=40, deadline=None, derandomize=True)
@given(strategies.binary())
def test_bytes_are_text_or_an_error_with_the_line(data: bytes) -> None:
    raw = io.BytesIO(data).readlines()
    first_bad = next(
        (number for number, line in enumerate(raw, 1) if not is_utf8(line.rstrip(b"\r\n"))), None
    )
    if first_bad is None:
        assert len(list(decode_lines(raw, name="x"))) == len(raw) - (data == b"\xef\xbb\xbf")
    else:
        with pytest.raises(DataError, match=f"^x, line {first_bad}: "):
            list(decode_lines(raw, name="x"))


def is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
