"""A stand-in for a device's adbd that the real `adb` client connects to: CNXN, OPEN, WRTE, OKAY, CLSE; shell v2; sync.

It runs commands with this machine's shell, in a folder that plays the device's. So it shows that files, exit codes,
stdin and stdout pass the real client; it has no bionic, no app sandbox and no SELinux, and says nothing of a phone.

    python adb_device.py PORT HOME [silent | unauthorized | full]

Source: AOSP packages/modules/adb, protocol.txt, shell_service and SYNC.TXT.
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
from pathlib import Path

VERSION, MOST = 0x01000001, 1 << 18
BANNER = b"device::ro.product.name=standin;ro.product.model=standin;ro.product.device=standin;features=shell_v2,cmd"
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)


class Stream:
    """One opened service; what goes out waits until the other side has taken what went before."""

    def __init__(self, device: Device, own: int, other: int) -> None:
        self.device, self.own, self.other = device, own, other
        self.inbox: asyncio.Queue[bytes] = asyncio.Queue()  # an empty one: the other side closed it
        self.taken = asyncio.Event()
        self._turn = asyncio.Lock()
        self._rest = b""

    async def say(self, content: bytes) -> None:
        async with self._turn:
            for start in range(0, len(content), MOST):
                self.taken.clear()
                await self.device.say(b"WRTE", self.own, self.other, content[start : start + MOST])
                await self.taken.wait()

    async def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            block = await self.inbox.get()
            if not block:
                raise EOFError
            self._rest += block
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    async def close(self) -> None:
        self.device.streams.pop(self.own, None)
        await self.device.say(b"CLSE", self.own, self.other)


class Device:
    """One connection of an adb server."""

    def __init__(self, home: Path, mode: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.home, self.mode, self.reader, self.writer = home, mode, reader, writer
        self.streams: dict[int, Stream] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    async def say(self, command: bytes, first: int, second: int, content: bytes = b"") -> None:
        number = int.from_bytes(command, "little")
        head = (number, first, second, len(content), sum(content) & 0xFFFFFFFF, number ^ 0xFFFFFFFF)
        self.writer.write(struct.pack("<6I", *head) + content)
        await self.writer.drain()

    async def serve(self) -> None:
        try:
            while True:
                number, first, second, size, _, _ = struct.unpack("<6I", await self.reader.readexactly(24))
                await self.take(number.to_bytes(4, "little"), first, second, await self.reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            for stream in list(self.streams.values()):
                stream.inbox.put_nowait(b"")

    async def take(self, command: bytes, first: int, second: int, content: bytes) -> None:
        if command in (b"CNXN", b"AUTH"):
            if self.mode == "unauthorized":
                await self.say(b"AUTH", 1, 0, bytes(20))
            elif self.mode != "silent":
                await self.say(b"CNXN", VERSION, MOST, BANNER)
        elif command == b"OPEN":
            stream = Stream(self, len(self.tasks) + 1, first)
            self.streams[stream.own] = stream
            service = sync(stream) if content.startswith(b"sync:") else shell(stream, content.rstrip(b"\0").decode())
            self.tasks.add(asyncio.create_task(service))
            await self.say(b"OKAY", stream.own, first)
        elif second in self.streams:
            stream = self.streams[second]
            if command == b"OKAY":
                stream.taken.set()
            elif command == b"WRTE":
                stream.inbox.put_nowait(content)
                await self.say(b"OKAY", second, first)
            elif command == b"CLSE":
                stream.inbox.put_nowait(b"")


async def shell(stream: Stream, service: str) -> None:
    """`shell,v2,raw:COMMAND`: packets of a kind, a length and bytes, both ways."""
    pipe, home = asyncio.subprocess.PIPE, stream.device.home
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", service.partition(":")[2], cwd=home, env={**os.environ, "HOME": str(home)},
        stdin=pipe, stdout=pipe, stderr=pipe,
    )  # fmt: skip

    async def pour(source: asyncio.StreamReader | None, kind: int) -> None:
        while source is not None and (block := await source.read(1 << 15)):
            await stream.say(struct.pack("<BI", kind, len(block)) + block)

    feeding = asyncio.create_task(feed(stream, process))
    await asyncio.gather(pour(process.stdout, STDOUT), pour(process.stderr, STDERR))
    code = await process.wait()
    await stream.say(struct.pack("<BIB", EXIT, 1, code if code >= 0 else 128 - code))
    feeding.cancel()
    await stream.close()


async def feed(stream: Stream, process: asyncio.subprocess.Process) -> None:
    """Give the process what comes for its stdin, until the other side ends it."""
    assert process.stdin is not None
    try:
        while True:
            kind, size = struct.unpack("<BI", await stream.read(5))
            content = await stream.read(size)
            if kind == STDIN:
                process.stdin.write(content)
                await process.stdin.drain()
            elif kind == CLOSE_STDIN:
                break
    except (EOFError, ConnectionError):
        pass
    process.stdin.close()


async def sync(stream: Stream) -> None:
    """`sync:` as `adb push` speaks it: STAT, SEND, DATA, DONE, QUIT."""
    while True:
        try:
            kind, size = struct.unpack("<4sI", await stream.read(8))
            name = (await stream.read(size)).decode() if kind != b"QUIT" else ""
        except EOFError:
            return
        path = stream.device.home / name.rpartition(",")[0] if kind == b"SEND" else stream.device.home / name
        if kind == b"STAT":
            found = path.stat() if path.exists() else None
            mode, length = (found.st_mode, found.st_size) if found else (0, 0)
            await stream.say(b"STAT" + struct.pack("<3I", mode, length, 0))
        elif kind == b"SEND":
            await receive(stream, path)
        else:
            await stream.close()
            return


async def receive(stream: Stream, path: Path) -> None:
    """Blocks of a file until DONE."""
    problem = "No space left on device" if stream.device.mode == "full" else ""
    with path.open("wb") as file:
        while (head := struct.unpack("<4sI", await stream.read(8)))[0] == b"DATA":
            block = await stream.read(head[1])
            if not problem:
                file.write(block)
    words = problem.encode()
    await stream.say(b"FAIL" + struct.pack("<I", len(words)) + words if words else b"OKAY" + bytes(4))


async def main(port: int, home: Path, mode: str) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Device(home, mode, reader, writer).serve()

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), (sys.argv[3:] or ["fine"])[0]))
