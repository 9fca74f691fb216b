"""The demo's data: a made-up domain pool of network-operations logs, of six vendors.

The task is log parsing: a log line in, its event template out, with every variable part replaced by
``<*>``.  Event types are long-tailed within each vendor, as in real operations: a few types make up
most lines, and the types that hurt are rare.  The demo's base model has only ever seen
``KNOWN_VENDORS``, so the pool is a real mixture of what the model knows and what it does not.

Which split a sample may go to is decided by a hash of its prompt, so training pool, evaluation set
and pretraining corpus never share a prompt, whatever their seeds and sizes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict, TypeVar

Split = Literal["pretraining", "train", "eval"]
T = TypeVar("T")


class DemoRow(TypedDict):
    """One sample as it stands in the files."""

    prompt: str
    completion: str
    category: str
    """The vendor."""
    event_id: str


@dataclass(frozen=True, slots=True)
class Vendor:
    """How one vendor's equipment writes its log."""

    name: str
    code: str
    """Prefix of its event ids."""
    share: float
    """Relative number of lines it sends."""
    interfaces: tuple[str, ...]
    """Patterns of interface names; ``#`` stands for a number from 0 to 47."""
    macs: str
    """Pattern of hardware addresses; ``x`` stands for a hexadecimal digit."""
    events: tuple[str, ...]
    """Log lines with ``{variables}``, the most frequent first."""


