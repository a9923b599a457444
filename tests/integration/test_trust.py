"""Signed packages: what a server that requires signatures takes, and what it refuses."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from deployer.cli import main
from deployer.client import Client
from deployer.errors import SignatureInvalidError, SignatureMissingError
from deployer.model import Strategy
from deployer.store import Request, Store
from tests.contracts import ZIP as ZIP_TYPE
from tests.contracts import Api, Contract, problem
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server
from tests.signers import KEY, OTHER_KEY, signature_of, signed_headers

TRUST = {
    "require": True,
    "keys": [KEY.public.line, {"key": OTHER_KEY.public.line, "agents": ["billing-*"]}],
}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, installer_cache: Path) -> Iterator[Api]:
    """One server that requires signatures, and no token, so that ATOLL's client may call it."""
    root = tmp_path_factory.mktemp("t") / "state"
    with running_server(root, cache_dir=installer_cache, auth="none", trust=TRUST) as server:
        yield Api(server, Contract(server.request("GET", "/openapi.json").json()))


def upload(api: Api, package: bytes, signature: bytes | None = None) -> Any:
    headers = ZIP_TYPE if signature is None else signed_headers(package, signature)
    return api.post("/v1/packages", data=package, headers=headers)


def packages_of(api: Api) -> set[str]:
    state = api.server.state
    return {path.name for folder in (state.packages, state.tmp) for path in folder.iterdir()}


def refused(api: Api, package: bytes, signature: bytes) -> str:
    """Send a package with a signature that is not good enough; give the cause."""
    before = packages_of(api)
    document = problem(upload(api, package, signature), 403, "signature-invalid")
    assert packages_of(api) == before, "something of it was kept"
    assert document["hint"]
    cause: str = document["cause"]
    return cause


def test_an_unsigned_package_is_refused_and_not_kept(strict: Api) -> None:
    before = packages_of(strict)
    document = problem(
        upload(strict, zip_package("stdlib_agent", name="unsigned")), 403, "signature-missing"
    )
    assert document["cause"] == "the package is not signed"
    assert "atoll-deployer sign" in document["hint"]
    assert packages_of(strict) == before


def test_what_is_not_signed_is_not_even_looked_into(strict: Api) -> None:
    problem(upload(strict, b"not a ZIP at all"), 403, "signature-missing")


def test_what_is_signed_must_be_a_good_package_all_the_same(strict: Api) -> None:
    nonsense = b"not a ZIP at all"
    problem(upload(strict, nonsense, signature_of(nonsense)), 422, "package-invalid")


def test_a_signed_package_is_deployed_and_its_signature_shown(strict: Api) -> None:
    package = zip_package("stdlib_agent", name="signed", version="1.2.0")
    signature = signature_of(package, comment="agent:signed\tversion:1.2.0")
    deployment = strict.post(
        "/v1/deployments",
        data=package,
        headers=signed_headers(package, signature),
        params={"start": "false", "wait": 60},
    ).json()
    expected = {"key": KEY.public.id, "comment": "agent:signed\tversion:1.2.0", "trusted": True}
    shown = [
        deployment,
        strict.get(f"/v1/deployments/{deployment['id']}").json(),
        strict.get("/v1/deployments", params={"agent": "signed"}).json()["deployments"][0],
        strict.get(f"/v1/packages/{deployment['sha256']}").json(),
        strict.get("/v1/agents/signed/releases").json()["releases"][0],
        strict.get("/v1/agents/signed/releases/1").json(),
    ]
    assert [each["signature"] for each in shown] == [expected] * len(shown)
    kept = strict.server.state.packages / f"{deployment['sha256']}.zip.minisig"
    assert kept.read_bytes() == signature


def test_a_signature_travels_in_a_form_too(strict: Api) -> None:
    package = zip_package("stdlib_agent", name="in-a-form")
    files = {
        "file": ("in-a-form.zip", package, "application/zip"),
        "signature": ("in-a-form.zip.minisig", signature_of(package), "application/octet-stream"),
    }
    answer = strict.post("/v1/packages", files=files)
    assert answer.json()["signature"]["trusted"] is True


def test_a_signature_of_another_package_is_refused(strict: Api) -> None:
    other = zip_package("stdlib_agent", name="replayed", version="1.0.0")
    package = zip_package("stdlib_agent", name="replayed", version="2.0.0")
    cause = refused(strict, package, signature_of(other))
    assert cause == "the signature does not fit the package"


