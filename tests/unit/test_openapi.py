"""The OpenAPI document: valid, whole, and nothing in it that is not served."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

import falcon
import falcon.inspect
import falcon.testing
import pytest
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator

from deployer import errors
from deployer.api.examples.problems import ERRORS
from deployer.errors import ManifestInvalidError
from deployer.manifest import parse_manifest
from deployer.model import AGENT_NAME
from tests.openapi_json import FILE, openapi_json
from tests.wired_apps import TEXT, wired_app

METHODS = {"GET", "POST", "PUT", "DELETE", "PATCH"}
CONVERTER = re.compile(r":[a-z]+\}")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[falcon.App[Any, Any]]:
    with wired_app(tmp_path_factory.mktemp("state")) as (app, _):
        yield app


@pytest.fixture(scope="module")
def client(app: falcon.App[Any, Any]) -> falcon.testing.TestClient:
    return falcon.testing.TestClient(app, headers={"Authorization": f"Bearer {TEXT}"})


@pytest.fixture(scope="module")
def document(client: falcon.testing.TestClient) -> dict[str, Any]:
    answer: dict[str, Any] = client.simulate_get("/openapi.json").json
    return answer


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def is_taken(name: str) -> bool:
    """Tell whether a manifest may give an agent this name."""
    try:
        parse_manifest(f'[agent]\nname = "{name}"\n'.encode())
    except ManifestInvalidError:
        return False
    return True


@pytest.fixture(scope="module")
def routes(app: falcon.App[Any, Any]) -> dict[str, set[str]]:
    falcon.inspect.register_router(type(app._router))(falcon.inspect.inspect_compiled_router)
    return {
        CONVERTER.sub("}", route.path): {each.method for each in route.methods if not each.internal}
        for route in falcon.inspect.inspect_routes(app)
    }


def test_no_word_of_an_address_can_be_the_name_of_an_agent(routes: dict[str, set[str]]) -> None:
    paths = [path.strip("/").split("/") for path in routes]
    alternatives = {
        path[at]
        for path in paths
        for other in paths
        for at, part in enumerate(other)
        # what stands where another address has the name, or at the top as in ATOLL's early days
        if at < len(path) and (at == 0 or (part == "{agent}" and path[:at] == other[:at]))
    }
    words = sorted(word for word in alternatives if AGENT_NAME.fullmatch(word))
    assert {"deploy", "health", "v1", "login"} <= set(words)
    taken = [word for word in (*words, *map(str.upper, words)) if is_taken(word)]
    assert taken == []


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_every_route_is_in_the_document_and_nothing_else(
    routes: dict[str, set[str]], document: dict[str, Any]
) -> None:
    served = {(method, path) for path, methods in routes.items() for method in methods & METHODS}
    assert served == {(method, path) for method, path, _ in operations(document)}


def test_head_answers_wherever_get_does(routes: dict[str, set[str]]) -> None:
    for path, methods in routes.items():
        assert ("GET" in methods) == ("HEAD" in methods), path


def test_every_reference_leads_to_a_shape(document: dict[str, Any]) -> None:
    names = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document))
    assert set(names) <= set(document["components"]["schemas"])


def test_every_shape_is_used(document: dict[str, Any]) -> None:
    names = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document))
    assert set(document["components"]["schemas"]) <= set(names)


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))


def test_only_what_needs_no_token_says_so(document: dict[str, Any]) -> None:
    is_open = {path for _, path, operation in operations(document) if "security" in operation}
    assert is_open == {"/livez", "/readyz", "/health", "/login", "/-/assets/{name}"}


def test_what_needs_a_token_says_what_happens_without_one(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        assert "security" in operation or "401" in operation["responses"], path


def test_every_part_of_a_path_is_described(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        described = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert described == set(re.findall(r"\{(\w+)\}", path)), path


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/zip", "multipart/form-data"]
)
def test_a_deployment_is_asked_for_in_json_or_by_the_package_itself(
    document: dict[str, Any], media_type: str
) -> None:
    body = document["paths"]["/v1/deployments"]["post"]["requestBody"]
    assert body["required"]
    assert media_type in body["content"]


def test_an_unforeseen_error_is_a_problem_without_its_text(
    client: falcon.testing.TestClient,
) -> None:
    answer = client.simulate_get("/v1/server")  # no part stands behind it, so it breaks
    assert answer.status_code == 500
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["code"] == "internal-error"
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]
    assert "Traceback" not in answer.text
    assert "Part" not in answer.text


# Examples ----------------------------------------------------------------------------------------


def media_types(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Give each body that is taken or given: where, its media type, and what is said of it."""
    responses = document["components"]["responses"]
    for method, path, operation in operations(document):
        bodies = [("body", operation.get("requestBody", {}))]
        for status, response in operation["responses"].items():
            name = response.get("$ref", "").rpartition("/")[2]
            bodies.append((status, responses[name] if name else response))
        for what, body in bodies:
            for media_type, content in body.get("content", {}).items():
                yield f"{method} {path} {what}", media_type, content


