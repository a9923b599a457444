"""Does what honest agents do; prints for each of it fine, or what went wrong."""

import asyncio
import concurrent.futures
import contextlib
import ctypes
import json
import mmap
import multiprocessing
import multiprocessing.shared_memory
import os
import pty
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.parse
import urllib.request
import zoneinfo
from pathlib import Path

DATA = Path(os.environ["ATOLL_AGENT_DATA_DIR"])
TMP = Path(os.environ["TMPDIR"])


def square(number):
    return number * number


def run_by(method):
    context = multiprocessing.get_context(method)
    child = context.Process(target=square, args=(2,))
    child.start()
    child.join(20)
    assert child.exitcode == 0, child.exitcode


def temporary_file():
    with tempfile.NamedTemporaryFile() as file:
        assert file.name.startswith(str(TMP))


def sqlite_wal():
    with contextlib.closing(sqlite3.connect(DATA / "wal.db")) as database:
        assert database.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
        database.execute("CREATE TABLE IF NOT EXISTS t (x)")
        database.execute("INSERT INTO t VALUES (1)")
        database.commit()


def rename_from_tmp_to_data():
    (TMP / "new").write_text("x")
    (TMP / "new").replace(DATA / "new")


def socket_in_run_dir():
    with socket.socket(socket.AF_UNIX) as server:
        path = DATA.parent / "run" / "own.sock"
        path.unlink(missing_ok=True)
        server.bind(str(path))


def own_port():
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.3", int(os.environ["PORT"])))


def any_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))


def resolver_files():
    for path in ("/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/hosts"):
        try:
            Path(path).read_text()
        except FileNotFoundError:
            pass  # a machine may do without; one that has it lets agents read it


def certificates():
    paths = ssl.get_default_verify_paths()
    assert paths.cafile or paths.capath
    ssl.create_default_context()


def lock_and_queue():
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with context.Lock():
        queue.put(1)
    assert queue.get(timeout=10) == 1


def pool():
    with multiprocessing.get_context("fork").Pool(2) as workers:
        assert workers.map(square, [1, 2, 3]) == [1, 4, 9]


def manager():
    with multiprocessing.get_context("fork").Manager() as shared:
        assert shared.list([1])[0] == 1


def shared_memory():
    memory = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
    memory.close()
    memory.unlink()


def executor():
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(2, context) as workers:
        assert list(workers.map(square, [2])) == [4]


def asyncio_socket_and_subprocess():
    async def all_of_it():
        path = str(TMP / "asyncio.sock")
        server = await asyncio.start_unix_server(lambda _r, w: w.close(), path)
        _, writer = await asyncio.open_unix_connection(path)
        writer.close()
        server.close()
        process = await asyncio.create_subprocess_exec("true")
        assert await process.wait() == 0

    asyncio.run(all_of_it())


def threads():
    running = [threading.Thread(target=square, args=(2,)) for _ in range(50)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def pseudo_terminal():
    for descriptor in pty.openpty():
        os.close(descriptor)


def terminal_of_its_own():
    child, descriptor = pty.fork()
    if not child:
        terminal = os.open("/dev/tty", os.O_RDWR)
        os._exit(os.tcgetpgrp(terminal) != os.getpid())
    assert os.waitpid(child, 0)[1] == 0
    os.close(descriptor)


def callback():
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
    assert kind(square)(3) == 9


def signals_to_children():
    with subprocess.Popen(["sleep", "60"]) as child:
        child.terminate()
        assert child.wait(10) < 0


def mapped_file():
    with (DATA / "mapped").open("w+b") as file:
        file.truncate(4096)
        mmap.mmap(file.fileno(), 4096).close()


def user():
    import getpass

    assert getpass.getuser() == os.environ["ATOLL_AGENT_NAME"]


def https():
    facts = json.loads(urllib.parse.unquote(sys.argv[1]))
    trusted = ssl.create_default_context(cadata=facts["authority"])
    url = f"https://127.0.0.1:{facts['port']}/"
    with urllib.request.urlopen(url, timeout=10, context=trusted) as answer:
        assert answer.status == 200


CASES = {
    "temporary file": temporary_file,
    "sqlite WAL": sqlite_wal,
    "rename tmp to data": rename_from_tmp_to_data,
    "socket in run": socket_in_run_dir,
    "own port": own_port,
    "any free port": any_port,
    "files of the resolver": resolver_files,
    "lookup of localhost": lambda: socket.getaddrinfo("localhost", 80),
    "certificates": certificates,
    "https": https,
    "subprocess": lambda: subprocess.run(["true"], check=True),
    "shell": lambda: subprocess.run("echo $HOME > $TMPDIR/home", shell=True, check=True),
    "own interpreter": lambda: subprocess.run([sys.executable, "-c", "import ssl"], check=True),
    "fork": lambda: run_by("fork"),
    "spawn": lambda: run_by("spawn"),
    "forkserver": lambda: run_by("forkserver"),
    "lock and queue": lock_and_queue,
    "pool": pool,
    "manager": manager,
    "shared memory": shared_memory,
    "process pool executor": executor,
    "asyncio": asyncio_socket_and_subprocess,
    "fifty threads": threads,
    "pseudo terminal": pseudo_terminal,
    "terminal of its own": terminal_of_its_own,
    "ctypes callback": callback,
    "time zones": lambda: zoneinfo.ZoneInfo("Europe/Berlin"),
    "signals to children": signals_to_children,
    "mapped file": mapped_file,
    "/dev/null and randomness": lambda: (Path("/dev/null").write_text("x"), os.urandom(8)),
    "home": lambda: (Path("~/.config").expanduser().mkdir(exist_ok=True), user()),
    "what the machine has": lambda: (os.cpu_count(), Path("/proc/meminfo").read_text()),
}

if __name__ == "__main__":
    answers = {}
    for name, case in CASES.items():
        try:
            case()
        except Exception as error:  # whatever it is: it is what the test shows
            answers[name] = f"{type(error).__name__}: {error}"
        else:
            answers[name] = "fine"
    print(json.dumps(answers))
