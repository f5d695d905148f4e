"""What ssh's messages mean, and what to do next. Its exit code 255 alone says only that the line failed."""

from __future__ import annotations

import re

BROKEN = 255  # ssh's exit code for everything that is not the command's own

# The first that fits counts. {host} is the board, {entry} its name in known_hosts, {hand} what a person types.
_REASONS = (
    ("IDENTIFICATION HAS CHANGED", "its host key CHANGED: another machine answers under this name, or the board was "
     "set up anew; compare the fingerprint on the board, then: ssh-keygen -R '{entry}'"),
    ("Host key verification failed", "its host key is not known; compare the fingerprint once by hand: {hand}"),
    ("UNPROTECTED PRIVATE KEY", "others may read the private key, so ssh does not use it; run: chmod 600 on its file"),
    ("Too many authentication failures", "it refuses to try more keys; set identity in the profile"),
    ("Permission denied", "permission denied, no key is accepted; run: ssh-copy-id {host}, or set identity"),
    ("Connection refused", "connection refused; see that its SSH server runs and that the port is right: {hand}"),
    ("Could not resolve", "no such name on this network; see the host in the profile"),
    ("No route to host", "no route to it; see that it is on and in this network"),
    ("Network is unreachable", "no network; see this machine's connection"),
    ("Bad configuration option", "ssh does not take its configuration: {said}"),
    ("Can't open user config file", "ssh does not find its configuration: {said}"),
    ("banner exchange", "something listens there but does not speak; see that the port is that of its SSH server"),
    ("timed out", "it does not answer; see that it is on and in this network"),
)  # fmt: skip
_LOST = ("closed", "reset", "Broken pipe", "not responding", "terminated", "disconnect", "read header failed")


def reason(said: str, host: str, hand: str) -> str:
    """The cause of a failed ssh and the next step.

    >>> reason("ssh: connect to host pi port 22: Connection refused", "pi", "ssh pi")
    'pi: connection refused; see that its SSH server runs and that the port is right: ssh pi'
    >>> reason("kex_exchange_identification: Connection closed by remote host", "pi", "ssh pi")
    'pi: the connection was lost; see that the board is up, then run the same command again'
    """
    said = " ".join(said.split())
    changed = re.search(r"Host key for (\S+) has changed", said)
    entry = changed[1] if changed else host.rpartition("@")[2]
    for sign, words in _REASONS:
        if sign in said:
            return f"{host}: " + words.format(host=host, hand=hand, entry=entry, said=said[-200:])
    if not said or any(sign in said for sign in _LOST):
        return f"{host}: the connection was lost; see that the board is up, then run the same command again"
    return f"{host}: ssh failed ({said[-300:]}); try it by hand: {hand}"