VENDORS: tuple[Vendor, ...] = (
    Vendor(
        name="Cisco IOS",
        code="IOS",
        share=0.20,
        interfaces=("GigabitEthernet#/#", "TenGigabitEthernet#/#", "Vlan#", "Port-channel#"),
        macs="xxxx.xxxx.xxxx",
        events=(
            "%LINEPROTO-5-UPDOWN: Line protocol on Interface {iface}, changed state to {updown}",
            "%LINK-3-UPDOWN: Interface {iface}, changed state to {updown} after {secs} seconds",
            "%SYS-5-CONFIG_I: Configured from console by {user} on vty{digit} ({ip})",
            "%SEC-6-IPACCESSLOGP: list {acl} denied tcp {ip}({port}) -> {ip}({port}), 1 packet",
            "%OSPF-5-ADJCHG: Process {id}, Nbr {ip} on {iface} from FULL to DOWN, {ospf_why}",
            "%BGP-5-ADJCHANGE: neighbor {ip} {updown} {bgp_why}",
            "%SEC_LOGIN-4-LOGIN_FAILED: Login failed [user: {user}] [Source: {ip}]",
            "%SNMP-3-AUTHFAIL: Authentication failure for SNMP req from host {ip}",
            "%SW_MATM-4-MACFLAP_NOTIF: Host {mac} in vlan {vlan} is flapping",
            "%HSRP-5-STATECHANGE: {iface} Grp {id} state Standby -> Active",
            "%SPANTREE-2-BLOCK_BPDUGUARD: Received BPDU on port {iface}. Disabling vlan {vlan}",
            "%PLATFORM-1-TEMP_CRITICAL: Sensor {sensor} reads {degrees}C, shutdown in {secs} s",
        ),
    ),
    Vendor(
        name="Juniper Junos",
        code="JUN",
        share=0.17,
        interfaces=("ge-#/0/#", "xe-#/0/#", "et-#/1/#", "ae#"),
        macs="xx:xx:xx:xx:xx:xx",
        events=(
            "mib2d[{pid}]: SNMP_TRAP_LINK_DOWN: ifIndex {id}, ifName {iface}",
            "mib2d[{pid}]: SNMP_TRAP_LINK_UP: ifIndex {id}, ifName {iface}",
            "sshd[{pid}]: Accepted publickey for {user} from {ip} port {port} ssh2",
            "rpd[{pid}]: bgp_hold_timeout: NOTIFICATION sent to {ip} (External AS {asn})",
            "mgd[{pid}]: UI_COMMIT: User '{user}' requested 'commit' operation",
            "rpd[{pid}]: RPD_OSPF_NBRDOWN: OSPF neighbor {ip} ({iface}) state changed to Down",
            "sshd[{pid}]: SSHD_LOGIN_FAILED: Login failed for user '{user}' from host '{ip}'",
            "lacpd[{pid}]: LACPD_TIMEOUT: {iface}: lacp current while timer expired",
            "rpd[{pid}]: RPD_LDP_SESSIONDOWN: LDP session {ip} is down, reason: {bgp_why}",
            "l2ald[{pid}]: L2ALD_MAC_LIMIT_REACHED_IF: Limit {count} reached on {iface}",
            "chassisd[{pid}]: CHASSISD_PSU_FAULT: Power supply {digit} failed, {degrees} degrees",
            "kernel: fpc{digit} parity error at 0x{hex}, {count} entries scrubbed",
        ),
    ),
    Vendor(
        name="Huawei VRP",
        code="VRP",
        share=0.19,
        interfaces=("GE#/0/#", "XGigabitEthernet#/0/#", "Eth-Trunk#", "Vlanif#"),
        macs="xxxx-xxxx-xxxx",
        events=(
            "%%01IFNET/4/IF_STATE(l): Interface {iface} has turned into {UPDOWN} state.",
            "%%01IFPDT/4/IF_STATE(l): Interface {iface} has turned {UPDOWN} for {secs} ms.",
            "%%01SHELL/5/LOGIN(s): VTY login from {ip}. (UserName={user}, Port={port})",
            "%%01OSPF/3/NBR_CHG_DOWN(l): Neighbor event: state changed to Down. (Peer={ip})",
            "%%01BGP/3/STATE_CHG_UPDOWN(l): The status of the peer {ip} changed to {bgp_state}.",
            "%%01ARP/4/SPEEDLIMIT(l): The rate of ARP-miss on {iface} exceeded {count} pps.",
            "%%01SSH/4/FAILED(s): Failed to log in through SSH. (IP={ip}, User={user})",
            "%%01MSTP/6/PORT_STATE(l): Port {iface} of instance {id} set to discarding.",
            "%%01L2IFPPI/4/MFLPVLAN(l): MAC {mac} moved in VLAN {vlan} to {iface}.",
            "%%01BFD/4/STACHG_TODWN(l): BFD session {id} changed to Down. (PeerIp={ip})",
            "%%01SRM/3/TXPOWER(l): Optical power of {iface} is too low, {degrees} uW.",
            "%%01CSS/1/SPLIT(l): Stack split, member {digit} isolated after {secs} seconds.",
        ),
    ),
    Vendor(
        name="Arista EOS",
        code="EOS",
        share=0.16,
        interfaces=("Ethernet#", "Ethernet#/#", "Port-Channel#", "Vlan#"),
        macs="xxxx.xxxx.xxxx",
        events=(
            "Ebra: %LINEPROTO-5-UPDOWN: Line protocol on Interface {iface}, now {updown} ({ip})",
            "Rib: %BGP-3-NOTIFICATION: received from neighbor {ip} (VRF {acl} AS {asn}) {bgp_why}",
            "Bgp: %BGP-5-ADJCHANGE: peer {ip} (AS {asn}) old state Idle event Start",
            "Aaa: %AAA-4-LOGIN_FAILED: user {user} failed to login [from: {ip}] [service: sshd]",
            "ConfigAgent: %SYS-5-CONFIG_E: Enter configuration mode by {user} on vty{digit} ({ip})",
            "Lag: %LAG-5-MEMBER_REMOVED: Interface {iface} left Port-Channel{id}",
            "Stp: %SPANTREE-6-ROOTCHANGE: Root changed for instance MST{id}: new root {mac}",
            "Mlag: %MLAG-4-INTF_INACTIVE_LOCAL: MLAG {id} on {iface} is inactive",
            "Lldp: %LLDP-5-NEIGHBOR_NEW: LLDP neighbor {mac} added on {iface}",
            "StrataL2: %ETH-4-HOST_FLAPPING: Host {mac} in VLAN {vlan} is flapping on {iface}",
            "PowerManager: %ENVMON-2-PSU_LOSS: PowerSupply{digit} lost input, load {degrees} W",
            "ProcMgr: %PROCMGR-6-PROCESS_TERMINATED: '{daemon}' (PID={pid}) has terminated",
        ),
    ),
    Vendor(
        name="Nokia SR OS",
        code="SRO",
        share=0.15,
        interfaces=("#/1/#", "#/2/#", "lag-#", "to-pe#"),
        macs="xx:xx:xx:xx:xx:xx",
        events=(
            "WARNING: SNMP #2004 Base {iface} - Interface {iface} is not operational",
            "MINOR: BGP #2039 Base peer {ip}: moved into {bgp_state} state",
            "WARNING: SYSTEM #2006 Base CHASSIS - tmnxMDA {digit}/{digit} changed by {user}",
            "MINOR: USER #2011 management {user} from {ip}: login failed",
            "WARNING: OSPF #2001 Base LCL_RTR_ID {ip}: neighbor went down on {iface}",
            "MINOR: LDP #2003 Base session {ip}: operational state is outOfService",
            "MAJOR: SVCMGR #2103 Base sap {iface}:{vlan} in service {id} is down",
            "MINOR: LAG #2007 Base lag-{id}: partner of {iface} out of sync for {secs} s",
            "MAJOR: PORT #2009 Base {iface}: rx optical power alarm, {degrees} dBm",
            "MINOR: VRRP #2004 Base {iface}: vrId {id} became master {ip}",
            "CRITICAL: CHASSIS #2053 fan tray {digit} removed, {count} rpm before",
            "MAJOR: MPLS #2010 Base lsp {acl}: path down, fail code {id} at {ip}",
        ),
    ),
    Vendor(
        name="Linux FRR",
        code="FRR",
        share=0.13,
        interfaces=("eth#", "swp#", "bond#.#", "ens#f#"),
        macs="xx:xx:xx:xx:xx:xx",
        events=(
            "kernel: {iface}: NIC Link is Up {mbps} Mbps Full Duplex",
            "kernel: {iface}: NIC Link is Down after {secs} s",
            "sshd[{pid}]: Failed password for invalid user {user} from {ip} port {port}",
            "bgpd[{pid}]: %ADJCHANGE: neighbor {ip} in vrf {acl} {updown} {bgp_why}",
            "sshd[{pid}]: Connection closed by {ip} port {port} [preauth]",
            "ospfd[{pid}]: nsm_change_state({ip}, Full -> Init): scheduling new router-LSA",
            "systemd[1]: {daemon}.service: main process {pid} exited, status={id}",
            "kernel: {iface}: dropping packet from {mac}, vlan {vlan}",
            "zebra[{pid}]: netlink error: File exists, type=RTM_NEWROUTE, seq={count}",
            "kernel: Out of memory: Killed process {pid} ({daemon})",
            "watchfrr[{pid}]: {daemon} state -> unresponsive : no reply in {secs} seconds",
            "kernel: EDAC MC{digit}: {count} CE memory error on DIMM 0x{hex}",
        ),
    ),
)

