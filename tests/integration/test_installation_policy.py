"""What may be installed, and from where, as real installers hold to it."""

from __future__ import annotations

import functools
import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deployer.environments import Built, Environments, InstallerSettings
from deployer.errors import InstallError, ResolutionError
from tests.wheels import make_index, make_wheel, sha256_of


@pytest.fixture
def settings(tmp_path: Path) -> InstallerSettings:
    return InstallerSettings(
        cache_dir=tmp_path / "cache",
        tmp=tmp_path / "tmp",
        index_url=f"file://{make_index(tmp_path / 'index', [])}/simple",
        find_links=(str(tmp_path / "wheels"),),
        install_seconds=60,
    )


def build(settings: InstallerSettings, *requirements: str, number: int = 1) -> Built:
    environments = Environments(settings)
    release = settings.tmp.parent / str(number)
    release.mkdir(exist_ok=True)
    return environments.build(
        release / "venv",
        release / "requirements.lock",
        requirements,
        environments.choose_python(None),
        log=release / "install.log",
        earlier_locks=[settings.tmp.parent / str(number - 1) / "requirements.lock"],
    )


@pytest.fixture
def wheels(tmp_path: Path) -> dict[str, str]:
    """Two wheels of which one needs the other; gives the hash of each."""
    made = [make_wheel(tmp_path / "wheels", "alpha", requires=["beta"])]
    made.append(make_wheel(tmp_path / "wheels", "beta"))
    return {each.name.partition("-")[0]: sha256_of(each) for each in made}


def test_a_dependency_of_a_dependency_needs_a_hash_too_where_hashes_are_required(
    settings: InstallerSettings, wheels: dict[str, str]
) -> None:
    strict = replace(settings, require_hashes=True)
    alpha, beta = (f"{name}==1.0 --hash={digest}" for name, digest in wheels.items())

    with pytest.raises(ResolutionError) as caught:
        build(strict, alpha)
    assert caught.value.cause == "no hash is given for beta==1.0"
    assert "--generate-hashes" in caught.value.hint

    assert build(strict, alpha, beta).packages == (("alpha", "1.0"), ("beta", "1.0"))


def test_a_lock_made_before_hashes_were_required_is_not_taken(
    settings: InstallerSettings, wheels: dict[str, str]
) -> None:
    alpha = f"alpha==1.0 --hash={wheels['alpha']}"
    build(settings, alpha)
    assert build(settings, alpha, number=2).lock_reused
    with pytest.raises(ResolutionError, match="no hash is given for beta"):
        build(replace(settings, require_hashes=True), alpha, number=3)


def test_a_private_name_is_not_taken_from_the_public_index(
    settings: InstallerSettings, tmp_path: Path
) -> None:
    private = make_index(tmp_path / "private", [make_wheel(tmp_path / "a", "alpha", "1.0")])
    public = make_index(tmp_path / "public", [make_wheel(tmp_path / "b", "alpha", "9.0")])
    both = replace(
        settings,
        index_url=f"file://{public}/simple",
        extra_index_urls=(f"file://{private}/simple",),
        find_links=(),
    )

    assert build(both, "alpha").packages == (("alpha", "1.0"),)
    with pytest.raises(InstallError, match="pip cannot hold a name to the first index"):
        build(replace(both, installer="pip"), "alpha", number=2)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def certify(
    subject: str, key: ec.EllipticCurvePrivateKey, by: tuple[str, ec.EllipticCurvePrivateKey]
) -> bytes:
    """Sign a certificate for 127.0.0.1, or for an authority when it signs itself."""

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    is_authority = by[1] is key
    place = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    return (
        x509.CertificateBuilder(named(by[0]), named(subject), key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(place, critical=False)
        .sign(by[1], hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


@contextmanager
def serving_tls(directory: Path, authority: Path) -> Iterator[str]:
    """Serve files over TLS, with a certificate by an authority that is written for clients."""
    root, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority.write_bytes(certify("authority", root, ("authority", root)))
    pem = authority.with_suffix(".leaf")
    private = leaf.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem.write_bytes(certify("server", leaf, ("authority", root)) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    handler = functools.partial(_Quiet, directory=str(directory))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_a_wheel_at_an_address_is_installed_and_held_to_its_hash(
    settings: InstallerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installer: str
) -> None:
    wheel = make_wheel(tmp_path / "www", "alpha", "1.2")
    authority = tmp_path / "ca.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    chosen = replace(settings, installer=installer, find_links=())
    with serving_tls(tmp_path / "www", authority) as address:
        line = f"alpha @ {address}/{wheel.name}"
        assert build(chosen, line).packages == (("alpha", "1.2"),)
        assert sha256_of(wheel) in (tmp_path / "1" / "requirements.lock").read_text()
        with pytest.raises(ResolutionError, match="has a hash that the requirements allow"):
            build(chosen, f"{line} --hash=sha256:{'0' * 64}", number=3)
