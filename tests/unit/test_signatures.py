"""Signatures in minisign's format, against minisign itself where it is installed."""

from __future__ import annotations

import base64
import hashlib
import io
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given
from hypothesis import strategies as st

from deployer.cli import main
from deployer.errors import SignatureInvalidError, SigningKeyError
from deployer.signatures import PublicKey, Signature, digest_of, verify
from deployer.signing_keys import SigningKey
from tests.package_zips import zip_package
from tests.programs import needed

ZIP = zip_package("stdlib_agent", name="signed", version="1.2.0")
DIGEST = hashlib.blake2b(ZIP).digest()
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    file = tmp_path / "signed.zip"
    file.write_bytes(ZIP)
    return file


def minisign(*arguments: object, typed: str = "") -> str:
    done = subprocess.run(
        [needed("minisign"), *map(str, arguments)],
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def minisign_key(folder: Path) -> tuple[Path, Path]:
    """Have minisign make a key pair without a password."""
    secret, public = folder / "minisign.key", folder / "minisign.pub"
    minisign("-G", "-W", "-s", secret, "-p", public)
    return secret, public


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def keygen(folder: Path) -> Path:
    file = folder / "ours.key"
    assert run("keygen", file).exit_code == 0
    return file


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(SignatureInvalidError) as caught:
        act()
    return caught.value.cause


# minisign and we --------------------------------------------------------------------------------


def test_minisign_verifies_what_we_sign(tmp_path: Path, package: Path) -> None:
    file = keygen(tmp_path)
    assert run("sign", package, "--key", file).exit_code == 0
    said = minisign("-V", "-H", "-p", f"{file}.pub", "-m", package)
    assert "agent:signed\tversion:1.2.0" in said


def test_minisign_signs_with_a_key_that_we_made(tmp_path: Path, package: Path) -> None:
    file = keygen(tmp_path)
    minisign("-S", "-W", "-s", file, "-m", package)
    assert run("verify", package, "--key", f"{file}.pub").exit_code == 0


def test_we_verify_what_minisign_signs(tmp_path: Path, package: Path) -> None:
    secret, public = minisign_key(tmp_path)
    minisign("-S", "-W", "-s", secret, "-m", package, "-t", "for the billing team")
    done = run("verify", package, "--key", public)
    assert done.exit_code == 0
    assert "for the billing team" in done.output


def test_we_sign_with_a_key_that_minisign_made(tmp_path: Path, package: Path) -> None:
    secret, public = minisign_key(tmp_path)
    assert run("sign", package, "--key", secret).exit_code == 0
    assert "signed" in minisign("-V", "-p", public, "-m", package)


def test_a_key_is_shown_by_the_id_that_minisign_shows(tmp_path: Path) -> None:
    secret, public = minisign_key(tmp_path)
    key = SigningKey.parse(secret.read_text(), lambda: "")
    assert key.public == PublicKey.parse(public.read_text())
    assert key.public.id.lstrip("0") in public.read_text()  # minisign writes a number


def test_the_older_kind_of_signature_is_refused(tmp_path: Path, package: Path) -> None:
    secret, public = minisign_key(tmp_path)
    minisign("-S", "-l", "-W", "-s", secret, "-m", package)
    done = run("verify", package, "--key", public)
    assert done.exit_code == 4
    assert "older kind" in done.output


def test_a_key_with_a_password_is_decrypted(tmp_path: Path) -> None:
    secret, public = tmp_path / "minisign.key", tmp_path / "minisign.pub"
    minisign("-G", "-s", secret, "-p", public, typed=f"{PASSWORD}\n{PASSWORD}\n")
    key = SigningKey.parse(secret.read_text(), lambda: PASSWORD)
    assert key.public == PublicKey.parse(public.read_text())


# What is signed ---------------------------------------------------------------------------------


def test_the_digest_is_that_of_all_bytes() -> None:
    assert digest_of(io.BytesIO(ZIP)) == DIGEST


def test_what_a_key_signed_is_verified_by_it(key: SigningKey) -> None:
    signature = Signature.parse(key.sign(DIGEST, "agent:signed").to_text().encode())
    verify(signature, key.public, DIGEST)
    assert signature.fields == {"agent": "signed"}


def test_a_signature_of_other_bytes_is_refused(key: SigningKey) -> None:
    signature = key.sign(hashlib.blake2b(ZIP + b"\0").digest(), "")
    cause = refused(lambda: verify(signature, key.public, DIGEST))
    assert cause == "the signature does not fit the package"


def test_a_changed_trusted_comment_is_refused(key: SigningKey) -> None:
    text = key.sign(DIGEST, "agent:signed").to_text().replace("agent:signed", "agent:others")
    cause = refused(lambda: verify(Signature.parse(text.encode()), key.public, DIGEST))
    assert cause == "the trusted comment was changed"


def test_a_key_of_the_same_id_verifies_nothing(key: SigningKey) -> None:
    impostor = PublicKey(key.public.id, SigningKey.generate().public.raw)
    signature = key.sign(DIGEST, "")
    assert "does not fit" in refused(lambda: verify(signature, impostor, DIGEST))


def test_another_keys_signature_names_both_keys(key: SigningKey) -> None:
    other = SigningKey.generate().public
    cause = refused(lambda: verify(key.sign(DIGEST, ""), other, DIGEST))
    assert cause == f"signed by key {key.public.id}, not {other.id}"


@given(data=st.data())
def test_no_changed_byte_of_a_signature_goes_unseen(key: SigningKey, data: st.DataObject) -> None:
    signed = key.sign(DIGEST, "agent:signed")
    text = bytearray(signed.to_text().encode())
    begin = text.index(b"\n") + 1  # the first line is not trusted anyway
    place = data.draw(st.integers(begin, len(text) - 1))
    text[place] ^= data.draw(st.integers(1, 255))
    try:
        changed = Signature.parse(bytes(text))
    except SignatureInvalidError:
        return
    if changed != signed:  # the last digit of base64 has bits that mean nothing
        refused(lambda: verify(changed, key.public, DIGEST))


@given(st.binary(max_size=400))
@example(b"")
@example(b"untrusted comment: x\nRUQ=\ntrusted comment: y\n====\n")
@example(b"untrusted comment: x\n\xc3\xa9\ntrusted comment: y\n\xc3\xa9\n")
def test_nonsense_is_refused_in_words(data: bytes) -> None:
    assert refused(lambda: Signature.parse(data)).startswith("signature unreadable: ")


@pytest.mark.parametrize("text", ["", "RW", "RWQ" + "A" * 50, "x\ny", "é" * 56, "Rk" + "A" * 54])
def test_what_is_no_public_key_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="must be a public key of minisign"):
        PublicKey.parse(text)


