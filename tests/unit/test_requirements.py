"""Requirements: what counts as plain, and what is refused with its line."""

from __future__ import annotations

import contextlib
import string
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deployer.errors import RequirementsInvalidError
from deployer.requirements import (
    Rules,
    normalise,
    parse_requirement,
    parse_requirements,
    require_allowed,
)

HASH = "sha256:" + "0123456789abcdef" * 4


def problems(text: str | bytes) -> list[str]:
    with pytest.raises(RequirementsInvalidError) as caught:
        parse_requirements(text)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "line",
    [
        "a" + " " * 60_000 + "b",
        "a, " * 20_000,
        "a" * 60_000,
        "a" + " --hash" * 8_000,
        "six --hash" + " " * 60_000,
        "six @ https://" + "a " * 20_000,
        " " * 60_000 + "#",
    ],
)
def test_a_long_line_is_judged_at_once(line: str) -> None:
    began = time.process_time()
    with contextlib.suppress(RequirementsInvalidError):
        parse_requirements(line)
    with contextlib.suppress(ValueError):
        parse_requirement(line, Rules(allow_direct_urls=True))
    assert time.process_time() - began < 1


def test_comments_blanks_markers_extras_and_continuations_are_taken() -> None:
    text = (
        "# comment\n\n"
        "six>=1.0 ; python_version < '3.0'   # never\r\n"
        "Requests[Socks]>=2,<3\n"
        "six \\\n  ==1.16.0\n"
    )

    assert [str(found) for found in parse_requirements(text)] == [
        'six>=1.0 ; python_version < "3.0"',
        "requests[socks]<3,>=2",
        "six==1.16.0",
    ]


def test_a_byte_order_mark_is_skipped() -> None:
    assert [found.name for found in parse_requirements(b"\xef\xbb\xbfsix\n")] == ["six"]


@pytest.mark.parametrize("separator", ["=", " "])
def test_hashes_are_kept(separator: str) -> None:
    (found,) = parse_requirements(f"six==1.16.0 \\\n    --hash{separator}{HASH}\n")

    assert found.hashes == (HASH,)
    assert str(found) == f"six==1.16.0 --hash={HASH}"


def test_weak_hashes_are_refused() -> None:
    assert "takes sha256 hashes" in problems("six==1 --hash=md5:abc")[0]


@pytest.mark.parametrize(
    "line",
    [
        "-r other.txt",
        "--requirement=other.txt",
        "-c constraints.txt",
        "-e .",
        "--editable ./x",
        "-i https://evil.invalid/simple",
        "--index-url=https://evil.invalid/simple",
        "--extra-index-url https://evil.invalid/simple",
        "-f /var/tmp",
        "--find-links /var/tmp",
        "--no-index",
        "--trusted-host evil.invalid",
        "--no-binary :all:",
        "--only-binary :none:",
        "--prefer-binary",
        "--pre",
        "--require-hashes",
        "--use-feature fast-deps",
        "--config-settings x=y",
        "six --global-option=x",
        "six --install-option=x",
        f"six --hash={HASH} --global-option=x",
        "six @ https://evil.invalid/six.whl",
        "six@https://evil.invalid/six.whl",
        "six @ file:///etc/passwd",
        "six @ git+https://evil.invalid/six",
        "git+https://evil.invalid/six",
        "https://evil.invalid/six.whl",
        "./six",
        "../six.whl",
        "/srv/six.whl",
        "~/six",
        "C:\\six.whl",
        "six-1.0-py3-none-any.whl",
        "six.zip",
        "six.tar.gz",
        "six[socks].whl",
        "six==${VERSION}",
        "six; $(touch x)",
        "six===--index-url",
        "six==1 \x1b[31m",
        "this is = not a requirement",
        "six six",
    ],
)
def test_anything_but_a_plain_requirement_is_refused_with_its_line(line: str) -> None:
    told = problems(f"attrs\n{line}\n")

    assert len(told) == 1
    assert told[0].startswith("requirements.txt:2: ")


def test_every_bad_line_is_told() -> None:
    assert [problem.split(": ")[0] for problem in problems("-e .\nsix\n./x\n\\\n-r x\n")] == [
        "requirements.txt:1",
        "requirements.txt:3",
        "requirements.txt:4",
    ]


@pytest.mark.parametrize("sign", "\r\v\f\x00\x1c\x1d\x1e\x85\u2028\u2029")
def test_what_only_some_readers_take_for_a_line_break_is_refused(sign: str) -> None:
    (told,) = problems(f"# comment{sign}--index-url https://evil.invalid/simple\n".encode())

    assert told == f"requirements.txt:1: holds the control character U+{ord(sign):04X}"


