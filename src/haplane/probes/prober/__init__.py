"""An open-loop prober: asks on a fixed schedule, whatever happened to earlier requests, and writes down what it saw.

Self-contained (Python 3.11+, standard library, imports nothing of haplane and its own modules by relative names):
`packing` makes one file of it, which is copied to a client machine and run there with `python3 prober.pyz CONFIG_JSON`.
Request i is due at start + i/rate and its latency counts from that moment, so that a stalled server cannot slow the
schedule down and hide its own outage (coordinated omission).

Its probes:
- new: each request is a new TCP and TLS connection. It ends at the latest timeout_s after it was due.
- write: the same, but each request makes a ConfigMap with a name of its own (write_prefix and the request's number).
- service URL: a service of the user's own, asked as new but without TLS unless the URL wants it, service_rate times a
  second and for service_timeout_s at most. A name is looked up once, before the first request. No certificate is
  checked, no redirection followed. http, https: 200 to 399 with a whole body is ok; tcp: a connection that is made.
- persistent: requests one after the other over one connection. When that breaks, or a request gets no answer in time,
  it is closed and made anew at once. A request that had to wait for the connection still counts from when it was due;
  it fails with the attempt it waited for. After a failed attempt the next request makes the next one.
- idle: connections that ask once and then only wait, as a watch does. One that the other end ends is made anew at once,
  and after an attempt that failed with the growing pauses of Kubernetes' own clients. When the schedule has ended,
  each that is still open is asked once more: one that does not answer would have waited for ever.
- set and get: as write and new, but one ConfigMap is a register. set gives it a number that it never had before, get
  reads it. A get begins with each set, and one between two.
- watch: a client that keeps itself informed of the ConfigMaps. It lists them and then watches from the version of that
  list. A watch that ends is resumed at once from the last version seen; one that is refused because that version is
  not kept any more (410) begins with a list again. It never asks whether the other end is still there, as idle.
- lease: reads who holds the leases of the controllers, one after the other over one new connection; and watches each,
  to be told when it is given back.
- kubectl: `kubectl get configmaps --watch-only`, run again whenever it ends: what a person sees of the writes.

Writes one JSON object per line to stdout. Times are CLOCK_MONOTONIC of this machine in seconds; "t" comes first:
- header: version, start (when the first request is due), wall (the wall clock at t), wall_error, config.
- new, service URL, persistent, write, set, get: t is when the request was due; outcome, kind, sent_at (null: never
  sent), end. ok: 200 with a whole body, kind is empty. indeterminate: timed out after it was sent, kind timeout.
  failed: kind is refused, reset, eof, unreachable, tls (handshake refused by either side), tls-timeout or
  connect-timeout (nothing was sent), http-500 and so on, http-malformed; or the prober's own trouble: prober-overloaded
  (too many in flight, or begun too late), prober-emfile and so on.
  begun (all but persistent): when the prober began with it, later than t by its own lateness; absent when it never
  did.
  write has key, the name, set has value, and both other outcomes. ok: 201, or 200 for set. failed: never sent, or
  refused (http-4xx). All else that comes once it was sent is indeterminate, for it may have been stored: a reset, an
  end of file, http-500 and so on. version is the resourceVersion that it was stored with, where the answer says it.
  get that is ok has value and version as they were read; neither when there was no register (404).
- reconnect: an attempt of the persistent probe to connect, begun at t because of cause (start, retry: the attempt
  before failed, closed: the server wished it, timeout, reset, eof ...); outcome, kind, end.
- idle: a connection that was ready to wait at t. kind is how that ended, told_at when: reset, eof and so on (the other
  end told it), alive (asked at the end, it answered) or dark (it did not, within timeout_s).
- listing: a list by a watch, numbered from 0, begun at t because of cause (start, expired, or how the one before
  failed); outcome, kind, end; version: the list's (null: failed); since: the last version seen before (null: none).
- watching: an attempt to watch, begun at t because of cause (listed, or how the one before ended); since: the version
  after which all is wanted; opened: when it was granted (null: never); ended and kind: when and how it ended. closed:
  the server ended the answer. expired: a 410. error-500 and so on: an event said it. stopped: by the schedule's end,
  one second after the last request had its outcome. All else as above.
- watch: what a watch was told at t: kind (ADDED, MODIFIED, DELETED, BOOKMARK), key, version. LISTED: it was not told,
  but found it in a list.
- lease: name; t is when it was due to be read; sent_at, end and kind as above. With an empty kind also what it says:
  holder (empty: given back), acquired and renewed (seconds of the wall clock of the holder's machine), duration_s, and
  transitions. kind malformed: it was answered, and says no such thing.
- given-back: a watch was told at t that the lease name has no holder, after so many transitions.
- kubectl: what is started, line (text: the line) or ended (code: its exit code, text: the last line of its stderr).
- clock: once a second, lag is how late the schedule was at worst since the line before; stalls has each [end, length]
  of more than 20 ms.
- reading: a line that came on stdin is answered at once with the clock, so that others can relate theirs to it.
- end: t is when the schedule ended (the last answers come later), reason, and count of the lines of requests, idle
  connections and watches.

Ends after duration_s, on SIGTERM, SIGINT or SIGHUP, or when stdin closes (a lost SSH connection). A stdin that cannot
close (a file, /dev/null) is not watched. Requests already due are waited for, so the end takes up to timeout_s.
"""

from __future__ import annotations

from .clock import STALL_S
from .config import NAMESPACE, OPEN_TO_ALL, PAGE, PART, PARTS, Config, ConfigError, cached_read, config_from, configmaps
from .kubectl import ENDED, LINE, STARTED
from .leases import LEASES, LEASES_NAMESPACE
from .schedule import VERSION
from .services import Service, ServiceError, service_probe, services_of
from .staying import ALIVE, DARK

__all__ = [
    "ALIVE",
    "DARK",
    "ENDED",
    "LEASES",
    "LEASES_NAMESPACE",
    "LINE",
    "NAMESPACE",
    "OPEN_TO_ALL",
    "PAGE",
    "PART",
    "PARTS",
    "STALL_S",
    "STARTED",
    "VERSION",
    "Config",
    "ConfigError",
    "Service",
    "ServiceError",
    "cached_read",
    "config_from",
    "configmaps",
    "service_probe",
    "services_of",
]