def test_a_public_key_is_read_from_its_line_and_from_its_file(key: SigningKey) -> None:
    line = key.public.line
    assert PublicKey.parse(line) == key.public
    assert PublicKey.parse(f"untrusted comment: any\n{line}\n") == key.public


# Secret keys ------------------------------------------------------------------------------------


def test_a_secret_key_is_read_as_it_was_written(key: SigningKey) -> None:
    again = SigningKey.parse(key.to_text(), lambda: pytest.fail("there is no password"))
    assert again == key


def changed(key: SigningKey, place: int, to: bytes) -> str:
    """Give a secret key's file with some of its bytes changed."""
    data = bytearray(base64.b64decode(key.to_text().splitlines()[1]))
    data[place : place + len(to)] = to
    return f"untrusted comment: changed\n{base64.b64encode(data).decode()}\n"


def test_a_damaged_secret_key_signs_nothing(key: SigningKey) -> None:
    with pytest.raises(SigningKeyError, match="its two halves do not fit"):
        SigningKey.parse(changed(key, 70, bytes(4)), str)


def test_a_wrong_password_is_told(key: SigningKey) -> None:
    limits = (32768).to_bytes(8, "little") + (2**24).to_bytes(8, "little")
    text = changed(key, 2, b"ScB2" + bytes(32) + limits)
    with pytest.raises(SigningKeyError, match="the password is wrong"):
        SigningKey.parse(text, lambda: "another")


def test_a_key_that_asks_for_more_memory_than_there_may_be_is_refused(key: SigningKey) -> None:
    limits = (2**62).to_bytes(8, "little") * 2
    with pytest.raises(SigningKeyError, match="scrypt parameters ask for"):
        SigningKey.parse(changed(key, 2, b"ScB2" + bytes(32) + limits), str)


def test_a_secret_key_never_shows(key: SigningKey) -> None:
    assert repr(key._seed) not in repr(key)


# Commands ---------------------------------------------------------------------------------------


def test_a_key_pair_is_for_its_owner_only_and_never_overwritten(tmp_path: Path) -> None:
    file = keygen(tmp_path)
    before = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert run("keygen", file).exit_code == 1
    assert file.read_text() == before


def test_what_no_server_takes_is_not_signed(tmp_path: Path, package: Path) -> None:
    package.write_bytes(b"not a ZIP")
    done = run("sign", package, "--key", keygen(tmp_path))
    assert done.exit_code == 1
    assert not package.with_name("signed.zip.minisig").exists()


def test_a_package_without_a_signature_is_not_verified(tmp_path: Path, package: Path) -> None:
    done = run("verify", package, "--key", f"{keygen(tmp_path)}.pub")
    assert done.exit_code == 4
    assert "there is no signed.zip.minisig beside it" in done.output


def test_a_package_that_was_changed_is_not_verified(tmp_path: Path, package: Path) -> None:
    file = keygen(tmp_path)
    run("sign", package, "--key", file)
    package.write_bytes(ZIP + b"\0")
    done = run("verify", package, "--key", f"{file}.pub")
    assert done.exit_code == 4
    assert "for these bytes" in done.output
