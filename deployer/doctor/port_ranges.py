"""Addresses: the API's own, the agents' range, and whether sockets can be had at all."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

import psutil

from deployer import ports
from deployer.doctor.findings import Finding, fail, ok, warn
from deployer.doctor.patients import Patient
from deployer.state_dir import MARKER, StateDir

_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_SHOWN: Final = 5


def examine_sockets(patient: Patient) -> Finding:
    """Listen once on a Unix socket, and where agents are to listen."""
    host = patient.settings.bind_address
    with socket.socket(socket.AF_UNIX) as probe:
        probe.bind(str(patient.scratch / "s"))
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.bind((host, 0))
            probe.listen(1)
    except OSError as error:
        hint = "set agent_bind to an address of this machine"
        return fail("sockets", f"agents cannot listen on {host}: {error.strerror}", hint)
    return ok("sockets", f"Unix sockets, and TCP on {host}")


def examine_api_address(patient: Patient) -> Finding:
    """See that the API's address is free, or its own server's."""
    settings = patient.settings
    if settings.api_socket is not None:
        parent = settings.api_socket.parent
        if parent.is_dir():
            return ok("api address", f"unix:{settings.api_socket}")
        return fail("api address", f"{parent} is not there", "make it, or choose another --host")
    port = settings.api_port
    holder = ports.describe_holder(port)
    if patient.is_running:
        return ok("api address", f"port {port} is held by {holder or 'its server'}")
    if ports.can_bind(port):
        return ok("api address", f"port {port} is free")
    hint = "end that program, or choose another --api-port"
    return fail("api address", f"port {port} is held by {holder or 'somebody unknown'}", hint)


def examine_ports(patient: Patient) -> Finding:
    """See who listens within the agents' range, beside agents of this server."""
    span = patient.settings.agent_ports
    taken = sorted(ports.taken(span))
    foreign = [port for port in taken if not _is_ours(port, patient.state)]
    shown = f"{span[0]}-{span[-1]}"
    held = "; ".join(
        f"{port} is held by {ports.describe_holder(port)}" for port in foreign[:_SHOWN]
    )
    if len(foreign) > _SHOWN:
        held += f" and {len(foreign) - _SHOWN} more"
    if len(foreign) == len(span):
        return fail("ports", f"none of {shown} is free: {held}", "choose another agent_base_port")
    if foreign:
        hint = "agents are given others; end those programs, or choose another agent_base_port"
        return warn("ports", f"{len(foreign)} of {shown} are not free: {held}", hint)
    if (ephemeral := _ephemeral_ports()) and span[-1] >= ephemeral[0] and span[0] <= ephemeral[-1]:
        hint = "choose an agent_base_port below, or any connection may take an agent's port"
        detail = f"{shown} meets the ports for outgoing connections, {ephemeral[0]}-{ephemeral[-1]}"
        return warn("ports", detail, hint)
    used = f", {len(taken)} by agents of this server" if taken else ""
    return ok("ports", f"{shown}: {len(span) - len(taken)} free{used}")


def _is_ours(port: int, state: StateDir) -> bool:
    holder = ports.holder_of(port)
    if holder is None:
        return False
    if holder.pid is None:  # root without CAP_SYS_PTRACE sees no more than its user
        return holder.user in {str(path.lstat().st_uid) for path in state.agents.glob("*/data")}
    try:
        return psutil.Process(holder.pid).environ().get(MARKER) == str(state.root)
    except psutil.Error:
        return False


def _ephemeral_ports() -> range | None:
    try:
        first, last = map(int, _EPHEMERAL.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return None
    return range(first, last + 1)
