"""1,000 due posts against pretend platforms, the app killed ten times on the way: none twice, none lost.

Real processes: `python app.py` with its own data folder, Instagram and X as HTTP servers that count what
was published. The kills (SIGKILL) come after every ninth of the posts, wherever the app is at that moment.
A call that was killed half-way on X may end "unconfirmed": the app never repeats it and asks. Here the bench is the
person who looks at the account and presses one of the two buttons; then all posts must be there, once each.
"""

from __future__ import annotations

import argparse
import collections
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import requests

from tests.conftest import png
from tests.fakes.graph import GraphFake
from tests.fakes.x import XFake
from tests.test_app import App

CHARACTERS = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--posts", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=10)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, GraphFake(open=True) as graph, XFake(open=True) as x:
        graph.quota_total = 10_000
        run(Path(folder), graph, x, args.posts, args.kills)


def run(folder: Path, graph: Any, x: Any, posts: int, kills: int) -> None:
    env = {
        "INSTAGRAM_GRAPH_URL": graph.url,
        "X_API_URL": x.url,
        "DALLA_MIN_GAP_MINUTES": "0",
        "DALLA_LATE_WINDOW_MINUTES": "1000",
        "DALLA_LOG_LEVEL": "WARNING",
    }
    port = _free_port()
    env["PUBLIC_BASE_URL"] = f"http://127.0.0.1:{port}"

    def start() -> App:
        return App(folder, "--port", str(port), **env)

    app = start()
    captions = _plan(app.url, posts)
    began = time.monotonic()
    marks = [round(posts * (n + 1) / (kills + 1)) for n in range(kills)]
    restarts = 0
    asked = 0
    while True:
        done = len(graph.published) + len(x.posted)
        if marks and done >= marks[0]:
            marks.pop(0)
            app.stop(signal.SIGKILL)
            app = start()
            restarts += 1
        counts = requests.get(f"{app.url}/api/posts?limit=1", timeout=30).json()["counts"]
        if sum(counts[s] for s in ("scheduled", "claimed", "uploading", "publishing")) == 0:
            if not counts["unconfirmed"]:
                break
            asked += _settle(app.url, _live(graph, x))
        time.sleep(0.05)
    seconds = time.monotonic() - began
    app.stop()
    live = _live(graph, x)
    twice = sum(n - 1 for n in live.values() if n > 1)
    lost = len(captions - live.keys())
    print(f"posts {posts}, kills {restarts}: published {sum(live.values())}, twice {twice}, lost {lost}")
    print(f"asked a person: {asked}")
    print(f"states: { ({k: v for k, v in counts.items() if v}) }")
    print(f"{seconds:.0f} s, {posts / seconds:.1f} posts/s with the restarts")


def _plan(url: str, posts: int) -> set[str]:
    """Create characters, a picture and the posts, all due at once."""
    upload = {"file": ("a.png", png(size=(640, 640)), "image/png")}
    media = requests.post(f"{url}/api/media", files=upload, timeout=30).json()
    media_id = (media.get("items") or [media])[0]["id"]
    requests.post(f"{url}/api/scheduler/pause", json={"reason": "bench"}, timeout=30).raise_for_status()
    ids = []
    for n in range(CHARACTERS):
        body = {
            "name": f"C{n}",
            "instagramAccountId": f"1784{n:013}",
            "instagramApiKey": f"token-{n:08}",
            "twitterAppKey": "app",
            "twitterAppSecret": "secret",
            "twitterAccessToken": f"{n}-token",
            "twitterAccessSecret": "secret",
        }
        ids.append(requests.post(f"{url}/api/characters", json=body, timeout=30).json()["id"])
    captions = set()
    for n in range(posts):
        caption = f"post number {n} of the bench"
        captions.add(caption)
        body = {
            "characterId": ids[n // 2 % CHARACTERS],
            "platform": ("instagram", "twitter")[n % 2],
            "mediaIds": [media_id],
            "caption": caption,
            "scheduledAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1)),
            "publish": "schedule",
            "dryRun": False,
        }
        requests.post(f"{url}/api/posts", json=body, timeout=30).raise_for_status()
    requests.post(f"{url}/api/scheduler/resume", json={}, timeout=30).raise_for_status()
    return captions


def _live(graph: Any, x: Any) -> collections.Counter[str]:
    """How often each caption stands on the platforms."""
    instagram = collections.Counter(p["caption"] for p in graph.published)
    return instagram + collections.Counter(p["written"] for p in x.posted)


def _settle(url: str, live: collections.Counter[str]) -> int:
    """Look at the account and say of each unconfirmed post whether it is there."""
    posts = requests.get(f"{url}/api/posts?status=unconfirmed&limit=100", timeout=30).json()["items"]
    for post in posts:
        there = live[post["caption"]] > 0
        body = {"posted": True, "platformPostId": "1234567890"} if there else {"posted": False, "again": True}
        requests.post(f"{url}/api/posts/{post['id']}/confirm", json=body, timeout=30).raise_for_status()
    return len(posts)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main()
