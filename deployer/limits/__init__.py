"""What agents may use of the machine, and how they are held to it.

Mechanisms are tried at the start of a server, by doing, and what works is kept: control groups
where the kernel and our rights allow them, else resource limits and the watchdog. Groups are made
by the launcher, one for each run of a program, so that a start needs nobody but supervisord and
each run has counters of its own; they are removed here once the run is over, with whatever is left
in them.

Nothing is imported here: supervisord's plugin needs `deployer.limits.groups` alone.
"""
