"""A cluster of real Annulus processes on loopback, for trying things out and for tests.

It starts and stops processes and remembers them in DIR/cluster.json; what happens inside them it asks the `annulus`
command. It is no supervisor: a process that dies stays dead until `start`. Linux only: /proc tells ours from strangers.
"""

import argparse
import contextlib
import fcntl
import http.client
import json
import os
import pathlib
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time

REPO = pathlib.Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
REGION = "us-east-1"
BASE_PORT = 4000
# One base port gives room for this many of each kind: gateways from base, peers' ports from base + 1101, and the
# storage nodes' health and metrics from base + 1201.
PROCESSES_MAX = 99
# No more replicas than the cluster itself accepts.
REPLICATION_MAX = 7
RPC_OFFSET, HEALTH_OFFSET = 1100, 1200
# More than a process gives its requests to end (shutdown_grace_seconds); past it, it is killed.
STOP_SECONDS_MAX = 45
# For one process that joins a cluster which serves already.
UP_SECONDS_MAX = 60
LOG_TAIL_LINES = 15
# What belongs to clients, to this script or to the one server of a person's shell, and what would contradict the
# secrets that we hand over as files: never passed on to our processes.
ENV_DROPPED = {
    "ANNULUS_BIN_DIR",
    "ANNULUS_ENDPOINT",
    "ANNULUS_CONFIG",
    "ANNULUS_CLUSTER_SECRET",
    "ANNULUS_ROOT_SECRET_KEY",
    "NODE_PORT",
    "NODE_ID",
    "REPLICATION_FACTOR",
}


def main():
    args = parse_args()
    # A terminated `up` must clean up like an interrupted one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return args.run(Cluster(args.data), args) or 0
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parse_args():
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--data",
        metavar="DIR",
        type=pathlib.Path,
        default=REPO / ".annulus" / "cluster",
        help="where the cluster is kept (default: .annulus/cluster in the checkout)",
    )
    parser = argparse.ArgumentParser(prog="deploy/local-cluster", description="An Annulus cluster on loopback.")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)

    def verb(name, run, text):
        command = verbs.add_parser(name, parents=[common], help=text, description=text)
        command.set_defaults(run=run)
        return command

    command = verb("up", up, "start a new cluster, or an old one again; returns when it serves")
    command.add_argument("--nodes", type=int, metavar="N", help="storage nodes (default 3)")
    command.add_argument("--gateways", type=int, metavar="N", help="gateways (default 2)")
    command.add_argument(
        "--replication", type=int, metavar="N", help="copies of everything (default 3, or N nodes if fewer)"
    )
    command.add_argument(
        "--base-port",
        type=int,
        metavar="PORT",
        help=f"first gateway's port; 0 looks for free ports (default {BASE_PORT})",
    )
    command.add_argument("--timeout", type=int, default=120, metavar="SECONDS", help="how long it may take to serve")
    command = verb("down", down, "stop every process; the data stays")
    command.add_argument("--purge", action="store_true", help="then delete the cluster and its data")
    verb("kill", kill, "kill -9 one process").add_argument("id", metavar="ID")
    verb("start", start, "start a process that is not running").add_argument("id", metavar="ID")
    verb("add-node", add_node, "add a storage node; returns when it serves its share")
    verb("drain", drain, "drain a storage node; returns when it may be switched off").add_argument("id", metavar="ID")
    verb("status", status, "show processes and the cluster").add_argument("--json", action="store_true")
    return parser.parse_args()


# ---- the commands ----------------------------------------------------------------------------------------------------


def up(cluster, args):
    build()
    with cluster.locked():
        cluster.load_or_create(args)
        stopped = [p for p in cluster.members() if not is_running(p)]
        if not stopped:
            raise Failure(f"the cluster in {cluster.dir} is already up")
        need_free_ports(stopped)
        cluster.save()
        try:
            for process in stopped:
                cluster.spawn(process)
            cluster.wait_until(lambda: all(map(is_up, cluster.members())), args.timeout, "serve")
            if "alt_access_key" not in cluster.state:
                cluster.add_second_account()
        except BaseException as reason:
            # Tails first: stopping writes to the logs too.
            if isinstance(reason, Failure):
                cluster.print_log_tails()
            stop(cluster.processes(), patience_seconds=5)
            cluster.forget_pids()
            raise
    print_summary(cluster)


