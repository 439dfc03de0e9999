"""Every hazard that is known, whoever looks for it: its condition, consequence, cure, and where that is known from.

A threshold without a source is one that haplane chose. Sources: ka = acassen/keepalived, conf(5) = keepalived.conf(5),
HAProxy = its configuration manual, k8s = kubernetes/kubernetes, kadm = kubernetes/kubeadm, measured =
docs/measurements.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from haplane.design.hazards.finding import Hazard, Moment

_MOMENTS = {"L": Moment.LINT, "P": Moment.PREFLIGHT, "S": Moment.STATUS}


def _known(id: str, moments: str, condition: str, goes_wrong: str, cure: str, source: str = "") -> Hazard:
    """moments: letters of _MOMENTS."""
    return Hazard(id, frozenset(_MOMENTS[letter] for letter in moments), condition, goes_wrong, cure, source)


_FILE = (
    _known(
        "accept-unknown",
        "L",
        "The file accepts a hazard that does not exist.",
        "The hazard that was meant is not accepted, and stops an apply if it is an error.",
        "Write the id as `haplane hazards` prints it.",
    ),
    _known(
        "accept-unused",
        "L",
        "The file accepts a hazard that it does not have.",
        "Should the hazard come with a later change, nobody is told.",
        "Remove the line from accept.",
    ),
)

_TOPOLOGY = (
    _known(
        "topo-too-few-nodes",
        "L",
        "There are fewer than 3 control-plane machines, 3 etcd members or 2 balancers.",
        "Losing one machine stops the API; with two etcd members that is likelier than with one.",
        "Use 3 or 5 control-plane machines and at least 2 balancers, or accept this with the reason that the cluster "
        "need not survive a machine.",
        "kadm#2188, k3s-io/k3s#3723",
    ),
    _known(
        "topo-zone-collapsed",
        "LP",
        "The design promises to survive the loss of a zone, but machines have no zone, etcd has fewer than 3 zones, or "
        "the balancers or apiservers fewer than 2; or machines for the balancers alone are all in one zone; or virtual "
        "machines may share a host without a label that says so.",
        "One failure takes several machines that were thought independent.",
        "Spread the machines over zones, label them, or promise less with failover.survive.",
    ),
    _known(
        "topo-single-provider",
        "LP",
        "All machines depend on one DNS server, default gateway, registry or outer balancer, or on fewer than 4 "
        "sources of time.",
        "The cluster hangs on that one thing.",
        "Add a second one, or accept this with a reason.",
        "RFC 8633 section 3.2 (sources of time)",
    ),
    _known(
        "topo-reboot-storm",
        "P",
        "Two or more control-plane or balancer machines reboot by themselves less than 30 minutes apart, or "
        "containerd, kubelet, haproxy or keepalived are not held back from unattended upgrades.",
        "Quorum is lost, or both balancers restart together.",
        "Hold the packages, and let reboots follow each other.",
        "m-lab/k8s-support#520, kubereboot/kured#563",
    ),
)

_VIP = (
    _known(
        "vip-outside-subnet",
        "LP",
        "A machine that may hold the VIP has no address in the VIP's subnet.",
        "Its neighbours never find out where the VIP is.",
        "Put all machines that share the VIP into one layer 2 subnet, and write its prefix behind the VIP.",
        "kubeadm, ha-considerations",
    ),
    _known(
        "vip-address-conflict",
        "L",
        "The VIP is a machine's address or lies in pods or services, or these overlap each other or the machines' "
        "subnet.",
        "Two machines own one address, or the pod network swallows traffic that was meant for machines.",
        "Use a free address that nothing else hands out, and networks that do not overlap.",
    ),
    _known(
        "vip-already-answered",
        "P",
        "Before anything is built, somebody answers an ARP or neighbour probe for the VIP.",
        "Clients learn a foreign MAC address.",
        "Find the owner of the address (arping -D), or turn proxy ARP off.",
        "RFC 5227 section 2.1",
    ),
    _known(
        "vip-holder-count",
        "S",
        "In two samples half a second apart, not exactly one machine has the VIP, or one has it while its keepalived "
        "is stopped or not MASTER.",
        "None: the API is gone. Two: clients are split by their ARP caches. Left behind: both, for ever.",
        "Let adverts reach all machines again, and delete the address where it was left behind.",
        "ka#1702, ka#2649",
    ),
    _known(
        "vip-holder-isolated",
        "S",
        "The holder of the VIP sends adverts but cannot reach its gateway, or clients cannot reach it, while another "
        "machine could be reached.",
        "The VIP stays on a machine that nobody reaches.",
        "Let keepalived track the gateway or the interface, and drill it.",
    ),
    _known(
        "vip-vrid-collision",
        "LPS",
        "The virtual router id is not 1 to 255, or two VIPs of one family use it on one segment; a stranger's may be "
        "heard there.",
        "keepalived before 2.3.3 ignores the stranger; from 2.3.3 on it obeys, and whoever has the lower priority "
        "loses its VIP.",
        "Choose another endpoint.virtual_router_id.",
        "RFC 9568 section 5.2.3, openshift/installer#2966, oracle-cne/ocne#492",
    ),
    _known(
        "vip-options-conflict",
        "L",
        "VRRP version 2 with a fraction of a second or IPv6; version 3 with an interval that is not 0.01 to 40.95 s in "
        "steps of 10 ms, or with authentication; or vrrp_strict or no_accept.",
        "Intervals are rounded, adverts go without authentication, or packets for the VIP are dropped.",
        "Stay with version 3 without authentication on a segment that is filtered (auth_hmac from keepalived 2.4.0 "
        "on), and remove strict and no_accept.",
        "conf(5), ka#602",
    ),
    _known(
        "vip-advert-below-stall",
        "P",
        "A 10 ms sleep, repeated for a minute, was once late by 2 advert intervals or more.",
        "While the holder stalls, another machine becomes MASTER, too.",
        "Use a longer advert_int, or give keepalived real-time priority.",
        "measured, ka#166",
    ),
    _known(
        "vip-priority-bad",
        "L",
        "A priority is not 1 to 254, two machines have the same, or two are so close that their skew differs by less "
        "than 10 ms.",
        "255 ignores every tracker; equals are told apart by address alone; close backups both claim the VIP and leave "
        "stale ARP entries (3 of 32 runs).",
        "Use steps of 2560 divided by the advert interval in milliseconds, rounded up (26 at 100 ms), within 1 to 254; "
        "an advert interval whose steps do not fit is too short for that many machines.",
        "conf(5), RFC 9568 section 6.1, measured",
    ),
    _known(
        "vip-weight-below-spread",
        "L",
        "A tracker has a weight that does not exceed the spread of the priorities, that takes a priority out of 1 to "
        "254, or that a sync group ignores.",
        "A machine whose check fails still wins, and keeps the VIP.",
        "Leave the weight out: a failed check then means FAULT.",
        "ka#2599, conf(5)",
    ),
    _known(
        "vip-nopreempt-broken",
        "L",
        "nopreempt or preempt_delay together with state MASTER, or nopreempt together with a weight.",
        "In the first case keepalived drops the option; in the second a MASTER whose check fails is never replaced.",
        "Use state BACKUP on all machines and no weights.",
        "ka#2379, ka#2483, ka#2599",
    ),
    _known(
        "vip-failback-outage",
        "L",
        "The endpoint's instance has neither nopreempt nor preempt_delay.",
        "A machine that comes back takes the VIP and causes a second outage.",
        "Keep nopreempt, and move the VIP back when it suits.",
        "openshift/machine-config-operator#4057",
    ),
    _known(
        "vip-check-weak",
        "L",
        "Nothing tracks what the VIP serves, or only that a process exists or a port is open.",
        "A balancer that hangs or is wrongly configured keeps the VIP.",
        "Ask the balancer's own health page over HTTP, on loopback.",
    ),
    _known(
        "vip-check-through-vip",
        "L",
        "A tracker asks the VIP itself, or a name that means it.",
        "Backups test the MASTER instead of themselves: all of them fail at once.",
        "Ask on loopback.",
    ),
    _known(
        "vip-check-shared-fate",
        "L",
        "A tracker without weight succeeds only if an apiserver answers, as it must where nothing balances.",
        "Overload moves the VIP and cuts all clients off; and a new cluster never gets its VIP, because the first "
        "apiserver starts after it.",
        "Track the balancer; it judges the apiservers.",
        "openshift/machine-config-operator#3339 and #3357, kube-vip/kube-vip#1274",
    ),
    _known(
        "vip-check-over-budget",
        "LP",
        "Until a hung balancer is noticed, more time passes than failover.target; or keepalived is older than 2.3.2 "
        "and the interval is a fraction.",
        "The VIP moves later than promised, or the value is not read as it was meant.",
        "Shorten interval, fall or timeout, or relax the target.",
        "keepalived 6f9ace3c",
    ),
    _known(
        "vip-check-disabled",
        "PS",
        "A check script is missing, not executable, below a folder that others than root can write to, or its user "
        "does not exist.",
        "keepalived runs without that check and says so only in its log.",
        "Let root own script and folders, and name an existing script_user.",
        "ka#2184, ka#1372",
    ),
    _known(
        "vip-peer-drift",
        "PS",
        "Version, interval, authentication, addresses or cast differ between the machines of one VIP.",
        "They discard each other's adverts: two MASTERs.",
        "Render all machines from one design, and change BACKUPs first.",
        "keepalived, vrrp.c",
    ),
    _known(
        "vip-unicast-peers",
        "L",
        "With unicast, peers are not exactly all other machines of the VIP, a machine's own source address is missing "
        "or not its own, or the source of adverts is not checked.",
        "Without peers keepalived goes back to multicast; a machine that was forgotten fights for the VIP.",
        "Leave peers and source to haplane, and keep vrrp_check_unicast_src.",
        "conf(5), openshift/machine-config-operator#3342",
    ),
    _known(
        "vip-garp-not-repeated",
        "LS",
        "The MASTER announces the VIP once and never again; or a neighbour has another MAC address for it.",
        "A lost announcement or a short split leaves a stale entry for hours.",
        "Keep vrrp_garp_master_refresh 60 and vrrp_higher_prio_send_advert.",
        "ka#20, ka#166, openshift/machine-config-operator#2782",
    ),
    _known(
        "vip-moves-not-allowed",
        "P",
        "The machines are a cloud's, or a third machine did not follow the VIP from one machine to another within 3 s.",
        "The failover happens in the logs only.",
        "Allow the address pair, use the cloud's own API, or an external balancer.",
        "cloudfoundry/bosh-openstack-cpi-release#98",
    ),
    _known(
        "vip-family-mix",
        "L",
        "The pods have IPv4 and IPv6 and the endpoint has one of them; or one VRRP instance has both.",
        "Clients of the second family do not reach the API.",
        "Give the endpoint a VIP of each family.",
        "conf(5)",
    ),
    _known(
        "vip-unit-order",
        "P",
        "keepalived's unit is not ordered after the network and the balancer, nothing waits for the network, or it "
        "does not run under systemd.",
        "At boot: FAULT or two MASTERs. At shutdown: killed before it could resign.",
        "Use haplane's drop-in, enable a wait-online unit, and keep the startup delay.",
        "ka#2237, ka#1143, openshift/machine-config-operator#6402",
    ),
    _known(
        "vip-chosen-as-node-ip",
        "LS",
        "kubelet or kubeadm choose the node's address themselves, or an address of a node or etcd member is the VIP.",
        "Pods or etcd break when the VIP moves.",
        "Pin node-ip and advertiseAddress to the machine's own address; the VIP stays a /32.",
        "projectcalico/calico#5094 and #6711, kadm#2614",
    ),
)

_BALANCER = (
    _known(
        "lb-port-clash",
        "LP",
        "Two programs on one machine want the same port; a wildcard address overlaps all others. Or the endpoint's "
        "port is one that services of type NodePort may get.",
        "The second cannot start; kubeadm init stops at port 6443.",
        "Use another port for the endpoint where it shares machines with apiservers (8443).",
        "kadm#2472, kadm#2935",
    ),
    _known(
        "lb-nonlocal-bind",
        "LP",
        "HAProxy binds to the VIP itself, without `transparent` and without the sysctl ip_nonlocal_bind.",
        "It does not start on machines that do not hold the VIP, so that none of them can take over.",
        "Bind to a wildcard address.",
        "HAProxy `transparent`, kernel ip-sysctl",
    ),
    _known(
        "lb-idle-timeout",
        "L",
        "The API's frontend is not in mode tcp, or ends connections that are idle for less than an hour.",
        "kubectl exec, logs --follow and quiet watches are cut off.",
        "Use mode tcp, timeout tunnel 24h, and the same for client and server.",
        "kadm#2227, kadm#1685, k8s#66661",
    ),
    _known(
        "lb-check-shallow",
        "L",
        "Apiservers are not checked, or only by connecting or by asking /healthz or /livez; nginx notices only that a "
        "connection cannot be made.",
        "An apiserver that is dead or about to stop still gets clients.",
        "GET /readyz and expect 200.",
        "k8s#74416, k8s#88911, openshift/installer#1421",
    ),
    _known(
        "lb-check-unauthorized",
        "PS",
        "Asked for /readyz without credentials, an apiserver answers 401 or 403.",
        "All servers are DOWN though they are healthy.",
        "Allow anonymous access to the health paths alone.",
        "k8s#43784, k8s#100581",
    ),
    _known(
        "lb-check-tls-unverified",
        "L",
        "Checks over TLS verify no certificate, or no name in it.",
        "Whatever answers 200 passes, for example another cluster.",
        "Keep ca-file, verify required and verifyhost kubernetes.",
        "HAProxy `verify`, `verifyhost`",
    ),
    _known(
        "lb-check-over-budget",
        "L",
        "The checks that the file asks for take longer to notice a hung apiserver than failover.target, or nginx "
        "balances, which never does; or one failed check is enough, or a check has less than 200 ms.",
        "A hung apiserver is removed late, or healthy ones leave under load.",
        "Use inter 250ms, fastinter 100ms, fall 4, and no timeout check: a check then has 250 ms in all.",
        "HAProxy `inter`, `timeout check`; measured",
    ),
    _known(
        "lb-no-redispatch",
        "L",
        "Not every retry goes to another apiserver (option redispatch 1), or there are no retries; of nginx, "
        "proxy_next_upstream is off or allows one try.",
        "Retries go to the dead server: a stall of 3.00 s.",
        "Keep option redispatch 1 and retries 3.",
        "HAProxy `option redispatch`, measured",
    ),
    _known(
        "lb-dead-sessions-kept",
        "L",
        "Sessions are not ended when their apiserver is marked down; nginx never does.",
        "Long connections stay on an apiserver that hangs, or that is gone with its machine.",
        "Keep haplane's lua-load, which ends them; of nginx keep proxy_socket_keepalive.",
        "k8s#44557, k8s#48638",
    ),
    _known(
        "lb-connecting-frozen",
        "L",
        "HAProxy itself ends sessions the moment an apiserver is marked down (on-marked-down shutdown-sessions).",
        "Connections that are being made to it at that moment are not tried elsewhere: they fail, or (before 3.2) stay "
        "open and silent until the client gives up.",
        "Leave on-marked-down out; haplane ends sessions a moment later.",
        "HAProxy 51611a5b7, measured",
    ),
    _known(
        "lb-no-slow-start",
        "L",
        "Whoever has the fewest connections gets the next, and an apiserver that comes back is not spared: HAProxy "
        "without slowstart, or nginx, which has none.",
        "It gets all new connections at once, while its caches are empty, and may fall over again.",
        "Keep HAProxy's slowstart.",
    ),
    _known(
        "lb-clients-not-told",
        "L",
        "The VIP moves between machines, and nobody knows who is connected through another one: balancer.by is nginx "
        "or none.",
        "Clients that only wait learn that their connection is gone from their own timers: kubelets after 45 s, others "
        "perhaps never.",
        "Let HAProxy balance, or say with failover.tell_clients: false that clients may find out themselves.",
        "measured",
    ),
    _known(
        "lb-one-apiserver",
        "L",
        "There are several apiservers and no balancer: balancer.by is none.",
        "One apiserver carries all clients while the others idle; when it dies or hangs all wait for the VIP to move.",
        "Let HAProxy balance.",
        "measured",
    ),
    _known(
        "lb-maxconn",
        "LP",
        "maxconn is not set or is less than 10 for each machine and 500, or nginx's worker_connections less than twice "
        "that; or the descriptors or the memory for it are "
        "missing.",
        "When everybody reconnects at once the balancer stops accepting, or the memory runs out.",
        "State maxconn, and give the unit twice as many descriptors.",
        "docker-library/haproxy#194, haproxy/haproxy#2621",
    ),
    _known(
        "lb-stats-exposed",
        "L",
        "The stats socket listens on TCP off loopback, or others than its owner and group have its admin level; or the "
        "stats page is open to the network without a password.",
        "Anybody can take servers out of the balancer.",
        "Use a UNIX socket with mode 600.",
        "HAProxy `stats socket`",
    ),
    _known(
        "lb-external-hairpin",
        "PS",
        "The endpoint is an external load balancer's, and it does not answer a machine, or connections from a machine "
        "hang when it picks the caller.",
        "kubelet and join hang, always or now and then.",
        "Turn the preservation of client addresses off, open the way to it, and let kubelets use their local "
        "apiserver.",
        "k8s#122782, kadm#1685",
    ),
    _known(
        "lb-membership-drift",
        "S",
        "For more than a minute the design's control-plane machines, servers that are UP, the endpoints of the service "
        "kubernetes, Ready nodes and etcd members differ; or the VIP's holder sees fewer servers UP than another "
        "balancer.",
        "Traffic goes to machines that are gone, or healthy ones idle.",
        "Reconcile them, or move the VIP.",
        "kadm#1300",
    ),
)

_SERVICES = (
    _known(
        "svc-one-server",
        "L",
        "A service has fewer than two servers that are no backups, or all in one zone.",
        "The balancer is highly available, the service is not.",
        "Add a server.",
    ),
    _known(
        "svc-algorithm-argument",
        "L",
        "url_param or hdr without a name; uri, url_param, hdr or a session cookie for a TCP service; rdp-cookie for an "
        "HTTP one.",
        "HAProxy refuses it, or silently balances in another way.",
        "Name the argument, and use an algorithm that fits the protocol.",
        "HAProxy `balance`",
    ),
    _known(
        "svc-check-protocol",
        "LP",
        "An HTTP check asks a server that speaks no HTTP or a port that nobody serves; or a healthy server fails it.",
        "The service is DOWN from the start.",
        "Use a check that the server understands.",
        "HAProxy `option httpchk`",
    ),
    _known(
        "svc-certificate",
        "PS",
        "A service's key is missing or does not match, its certificate lacks a host, its chain is incomplete, or less "
        "than 30 days are left (an error below 7).",
        "The reload is refused, or clients refuse.",
        "Renew it on all balancers.",
    ),
    _known(
        "svc-cookie-attributes",
        "L",
        "A session cookie lacks insert, indirect, nocache, httponly, secure with TLS, a maximal age, or a value for "
        "each server.",
        "Shared caches pin users to one server, the cookie leaks, or drains never end.",
        "Use the full set.",
        "HAProxy `cookie`",
    ),
    _known(
        "svc-stick-table-local",
        "L",
        "A stick table is not replicated between two or more balancers.",
        "Sessions are lost when the VIP moves.",
        "Add peers.",
        "HAProxy `peers`",
    ),
    _known(
        "svc-lvs-dr-arp",
        "LP",
        "A server of LVS direct routing answers ARP for the VIP: arp_ignore below 1, arp_announce below 2, or the VIP "
        "is not a /32 on lo.",
        "It steals the VIP.",
        "Set the sysctls before the VIP is added.",
        "kernel ip-sysctl, ka#1876",
    ),
    _known(
        "svc-lvs-vs-kube-proxy",
        "L",
        "LVS runs on a node whose kube-proxy is in mode ipvs.",
        "kube-proxy deletes its rules.",
        "Use another mode of kube-proxy, or HAProxy.",
        "k8s#59507, k8s#134147, kubernetes-sigs/kube-proxy#6",
    ),
)

_ETCD = (
    _known(
        "etcd-even-members",
        "L",
        "etcd has an even number of members, or more than 7.",
        "One more can fail, and no more failures are survived; two members survive none.",
        "Use 3 or 5.",
        "etcd FAQ",
    ),
    _known(
        "etcd-zone-majority",
        "L",
        "A zone whose loss the design promises to survive holds so many etcd members that the others are no majority; "
        "with two zones that is always so. Without such a promise: all members are in one zone.",
        "Losing that zone loses quorum.",
        "Use three zones, or promise less with failover.survive.",
        "etcd FAQ",
    ),
    _known(
        "etcd-timing",
        "LPS",
        "The election timeout is less than 5 heartbeats or 10 round trips, or more than 50 s; a heartbeat is shorter "
        "than the round trip; members differ; or there are 3 changes of the leader in an hour.",
        "Needless elections, each of which stops writes.",
        "On a LAN leave heartbeat and election to haplane (100 ms and 1 s unless measured).",
        "etcd tuning",
    ),
    _known(
        "etcd-slow-disk",
        "PS",
        "99 % of small synchronous writes where etcd's data lies take more than 10 ms (an error above 100 ms), or "
        "backend commits more than 25 ms.",
        "The leader is lost, apiservers restart.",
        "Give etcd an SSD of its own.",
        "etcd FAQ, etcd-io/etcd#13587",
    ),
    _known(
        "etcd-space",
        "S",
        "etcd has an alarm, is above 80 % of its quota, is mostly free space above 100 MB, or its volume is less than "
        "20 % free.",
        "The cluster becomes read-only; defragmenting the leader stops writes.",
        "Compact; defragment one member after the other, the leader last and with the leadership moved away; disarm.",
        "etcd maintenance, gardener/etcd-backup-restore#1052",
    ),
    _known(
        "etcd-backup-old",
        "S",
        "The newest verified snapshot is older than a day or two schedules, lies only on control-plane machines, or a "
        "restore was never rehearsed.",
        "A loss of quorum is final.",
        "Keep copies elsewhere, and rehearse restoring with --bump-revision and --mark-compacted.",
        "etcd disaster recovery",
    ),
    _known(
        "etcd-member-drift",
        "S",
        "etcd's members are not the design's, one was never started, or one has a wrong peer URL.",
        "A member that does not exist counts for quorum.",
        "Remove it.",
        "kadm#1300, kadm#1432",
    ),
    _known(
        "etcd-learner-left",
        "S",
        "A member has been a learner for more than 10 minutes.",
        "It never votes, and the next join fails.",
        "Promote it once it is in sync, or remove it.",
        "kadm#2997, kadm#3269",
    ),
    _known(
        "etcd-replace-order",
        "P",
        "A plan adds a member while a dead one still votes, or removes a healthy one so that fewer than the new quorum "
        "are healthy.",
        "The quorum grows before the newcomer works.",
        "Remove, then add as learner, one member at a time.",
        "etcd FAQ",
    ),
    _known(
        "etcd-cert-mismatch",
        "PS",
        "A certificate of etcd lacks its host, comes from another CA or cannot be used by a client, or apiservers are "
        "not given every endpoint.",
        "A member or an apiserver cannot connect.",
        "Issue them again, and list all endpoints.",
        "kubernetes/website#30716",
    ),
)

_API = (
    _known(
        "api-endpoint-is-node",
        "L",
        "With two or more control-plane machines the endpoint is the address or the name of one machine.",
        "Everything depends on that machine, and the endpoint is hard to change later.",
        "Use a VIP or a name of its own before the cluster is made.",
        "kadm#2997",
    ),
    _known(
        "api-endpoint-not-in-san",
        "LPS",
        "The certificate of an apiserver lacks the endpoint's name, a VIP or a control-plane machine's address.",
        "One connection in so many fails with an x509 error.",
        "Add it to certSANs, and issue the certificates again on all machines.",
    ),
    _known(
        "api-endpoint-drift",
        "PS",
        "The endpoint's name resolves to something else on some machine, or kubeconfigs and the cluster's own "
        "configuration name another server.",
        "A part of the cluster bypasses the balancer.",
        "Write them again.",
    ),
    _known(
        "api-kubelet-not-local",
        "LS",
        "The kubelet of a control-plane machine does not use its own apiserver: Kubernetes is older than 1.33, or "
        "ControlPlaneKubeletLocalMode is off.",
        "During an upgrade a new kubelet meets an older apiserver and starts no pods.",
        "Leave the feature gate on, and rewrite kubelet.conf.",
        "k8s#127316, kube-vip/kube-vip#949, KEP-4471",
    ),
    _known(
        "api-shutdown-delay",
        "LP",
        "An apiserver that stops closes its port before balancers have noticed, or is killed before it has drained.",
        "Clients are sent to an apiserver that closes, or are cut off.",
        "Use shutdown-delay-duration 10s and a grace period of 75 s; kubelet and logind must allow 80 s.",
        "k8s#74416, k8s#77873, openshift/hypershift#691",
    ),
    _known(
        "api-no-goaway",
        "L",
        "goaway-chance is 0 with two or more apiservers behind a balancer.",
        "After a restart, clients stay on the apiservers that survived.",
        "Use goaway-chance 0.001.",
        "kube-apiserver flags",
    ),
    _known(
        "api-leader-election",
        "LPS",
        "Leader election is off, a lease is older than 15 s, or not exactly one instance leads.",
        "Two controllers act at once, or none does.",
        "Keep leader election with its defaults.",
    ),
    _known(
        "api-node-grace",
        "L",
        "node-monitor-grace-period is below 50 s, or kubelet's HTTP/2 pings are off.",
        "A move of the VIP marks healthy nodes NotReady; dead connections last a quarter of an hour.",
        "Leave both at their defaults: 50 s is more than the 30 and 15 s of a ping.",
        "k8s#121793, k8s#126287, k8s#87615",
    ),
    _known(
        "api-coredns-one-node",
        "S",
        "All CoreDNS pods that are Ready run on one node although there are more.",
        "Cluster DNS dies with that machine.",
        "Restart its rollout once the other nodes have joined.",
        "kubeadm, create-cluster-kubeadm",
    ),
)

_NETWORK = (
    _known(
        "net-vrrp-filtered",
        "PS",
        "A VRRP packet (IP protocol 112) from one machine does not reach another by unicast.",
        "Every machine becomes MASTER.",
        "Allow protocol 112 between the machines of the VIP.",
        "RFC 9568 section 5.1.1, cilium/cilium#18347",
    ),
    _known(
        "net-multicast-blocked",
        "P",
        "VRRP packets to 224.0.0.18 or ff02::12 are lost while unicast passes.",
        "Every machine becomes MASTER.",
        "Use unicast.",
        "projectcalico/calico#4956",
    ),
    _known(
        "net-ports-closed",
        "P",
        "A machine cannot reach the endpoint, a balancer an apiserver, a control-plane machine etcd or kubelet of "
        "another, or a node another's flannel (UDP).",
        "A join hangs, etcd never forms, pods of different machines never meet.",
        "Open these ports.",
        "Kubernetes, ports and protocols",
    ),
    _known(
        "net-rp-filter",
        "P",
        "A machine has several interfaces, strict reverse path filtering, and a way back over another interface.",
        "Packets from some subnets vanish.",
        "Set rp_filter to 2, or mend the routes.",
        "kernel ip-sysctl",
    ),
    _known(
        "net-mtu",
        "P",
        "Packets as large as the MTU do not pass between machines, or the pod network's MTU leaves no room for its "
        "headers.",
        "Small requests work; TLS and long lists hang.",
        "Make the MTUs agree.",
        "open-cluster-management-io/ocm#1314",
    ),
    _known(
        "net-conntrack-full",
        "S",
        "The kernel's table of connections is more than 80 % full (an error above 95 %).",
        "Connections and checks fail at random.",
        "Raise its maximum.",
    ),
    _known(
        "net-families-differ",
        "L",
        "Pods, services and machines do not have the same IP versions, control-plane machines and services do not "
        "begin with the same one, or a machine has no address of the version by which it has to reach another one or "
        "the endpoint.",
        "An apiserver does not start, or a machine never reaches what it needs.",
        "Give each machine an address of every version that pods have, and write the same version first everywhere.",
        "Kubernetes, IPv4/IPv6 dual-stack; k8s cmd/kube-apiserver/app/options",
    ),
    _known(
        "net-stale-flow",
        "P",
        "A firewall drops packets of connections it does not know, so that a client gets no reset after the VIP moved.",
        "Clients repeat their packets for up to 15 minutes.",
        "Reject with a reset; set tcp-ut and tcp_retries2.",
        "bigstack-oss/cubecos#1102, ka#2414, measured",
    ),
    _known(
        "net-pods-apart",
        "L",
        "There are workers, and the pods of different machines have no network: cni is bridge, or none and it is left "
        "to somebody to bring one; or flannel's backend is host-gw and a node is not in the VIP's subnet.",
        "A service answers only where one of its pods happens to be; names are not resolved on other machines.",
        "Use kubernetes.cni: flannel, with the backend vxlan where nodes are in several networks.",
        "flannel, backends",
    ),
)

_HOST = (
    _known(
        "host-identity",
        "LP",
        "Two machines have the same address, host name, machine id, product UUID or MAC address.",
        "They overwrite each other's node.",
        "Give each its own.",
        "kadm#31",
    ),
    _known(
        "host-clock",
        "PS",
        "Clocks of two machines differ by more than a second (an error above 5), or one is not synchronised.",
        "Certificates, tokens, leases and signed adverts are refused.",
        "Run chrony on all machines.",
        "etcd's prober warns at 1 s, k8s#118922",
    ),
    _known(
        "host-kubelet-prereqs",
        "P",
        "Swap is on and kubelet was not told to bear it, a kernel module is missing now or after a boot, or forwarding "
        "is off.",
        "kubelet or pods fail, perhaps only after a reboot.",
        "Set it so that it lasts.",
        "kubeadm, install-kubeadm",
    ),
    _known(
        "host-cgroup-driver",
        "P",
        "kubelet and containerd use different cgroup drivers.",
        "kubelet fails, pods die.",
        "Use systemd in both.",
        "kubeadm, install-kubeadm",
    ),
    _known(
        "host-not-enabled",
        "PS",
        "keepalived, haproxy, containerd, kubelet, time synchronisation or etcd is not enabled.",
        "The machine comes back from a power loss without its role.",
        "Enable the unit.",
    ),
    _known(
        "host-mac-policy",
        "PS",
        "SELinux forbids haproxy to connect to any port, or SELinux or AppArmor have lately denied something to "
        "haproxy or keepalived.",
        "It cannot bind or connect; checks always fail.",
        "Set haproxy_connect_any, and mend the labels.",
        "openshift/openshift-ansible#11388, ka#1322, ka#1468",
    ),
    _known(
        "host-log-flood",
        "S",
        "keepalived or haproxy write more than 60 lines a minute.",
        "A full disk stops etcd.",
        "Cure the cause, and limit the rate.",
        "ka#2444",
    ),
    _known(
        "host-config-test",
        "P",
        "keepalived or HAProxy on the machine refuse their configuration, alter it, or warn.",
        "A reload kills the daemon and leaves the VIP behind.",
        "Test on the machine itself before the file is swapped.",
        "keepalived, main.c; measured",
    ),
)

_CERTIFICATES_AND_UPGRADES = (
    _known(
        "cert-expiring",
        "S",
        "A certificate ends in less than 30 days (an error below 7), a CA in less than a year, or a daemon serves an "
        "older one than its file.",
        "The cluster locks itself up a year after it was made.",
        "Renew, and restart the static pods machine by machine.",
        "kubernetes/website#28944",
    ),
    _known(
        "cert-join-credentials",
        "PS",
        "A join is planned and its certificate key or token has expired; or a token never does.",
        "The join fails half-way, or a credential stays open.",
        "Make a fresh key and a token of one hour for each join.",
        "kubeadm, high availability; k8s#84627",
    ),
    _known(
        "cert-shared-keys",
        "PS",
        "The CAs, the key of service accounts or the encryption configuration differ between control-plane machines.",
        "Tokens are valid on one apiserver and refused by another.",
        "Copy them from a healthy machine.",
        "k8s#110035, k8s#35849",
    ),
    _known(
        "upgrade-skew",
        "LP",
        "A step of more than one minor version, apiservers more than one apart, or a kubelet newer than the oldest "
        "apiserver or more than three behind it.",
        "API calls that nobody supports.",
        "Upgrade one minor version at a time.",
        "Kubernetes, version skew policy",
    ),
    _known(
        "upgrade-order",
        "P",
        "An upgrade does not go external etcd, control-plane machines one by one, workers; or the VIP or etcd's leader "
        "was not moved away first.",
        "An outage that was avoidable.",
        "Keep the order; the holder of the VIP comes last.",
        "Kubernetes, version skew policy",
    ),
    _known(
        "upgrade-no-margin",
        "P",
        "Before a step, one more failure would cost quorum, a server is DOWN, etcd has an alarm, or the snapshot is "
        "older than an hour.",
        "Maintenance becomes an outage.",
        "Heal first.",
        "etcd FAQ",
    ),
    _known(
        "upgrade-etcd-jump",
        "P",
        "etcd would skip a minor version or go back, or go from 3.5 to 3.6 with a member older than 3.5.32 or with v2 "
        "data.",
        "Members that were removed return, or it does not start.",
        "Bring it to the newest patch first.",
        "etcd, upgrade to 3.6",
    ),
)

_ALL = (
    *(*_FILE, *_TOPOLOGY, *_VIP, *_BALANCER, *_SERVICES),
    *(*_ETCD, *_API, *_NETWORK, *_HOST, *_CERTIFICATES_AND_UPGRADES),
)

CATALOGUE: Mapping[str, Hazard] = MappingProxyType({one.id: one for one in _ALL})
