"""Accepts from descriptor 3 when it is given one, else binds PORT; on SIGTERM it ends what it began.

/slow makes a file "answering" in the data directory, and is answered after SIGTERM.

The standard library only, and imports as few as possible, so that it starts fast.
"""

import os
import select
import signal
import socket
import threading
import time


def find_listener():
    """Take the inherited socket over, or bind one; tell which."""
    is_given = os.environ.get("LISTEN_FDS") == "1"
    if is_given and os.environ.get("LISTEN_PID") == str(os.getpid()):
        return socket.socket(fileno=3), True
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((os.environ["HOST"], int(os.environ["PORT"])))
    listener.listen(128)
    return listener, False


def version():
    """Read it out of the manifest, so that a test need change it only there."""
    with open("agent.toml", encoding="utf-8") as manifest:
        line = next(line for line in manifest if line.startswith("version ="))
    return line.split('"')[1]


def main():
    listener, is_inherited = find_listener()
    document = '{"status": "healthy", "pid": %d, "version": "%s", "inherited": %s, "port": %d}' % (
        os.getpid(),
        version(),
        str(is_inherited).lower(),
        listener.getsockname()[1],
    )
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    told_to_end = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: None)  # the descriptor above tells the loop
    answering = []
    while True:
        readable, _, _ = select.select([listener, woken], [], [])
        if woken in readable:
            told_to_end.set()
            break
        connection, _ = listener.accept()
        thread = threading.Thread(target=answer, args=(connection, document, told_to_end))
        thread.start()
        answering = [one for one in answering if one.is_alive()] + [thread]
    listener.close()
    for thread in answering:
        thread.join()


def answer(connection, document, told_to_end):
    with connection:
        connection.settimeout(30)
        try:
            request = b""
            while b"\r\n\r\n" not in request:
                block = connection.recv(65536)
                if not block:
                    return
                request += block
            if request.startswith(b"GET /slow"):
                with open(os.path.join(os.environ["ATOLL_AGENT_DATA_DIR"], "answering"), "w"):
                    pass
                told_to_end.wait(60)
                time.sleep(0.2)  # whoever did not wait for it would have ended by now
            head = (
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                "Content-Length: {}\r\nConnection: close\r\n\r\n"
            )
            connection.sendall((head.format(len(document)) + document).encode())
        except OSError:
            return  # the client has left


main()
