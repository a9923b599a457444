"""What stands out in source code that nobody has vouched for; a program of its own.

`main` is run by ``python -I -S -W ignore``, with names of files on its input, each ended by NUL:
parsing hostile source may exhaust the stack, the memory or the patience of whoever does it. It
prints one JSON list a line: a file's name before it opens that file, then what it found there (the
name, rule, line, message, severity), and an empty list at the end.

This is information for whoever decides, found by a look: an author who wants to hide can.
"""

from __future__ import annotations

import ast
import json
import re
import resource
import sys
from collections.abc import Iterator

Found = tuple[str, int, str, str]
"""Rule, line (0: the file as a whole), message, severity."""

LARGEST_SOURCE = 512 * 1024
CPU_SECONDS = 20
DATA_BYTES = 1024**3

_BLOB_CHARACTERS = 4096
_BLOB = re.compile(r"[A-Za-z0-9+/=_\s-]*")
_LONGEST_TEXT = 200
_COOKIE = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")  # PEP 263
_PLAIN_ENCODINGS = {"utf-8", "utf8", "utf-8-sig", "ascii", "us-ascii", "latin-1", "iso-8859-1"}
_NATIVE = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\xfe\xed\xfa\xcf")
_UNREADABLE = (*(SyntaxError, ValueError, RecursionError, MemoryError, LookupError, OverflowError),)

_EVALUATORS = {"exec", "eval", "compile", "builtins.exec", "builtins.eval", "builtins.compile"}
_DECODERS = {
    *("b64decode", "b32decode", "b85decode", "a85decode", "b16decode", "urlsafe_b64decode"),
    *("decodebytes", "unhexlify", "fromhex", "decompress", "decode", "a2b_base64", "translate"),
}
_UNPICKLERS = {
    *("pickle.loads", "pickle.load", "marshal.loads", "marshal.load", "dill.loads", "shelve.open"),
}
_FOREIGN = ("ctypes", "cffi", "_ctypes")
_NETWORK = ("socket", "urllib.request", "http.client", "requests", "httpx", "ftplib", "smtplib")
_PROCESSES = (
    *("subprocess", "os.system", "os.popen", "os.exec", "os.spawn", "os.posix_spawn", "os.fork"),
    *("pty.spawn", "multiprocessing.Process"),
)


