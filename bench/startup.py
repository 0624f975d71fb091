"""Cold start: from `python app.py` to the first byte of `/`, and the memory of the idle dashboard.

The peer is the same interpreter serving one static page with Flask and waitress alone: what the stack
costs before the app adds anything. Run: python -m bench.startup
"""

from __future__ import annotations

import http.client
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.figures import save

ROOT = Path(__file__).resolve().parent.parent
PEER = """
import sys
from flask import Flask, send_from_directory
from waitress import serve
app = Flask("peer")
@app.get("/")
def index(): return send_from_directory(sys.argv[2], "index.html")
serve(app, host="127.0.0.1", port=int(sys.argv[1]))
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def first_byte(command: list[str], port: int) -> tuple[float, subprocess.Popen[bytes]]:
    """Start a server; return (seconds until `/` answered 200, its process)."""
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while time.perf_counter() - began < 60:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/")
            if connection.getresponse().status == 200:
                return time.perf_counter() - began, process
        except OSError:
            time.sleep(0.002)
        finally:
            connection.close()
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
    raise RuntimeError("no answer within a minute")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(20)


def resident(pid: int) -> int:
    import psutil

    process = psutil.Process(pid)
    return process.memory_info().rss + sum(child.memory_info().rss for child in process.children(recursive=True))


def main(runs: int = 7, idle_seconds: float = 10.0) -> None:
    new, ours, peer = [], [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as data:
            for times in (new, ours):  # the first start makes the database
                port = free_port()
                command = [sys.executable, "app.py", "--no-browser", "--port", str(port), "--data-dir", data]
                seconds, process = first_byte(command, port)
                times.append(seconds)
                stop(process)
        port = free_port()
        seconds, process = first_byte([sys.executable, "-c", PEER, str(port), str(ROOT / "static")], port)
        peer.append(seconds)
        stop(process)
    with tempfile.TemporaryDirectory() as data:
        port = free_port()
        command = [sys.executable, "app.py", "--no-browser", "--port", str(port), "--data-dir", data]
        _, process = first_byte(command, port)
        time.sleep(idle_seconds)
        memory = resident(process.pid)
        stop(process)
    first, mine, theirs = statistics.median(new), statistics.median(ours), statistics.median(peer)
    print(
        f"cold start to the first byte of /   {mine:.2f} s  (bare Flask + waitress {theirs:.2f} s, ratio {mine / theirs:.1f}; goal 1.5 s)"
    )
    print(f"the very first, which makes the database   {first:.2f} s")
    print(f"memory of the idle dashboard        {memory / 1e6:.0f} MB  (goal 150 MB)")
    save(
        "startup",
        {
            "firstByteSeconds": mine,
            "firstStartSeconds": first,
            "peerSeconds": theirs,
            "residentBytes": memory,
            "cores": os.cpu_count(),
        },
    )


if __name__ == "__main__":
    main()
