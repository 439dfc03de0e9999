"""A real TLS server that can be made to misbehave, and the prober run against it as a subprocess."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import json
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from haplane.probes.packing import packed

Line = dict[str, object]


@dataclass(frozen=True)
class Authority:
    """ca_file holds the CA's certificate; chain_file a server's key and certificate, made by it."""

    ca_file: Path
    chain_file: Path


def make_authority(folder: Path, *, hostname: str = "kubernetes") -> Authority:
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test-ca")])

    def builder(name: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().issuer_name(ca_name).subject_name(name).public_key(public_key)
        made = made.serial_number(x509.random_serial_number())
        return made.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))

    ca = builder(ca_name, ca_key.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    names = x509.SubjectAlternativeName(
        [x509.DNSName(hostname), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))],
    )
    leaf = builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname)]), key.public_key())
    leaf = leaf.add_extension(names, False)
    pem = serialization.Encoding.PEM
    ca_file, chain_file = folder / "ca.crt", folder / "server.pem"
    ca_file.write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain_file.write_bytes(private + leaf.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    return Authority(ca_file, chain_file)


@dataclass
class TlsServer:
    """Answers each GET, and each POST as created. What it does can be changed while it runs.

    resetting: a request is read and its connection reset. created: what was posted, by name; heads: how. bodies: what
    to answer to a GET whose path ends so, in chunks; asked: how, asked_over: from which port.
    """

    authority: Authority
    status: int = 200
    delay_s: float = 0.0
    answering: bool = True
    resetting: bool = False
    cut_after: int | None = None  # bytes of the answer, then the connection is closed
    requests: int = 0
    answered: int = 0
    connections: int = 0
    created: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    bodies: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    asked_over: list[int] = field(default_factory=list)
    port: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.authority.chain_file)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Connections are reset; new ones are refused."""
        if self._server is not None:
            self._server.close()
        self._server = None
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while await self._answer(await reader.readuntil(b"\r\n\r\n"), reader, writer):
                    pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        self.requests += 1
        status = self.status
        if request.startswith(b"POST"):
            self.heads.append(request.decode())
            length = int(request.lower().partition(b"content-length:")[2].split()[0])
            self.created.append(json.loads(await reader.readexactly(length))["metadata"]["name"])
            status = 201 if status == 200 else status
        if self.resetting:
            at_once = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            writer.transport.abort()
            return False
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if not self.answering:
            await asyncio.sleep(3600)
        answer = f"HTTP/1.1 {status} Said\r\nContent-Length: 2\r\n\r\nok".encode()
        path = request.split(b" ")[1].decode()
        for end in (end for end in self.bodies if path.endswith(end)):
            self.asked.append(request.decode())
            self.asked_over.append(writer.get_extra_info("peername")[1])
            answer = f"HTTP/1.1 {status} Said\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            answer += b"".join(chunk(part) for part in halves(self.bodies[end])) + b"0\r\n\r\n"
        writer.write(answer[: self.cut_after])
        await writer.drain()
        self.answered += 1
        return self.cut_after is None and b"Connection: close" not in request


def halves(body: bytes) -> tuple[bytes, bytes]:
    return body[: len(body) // 2], body[len(body) // 2 :]


def chunk(part: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(part), part)


@dataclass
class Running:
    """A prober that runs."""

    process: asyncio.subprocess.Process

    async def lines(self) -> list[Line]:
        """All that it writes, to the end."""
        assert self.process.stdout is not None
        read = await asyncio.wait_for(self.process.stdout.read(), 60)
        await self.process.wait()
        return [json.loads(line) for line in read.splitlines()]

    async def wait_for_a_line(self) -> Line:
        assert self.process.stdout is not None
        line: Line = json.loads(await asyncio.wait_for(self.process.stdout.readline(), 60))
        return line


def program(folder: Path, *arguments: str) -> list[str]:
    """The command that runs the prober as a client machine does, with nothing of haplane to import."""
    file = folder / "prober.pyz"
    file.write_bytes(packed())
    return [sys.executable, "-I", str(file), *arguments]


@contextlib.asynccontextmanager
async def probing(server: TlsServer, **changes: object) -> AsyncIterator[Running]:
    """The prober as a subprocess, asking this server; ended with the block at the latest."""
    values: dict[str, object] = {"address": "127.0.0.1", "port": server.port, "server_hostname": "kubernetes"}
    values |= {"ca_file": str(server.authority.ca_file), "duration_s": 2.0, "timeout_s": 3.0}
    process = await asyncio.create_subprocess_exec(
        *program(server.authority.ca_file.parent, json.dumps(values | changes)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@dataclass
class Proxy:
    """Passes bytes on to a server, until it is silent: then it takes all and passes on nothing, as a dead machine."""

    to: int
    silent: bool = False
    port: int = 0
    _server: asyncio.Server | None = None
    _pumps: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for pump in self._pumps:
            pump.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.to)
        for source, sink in ((reader, back), (there, writer)):
            self._pumps.add(asyncio.create_task(self._pump(source, sink)))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if not self.silent:
                    sink.write(data)
        if not self.silent:
            sink.close()