KNOWN_VENDORS: tuple[str, ...] = ("Cisco IOS", "Juniper Junos", "Linux FRR")
"""The vendors whose lines the demo's base model is made from."""

TAIL_EXPONENT = 1.2
"""The event type of rank r (from 1) has a weight of r to the minus this."""

_SHARES: Mapping[Split, range] = {
    "train": range(5),
    "pretraining": range(5, 8),
    "eval": range(8, 10),
}
"""The tenths of the hash space that belong to each split."""

_VARIABLE = re.compile(r"\{(\w+)\}")


def _pick(rng: random.Random, options: Sequence[T]) -> T:
    # Python promises the same sequence in every version for random() only, not for choice().
    return options[int(rng.random() * len(options))]


def _number(low: int, high: int) -> Callable[[random.Random], str]:
    return lambda rng: str(low + int(rng.random() * (high - low + 1)))


def _one_of(*options: str) -> Callable[[random.Random], str]:
    return lambda rng: _pick(rng, options)


def _address(rng: random.Random) -> str:
    subnet, host = _number(0, 99)(rng), _number(1, 254)(rng)
    return f"{_pick(rng, ('10.0', '10.8', '172.16', '192.168'))}.{subnet}.{host}"


_VARIABLES: Mapping[str, Callable[[random.Random], str]] = {
    "acl": _one_of("mgmt", "edge-in", "core", "cust-a", "blue", "red", "default", "101", "120"),
    "asn": _number(64512, 65534),
    "bgp_state": _one_of("Idle", "Active", "Established", "OpenSent", "Connect"),
    "bgp_why": _one_of(
        "Peer closed the session",
        "Hold timer expired",
        "BFD down",
        "Admin reset",
        "Interface flap",
        "Cease/maximum number of prefixes",
    ),
    "count": _number(100, 9999),
    "daemon": _one_of("bgpd", "ospfd", "zebra", "snmpd", "ntpd", "chronyd", "staticd", "pimd"),
    "degrees": _number(11, 99),
    "digit": _number(0, 9),
    "hex": lambda rng: _fill("x", "xxxx", rng),
    "id": _number(1, 299),
    "ip": _address,
    "ospf_why": _one_of("Neighbor Down: Dead timer expired", "Interface down or detached"),
    "mbps": _one_of("1000", "10000", "25000", "40000", "100000"),
    "pid": _number(1000, 9999),
    "port": _number(1024, 9999),
    "secs": _number(2, 600),
    "sensor": _one_of("inlet", "outlet", "hotspot", "CPU", "ASIC", "PSU"),
    "updown": _one_of("up", "down"),
    "UPDOWN": _one_of("UP", "DOWN"),
    "user": _one_of("admin", "noc", "root", "jsmith", "lchen", "ansible", "backup", "operator"),
    "vlan": _number(2, 999),
}


