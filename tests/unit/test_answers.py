"""Documents as bytes, made once for as long as what they show is the same."""

from __future__ import annotations

from deployer.api.answers import Kept, json_of
from deployer.api.documents import Liveness


def test_the_same_source_is_written_once_and_another_one_anew() -> None:
    made: list[tuple[int, ...]] = []

    def make(source: tuple[int, ...]) -> bytes:
        made.append(source)
        return json_of(Liveness(status="alive"))

    rendering = Kept(make)
    first, equal = (1, 2), tuple([1, 2])  # noqa: C409 - a literal would be the very same object

    assert rendering.of(first) == rendering.of(first) == b'{"status":"alive"}'
    assert rendering.of(equal) == b'{"status":"alive"}'
    assert len(made) == 2
