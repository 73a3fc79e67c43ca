"""Fetches and compiles the clients with their own package tools, each once per cache directory.

A step leaves a stamp with the hash of everything it was made from, so it runs again when that changes.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
JAVA_CLIENTS = ("4.9.8", "5.3.3")
JAVA_TOOLS = "5.3.3"
JAVA_SERVER = "5.3.3"
STEP_LIMIT_S = 1500
ATTEMPTS = 3


class InstallError(Exception):
    pass


class Cache:
    def __init__(self, root):
        self.root = Path(root)
        self.root.mkdir(parents=True, exist_ok=True)
        self.log = self.root / "install.log"

    # Java

    def java_jars(self, profile, version):
        target = self.root / "java" / f"{profile}-{version}"

        def make():
            self._call(["mvn", "-q", "-B", "-f", HERE / "java/pom.xml", f"-P{profile}",
                        f"-Drocketmq.version={version}", f"-Dmaven.repo.local={self.root / 'm2'}",
                        "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={target}"])

        self._step(target, [HERE / "java/pom.xml"], make)
        return f"{target}/*"

    def java_programs(self, version):
        """Class path of our programs compiled against one client version."""
        jars = self.java_jars("client", version)
        target = self.root / "java" / f"programs-{version}"
        sources = sorted((HERE / "java/interop").glob("*.java"))
        if not version.startswith("4."):
            sources += sorted((HERE / "java/interop5").glob("*.java"))
        self._step(target, sources, lambda: self._call(
            ["javac", "-nowarn", "-encoding", "UTF-8", "-cp", jars, "-d", target, *sources]))
        return f"{target}:{jars}"

    def java_guide(self, version, namesrv, target):
        """The guide's programs for one name server: address filled in, forgotten imports added."""
        target.mkdir(parents=True)
        forgotten = "".join(f"import {name};\n" for name in (
            "java.util.List",
            "org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext",
            "org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus"))
        sources = []
        for name, head in (("Producer.java", ""), ("Consumer.java", forgotten)):
            text = (HERE / "java/guide" / name).read_text()
            sources.append(target / name)
            sources[-1].write_text(head + text.replace("NameServerAddress:Port", namesrv))
        jars = self.java_jars("client", version)
        self._call(["javac", "-nowarn", "-encoding", "UTF-8", "-cp", jars, "-d", target, *sources])
        return f"{target}:{jars}"

    # The others

    def node_project(self):
        target = self.root / "node"
        sources = [HERE / "node" / name for name in ("package.json", "package-lock.json")]

        def make():
            for source in sources:
                shutil.copy(source, target)
            self._call(["npm", "ci", "--no-audit", "--no-fund"], cwd=target)

        self._step(target, sources, make)
        # Scripts stay in the repository; node finds the packages through NODE_PATH.
        return target / "node_modules"

    def python(self):
        target = self.root / "python"
        requirements = HERE / "python/requirements.txt"

        def make():
            self._call([sys.executable, "-m", "venv", target / "venv"])
            self._call([target / "venv/bin/python", "-m", "pip", "install", "-q", "-r", requirements])

        self._step(target, [requirements], make)
        return target / "venv/bin/python"

    def go_program(self):
        target = self.root / "go-program"
        sources = [HERE / "go" / name for name in ("go.mod", "go.sum")] + sorted((HERE / "go").glob("*.go"))
        env = dict(os.environ, GOMODCACHE=str(self.root / "go/mod"), GOCACHE=str(self.root / "go/build"),
                   GOFLAGS="-modcacherw")
        self._step(target, sources, lambda: self._call(
            ["go", "build", "-o", target / "exchange", "."], cwd=HERE / "go", env=env))
        return target / "exchange"

    def rust_program(self):
        target = self.root / "rust-program"
        sources = [HERE / "rust" / name for name in ("Cargo.toml", "Cargo.lock", "src/main.rs")]
        build = self.root / "rust-build"
        env = dict(os.environ, CARGO_TARGET_DIR=str(build))

        def make():
            self._call(["cargo", "build", "-q", "--locked"], cwd=HERE / "rust", env=env)
            shutil.copy(build / "debug/exchange", target)

        self._step(target, sources, make)
        return target / "exchange"

    # Steps

    def _step(self, target, sources, make):
        digest = hashlib.sha256()
        for source in sources:
            digest.update(Path(source).name.encode() + b"\0" + Path(source).read_bytes())
        stamp = target / ".made-from"
        if stamp.exists() and stamp.read_text() == digest.hexdigest():
            return
        began = time.monotonic()
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        make()
        stamp.write_text(digest.hexdigest())
        print(f"installed {target.name} in {time.monotonic() - began:.0f} s", flush=True)

    def _call(self, command, cwd=None, env=None):
        command = [str(word) for word in command]
        # A download may fail by chance, a compilation fails the same way each time and costs little.
        for attempt in range(ATTEMPTS):
            with open(self.log, "a") as log:
                log.write(f"$ {' '.join(command)}\n")
                log.flush()
                try:
                    status = subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, timeout=STEP_LIMIT_S).returncode
                except FileNotFoundError:
                    raise InstallError(f"{command[0]} is not installed") from None
                except subprocess.TimeoutExpired:
                    status = None
            if status == 0:
                return
            time.sleep(2 * attempt)
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        raise InstallError(f"{' '.join(command[:3])} ... failed ({status}); end of {self.log}:\n{tail}")
