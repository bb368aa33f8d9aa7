"""Relay processes for measurements: started with a fresh key, pinned to a core, and taken down again."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

START_SECONDS_MAX = 20
STOP_SECONDS_MAX = 5


class ServerError(Exception):
    """A relay did not start; the text has what its log says."""


def say(message):
    print(f"{pathlib.Path(sys.argv[0]).name}: {message}", file=sys.stderr, flush=True)


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pinned(core, command):
    """`command` held to one core; taskset becomes the program, so the process id is the program's."""
    if core is None or shutil.which("taskset") is None:
        return command
    return ["taskset", "-c", str(core), *command]


class Server:
    """One relay on the loopback interface.

    With `serve` (a list of options) it is `detour serve`. Without, it is started as `derper`, with the
    flags that both programs understand; under that name Detour has derper's defaults.
    """

    def __init__(self, binary, core, serve=None):
        self.core = core
        self.directory = tempfile.TemporaryDirectory(prefix="detour-bench-")
        self.port = free_port(socket.SOCK_STREAM)
        self.stun_port = free_port(socket.SOCK_DGRAM)
        home = pathlib.Path(self.directory.name)
        self.log = home / "log"
        binary = pathlib.Path(binary).resolve()
        if serve is None:
            program = home / "derper"
            program.symlink_to(binary)
            self.command = [
                str(program), "-a", f"127.0.0.1:{self.port}", "-c", str(home / "derper.key"),
                "-hostname", "127.0.0.1", "-certmode", "manual", "-certdir", str(home),
                "-http-port", "-1", "-stun-port", str(self.stun_port)]
        else:
            self.command = [
                str(binary), "serve", "--listen", f"127.0.0.1:{self.port}", "--hostname", "127.0.0.1",
                "--key-file", str(home / "relay.key"), "--cert-dir", str(home), "--http-port", "off",
                "--stun-port", str(self.stun_port), *serve]
        self.process = None
        try:
            self.start()
        except ServerError:
            self.directory.cleanup()
            raise

    @property
    def pid(self):
        return self.process.pid

    def cpu_seconds(self):
        """User and system time of the process since it was started."""
        times = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mib(self):
        pages = int(pathlib.Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def last_log(self):
        return self.log.read_text(errors="replace")[-2000:]

    def launch(self):
        """Starts the process and does not wait until it listens."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(pinned(self.core, self.command), stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)

    def start(self):
        self.launch()
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                time.sleep(0.3)  # STUN and the rest of the start-up.
                return
            except OSError:
                time.sleep(0.05)
        self.end()
        raise ServerError("a server did not start; its log says:\n" + self.last_log())

    def kill_and_launch(self):
        """As after a crash: the same key, certificate and port."""
        self.process.kill()
        self.process.wait()
        self.launch()

    def end(self):
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()
        self.directory.cleanup()