def down(cluster, args):
    cluster.load()
    with cluster.locked():
        cluster.load()
        # Gateways first: what clients have begun can still end well.
        stop(cluster.state["gateways"])
        stop(cluster.state["nodes"])
        cluster.forget_pids()
        if args.purge:
            cluster.purge()


def kill(cluster, args):
    cluster.load()
    with cluster.locked():
        process = cluster.load().find(args.id)
        if not is_running(process):
            raise Failure(f"{process['id']} is not running")
        send(process, signal.SIGKILL)
        wait_gone([process], STOP_SECONDS_MAX)
        process["pid"] = process["started"] = None
        cluster.save()


def start(cluster, args):
    cluster.load()
    with cluster.locked():
        process = cluster.load().find(args.id)
        if is_running(process):
            raise Failure(f"{process['id']} is already running")
        if process.get("drained"):
            raise Failure(f"{process['id']} was drained and is no member any more: `add-node` starts a new one")
        need_free_ports([process])
        cluster.spawn(process)
    cluster.wait_up(process)


def add_node(cluster, _args):
    cluster.load()
    with cluster.locked():
        process = cluster.load().new_node()
        need_free_ports([process])
        # Whoever is started later finds the cluster by it, too: the first nodes may be drained one day.
        cluster.state["seeds"].append(process["rpc"])
        cluster.spawn(process)
    cluster.wait_up(process)
    cluster.annulus("node", "add", process["id"], "--wait")
    print(process["id"])


def drain(cluster, args):
    process = cluster.load().find(args.id)
    cluster.annulus("node", "drain", process["id"], "--wait")
    with cluster.locked():
        process = cluster.load().find(args.id)
        process["drained"] = True
        cluster.state["seeds"].remove(process["rpc"])
        cluster.save()


def status(cluster, args):
    cluster.load()
    running = {p["id"]: is_running(p) for p in cluster.processes()}
    if args.json:
        with_state = [{**p, "running": running[p["id"]]} for p in cluster.processes()]
        inside = cluster.annulus("status", "--json", show=False, check=False) if any_gateway(cluster) else None
        print(
            json.dumps(
                {
                    "nodes": [p for p in with_state if "data" in p],
                    "gateways": [p for p in with_state if "endpoint" in p],
                    "cluster": json.loads(inside.stdout) if inside and inside.returncode == 0 else None,
                },
                indent=2,
            )
        )
    else:
        for p in cluster.processes():
            state = f"pid {p['pid']}" if running[p["id"]] else "drained" if p.get("drained") else "stopped"
            print(f"{p['id']:<6}{state:<14}{p.get('endpoint') or p['rpc']:<26}{p.get('data', '')}")
        if any_gateway(cluster):
            print(flush=True)
            cluster.annulus("status")
    return 0 if all(running[p["id"]] for p in cluster.members()) else 1


# ---- the cluster and its file ----------------------------------------------------------------------------------------


class Failure(Exception):
    """What a person should read instead of a traceback."""