def test_a_stranger_s_signature_names_their_key(strict: Api) -> None:
    stranger = type(KEY).generate()
    package = zip_package("stdlib_agent", name="strange")
    cause = refused(strict, package, signature_of(package, key=stranger))
    assert cause == f"key {stranger.public.id} is not trusted"


def test_a_key_vouches_for_its_own_agents_only(strict: Api) -> None:
    package = zip_package("stdlib_agent", name="greeter")
    cause = refused(strict, package, signature_of(package, key=OTHER_KEY))
    assert cause == f"key {OTHER_KEY.public.id} does not vouch for greeter"
    package = zip_package("stdlib_agent", name="billing-mail")
    assert upload(strict, package, signature_of(package, key=OTHER_KEY)).status_code == 201


@pytest.mark.parametrize("comment", ["agent:other", "agent:named\tversion:9"])
def test_a_comment_that_names_another_package_is_refused(strict: Api, comment: str) -> None:
    package = zip_package("stdlib_agent", name="named", version="1.0.0")
    cause = refused(strict, package, signature_of(package, comment=comment))
    assert cause.startswith("signed for another ")


def test_a_header_that_is_no_base64_is_refused(strict: Api) -> None:
    package = zip_package("stdlib_agent", name="garbled")
    headers = {**ZIP_TYPE, "X-Package-Signature": "RW!"}
    answer = strict.post("/v1/packages", data=package, headers=headers)
    assert "not base64" in problem(answer, 403, "signature-invalid")["cause"]


def test_a_known_package_needs_its_signature_only_once(strict: Api) -> None:
    package = zip_package("stdlib_agent", name="known")
    upload(strict, package, signature_of(package))
    assert upload(strict, package).status_code == 200


def test_the_same_package_may_come_from_many_at_once(strict: Api) -> None:
    package = zip_package("stdlib_agent", name="popular")
    signature = signature_of(package)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: upload(strict, package, signature), range(24)))
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert {answer.json()["signature"]["key"] for answer in answers} == {KEY.public.id}


def test_atoll_s_client_is_told_in_the_reason_phrase(strict: Api) -> None:
    files = {"file": ("a.zip", zip_package("stdlib_agent", name="wired"), "application/zip")}
    answer = strict.post("/deploy", params={"force": 0}, files=files)
    assert (answer.status_code, answer.reason) == (403, "the package is not signed")


def test_atoll_s_client_deploys_what_is_known_with_a_signature(strict: Api) -> None:
    package = zip_package("stdlib_agent", name="wired-well")
    upload(strict, package, signature_of(package))
    files = {"file": ("a.zip", package, "application/zip")}
    answer = strict.post("/deploy", params={"force": 0}, files=files)
    assert answer.json()["status"] == "deployed"


def test_a_signature_that_does_not_fit_is_not_put_over_a_good_one(strict: Api) -> None:
    package = zip_package("stdlib_agent", name="put-over")
    known = upload(strict, package, signature_of(package)).json()
    path = f"/v1/packages/{known['sha256']}/signature"
    problem(strict.request("PUT", path, data=signature_of(b"other")), 403, "signature-invalid")
    assert strict.get(f"/v1/packages/{known['md5']}").json()["signature"] == known["signature"]


def test_push_sends_the_signature_that_lies_beside_the_package(strict: Api, tmp_path: Path) -> None:
    file, key = tmp_path / "pushed.zip", tmp_path / "key"
    file.write_bytes(zip_package("stdlib_agent", name="pushed"))
    key.write_text(KEY.to_text())
    options = ["--no-start", "--server", strict.server.url, "--token", "none"]
    pushed = CliRunner().invoke(main, ["push", str(file), *options])
    assert (pushed.exit_code, "not signed" in pushed.output) == (4, True)
    CliRunner().invoke(main, ["sign", str(file), "--key", str(key)])
    pushed = CliRunner().invoke(main, ["push", str(file), *options])
    assert pushed.exit_code == 0, pushed.output


# Before signatures were required, and after a key is gone ---------------------------------------


@pytest.fixture(scope="module")
def changing(
    tmp_path_factory: pytest.TempPathFactory, installer_cache: Path
) -> Iterator[RunningServer]:
    """A server whose settings the tests below change, in their order."""
    root = tmp_path_factory.mktemp("c") / "state"
    with running_server(root, cache_dir=installer_cache) as server:
        yield server