def test_an_encoding_that_pip_would_obey_is_refused() -> None:
    assert "declares the encoding utf-7" in problems("#!x\n# -*- coding: utf-7 -*-\n")[0]


def test_a_declaration_of_utf8_is_harmless() -> None:
    assert parse_requirements("# -*- coding: utf-8 -*-\nsix\n")


def test_a_comment_must_not_be_continued() -> None:
    assert "ends a comment with a backslash" in problems("six # \\\n--pre\n")[0]


def test_utf16_is_named() -> None:
    assert problems("six\n".encode("utf-16")) == [
        "requirements.txt: is UTF-16 or UTF-32: save it as UTF-8"
    ]


def test_size_and_number_are_limited() -> None:
    assert "must have at most 65536 bytes" in problems(b"#" * 65_537)[0]
    assert "must hold at most 500 requirements, not 501" in problems("six\n" * 501)[0]


def test_the_size_of_text_is_counted_in_bytes() -> None:
    assert "must have at most 65536 bytes" in problems("# " + "é" * 40_000)[0]


def test_a_file_of_garbage_gives_a_list_of_bearable_length() -> None:
    told = problems("?\n" * 20_000)

    assert len(told) == 51
    assert told[-1] == "requirements.txt: has 19950 more such lines"


def test_equal_wishes_give_equal_lines() -> None:
    one = parse_requirements("B_b>=1,<2\na[y,x]; python_version<'4'\n")
    other = parse_requirements('a[x,y] ; python_version < "4"\nb.B <2, >=1\nb-b<2,>=1\n')

    assert normalise(one) == normalise(other)
    assert normalise(one) == ('a[x,y] ; python_version < "4"', "b-b<2,>=1")


@given(st.text(string.printable + "\u2028\x85é", max_size=60))
@example("six\n--pre")
@example("six===1 --hash=sha256:")
@example("x; (" + "(" * 50)
def test_what_is_taken_is_one_line_that_means_the_same_again(line: str) -> None:
    try:
        found = parse_requirement(line)
    except ValueError:
        return

    assert len(str(found).splitlines()) == 1
    assert not str(found).startswith("-")
    assert parse_requirement(str(found)) == found


DIRECT = Rules(allow_direct_urls=True)


@pytest.mark.parametrize(
    "line",
    [
        "six @ https://a.example/six-1.0-py3-none-any.whl",
        f"six@https://a.example/six-1.0.tar.gz ; python_version<'4' --hash={HASH}",
        "six[x] @ https://a.example:8443/t/six.zip",
    ],
)
def test_an_https_address_is_taken_where_the_settings_allow_it(line: str) -> None:
    found = parse_requirement(line, DIRECT)

    assert parse_requirement(str(found), DIRECT) == found
    with pytest.raises(ValueError, match=r"not an address|not a file"):
        parse_requirement(line)


@pytest.mark.parametrize(
    "line",
    [
        *("six @ http://a.example/six.whl", "six @ git+https://a.example/six", "six @ file:///x"),
        *("six @ https://me:word@a.example/x.whl", "six @ https://a.example/${HOME}/x.whl"),
        *("six @ https://a.example/x.whl#sha256=0", "six @ https://a.example/x.whl?y=1"),
        *("https://a.example/x.whl", "-e six @ https://a.example/x.tar.gz", "six @ ./x.whl"),
        *("six @ https://a.example/x.whl --pre", "six @ https://a.example\\x", "-r https://x/y"),
    ],
)
def test_other_addresses_are_refused_even_then(line: str) -> None:
    with pytest.raises(ValueError, match=r"must|is not a requirement"):
        parse_requirement(line, DIRECT)


def test_an_address_lies_below_an_allowed_index() -> None:
    rules = Rules(allow_direct_urls=True, allowed_indexes=("https://a.example/team",))

    assert parse_requirement("six @ https://a.example/team/six.whl", rules)
    with pytest.raises(ValueError, match="allowed_indexes does not"):
        parse_requirement("six @ https://a.example/teammate/six.whl", rules)


def test_every_requirement_without_a_hash_is_told_where_they_are_required() -> None:
    with pytest.raises(RequirementsInvalidError) as caught:
        parse_requirements(
            f"six==1.0 --hash={HASH}\nattrs\nidna\n", rules=Rules(require_hashes=True)
        )

    assert [str(each).split(" ")[0] for each in caught.value.problems] == [
        "requirements.txt:2:",
        "requirements.txt:3:",
    ]


def test_what_was_taken_under_milder_settings_is_judged_again() -> None:
    lines = ("six", f"attrs==1.0 --hash={HASH}")
    require_allowed(lines, Rules())

    with pytest.raises(RequirementsInvalidError, match="'six'"):
        require_allowed(lines, Rules(require_hashes=True))
