"""Our kind of supervisord process: it remembers how it ended and knows when to start again.

Overrides of ``supervisor.process.Subprocess`` of 4.3.0; the pin in pyproject.toml is for them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from supervisor.options import BadCommand, ProcessConfig, signame
from supervisor.process import Subprocess
from supervisor.states import ProcessStates, SupervisorStates, getProcessStateDescription

from deployer.model import Desired
from deployer.program_configs import inherited_address
from deployer.restarts import Restarts
from deployer.supervisor_plugin.attention import Attention
from deployer.supervisor_plugin.connections import accepted
from deployer.supervisor_plugin.forks import close_descriptors
from deployer.supervisor_plugin.sockets import Address, HeldSockets
from deployer.supervisor_plugin.throttles import Throttle

_WITH_PROCESS = {ProcessStates.STARTING, ProcessStates.RUNNING, ProcessStates.STOPPING}
_RESTFUL = {
    ProcessStates.RUNNING,
    ProcessStates.STOPPED,
    ProcessStates.EXITED,
    ProcessStates.FATAL,
}
_DIVERTIBLE = {ProcessStates.STARTING, ProcessStates.RUNNING}
_DIVERT_SECONDS = 0.1
"""How long to look for a moment when nobody waits in a socket; on a busy one there may be none."""

_LOOK_SECONDS = 0.01
_READ_SECONDS = 0.1
"""How long a process is given at least to read what it has accepted, before it is told to end."""

_UNREAD_SECONDS = 2.0
"""How long it is given at most, while there is something to read: a busy machine, a long upload."""

_PATIENCE_SECONDS = 60.0
"""How long clients may wait in a socket for the next try; the longest delay within a crash loop."""

_GROUP_SECONDS = 1.0
"""How long to wait at most for a child's first steps; they take a millisecond, if it has a core."""

_GROUP_LOOK_SECONDS = 0.0005

_HANDLED_BY_SUPERVISORD = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGCHLD,
    signal.SIGUSR2,
)


class AgentConfig(ProcessConfig):  # type: ignore[misc]  # supervisor has no types
    """A program's config that makes our kind of process; equals a stock one that says the same.

    Attributes:
        text: What it was read from; None: by supervisord itself, from a file that nobody kept.
    """

    text: str | None = None

    def __init__(
        self,
        options: Any,
        *,
        restarts: Callable[[AgentConfig], Restarts],
        push: Callable[[Mapping[str, object]], None],
        sockets: HeldSockets,
        throttles: Callable[[str], Throttle],
        attention: Attention,
        **parameters: Any,
    ) -> None:
        """Keep what a process needs beside supervisord's own parameters."""
        super().__init__(options, **parameters)
        self.push = push
        self.sockets = sockets
        self.address = inherited_address(self.command)
        self.throttles = throttles
        self.attention = attention
        self._restarts = restarts

    def make_dispatchers(self, proc: AgentProcess) -> tuple[dict[int, Any], dict[str, int | None]]:
        """Make what reads the output of a run, no faster than its log may grow."""
        dispatchers, pipes = super().make_dispatchers(proc)
        proc.throttle = self.throttles(self.name)
        for dispatcher in dispatchers.values():
            if hasattr(dispatcher, "record_output"):
                proc.throttle.attach(dispatcher)
        return dispatchers, pipes

    def make_process(self, group: Any = None) -> AgentProcess:
        """Make the process that runs under this config."""
        process = AgentProcess(self, self._restarts(self))
        process.group = group
        return process


class SocketTakenError(BadCommand):  # type: ignore[misc]  # supervisor has no types
    """The socket that a process is to be given cannot be had.

    Of a kind that supervisord's own procedures answer with a fault.
    """


