"""How the spawner talks: one JSON object a datagram, on sockets that keep datagrams apart.

Runs as root. Both RUN/spawner.sock and the preloader's socketpair are SOCK_SEQPACKET (unix(7)): the kernel
keeps the frames and tells when one was too long. A peer that breaks the form has ended the conversation.
"""

import json
import os
import socket
import struct
from typing import Any

MESSAGE_SIZE = 64 * 1024  # Greatest length of a message, in bytes.

_CREDENTIALS = struct.Struct("3i")

Message = dict[str, Any]


class Malformed(Exception):
    """The peer sent what is no message of ours."""


def peer_uid(connection: socket.socket) -> int:
    """Who is at the other end of a unix socket, as the kernel noted at connect (SO_PEERCRED, unix(7))."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, _gid = _CREDENTIALS.unpack(raw)
    return int(uid)


def send(channel: socket.socket, message: Message, descriptors: tuple[int, ...] = ()) -> None:
    """Send one message, with descriptors. Raises OSError; Malformed when it is too long."""
    payload = json.dumps(message).encode()
    if len(payload) > MESSAGE_SIZE:
        raise Malformed(f"a message of {len(payload)} bytes")
    socket.send_fds(channel, [payload], list(descriptors))


def receive(channel: socket.socket, descriptors: int = 0) -> tuple[Message, list[int]] | None:
    """One message and its descriptors, at most so many; None when the other end is gone. Raises OSError and Malformed.

    More descriptors than that are never installed here: the kernel closes them and sets MSG_CTRUNC. Of a malformed
    message none stays open.
    """
    payload, received, flags, _ = socket.recv_fds(channel, MESSAGE_SIZE, descriptors)
    message = None
    try:
        if payload:
            message = _parse(payload, flags)
    finally:
        if message is None:
            for descriptor in received:
                os.close(descriptor)
    return None if message is None else (message, received)


def _parse(payload: bytes, flags: int) -> Message:
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise Malformed("a message that is no JSON") from error
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or not isinstance(message, dict):
        raise Malformed("a message that is too long, has descriptors too many, or is no object")
    return message
