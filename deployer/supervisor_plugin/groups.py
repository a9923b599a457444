"""supervisord's process groups, as far as they are ours: each holds one program of one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from supervisor.options import ProcessConfig, ProcessGroupConfig
from supervisor.xmlrpc import Faults, RPCError

from deployer import program_configs
from deployer.errors import ProgramConfigError
from deployer.model import RestartPolicy, agent_of_program
from deployer.restarts import Restarts, ServiceRestarts
from deployer.supervisor_plugin.attention import Attention
from deployer.supervisor_plugin.processes import AgentConfig, AgentProcess
from deployer.supervisor_plugin.sockets import Address, HeldSockets
from deployer.supervisor_plugin.throttles import Throttle

_RESTART_KEYS: Final = frozenset({"autorestart", "startretries"})
"""What may differ in the config of a program that runs: its process never sees them."""


class Groups:
    """The groups of one supervisord: ours with our kind of process, the rest left alone."""

    def __init__(
        self,
        supervisord: Any,
        *,
        conf_d: Path,
        service: str,
        push: Callable[[Mapping[str, object]], None],
        sockets: HeldSockets,
        throttles: Callable[[str], Throttle],
        attention: Attention,
    ) -> None:
        """Work on supervisord.

        Args:
            supervisord: The ``supervisor.supervisord.Supervisor``.
            conf_d: The directory of the program configs.
            service: The program that is the API itself; may be empty.
            push: Told every change of a state.
            sockets: Those that processes are given.
            throttles: Makes what holds up a run of a program that floods its log.
            attention: Knows which processes something may be due for.
        """
        self._supervisord = supervisord
        self._options = supervisord.options
        self._conf_d = conf_d
        self._service = service
        self._push = push
        self._sockets = sockets
        self._throttles = throttles
        self._attention = attention

    def adopt_all(self) -> None:
        """Make anew every group that is ours and was there before us; nothing runs yet."""
        for name in list(self._supervisord.process_groups):
            self.adopt(name)

    def adopt(self, name: str) -> None:
        """Make a group anew if it is ours and of supervisord's own kind, as after a reread."""
        group = self._supervisord.process_groups[name]
        if not self._is_ours(name) or self.find(name) or list(group.processes) != [name]:
            return
        stock = group.processes[name].config
        keys = (*ProcessConfig.req_param_names, *ProcessConfig.optional_param_names)
        config = self._make_config(self._options, **{key: getattr(stock, key) for key in keys})
        ours = ProcessGroupConfig(self._options, name, group.config.priority, [config])
        self._supervisord.process_groups[name] = ours.make_group()
        self._list(ours)

    def put(self, name: str, policy: RestartPolicy) -> str:
        """Make supervisord know a program as its file in conf.d says.

        Returns:
            What was done: added, replaced, or updated (nothing but the restart policy).

        Raises:
            RPCError: The file is broken, or differs from the config of a program that runs.
        """
        text = self._read(name)
        present = self.find(name)
        if present is not None and present.config.text == text:
            present.restarts.policy = policy
            return "updated"
        config = self.parse(name, text)
        if present is not None and self._says_the_same(present, config):
            present.config.text = text
            present.config.autorestart = config.autorestart
            present.config.startretries = config.startretries
            present.restarts.policy = policy
            self._list(present.group.config)
            return "updated"
        is_known = name in self._supervisord.process_groups
        self.remove(name)
        group = ProcessGroupConfig(self._options, name, config.priority, [config])
        self._list(group)
        self._supervisord.add_process_group(group)
        self._supervisord.process_groups[name].processes[name].restarts.policy = policy
        return "replaced" if is_known else "added"

    def remove(self, name: str) -> None:
        """Forget a program, if it is known.

        Raises:
            RPCError: It is running, or about to.
        """
        is_known = name in self._supervisord.process_groups
        if is_known and not self._supervisord.remove_process_group(name):
            raise RPCError(Faults.STILL_RUNNING, name)
        self._options.process_group_configs[:] = [
            config for config in self._options.process_group_configs if config.name != name
        ]

    def parse(self, name: str, text: str) -> AgentConfig:
        """Parse a program config without doing anything about it.

        Raises:
            RPCError: It is broken.
        """
        try:
            config: AgentConfig = program_configs.parse_program(
                name, text, self._options, config_class=self._make_config, here=self._conf_d
            )
        except ProgramConfigError as error:
            raise RPCError(Faults.CANT_REREAD, str(error)) from error
        # as a reread would: else it would find a difference
        shared = self._options.configroot.supervisord.environment
        config.environment = {**shared, **config.environment}
        config.text = text
        return config

    def find(self, name: str) -> AgentProcess | None:
        """Give the process of a program that is ours, or None."""
        group = self._supervisord.process_groups.get(name)
        process = group and group.processes.get(name)
        return process if isinstance(process, AgentProcess) else None

    def processes(self) -> Iterator[AgentProcess]:
        """Give every process that is ours."""
        for group in self._supervisord.process_groups.values():
            for process in group.processes.values():
                if isinstance(process, AgentProcess):
                    yield process

    def awaited_addresses(self) -> set[Address]:
        """Give the held sockets that a process accepts from, or soon will."""
        awaited = (process.awaited_address() for process in self.processes())
        return {address for address in awaited if address is not None}

    def seconds_until_due(self) -> float | None:
        """Tell when the first of our processes has something to do; None: not foreseeable."""
        due = (process.seconds_until_due() for process in self._attention.awake)
        return min((seconds for seconds in due if seconds is not None), default=None)

    def _read(self, name: str) -> str:
        if agent_of_program(name) is None:  # it becomes a path
            raise RPCError(Faults.BAD_NAME, name)
        try:
            return (self._conf_d / f"{name}.conf").read_text()
        except (OSError, UnicodeError) as error:
            raise RPCError(Faults.CANT_REREAD, f"cannot read {name}.conf: {error}") from error

    def _list(self, group: ProcessGroupConfig) -> None:
        """Put a config where supervisord keeps them, so that a reread finds no difference."""
        configs = self._options.process_group_configs
        configs[:] = sorted([*(c for c in configs if c.name != group.name), group])

    def _is_ours(self, name: str) -> bool:
        is_agent = agent_of_program(name) and (self._conf_d / f"{name}.conf").is_file()
        return name == self._service or bool(is_agent)

    def _says_the_same(self, process: AgentProcess, config: AgentConfig) -> bool:
        return not program_configs.differences(process.config, config).keys() - _RESTART_KEYS

    def _make_config(self, options: Any, **parameters: Any) -> AgentConfig:
        return AgentConfig(
            options,
            restarts=self._restarts,
            push=self._push,
            sockets=self._sockets,
            throttles=self._throttles,
            attention=self._attention,
            **parameters,
        )

    def _restarts(self, config: AgentConfig) -> Restarts:
        """Read a restart policy out of a config, as far as it says; the rest comes with `put`."""
        if config.name == self._service:
            return ServiceRestarts(RestartPolicy())
        is_endless = config.startretries >= program_configs.ENDLESS_RETRIES
        return Restarts(
            RestartPolicy(
                enabled=bool(config.autorestart),
                max_restarts=None if is_endless else config.startretries,
            )
        )


class Everything:
    """All groups at once, in the place of one, where supervisord stops group after group."""

    def __init__(self, supervisord: Any) -> None:
        """Stand for every group of supervisord."""
        self._groups = supervisord.process_groups.values()

    def stop_all(self) -> None:
        """Ask every process to stop; called at each turn, so that a late starter is met too."""
        for group in self._groups:
            try:
                group.stop_all()
            except Exception as error:  # noqa: BLE001 - it would end supervisord, and orphan the rest
                sentence = f"agents: cannot stop {group}: {error!r}"
                group.config.options.logger.critical(sentence)

    def get_unstopped_processes(self) -> list[Any]:
        """Give every process that has not stopped yet."""
        return [process for group in self._groups for process in group.get_unstopped_processes()]