def main(directory: str) -> None:
    """Look into the files below a directory that the input names, and print what stands out."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_DATA, (DATA_BYTES, DATA_BYTES))
    for name in sys.stdin.buffer.read().split(b"\0")[:-1]:
        shown = name.decode("utf-8", "surrogateescape")
        _say(shown)
        with open(f"{directory}/{shown}", "rb") as file:  # noqa: PTH123 - pathlib takes longest
            data = file.read(LARGEST_SOURCE + 1)
        for rule, line, message, severity in of_source(data, shown):
            _say(shown, rule, line, message, severity)
    _say()


def _say(*fields: str | int) -> None:
    sys.stdout.write(f"{json.dumps(fields)}\n")
    sys.stdout.flush()  # or what is known would be lost with the process


def is_source(name: str) -> bool:
    """Tell whether a file is to be parsed, which only a process of its own may do."""
    return name.endswith((".py", ".pyw"))


def of_kind(start: bytes, name: str) -> Iterator[Found]:
    """Say what stands out in a file by its name and its first bytes; safe for anybody to do."""
    if start.startswith(_NATIVE):
        yield "native-code", 0, "is compiled for a machine: nobody can read what it does", "low"
    elif name.endswith((".pyc", ".pyo")):
        yield (
            "compiled-python",
            0,
            "is compiled Python: it runs whatever a source beside it says",
            "medium",
        )
    elif name.endswith(".pth"):
        runs = any(line.startswith((b"import ", b"import\t")) for line in start.splitlines())
        what = "runs code" if runs else "adds to the search path"
        yield "pth-file", 0, f"{what} at each start where it is installed", "high"


def of_source(data: bytes, name: str) -> Iterator[Found]:
    """Say what stands out in source."""
    if data.startswith(_NATIVE):
        yield from of_kind(data, name)
        return
    if name.rpartition("/")[2] in {"sitecustomize.py", "usercustomize.py"}:
        yield "site-hook", 0, "runs before anything else where it is found", "medium"
    if len(data) > LARGEST_SOURCE:
        message = f"has more than {LARGEST_SOURCE} bytes: it was not looked into"
        yield "unreadable-source", 0, message, "medium"
        return
    for number, text in enumerate(data.splitlines()[:2], start=1):
        cookie = _COOKIE.match(text)
        encoding = cookie[1].decode("ascii", "replace") if cookie else ""
        if encoding and encoding.lower() not in _PLAIN_ENCODINGS:
            message = f"is written in {encoding[:40]}: it reads as it is not"
            yield "odd-encoding", number, message, "high"
    try:
        tree = ast.parse(data)
    except _UNREADABLE as error:
        line = getattr(error, "lineno", None) or 0
        why = str(getattr(error, "msg", None) or error or "nested too deeply")[:_LONGEST_TEXT]
        yield "unreadable-source", line, f"cannot be parsed: {why}", "medium"
        return
    yield from _of_tree(tree)


def _of_tree(tree: ast.AST) -> Iterator[Found]:
    names = _imported(tree)
    at_import = {id(call) for call in _calls_at_import(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _of_import(node)
        elif isinstance(node, ast.Constant):
            yield from _of_constant(node)
        elif isinstance(node, ast.Call):
            called = _dotted(node.func, names)
            yield from _of_call(node, called)
            if id(node) in at_import:
                yield from _of_call_at_import(node, called)


def _of_import(node: ast.Import | ast.ImportFrom) -> Iterator[Found]:
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
    for module in modules:
        if module.partition(".")[0] in _FOREIGN:
            message = f"imports {module}: it can call anything in the process's memory"
            yield "ctypes", node.lineno, message, "low"


def _of_constant(node: ast.Constant) -> Iterator[Found]:
    value = node.value
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if isinstance(text, str) and len(text) > _BLOB_CHARACTERS and _BLOB.fullmatch(text):
        message = f"holds {len(text)} characters that look like base64 or hex"
        yield "large-blob", node.lineno, message, "medium"


def _of_call(node: ast.Call, called: str) -> Iterator[Found]:
    if called in _EVALUATORS:
        inner = [each for argument in node.args for each in ast.walk(argument)]
        calls = [each.func for each in inner if isinstance(each, ast.Call)]
        decoded = [each for each in calls if _last_part(each) in _DECODERS]
        if decoded:
            message = f"calls {called} on what {_last_part(decoded[0])} gives"
            yield "decoded-code", node.lineno, message, "high"
        elif node.args and not isinstance(node.args[0], ast.Constant):
            yield (
                "dynamic-code",
                node.lineno,
                f"calls {called} on what is made as it runs",
                "medium",
            )
    elif called in _UNPICKLERS:
        message = f"calls {called}, which runs what its data says"
        yield "unpickled-data", node.lineno, message, "low"


def _of_call_at_import(node: ast.Call, called: str) -> Iterator[Found]:
    for rule, prefixes in (("network-at-import", _NETWORK), ("process-at-import", _PROCESSES)):
        if any(called == each or called.startswith(f"{each}.") for each in prefixes) or (
            rule == "process-at-import" and called.startswith(("os.exec", "os.spawn"))
        ):
            yield rule, node.lineno, f"calls {called[:80]} as soon as it is imported", "medium"


def _imported(tree: ast.AST) -> dict[str, str]:
    """Map the names that imports give to what they stand for, wherever the import is."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _calls_at_import(tree: ast.AST) -> Iterator[ast.Call]:
    """Give the calls that run when a module is imported: outside of functions and of main."""
    waiting = list(ast.iter_child_nodes(tree))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Call):
            yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += [*node.decorator_list, *node.args.defaults]
        elif isinstance(node, ast.If) and _asks_for_main(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _asks_for_main(test: ast.expr) -> bool:
    return (
        isinstance(test, ast.Compare)
        and isinstance(test.left, ast.Name)
        and test.left.id == "__name__"
        and len(test.ops) == 1
        and isinstance(test.ops[0], ast.Eq)
    )


def _dotted(function: ast.expr, names: dict[str, str]) -> str:
    """Name what is called, by what its first word was imported as; empty for what has no name."""
    parts: list[str] = []
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    if not isinstance(function, ast.Name):
        return ""
    return ".".join([names.get(function.id, function.id), *reversed(parts)])


def _last_part(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