class AgentProcess(Subprocess):  # type: ignore[misc]  # supervisor has no types
    """A process with a restart policy.

    A death by itself leads from RUNNING through EXITED, or from STARTING, to BACKOFF until the next
    try is due, or at once to FATAL when there is none; without automatic restarts it stays EXITED.
    BACKOFF is the word that makes supervisorctl and the web UI offer to stop it.

    Attributes:
        restarts: Its deaths and what follows.
        exit_code: Of the run that ended last; None when a signal ended it.
        signal_number: Which ended it.
        throttle: How fast the output of the present run is read.
        is_resting: Nothing is due but to read what it says; `Attention` sees to that.
        mapped: Its dispatchers, as supervisord has registered them last.
    """

    killing: bool
    pipes: dict[str, int | None]
    dispatchers: dict[int, Any]
    is_resting = False
    mapped: dict[int, Any] | None = None

    def __init__(self, config: AgentConfig, restarts: Restarts) -> None:
        """Begin STOPPED, like any process."""
        super().__init__(config)
        self.restarts = restarts
        self.exit_code: int | None = None
        self.signal_number: int | None = None
        self.throttle: Throttle = config.throttles(config.name)
        self._next_try: float | None = None  # on the monotonic clock: the other one may be set
        self._cause = ""
        self._divert_until: float | None = None  # set while a successor is to take over
        self._stop_at: float | None = None  # once connections go past it; later while it reads
        self._seen: list[set[int]] = []  # what it had accepted, look after look
        self._last_act: dict[str, object] | None = None
        config.attention.wake(self)

    def document(self) -> dict[str, object]:
        """Say all about the process: what `deployer.supervisord.process_from_document` reads."""
        return {
            "program": self.config.name,
            "state": getProcessStateDescription(self.state),
            "pid": self.pid if self.pid and self._is_alive() else None,
            "started_at": self.laststart or None,
            "stopped_at": self.laststop or None,
            "exit_code": self.exit_code,
            "signal": self.signal_number,
            "restarts": self.restarts.count,
            "next_try_at": self.delay if self.state == ProcessStates.BACKOFF else None,
            "message": self.spawnerr or "",
            "throttled_at": self.throttle.throttled_at,
            "last_act": self._last_act,
            "told_at": time.monotonic_ns(),
        }

    def seconds_until_due(self) -> float | None:
        """Tell when `transition` or a read is due; None: only if something happens."""
        until_open = self.throttle.seconds_until_open()
        until_step = self._seconds_until_step()
        return min((each for each in (until_open, until_step) if each is not None), default=None)

    def _seconds_until_step(self) -> float | None:
        if self._divert_until is not None:
            return _LOOK_SECONDS if self._stop_at is None else self._stop_at - time.monotonic()
        if self.state == ProcessStates.BACKOFF and self._next_try is not None:
            return self._next_try - time.monotonic()
        if self.state == ProcessStates.STARTING:
            return float(self.laststart + self.config.startsecs - time.time())
        if self.state == ProcessStates.STOPPING:
            return float(self.delay - time.time())
        if self.state == ProcessStates.STOPPED and self.config.autostart and not self.laststart:
            return 0.0  # else the loop would poll for a second before its first start
        return None

    def may_rest(self) -> bool:
        """Tell whether nothing is due, and nothing will be before something happens to it."""
        return (
            self.state in _RESTFUL
            and self.mapped is self.dispatchers
            and self.throttle.throttled_at is None
            and self.throttle.is_open()
            and self._seconds_until_step() is None
            and not any(each.writable() for each in self.dispatchers.values())
        )

    def awaited_address(self) -> Address | None:
        """Tell which held socket this process accepts from, or will before clients lose patience.

        None: it has none, or nobody knows that it will ever run again.
        """
        is_due_soon = (
            self.state == ProcessStates.BACKOFF
            and self._next_try is not None
            and self._next_try - time.monotonic() <= _PATIENCE_SECONDS
        )
        address: Address | None = self.config.address
        return address if is_due_soon or self._is_alive() else None

    def start_for_api(self) -> Any:
        """Start because the API asked for it; like ``spawn``, which is for everybody else."""
        self._note_act(Desired.RUNNING, is_operators=False)
        return self._spawn_anew()

    def stop_for_api(self) -> Any:
        """Stop because the API asked for it; like ``stop``, which is for everybody else."""
        self._note_act(Desired.STOPPED, is_operators=False)
        return super().stop()

    def stop_for_successor(self) -> Any:
        """Stop once new connections go past this process; at once without a held socket.

        Its successor is started when it has stopped. Should it die meanwhile, it stays dead.
        """
        if self.config.address is None or self.state not in _DIVERTIBLE:
            return self.stop_for_api()
        self._note_act(Desired.STOPPED, is_operators=False)
        self._divert_until = time.monotonic() + _DIVERT_SECONDS
        self.config.attention.wake(self)
        return None

    def kill_now(self) -> Any:
        """Stop with SIGKILL; returns a sentence if it cannot be done, like ``kill``."""
        self._note_act(Desired.STOPPED, is_operators=False)
        self.administrative_stop = True
        return self.kill(signal.SIGKILL)

    # What supervisord calls --------------------------------------------------------------------

    def spawn(self) -> Any:
        """Start because an operator asked for it: earlier deaths are forgotten."""
        self._note_act(Desired.RUNNING, is_operators=True)
        return self._spawn_anew()

    def stop(self) -> Any:
        """Stop because an operator asked for it, or because supervisord itself ends."""
        self._note_act(Desired.STOPPED, is_operators=True)
        return super().stop()

    def kill(self, sig: int) -> Any:
        """Send a signal that is to end it, once its group is there: else it would miss."""
        self._await_group()
        return super().kill(sig)

    def get_execv_args(self) -> Any:
        """Find what is to be executed and, as it can be missing just so, the socket to be given."""
        if self.config.address is not None:
            try:
                self.config.sockets.hold(self.config.address)
            except (OSError, ValueError) as error:
                host, port = self.config.address
                sentence = f"cannot listen on {host} port {port} for it: {error}"
                raise SocketTakenError(sentence) from error
        return super().get_execv_args()

    def transition(self) -> None:
        """Take the next step if it is due."""
        if self.is_resting:
            return
        try:
            if self.throttle.has_changed():
                self._push()
            if self._divert_until is not None:
                self._divert_and_stop(self._divert_until)
            elif self.state == ProcessStates.BACKOFF:
                self._try_again_if_due()
            elif self.state != ProcessStates.EXITED:  # where stock restarts at once and for ever
                super().transition()
            if self.may_rest():
                self.config.attention.rest(self)
        except Exception as error:  # noqa: BLE001 - it would end supervisord
            self._log(f"cannot take its next step: {error!r}")

    def write(self, chars: Any) -> Any:
        """Send something to its standard input."""
        self.config.attention.wake(self)
        return super().write(chars)

    def change_state(self, new_state: int, expected: bool = True) -> Any:  # noqa: FBT001, FBT002 - stock's signature
        """Change the state, decide about a restart, and tell the API."""
        self.config.attention.wake(self)
        if new_state == ProcessStates.EXITED:
            self.spawnerr = self._cause  # stock's would be "Bad exit code -1"
        if self.config.address is not None and new_state not in _WITH_PROCESS:
            self.config.sockets.renew(self.config.address)
        changed = super().change_state(new_state, expected)
        if new_state == ProcessStates.BACKOFF:
            self._plan_restart()
            if self._next_try is None:
                self.give_up()  # which comes back here with FATAL
                return changed
        self._push()
        return changed

    def finish(self, pid: int, sts: int) -> None:
        """Note how the process ended, and end what it left behind in its process group."""
        asked_for = self.killing
        outputs = tuple(self.dispatchers.values())
        self.config.attention.wake(self)
        self.throttle.lift()
        try:
            self._note_end(pid, sts)
            super().finish(pid, sts)
        except Exception as error:  # noqa: BLE001 - it would end supervisord
            self._log(f"its end could not be handled as usual: {error!r}")
            self._bury(ProcessStates.STOPPED if asked_for else ProcessStates.EXITED)
        self._close_logs(outputs)
        try:
            wanted = self._is_wanted() and self.restarts.policy.enabled
            if wanted and self.state == ProcessStates.EXITED:
                self.change_state(ProcessStates.BACKOFF)
        except Exception as error:  # noqa: BLE001 - the same
            self._log(f"cannot plan its restart: {error!r}")
        self._forget_successor()

    def _await_group(self) -> None:
        """Wait until the child, if it was forked just now, has a group of its own.

        Its parent could make one for it, but then it could not take a session any more.
        """
        deadline = time.monotonic() + _GROUP_SECONDS
        with contextlib.suppress(ProcessLookupError):
            while self.pid and os.getpgid(self.pid) != self.pid and time.monotonic() < deadline:
                time.sleep(_GROUP_LOOK_SECONDS)

    def _spawn_as_parent(self, pid: int) -> Any:
        super()._spawn_as_parent(pid)
        self._push()  # STARTING was told before there was a pid
        return pid

    def _spawn_as_child(self, filename: str, argv: list[str]) -> None:
        try:
            # or a SIGTERM between fork and exec would end in supervisord's handler and be lost
            for number in _HANDLED_BY_SUPERVISORD:
                signal.signal(number, signal.SIG_DFL)
            # a group as well; in a session with others it could join theirs, and would have the
            # terminal of whoever started supervisord
            self.config.options.setpgrp = os.setsid
            super()._spawn_as_child(filename, argv)
        finally:
            os._exit(127)  # the child must never return into supervisord's loop

    def _prepare_child_fds(self) -> None:
        # stock's would close the socket with everything else from 3 on, one by one
        options = self.config.options
        options.dup2(self.pipes["child_stdin"], 0)
        options.dup2(self.pipes["child_stdout"], 1)
        options.dup2(
            self.pipes["child_stdout" if self.config.redirect_stderr else "child_stderr"], 2
        )
        address: Address | None = self.config.address
        is_given = address is not None and self.config.sockets.hand_over(address)
        close_descriptors(options, but=int(is_given))

    # Steps -------------------------------------------------------------------------------------

    def _note_act(self, desired: Desired, *, is_operators: bool) -> None:
        """Keep who asked for what; the end of supervisord stops all, and that is nobody's act."""
        if self.config.options.mood == SupervisorStates.RUNNING:
            self._last_act = {
                "desired": desired.value,
                "is_operators": is_operators,
                "at": time.time(),
            }

    def _spawn_anew(self) -> Any:
        self.restarts.forget()
        return self._spawn()

    def _spawn(self) -> Any:
        self._cause = ""
        try:
            return super().spawn()
        except Exception as error:  # noqa: BLE001 - such as a NUL in the command
            self.record_spawnerr(f"cannot be started: {error}")
            if self.state == ProcessStates.STARTING and not self.pid:
                self.change_state(ProcessStates.BACKOFF)
            return None

    def _divert_and_stop(self, until: float) -> None:
        now = time.monotonic()
        sockets, address = self.config.sockets, self.config.address
        if self._stop_at is None:
            self._seen.append(set(accepted(address)))
            is_over = now >= until
            if sockets.divert(address, past_waiting=is_over and self._accepts_briskly()):
                self._stop_at = now + _READ_SECONDS
            elif is_over:
                self._stop_at = now
        if self._stop_at is not None and now >= self._stop_at:
            if now < until + _UNREAD_SECONDS and sockets.is_diverted(address):
                is_busy = sockets.count_waiting(address) or any(accepted(address).values())
                if is_busy:
                    self._stop_at = now + _LOOK_SECONDS
                    return
            self._forget_successor()
            if self.state in _DIVERTIBLE:
                super().stop()

    def _accepts_briskly(self) -> bool:
        """Tell whether who waits will have been accepted in as long as it was looked at.

        So it is with a server that accepts eagerly and is never without clients. One that is slow,
        or hangs, has its clients wait for the successor.
        """
        sockets: HeldSockets = self.config.sockets
        arrived = set().union(*self._seen[1:]) - self._seen[0]
        return len(arrived) >= sockets.count_waiting(self.config.address)

    def _forget_successor(self) -> None:
        self._divert_until = self._stop_at = None
        self._seen = []

    def _try_again_if_due(self) -> None:
        due = self._next_try is not None and time.monotonic() >= self._next_try
        if due and self._is_wanted():
            self.restarts.record_restart()
            self._spawn()

    def _plan_restart(self) -> None:
        self.spawnerr = self._cause or self.spawnerr
        self._next_try = None
        if not self._is_wanted():
            return
        delay = self.restarts.record_death()
        if delay is None:
            self.spawnerr = f"{self.restarts.explain_giving_up()}; last: {self.spawnerr}"
        else:
            self._next_try = time.monotonic() + delay
            self.delay = time.time() + delay  # for those who look: stock's own idea is 1, 2, 3 s

    def _note_end(self, pid: int, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        self.exit_code, self.signal_number = (code, None) if code >= 0 else (None, -code)
        how = f"exit status {code}" if code >= 0 else f"terminated by {signame(-code)}"
        self._cause = f"{how} after {max(0.0, time.time() - self.laststart):.1f} s"
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)

    @staticmethod
    def _close_logs(outputs: Iterable[Any]) -> None:
        """Close the logs of a run that is over: stock leaves that to the garbage collector.

        A throttled output refers to itself, and supervisord makes so little garbage that it would
        be collected after hundreds of runs, two descriptors each.
        """
        for output in outputs:
            with contextlib.suppress(Exception):  # it would end supervisord
                output.normallog.close()

    def _bury(self, state: int) -> None:
        self.killing = False
        self.pid = 0
        self.config.options.close_parent_pipes(self.pipes)
        self.pipes = {}
        self.dispatchers = {}
        self.state = state
        self._push()

    def _push(self) -> None:
        with contextlib.suppress(Exception):  # a push may get lost, supervisord may not
            self.config.push(self.document())

    def _is_alive(self) -> bool:
        return self.state in {
            ProcessStates.STARTING,
            ProcessStates.RUNNING,
            ProcessStates.STOPPING,
        }

    def _is_wanted(self) -> bool:
        is_leaving = self._divert_until is not None
        return self.config.options.mood == SupervisorStates.RUNNING and not is_leaving

    def _log(self, sentence: str) -> None:
        line = f"agents: {self.config.name}: {sentence}"
        self.config.options.logger.critical(line)