@pytest.fixture
def package(tmp_path: Path) -> Callable[[str], Path]:
    def write(version: str) -> Path:
        file = tmp_path / f"aged-{version}.zip"
        file.write_bytes(zip_package("stdlib_agent", name="aged", version=version))
        return file

    return write


def restart_with(server: RunningServer, trust: dict[str, Any]) -> Client:
    server.stop()
    server.settings["trust"] = trust
    server.start()
    return server.client


def sign(file: Path) -> None:
    file.with_name(f"{file.name}.minisig").write_bytes(signature_of(file.read_bytes()))


def test_a_server_that_trusts_nobody_does_not_look_at_signatures(
    changing: RunningServer, package: Callable[[str], Path]
) -> None:
    first, second = package("1.0.0"), package("2.0.0")
    sign(first)
    changing.client.deploy(first)
    changing.client.deploy(second)
    releases = changing.client.releases("aged")
    assert [each.document["signature"] for each in releases] == [None, None]


def test_a_package_from_before_is_refused_once_signatures_are_required(
    changing: RunningServer, package: Callable[[str], Path]
) -> None:
    client = restart_with(changing, TRUST)
    for force in (True, False):  # the second would only be a start of what is installed
        with pytest.raises(SignatureMissingError):
            client.deploy(package("2.0.0"), force=force)
    with pytest.raises(SignatureMissingError):
        client.rollback("aged", to=1)


def test_what_was_queued_before_is_refused_when_its_turn_comes(changing: RunningServer) -> None:
    changing.stop()
    store = Store(changing.state.database)
    packages = [store.packages.get(store.releases.get("aged", number).sha256) for number in (2, 1)]
    queued = [
        store.deployments.submit(Request(packages[0], Strategy.REPLACE, force=True)),
        store.deployments.submit(Request(packages[1], Strategy.REPLACE, release=1)),
    ]
    store.close()
    client = changing.start().client
    failures = [client.follow_deployment(each.id).failure for each in queued]
    assert [each and each.code for each in failures] == ["signature-missing"] * 2


def test_what_runs_from_before_runs_on_and_is_restarted(changing: RunningServer) -> None:
    client = changing.client
    assert client.wait("aged").version == "2.0.0"
    assert client.restart("aged").status == "running"


def test_a_signature_given_later_makes_a_package_good(
    changing: RunningServer, package: Callable[[str], Path]
) -> None:
    for version in ("1.0.0", "2.0.0"):
        file = package(version)
        sign(file)
        client = changing.client
        if version == "1.0.0":
            client.add_signature(file)
            assert client.rollback("aged", to=1).connection is not None
        else:
            client.deploy(file)
    trusted = [each.document["signature"]["trusted"] for each in client.releases("aged")]
    assert trusted == [True] * len(trusted)


def test_a_package_whose_archive_was_changed_on_the_disk_is_refused(
    changing: RunningServer, package: Callable[[str], Path]
) -> None:
    file = package("1.0.0")
    sha256 = changing.client.upload(file).sha256
    archive = changing.state.packages / f"{sha256}.zip"
    whole = archive.read_bytes()
    archive.write_bytes(whole + b"\0")
    with contextlib.ExitStack() as undo:
        undo.callback(archive.write_bytes, whole)
        with pytest.raises(SignatureInvalidError, match="for these bytes"):
            changing.client.deploy(file, force=True)


def test_a_key_that_is_for_other_agents_now_vouches_for_nothing_else(
    changing: RunningServer, package: Callable[[str], Path]
) -> None:
    only_billing = {"key": KEY.public.line, "agents": ["billing-*"]}
    client = restart_with(changing, {"require": True, "keys": [only_billing]})
    with pytest.raises(SignatureInvalidError, match="does not vouch for aged"):
        client.deploy(package("1.0.0"), force=True)


def test_a_key_that_is_gone_vouches_for_nothing_any_more(
    changing: RunningServer, package: Callable[[str], Path]
) -> None:
    client = restart_with(changing, {"require": True, "keys": [OTHER_KEY.public.line]})
    with pytest.raises(SignatureInvalidError, match=f"key {KEY.public.id} made it"):
        client.deploy(package("1.0.0"), force=True)
    with pytest.raises(SignatureInvalidError):
        client.rollback("aged")
    releases = client.releases("aged")
    assert {each.document["signature"]["trusted"] for each in releases} == {False}
    assert {each.rollback_ready for each in releases} == {f"key {KEY.public.id} is not trusted"}
    with pytest.raises(SignatureInvalidError):
        client.plan("aged", package("2.0.0"))
