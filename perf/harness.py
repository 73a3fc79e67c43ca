"""What the scripts beside this file share: servers that start empty and leave nothing behind, loads, the machine."""

import json
import os
import pathlib
import platform
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

PERF = pathlib.Path(__file__).resolve().parent
ROOT = PERF.parent
OURS = (
    "{root}/target/release/rmq-server standalone --data-dir {dir}/data --listen-port {port} --namesrv-port {nsport}"
    " --set flushDiskType={flush}_FLUSH --set brokerIP1=127.0.0.1"
)
JAVA = "{root}/perf/java/serve {dir} {port} {nsport} flushDiskType={flush}_FLUSH"
READY_SECONDS_MAX = 90


class Failed(SystemExit):
    """Ends a script with its message, unless the script knows how to go on."""


def add_arguments(parser, work, name):
    parser.add_argument("--ours", default=OURS, help="command; {root} {dir} {port} {nsport} {flush} are filled in")
    parser.add_argument("--bench", default=str(ROOT / "target/release/rmq-bench"), help="rmq-bench to use")
    parser.add_argument("--jars", help="directory of the Java jars")
    parser.add_argument("--work", default=str(PERF / "work" / work), help="where servers keep their data")
    parser.add_argument("--results", default=str(PERF / "results"))
    parser.add_argument("--name", default=name)


def prepare(options, java):
    """Ends here if something is missing, rather than halfway."""
    # A stopped script leaves no server behind either.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    if not shutil.which(options.bench):
        sys.exit(f"{options.bench} is missing: cargo build --release")
    if java:
        subprocess.run([PERF / "java/fetch"] + ([options.jars] if options.jars else []), check=True)
        if options.jars:
            os.environ["JARS"] = options.jars


class Server:
    """One server on an empty directory, gone with all its processes when the block ends."""

    def __init__(self, command, flush, options):
        self.directory = pathlib.Path(options.work)
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self.port, self.nsport = free_ports()
        self.command = command.format(root=ROOT, dir=self.directory, port=self.port, nsport=self.nsport, flush=flush)
        self.bench_path = options.bench

    def __enter__(self):
        log = open(self.directory / "server.log", "wb")
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            ["sh", "-c", "exec " + self.command], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            self.ready_seconds = self.await_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def await_ready(self):
        while time.monotonic() - self.started < READY_SECONDS_MAX:
            if self.process.poll() is not None:
                break
            # The name server first: a refused connection costs less than a started tool.
            try:
                socket.create_connection(("127.0.0.1", self.nsport), 0.2).close()
                first = subprocess.run(
                    self.arguments("produce", "-t", "first", "-c", "1", "-i", "1", "-m", "1"), capture_output=True
                )
                if first.returncode == 0:
                    return time.monotonic() - self.started
            except OSError:
                pass
            time.sleep(0.005)
        tail = (self.directory / "server.log").read_bytes()[-3000:].decode(errors="replace")
        raise Failed(f"the server is not ready: {self.command}\n{tail}")

    def pid(self):
        file = self.directory / "broker.pid"
        return int(file.read_text()) if file.exists() else self.process.pid

    def arguments(self, *arguments):
        return [self.bench_path, *arguments, "-n", f"127.0.0.1:{self.nsport}"]

    def bench(self, *arguments, seconds_max=None):
        with self.beside(*arguments) as load:
            return load.report(seconds_max)

    def beside(self, *arguments, nice=0):
        """A load that runs while the script goes on."""
        command = self.arguments(*arguments, "--server-pid", str(self.pid()), "--json", "-")
        return Load((["nice", "-n", str(nice)] if nice else []) + command)

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


class Load:
    """A rmq-bench that runs; none is left when the block ends."""

    def __init__(self, command):
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )

    def __enter__(self):
        return self

    def report(self, seconds_max=None):
        """What it found, once it has ended."""
        try:
            stdout, stderr = self.process.communicate(timeout=seconds_max)
        except subprocess.TimeoutExpired:
            raise Failed(f"{' '.join(self.process.args)}: not done after {seconds_max} s") from None
        if not stdout:
            raise Failed(f"{' '.join(self.process.args)}: {stderr.strip()}")
        return json.loads(stdout)

    def stop(self):
        """Ends its measuring; it still reports."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            pipe.close()


def noise(runs):
    others = [run["runnable_before"] for run in runs] or [0]
    quiet = "quiet" if max(others) <= 2 else "NOT QUIET: compare only within a pair, if at all"
    return f"Other runnable tasks before each cell: median {statistics.median(others):.0f}, most {max(others)} ({quiet})."


def median(rows, of):
    values = [of(row) for row in rows if of(row) is not None]
    return statistics.median(values) if values else None


def commit():
    return output("git", "-C", str(ROOT), "describe", "--always", "--dirty")


def machine():
    model = [line for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = pathlib.Path("/proc/meminfo").read_text().split()[1]
    return {
        "cores": os.cpu_count(),
        "cpu": model[0].split(":")[1].strip() if model else platform.machine(),
        "memory": f"{int(memory) // (1 << 20)} GiB",
        "kernel": platform.release(),
        "filesystem": output("findmnt", "-n", "-o", "FSTYPE", "-T", str(PERF)) or "unknown",
    }


def machine_text(facts):
    return ", ".join(f"{key} {value}" for key, value in facts.items())


def portable(text):
    """Without the directories of this machine; results are read elsewhere."""
    return re.sub(r"(?<![\w./}-])/(?!dev/|proc/)(?:[\w.+-]+/)+([\w.+-]+)", r"\1", text)


def other_load():
    """Tasks that could run just now: more than one or two besides us means that the machine is not ours."""
    return max(int(pathlib.Path("/proc/loadavg").read_text().split()[3].split("/")[0]) - 1, 0)


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid):
    for row in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if row.startswith("VmRSS"):
            return int(row.split()[1]) / 1024
    return 0.0


def free_ports():
    """A broker listens on its port, two below and one above."""
    while True:
        port = random.randrange(20000, 32000)
        try:
            sockets = [socket.create_server(("127.0.0.1", wanted)) for wanted in (port - 2, port, port + 1, port + 7)]
        except OSError:
            continue
        for bound in sockets:
            bound.close()
        return port, port + 7


def output(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()