class Cluster:
    """DIR/cluster.json and the processes it names. The file holds secrets, so it is of mode 0600."""

    def __init__(self, directory):
        self.dir = directory.absolute()
        self.file = self.dir / "cluster.json"
        self.state = None

    @contextlib.contextmanager
    def locked(self):
        """Two commands at a time would forget each other's processes, so what was read before is read again under it.
        Never held while a cluster moves data."""
        self.dir.mkdir(parents=True, exist_ok=True)
        with open(self.dir / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def load(self):
        try:
            self.state = json.loads(self.file.read_text())
        except FileNotFoundError:
            raise Failure(f"there is no cluster in {self.dir}: start one with `deploy/local-cluster up`") from None
        return self

    def load_or_create(self, args):
        if not self.file.exists():
            nodes = 3 if args.nodes is None else args.nodes
            self.create(
                nodes,
                2 if args.gateways is None else args.gateways,
                min(3, nodes) if args.replication is None else args.replication,
                BASE_PORT if args.base_port is None else args.base_port,
            )
            return
        self.load()
        # As it was formed: nodes added since are no contradiction to the same command line.
        formed = self.state["formed"]
        for name in ("nodes", "gateways", "replication"):
            if getattr(args, name) not in (None, formed[name]):
                raise Failure(
                    f"the cluster in {self.dir} was made with --{name} {formed[name]}: "
                    "take it away with `down --purge`, or use another --data"
                )
        if args.base_port not in (None, 0, self.state["base_port"]):
            raise Failure(f"the cluster in {self.dir} has the base port {self.state['base_port']}")

    def create(self, nodes, gateways, replication, base_port):
        for count in (nodes, gateways):
            if not 1 <= count <= PROCESSES_MAX:
                raise Failure(f"between 1 and {PROCESSES_MAX} nodes and gateways, please")
        if not 1 <= replication <= min(nodes, REPLICATION_MAX):
            raise Failure(f"--replication is between 1 and --nodes, and {REPLICATION_MAX} at most")
        base_port = base_port or find_base_port(nodes, gateways)
        if not 1 <= base_port <= 65535 - HEALTH_OFFSET - PROCESSES_MAX:
            raise Failure(f"--base-port must be between 1 and {65535 - HEALTH_OFFSET - PROCESSES_MAX}")
        self.state = {
            "formed": {"nodes": nodes, "gateways": gateways, "replication": replication},
            "base_port": base_port,
            "region": REGION,
            "endpoints": [f"http://{HOST}:{base_port + i}" for i in range(gateways)],
            "access_key": "ROOT" + secrets.token_hex(8).upper(),
            "secret_key": secrets.token_hex(20),
            "seeds": [f"{HOST}:{base_port + RPC_OFFSET + 1 + i}" for i in range(nodes)],
            "nodes": [],
            "gateways": [],
        }
        for _ in range(nodes):
            self.new_node()
        for i in range(gateways):
            self.state["gateways"].append(self.new_process(f"g{i + 1}", endpoint=self.state["endpoints"][i]))
        write_secret(self.dir / "secrets" / "cluster", secrets.token_hex(32))
        write_secret(self.dir / "secrets" / "root", self.state["secret_key"])

    def new_node(self):
        """Ids only grow: what a lost node was called, no later one is."""
        number = len(self.state["nodes"]) + 1
        if number > PROCESSES_MAX:
            raise Failure(f"at most {PROCESSES_MAX} nodes")
        base, name = self.state["base_port"], f"n{number}"
        node = self.new_process(
            name,
            data=str(self.dir / "nodes" / name),
            rpc=f"{HOST}:{base + RPC_OFFSET + number}",
            health=f"http://{HOST}:{base + HEALTH_OFFSET + number}",
        )
        self.state["nodes"].append(node)
        return node

    def new_process(self, name, **fields):
        return {"id": name, "pid": None, "started": None, **fields, "log": str(self.dir / "logs" / f"{name}.log")}

    def save(self):
        write_secret(self.file, json.dumps(self.state, indent=2) + "\n")

    def processes(self):
        return self.state["nodes"] + self.state["gateways"]

    def members(self):
        """All but the nodes that were drained, which nobody needs."""
        return [p for p in self.processes() if not p.get("drained")]

    def find(self, name):
        """`n2` as cluster.json has it, or just `2` for a node."""
        for process in self.processes():
            if process["id"] in (name, f"n{name}"):
                return process
        raise Failure(f"there is no {name} here, only {', '.join(p['id'] for p in self.processes())}")

    def forget_pids(self):
        for process in self.processes():
            process["pid"] = process["started"] = None
        self.save()

    def purge(self):
        """Only what this script made: --data may have been pointed at a directory with more in it."""
        for name in ("nodes", "logs", "secrets"):
            shutil.rmtree(self.dir / name, ignore_errors=True)
        for name in ("cluster.json", "lock"):
            (self.dir / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.dir.rmdir()

    # -- its processes --

    def spawn(self, process):
        log = pathlib.Path(process["log"])
        log.parent.mkdir(parents=True, exist_ok=True)
        if "data" in process:
            pathlib.Path(process["data"]).mkdir(parents=True, exist_ok=True)
        try:
            with open(log, "ab") as out:
                # A session of its own: Ctrl-C in the terminal that started the cluster is not for the cluster.
                child = subprocess.Popen(
                    self.argv(process),
                    env=self.environment(),
                    cwd=self.dir,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
        except OSError as error:
            raise Failure(f"cannot start {process['id']}: {error}") from error
        process["pid"] = child.pid
        process["started"] = (proc_stat(child.pid) or (None, None))[1]
        # At once: whatever happens next, `down` must know of it.
        self.save()

    def argv(self, process):
        url = process.get("endpoint") or process["health"]
        shared = [
            "--node-id",
            process["id"],
            "--listen",
            HOST,
            "--node-port",
            url.rsplit(":", 1)[1],
            "--seeds",
            ",".join(self.state["seeds"]),
        ]
        if "endpoint" in process:
            return [binary("annulus"), "gateway", *shared]
        formed = self.state["formed"]
        return [
            binary("annulus-node"),
            *shared,
            "--data-dir",
            process["data"],
            "--rpc-listen",
            HOST,
            "--rpc-port",
            process["rpc"].rsplit(":", 1)[1],
            "--initial-nodes",
            str(formed["nodes"]),
            "--replication-factor",
            str(formed["replication"]),
        ]

    def environment(self):
        """A person's own ANNULUS_* settings pass through (a log level, say); ours come on top. Secrets: files only."""
        kept = {k: v for k, v in os.environ.items() if k not in ENV_DROPPED and not k.startswith("AWS_")}
        return {
            **kept,
            "ANNULUS_CLUSTER_SECRET_FILE": str(self.dir / "secrets" / "cluster"),
            "ANNULUS_ROOT_ACCESS_KEY": self.state["access_key"],
            "ANNULUS_ROOT_SECRET_KEY_FILE": str(self.dir / "secrets" / "root"),
            "ANNULUS_REGION": self.state["region"],
            "ANNULUS_UPLOAD_ANONYMOUS": "true",
        }

    def wait_until(self, condition, seconds, verb, processes=None):
        deadline = time.monotonic() + seconds
        while not condition():
            dead = [p["id"] for p in processes or self.members() if not is_running(p)]
            if dead:
                raise Failure(f"{', '.join(dead)} died; the logs are in {self.dir / 'logs'}")
            if time.monotonic() > deadline:
                raise Failure(f"it did not {verb} within {seconds} s; the logs are in {self.dir / 'logs'}")
            time.sleep(0.1)

    def wait_up(self, process):
        try:
            self.wait_until(lambda: is_up(process), UP_SECONDS_MAX, "come up", [process])
        except Failure:
            self.print_log_tails([process])
            raise

    def print_log_tails(self, processes=None):
        """The dead ones last, next to the error: they are the likely cause."""
        for process in sorted(processes or self.processes(), key=is_running, reverse=True):
            with contextlib.suppress(FileNotFoundError):
                lines = pathlib.Path(process["log"]).read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
                print(f"--- {process['id']} ({process['log']})", *lines, sep="\n", file=sys.stderr)

    # -- what its own command line tool does for us --

    def annulus(self, *arguments, show=True, check=True):
        """Runs `annulus`; the keys travel in the environment. With `check`, its failure is ours."""
        live = any_gateway(self)
        if not live:
            raise Failure("no gateway is running")
        env = {
            **os.environ,
            "ANNULUS_ENDPOINT": live["endpoint"],
            "AWS_ACCESS_KEY_ID": self.state["access_key"],
            "AWS_SECRET_ACCESS_KEY": self.state["secret_key"],
            "AWS_DEFAULT_REGION": self.state["region"],
        }
        env.pop("ANNULUS_BIN_DIR", None)
        done = subprocess.run(
            [binary("annulus"), *arguments],
            env=env,
            cwd=self.dir,
            stdin=subprocess.DEVNULL,
            text=True,
            capture_output=not show,
        )
        if check and done.returncode != 0:
            said = f": {done.stderr.strip() or done.stdout.strip()}" if not show else ""
            raise Failure(f"`annulus {' '.join(arguments)}` failed ({done.returncode}){said}")
        return done

    def add_second_account(self):
        """Somebody else, for tests of who may see what. An `up` that was cut short may have made the user already."""
        made = self.annulus(
            "user",
            "create",
            "alt",
            "--display-name",
            "Second account",
            "--email",
            "alt@example.com",
            "--json",
            show=False,
            check=False,
        )
        if made.returncode != 0:
            users = json.loads(self.annulus("user", "list", "--json", show=False).stdout)
            users = users if isinstance(users, list) else users.get("users", [])
            if not any(user.get("name") == "alt" for user in users):
                raise Failure(f"cannot make the second account: {made.stderr.strip()}")
        key = json.loads(self.annulus("key", "create", "--user", "alt", "--json", show=False).stdout)
        self.state["alt_access_key"], self.state["alt_secret_key"] = key["access_key"], key["secret_key"]
        self.save()


# ---- processes -------------------------------------------------------------------------------------------------------


def proc_stat(pid):
    """(state, start time) of a process, or None. Pid and start time together are never reused."""
    try:
        # The name in parentheses may hold anything, so fields count from the last one.
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[19])


def is_running(process):
    """Whether our process lives: a zombie does not, and a stranger under its old pid is not it."""
    if process["pid"] is None:
        return False
    found = proc_stat(process["pid"])
    return found is not None and found[0] not in "ZX" and found[1] == process["started"]


def send(process, number):
    """Signals through a pidfd: between the look and the signal, the pid cannot become a stranger's."""
    if process["pid"] is None:
        return
    try:
        handle = os.pidfd_open(process["pid"])
    except ProcessLookupError:
        return
    try:
        if is_running(process):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
    finally:
        os.close(handle)


def stop(processes, patience_seconds=STOP_SECONDS_MAX):
    for process in processes:
        send(process, signal.SIGTERM)
    for process in wait_gone(processes, patience_seconds):
        print(f"{process['id']} did not stop within {patience_seconds} s and is killed", file=sys.stderr)
        send(process, signal.SIGKILL)
    stuck = wait_gone(processes, STOP_SECONDS_MAX)
    if stuck:
        raise Failure(f"cannot kill {', '.join(p['id'] for p in stuck)}")


def wait_gone(processes, seconds):
    """Those still running after so long."""
    deadline = time.monotonic() + seconds
    while True:
        left = [p for p in processes if is_running(p)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


# ---- ports and HTTP --------------------------------------------------------------------------------------------------


def url_of(process):
    return process.get("endpoint") or process["health"]


def ports_of(process):
    return [int(address.rsplit(":", 1)[1]) for address in (url_of(process), process.get("rpc")) if address]


def need_free_ports(processes):
    taken = [f"{port} (for {p['id']})" for p in processes for port in ports_of(p) if not is_free(port)]
    if taken:
        raise Failure(f"in use already: port {', '.join(taken)}; with --base-port a new cluster goes elsewhere")


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def find_base_port(nodes, gateways):
    # Below the ports that Linux hands out to outgoing connections.
    for base in random.sample(range(10_000, 30_000, 100), 100):
        needed = [base + i for i in range(gateways)]
        needed += [base + offset + 1 + i for offset in (RPC_OFFSET, HEALTH_OFFSET) for i in range(nodes)]
        if all(is_free(port) for port in needed):
            return base
    raise Failure("found no free ports")


def is_up(process):
    """A gateway serves; a storage node lives, for whether it can serve may depend on others that are down."""
    return answers_ok(url_of(process) + ("/-/health/ready" if "endpoint" in process else "/-/health/live"))


def any_gateway(cluster):
    """A gateway that serves, else one that at least runs."""
    running = [g for g in cluster.state["gateways"] if is_running(g)]
    return next((g for g in running if is_up(g)), running[0] if running else None)


def answers_ok(url):
    host, path = url.removeprefix("http://").split("/", 1)
    connection = http.client.HTTPConnection(host, timeout=2)
    try:
        connection.request("GET", "/" + path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


# ---- files and binaries ----------------------------------------------------------------------------------------------


def write_secret(path, text):
    """Mode 0600 from the first byte, and never half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


def binary(name):
    given = os.environ.get("ANNULUS_BIN_DIR")
    return str(
        pathlib.Path(
            given or pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target"), "release"), name
        ).absolute()
    )


def build():
    script = '. "$0"; build'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script, str(REPO / "deploy/lib/setup.sh")],
        stdout=sys.stderr,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        raise Failure("the build failed")


def print_summary(cluster):
    state = cluster.state
    print(f"Annulus serves at {' and '.join(state['endpoints'])}")
    print(f"  {len(state['nodes'])} storage nodes, {state['formed']['replication']} copies of everything")
    print(f"  keys, pids and a second account: {cluster.file}")
    print(f"  logs: {cluster.dir / 'logs'}")


if __name__ == "__main__":
    sys.exit(main())
