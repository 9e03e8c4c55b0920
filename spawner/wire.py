"""The format of the messages between spawner, preloader and clients: one JSON object per datagram. Runs as root.

Both RUN/spawner.sock and the preloader's socketpair are SOCK_SEQPACKET sockets (unix(7)): the kernel keeps the
boundaries of messages, and reports a message that was too long. A malformed message ends its sender's connection.
"""

import json
import os
import socket
import struct
from typing import Any

MAX_MESSAGE_BYTES = 64 * 1024

_CREDENTIALS = struct.Struct("3i")

Message = dict[str, Any]


class Malformed(Exception):
    """A message that does not have the required format."""


def peer_uid(connection: socket.socket) -> int:
    """Return the uid of the peer, which the kernel recorded when it connected (SO_PEERCRED, unix(7))."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, _gid = _CREDENTIALS.unpack(raw)
    return int(uid)


def send(channel: socket.socket, message: Message, descriptors: tuple[int, ...] = ()) -> None:
    """Send one message with file descriptors. Raises OSError, and Malformed when the message is too long."""
    payload = json.dumps(message).encode()
    if len(payload) > MAX_MESSAGE_BYTES:
        raise Malformed(f"a message of {len(payload)} bytes is longer than {MAX_MESSAGE_BYTES}")
    socket.send_fds(channel, [payload], list(descriptors))


def receive(channel: socket.socket, descriptors: int = 0) -> tuple[Message, list[int]] | None:
    """Return one message and its file descriptors; None if the peer has closed the connection.

    ``descriptors`` is the maximum number of file descriptors. The kernel closes further ones and sets MSG_CTRUNC. The
    descriptors of a malformed message are closed. Raises OSError and Malformed.
    """
    payload, received, flags, _ = socket.recv_fds(channel, MAX_MESSAGE_BYTES, descriptors)
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
    """Return the JSON object of a datagram. Raises Malformed."""
    if flags & socket.MSG_TRUNC:
        raise Malformed(f"the message is longer than {MAX_MESSAGE_BYTES} bytes")
    if flags & socket.MSG_CTRUNC:
        raise Malformed("the message has too many file descriptors")
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise Malformed("the message is not JSON") from error
    if not isinstance(message, dict):
        raise Malformed("the message is not a JSON object")
    return message