def test_every_answer_has_an_example(document: dict[str, Any]) -> None:
    bare = {
        (where, media_type)
        for where, media_type, content in media_types(document)
        if not content.get("examples") and "example" not in content and " body" not in where
    }
    # the contract itself, and whatever supervisord's web UI is made of
    assert {media_type for _, media_type in bare} == {"application/json", "*/*"}
    assert {where for where, media_type in bare if "json" in media_type} == {
        "GET /openapi.json 200"
    }


def test_every_json_body_has_an_example(document: dict[str, Any]) -> None:
    for where, media_type, content in media_types(document):
        if media_type == "application/json" and " body" in where:
            assert content["examples"], where


def test_every_example_keeps_to_its_shape(document: dict[str, Any]) -> None:
    examples = document["components"]["examples"]
    seen = set()
    for where, _, content in media_types(document):
        validator = Draft202012Validator(
            {**content.get("schema", {}), "components": document["components"]},
            format_checker=FormatChecker(),
        )
        for reference in content.get("examples", {}).values():
            name = reference["$ref"].rpartition("/")[2]
            seen.add(name)
            problems = [error.message for error in validator.iter_errors(examples[name]["value"])]
            assert problems == [], (where, name)
    assert seen == set(examples)


def test_every_problem_has_the_status_that_it_stands_under(document: dict[str, Any]) -> None:
    examples = document["components"]["examples"]
    for where, media_type, content in media_types(document):
        if media_type == "application/problem+json":
            codes = content["schema"]["properties"]["code"]["enum"]
            assert codes == list(content["examples"]), where
            told = {str(examples[code]["value"]["status"]) for code in codes}
            assert told == {where.rpartition(" ")[2]}, where


def test_every_error_that_can_be_answered_is_in_the_document(document: dict[str, Any]) -> None:
    ends_serve = {"settings-invalid", "serve-refused"}
    raised_by_clients = {"server-unreachable", "signing-key-invalid"}
    codes = {
        cls.code for cls in vars(errors).values() if isinstance(cls, type) and hasattr(cls, "code")
    }
    documented = {
        code
        for _, _, content in media_types(document)
        for code in content.get("schema", {}).get("properties", {}).get("code", {}).get("enum", ())
    }
    assert documented == codes - ends_serve - raised_by_clients


def test_attributes_in_a_docstring_describe_the_members_of_its_shape(
    document: dict[str, Any],
) -> None:
    shape = document["components"]["schemas"]["DeploymentRequest"]
    assert shape["description"] == "What to deploy, and how."
    assert shape["properties"]["start"]["description"] == "False: install only."
    texts = [each.get("description", "") for each in document["components"]["schemas"].values()]
    assert [text for text in texts if "Attributes:" in text] == []


def test_the_contract_kept_in_docs_is_the_one_that_is_served() -> None:
    assert FILE.read_text(encoding="utf-8") == openapi_json(), "run `make openapi`"


# The page ----------------------------------------------------------------------------------------


def test_the_page_shows_every_operation(
    client: falcon.testing.TestClient, document: dict[str, Any]
) -> None:
    page = client.simulate_get("/docs").text
    for _, path, operation in operations(document):
        assert path in page
        assert operation["summary"].replace("'", "&#39;") in page


def test_every_link_within_the_page_leads_somewhere(client: falcon.testing.TestClient) -> None:
    page = client.simulate_get("/docs").text
    places = re.findall(r'\bid="([^"]+)"', page)
    assert len(places) == len(set(places))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(places)


def test_the_page_fetches_nothing_from_elsewhere(client: falcon.testing.TestClient) -> None:
    page = client.simulate_get("/docs").text
    fetched = re.findall(r'(?:src|href|action)="([^"]+)"', page)
    assert [address for address in fetched if not re.match(r"[#/](?!/)", address)] == []
    assert "url(" not in page
    assert "<script" not in page


def test_the_page_shows_each_problem_with_its_example(
    client: falcon.testing.TestClient, document: dict[str, Any]
) -> None:
    page = html.unescape(client.simulate_get("/docs").text)
    for code in ("agent-unknown", "no-free-port", "too-busy"):
        assert f'id="problem-{code}"' in page
        assert document["components"]["examples"][code]["value"]["detail"] in page


def test_the_pages_own_policy_lets_its_style_in(client: falcon.testing.TestClient) -> None:
    answer = client.simulate_get("/docs")
    policy = answer.headers["Content-Security-Policy"]
    (styles,) = re.findall(r"style-src ([^;]*)", policy)
    assert "<style" not in answer.text or "'unsafe-inline'" in styles
    assert '<link rel="stylesheet"' not in answer.text or "'self'" in styles


def test_hints_are_written_alike_in_lower_case_without_a_full_stop() -> None:
    hints = [error.hint for error in ERRORS if error.hint]
    first_words = [hint.split()[0] for hint in hints]
    assert [each for each in first_words if each not in METHODS and not each[0].islower()] == []
    assert [each for each in hints if each.endswith(".")] == []