def _fill(sign: str, pattern: str, rng: random.Random) -> str:
    value = _number(0, 47) if sign == "#" else lambda rng: _pick(rng, "0123456789abcdef")
    return "".join(value(rng) if char == sign else char for char in pattern)


def _line(vendor: Vendor, event: str, rng: random.Random) -> str:
    """One log line of an event type, with fresh values for its variables."""

    def value(match: re.Match[str]) -> str:
        match match[1]:
            case "iface":
                return _fill("#", _pick(rng, vendor.interfaces), rng)
            case "mac":
                return _fill("x", vendor.macs, rng)
            case name:
                return _VARIABLES[name](rng)

    return _VARIABLE.sub(value, event)


def _sample(vendor: Vendor, rank: int, rng: random.Random) -> DemoRow:
    event = vendor.events[rank]
    line = _line(vendor, event, rng)
    return DemoRow(
        prompt=f"Vendor: {vendor.name}\nLog line: {line}\nEvent template:",
        completion=" " + _VARIABLE.sub("<*>", event),
        category=vendor.name,
        event_id=f"{vendor.code}-E{rank + 1}",
    )


def _split_of(prompt: str) -> Split:
    tenth = int(hashlib.sha256(prompt.encode()).hexdigest()[:8], 16) % 10
    return next(split for split, tenths in _SHARES.items() if tenth in tenths)


def _draw(
    split: Split, num_samples: int, *, seed: int, vendors: Sequence[Vendor], num_per_event: int = 0
) -> list[DemoRow]:
    """Distinct samples of a split, shuffled, with at least ``num_per_event`` of every type."""
    rng = random.Random(f"edco demo, {split}, {seed}")
    types = [(vendor, rank) for vendor in vendors for rank in range(len(vendor.events))]
    weights = list(itertools.accumulate(v.share * (r + 1) ** -TAIL_EXPONENT for v, r in types))

    rows: dict[str, DemoRow] = {}
    guaranteed = types * num_per_event
    while len(rows) < num_samples:
        # A rejected draw is a new draw of the type too: a type short of distinct lines gets rarer
        # in a large pool, instead of keeping the loop from ending.
        vendor, rank = guaranteed[-1] if guaranteed else rng.choices(types, cum_weights=weights)[0]
        row = _sample(vendor, rank, rng)
        if row["prompt"] in rows or _split_of(row["prompt"]) != split:
            continue
        rows[row["prompt"]] = row
        if guaranteed:
            guaranteed.pop()
    return sorted(rows.values(), key=lambda _: rng.random())


def pretraining_corpus(*, seed: int = 0, num_samples: int = 6000) -> list[DemoRow]:
    """What the base model is made from: samples of ``KNOWN_VENDORS`` only, none in pool or eval."""
    known = [vendor for vendor in VENDORS if vendor.name in KNOWN_VENDORS]
    return _draw("pretraining", num_samples, seed=seed, vendors=known)


def write_demo_data(
    folder: Path, *, seed: int = 0, num_train: int = 3000, num_eval: int = 400
) -> None:
    """Write ``pool.jsonl`` and ``eval.jsonl``: the same bytes for the same arguments.

    Both follow the same long tail, but up to half of the evaluation set is spread evenly over all
    event types, so that a curriculum which helps the rare ones can be told from one which does not.
    """
    num_types = sum(len(vendor.events) for vendor in VENDORS)
    pool = _draw("train", num_train, seed=seed, vendors=VENDORS)
    held_out = _draw(
        "eval",
        num_eval,
        seed=seed,
        vendors=VENDORS,
        num_per_event=num_eval // (2 * num_types),
    )
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("pool.jsonl", pool), ("eval.jsonl", held_out)):
        temporary = folder / f".{name}.{os.getpid()}"
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        temporary.replace(folder / name)
