"""Facts and status: output recorded from real machines -> values."""

from __future__ import annotations

from haplane.observe.facts import parse

RECORDED = """\
interface\teth0
vip\teth0
open_files\t20000
memory\t25276100608
hostname\tcp1
system\tdebian 13 x86_64
sha256\tabc\t/etc/haproxy/haproxy.cfg
sha256\t123\t/etc/fstab
stat\t644\t2026-01-01 12:00 by root\t/etc/haproxy/haproxy.cfg
stat\t600\t2026-01-01 12:00 by root\t/etc/fstab
written\tdef\t/etc/haproxy/haproxy.cfg
loaded\thaproxy\t0123456789abcdef
unit\thaproxy.service\tenabled\tactive
unit\tkubelet.service\t\tinactive
package\tkeepalived
bundle\t1.35.4-amd64-a7fbef629f78
membership\tdone name=lab endpoint=10.77.0.100:8443
etcd_data\tyes
kubelet\tyes
authority\tLS0tCg==
job\thaplane-job-kubeadm.service
"""


def test_facts_are_read() -> None:
    facts = parse(RECORDED)
    assert facts.measured.interface == "eth0"
    assert facts.measured.open_files == 20000
    found = facts.files["/etc/haproxy/haproxy.cfg"]
    assert (found.sha256, found.mode, found.changed) == ("abc", "644", "2026-01-01 12:00 by root")
    assert (found.written, found.is_foreign) == ("def", True)
    assert facts.files["/etc/fstab"].written == ""
    assert facts.loaded == {"haproxy": "0123456789abcdef"}
    assert facts.units["kubelet.service"] == ("", "inactive")
    assert facts.packages == {"keepalived"}
    assert facts.membership.startswith("done name=lab")
    assert facts.authority == "---\n"
    assert facts.jobs == ("haplane-job-kubeadm.service",)
    assert facts.holds_vip


def test_nothing_at_all_is_an_empty_machine() -> None:
    facts = parse("interface\t\nvip\t\nopen_files\tunlimited\n")
    assert facts.measured.interface == "eth0"
    assert not facts.holds_vip
    assert facts.membership == ""
    assert not facts.has_etcd_data
