"""The program: what `python3 prober.pyz CONFIG_JSON` does."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import ssl
import sys
from collections.abc import Sequence

from .config import Config, ConfigError, read_config
from .schedule import Prober
from .services import Service, ServiceError, look_up_all, services_of
from .streams import Output, read_token, tls_context, watch_stdin


async def run(config: Config, tls: ssl.SSLContext, token: str, services: Sequence[tuple[Service, str]]) -> int:
    """Probe with stdin and stdout; returns the exit code (1: not all could be written)."""
    loop = asyncio.get_running_loop()
    output = Output(1, lambda reason: prober.stop(reason))
    prober = Prober(config, tls, output.line, token, services)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, prober.stop, number.name.lower())
    watch_stdin(output, prober.stop)
    flushing = asyncio.create_task(output.flush_for_ever())
    await prober.run()
    flushing.cancel()
    return 0 if output.close() else 1


def main(arguments: list[str]) -> int:
    try:
        if len(arguments) != 1:
            raise ConfigError("usage: prober.pyz CONFIG_JSON")
        config = read_config(arguments[0])
        tls = tls_context(config.ca_file)
        token = read_token(config.token_file) if config.token_file else ""
        services = look_up_all(services_of(config.services))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except ServiceError as error:
        print(f"{error.url} cannot be asked: {error}", file=sys.stderr)
        return 2
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    anew = [config.rate, config.write_rate, config.register_rate, config.get_rate]
    anew += [config.service_rate] * len(services)
    most = sum(map(config.in_flight, anew)) + config.idle_connections + config.watches
    wanted = 1024 + 2 * most
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return asyncio.run(run(config, tls, token, services))
