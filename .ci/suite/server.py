"""The server under test on free loopback ports: ours, or the Java name server and broker that ours must equal."""

import json
import os
import random
import signal
import socket
import struct
import time
from pathlib import Path

from . import process

START_LIMIT_S = 60
# Java's `diskSpaceWarningLevelRatio`.
DISK_RATIO_MAX = 0.9
BROKER_CONF = """\
brokerClusterName = DefaultCluster
brokerName = broker-a
brokerId = 0
brokerIP1 = 127.0.0.1
listenPort = {broker}
brokerRole = ASYNC_MASTER
flushDiskType = ASYNC_FLUSH
autoCreateTopicEnable = true
defaultTopicQueueNums = 4
mappedFileSizeCommitLog = 67108864
recallMessageEnable = true
"""
# For the interop suite. Java's broker writes down three seconds late which transactions have ended, and so asks about
# them again when it checks more often.
FEATURES_CONF = """\
enablePropertyFilter = true
transactionTimeOut = 6000
transactionCheckInterval = 5000
traceTopicEnable = true
"""


class StartError(Exception):
    pass


def free_ports():
    """A name server port and a broker port whose neighbours (VIP, HA) are free as well."""
    for _ in range(200):
        base = random.randrange(20_000, 32_000, 10)
        sockets = []
        try:
            for port in (base, base + 4, base + 6, base + 7):
                sockets.append(socket.socket())
                sockets[-1].bind(("127.0.0.1", port))
            return base, base + 6
        except OSError:
            continue
        finally:
            for each in sockets:
                each.close()
    raise StartError("no free ports")


class Server:
    """Started at once, stopped by `stop`, and killed and started again on the same data by `crash`."""

    def __init__(self, directory, settings=""):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True)
        namesrv, self.broker_port = free_ports()
        self.namesrv_port = namesrv
        self.namesrv = f"127.0.0.1:{namesrv}"
        self.broker = f"127.0.0.1:{self.broker_port}"
        self.conf = self.directory / "broker.conf"
        self.settings = BROKER_CONF.format(broker=self.broker_port) + settings
        self.conf.write_text(self.settings)
        self.processes = []

    def start(self):
        raise NotImplementedError

    def crash(self):
        for each in self.processes:
            process.stop(each, grace_s=10, sig=signal.SIGKILL)
        self.processes = []
        self.start()

    def stop(self):
        """Returns what was wrong with the way it stopped, or None."""
        problem = None
        for each in reversed(self.processes):
            status = process.stop(each, grace_s=30)
            if status is None:
                problem = "it did not stop within 30 s of SIGTERM"
            elif status not in self.clean_exits:
                problem = f"exit status {status} after SIGTERM"
        self.processes = []
        return problem

    def _spawn(self, name, command, says, env=None):
        """Starts one process and waits for the line that scripts grep for."""
        log_path = self.directory / f"{name}.log"
        with open(log_path, "a") as log:
            skip = log.tell()
            started = process.start(command, log, env=env, cwd=self.directory)
        self.processes.append(started)
        deadline = time.monotonic() + START_LIMIT_S
        while says.encode() not in log_path.read_bytes()[skip:]:
            if started.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-20:])
                self.stop()
                raise StartError(f"{name} did not say '{says}':\n{tail}")
            time.sleep(0.05)


class Ours(Server):
    clean_exits = (0,)

    def __init__(self, directory, binary, settings=""):
        super().__init__(directory, settings)
        self.binary = Path(binary).resolve()
        if not self.binary.exists():
            raise StartError(f"{self.binary} is not there; build it with: cargo build --release")
        self.start()

    def start(self):
        self._spawn("rmq-server", [
            self.binary, "standalone", "--data-dir", self.directory / "data",
            "--namesrv-port", self.namesrv_port, "--listen-port", self.broker_port, "-c", self.conf], "The broker[")


class Java(Server):
    # The JVM reports the signal that ended it.
    clean_exits = (0, 143)

    def __init__(self, directory, jars, settings=""):
        super().__init__(directory, settings)
        place = os.statvfs(directory)
        used = place.f_blocks - place.f_bfree
        if used > DISK_RATIO_MAX * (used + place.f_bavail):
            raise StartError(f"{directory} is on a disk that is more than {DISK_RATIO_MAX:.0%} full: this broker would "
                             "refuse sends")
        self.jars = jars
        self.start()

    def start(self):
        (self.directory / "namesrv.conf").write_text(f"listenPort={self.namesrv_port}\n")
        store = f"namesrvAddr = {self.namesrv}\nstorePathRootDir = {self.directory}/store\n"
        self.conf.write_text(self.settings + store)
        env = dict(os.environ, ROCKETMQ_HOME=str(self.directory))
        for name, main, conf in (("namesrv", "org.apache.rocketmq.namesrv.NamesrvStartup", "namesrv.conf"),
                                 ("broker", "org.apache.rocketmq.broker.BrokerStartup", "broker.conf")):
            self._spawn(name, [
                "java", "-Xms512m", "-Xmx1g", "-XX:MaxDirectMemorySize=1g", f"-Duser.home={self.directory}",
                f"-Drocketmq.home.dir={self.directory}",
                "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED", "--add-opens=java.base/java.nio=ALL-UNNAMED",
                "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED", "--add-opens=java.base/jdk.internal.ref=ALL-UNNAMED",
                "-cp", self.jars, main, "-c", self.directory / conf], "boot success", env=env)
        # This broker may say so seconds before its name server knows it.
        deadline = time.monotonic() + START_LIMIT_S
        while not route_known(self.namesrv_port, "TBW102"):
            if time.monotonic() > deadline:
                self.stop()
                raise StartError("the broker did not register with its name server")
            time.sleep(0.1)


def route_known(port, topic):
    return succeeds(port, 105, {"topic": topic})


def create_topic(port, topic):
    return succeeds(port, 17, {"topic": topic, "defaultTopic": "TBW102", "readQueueNums": "4", "writeQueueNums": "4",
                               "perm": "6", "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false"})


def succeeds(port, code, fields):
    """Sends one request in one JSON frame of the remoting protocol."""
    header = json.dumps({"code": code, "language": "OTHER", "version": 0, "opaque": 1, "flag": 0,
                         "extFields": fields}).encode()
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(struct.pack(">II", 4 + len(header), len(header)) + header)
            answer = connection.makefile("rb")
            _, header_len = struct.unpack(">II", answer.read(8))
            return json.loads(answer.read(header_len & 0xFFFFFF))["code"] == 0
    except (OSError, struct.error):
        return False
