"""The key of all secrets, and what it encrypts."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployer.ciphers import Cipher
from deployer.errors import SecretsKeyError, SecretUnreadableError

CONTEXT = ["token", "billing-*"]


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "secrets.key"


@pytest.fixture
def cipher(key_file: Path) -> Cipher:
    cipher = Cipher(key_file, key_file.parent)
    cipher.make_key()
    return cipher


def test_a_key_is_for_its_owner_only_and_nothing_else_is_left(
    cipher: Cipher, key_file: Path
) -> None:
    assert cipher.has_key()
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert list(key_file.parent.iterdir()) == [key_file]


def test_a_key_is_never_replaced(cipher: Cipher, key_file: Path) -> None:
    before = key_file.read_text()
    cipher.make_key()
    assert key_file.read_text() == before


def test_what_was_sealed_is_opened(cipher: Cipher) -> None:
    sealed = cipher.seal("value é\n", CONTEXT)
    assert cipher.open(sealed, CONTEXT, key_id=cipher.key_id()) == "value é\n"
    assert b"value" not in sealed


def test_equal_texts_do_not_look_equal(cipher: Cipher) -> None:
    assert cipher.seal("value", CONTEXT) != cipher.seal("value", CONTEXT)


@pytest.mark.parametrize("context", [["other", "billing-*"], ["token", "*"], ["token"], []])
def test_a_value_moved_to_another_name_or_other_agents_is_refused(
    cipher: Cipher, context: list[str]
) -> None:
    sealed = cipher.seal("value", CONTEXT)
    with pytest.raises(SecretUnreadableError, match="damaged or was changed"):
        cipher.open(sealed, context, key_id=cipher.key_id())


@pytest.mark.parametrize("damaged", [b"", b"short", bytes(12), bytes(40)])
def test_a_damaged_value_is_refused(cipher: Cipher, damaged: bytes) -> None:
    with pytest.raises(SecretUnreadableError, match="damaged"):
        cipher.open(damaged, CONTEXT, key_id=cipher.key_id())


def test_another_key_is_told_apart_from_damage(cipher: Cipher, tmp_path: Path) -> None:
    other = Cipher(tmp_path / "other.key", tmp_path)
    other.make_key()
    with pytest.raises(SecretUnreadableError, match=f"encrypted with key {cipher.key_id()}"):
        other.open(cipher.seal("value", CONTEXT), CONTEXT, key_id=cipher.key_id())


def test_a_key_that_others_may_read_is_not_used(cipher: Cipher, key_file: Path) -> None:
    key_file.chmod(0o640)
    with pytest.raises(SecretsKeyError, match="chmod 600"):
        cipher.seal("value", CONTEXT)


@pytest.mark.parametrize("text", ["", "00", "nonsense", "é"])
def test_a_key_file_without_a_key_is_told(cipher: Cipher, key_file: Path, text: str) -> None:
    key_file.write_text(text)
    assert cipher.find_problem() == "secrets.key: it holds no key"


def test_a_lost_key_is_told(cipher: Cipher, key_file: Path) -> None:
    key_file.unlink()
    assert cipher.find_problem() == "secrets.key: it is missing"
