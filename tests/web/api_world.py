"""The app between pretend services, and a runner for the calls of `openapi_examples.json`."""

from __future__ import annotations

import io
import re
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from PIL import Image

from app import create_app
from dalla.errors import Unavailable
from dalla.records.job import Job
from dalla.records.notice import Delivery
from dalla.times import iso
from dalla.web import openapi
from dalla.wiring import Container
from tests.conftest import Client, make_settings, png
from tests.engines.standin_trainer import lora_file
from tests.fakes.comfyui import ComfyFake
from tests.fakes.gemini import GeminiFake
from tests.fakes.graph import ACCOUNT, TOKEN, GraphFake
from tests.fakes.receiver import ReceiverFake
from tests.fakes.x import XFake
from tests.services.training_world import World as TrainingWorld

Json = dict[str, Any]
SECONDS = 60.0


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (900, 1100), (30, 90, 160)).save(out, "JPEG")
    return out.getvalue()


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for n in range(3):
            archive.writestr(f"portraits/{n}.png", png((n * 70, 40, 200), (640, 800)))
            archive.writestr(f"portraits/{n}.txt", f"luna_character, picture {n}, smiling")
    return out.getvalue()


def weights() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        lora_file(Path(folder) / "style.safetensors", 3.0)
        return (Path(folder) / "style.safetensors").read_bytes()


FILES: dict[str, bytes] = {
    "picture.png": png((200, 80, 20), (640, 800)),
    "picture.txt": b"luna_character, smiling",
    "second.png": png((20, 80, 200), (800, 640)),
    "third.jpg": jpeg(),
    "pictures.zip": zipped(),
    "mask.png": png((255, 255, 255), (640, 800)),
    "style.safetensors": weights(),
}


class ApiWorld:
    """A running app with everything it talks to; `run(call)` makes one documented call."""

    def __init__(self, root: Path) -> None:
        self._stack = ExitStack()
        enter = self._stack.enter_context
        self.comfy, self.x, self.gemini = enter(ComfyFake()), enter(XFake()), enter(GeminiFake())
        self.graph, self.receiver = enter(GraphFake({ACCOUNT: TOKEN})), enter(ReceiverFake())
        settings = make_settings(
            root,
            COMFYUI_URL=self.comfy.url,
            DALLA_IMAGE_ENGINE="comfyui",
            GEMINI_BASE_URL=self.gemini.url,
            GEMINI_API_KEY=self.gemini.key,
            INSTAGRAM_GRAPH_URL=self.graph.url,
            X_API_URL=self.x.url,
            DALLA_MIN_GAP_MINUTES="0",
            DALLA_WEBHOOK_PRIVATE="1",
        )
        self.container = Container(settings, environ={})
        self.training = TrainingWorld(self.container)
        self.app = create_app(settings, container=self.container)
        self.app.test_client_class = Client
        self.client = self.app.test_client()
        self.container.restart.ask = lambda: None
        self.container.jobs.register("example.fails", _fails, lane="net")
        self.container.jobs.register("example.draws", self._draws, lane="net")
        self.container.jobs.start()
        self._let_go = threading.Event()
        self.names: Json = {
            "receiver": self.receiver.url + "/hook",
            "picturesUrl": self.receiver.url + "/portraits.zip",
            "folder": str(root / "elsewhere"),
            "later": iso(datetime.now(UTC) + timedelta(days=7)),
            "zipSize": len(FILES["pictures.zip"]),
            "weightsSize": len(FILES["style.safetensors"]),
        }

    def close(self) -> None:
        self._let_go.set()
        self.container.jobs.stop()
        self.training.close()
        self.container.close()
        self._stack.close()

    # ------------------------------------------------------------ one call

    def run(self, call: Json) -> Any:
        """Make a call of the examples: what has to be there first, the request, what is remembered of its answer."""
        if "before" in call:
            getattr(self, f"_before_{call['before']}")()
        answer = self.send(call)
        end = time.monotonic() + SECONDS
        while "until" in call and time.monotonic() < end:
            ((name, wanted),) = call["until"].items()
            if answer.json.get(name) in wanted:
                break
            time.sleep(0.05)
            answer = self.send(call)
        if answer.status_code < 400 and answer.mimetype == "application/json":
            for name, pointer in call.get("keep", {}).items():
                self.names[name] = _at(answer.json, pointer)
            if call.get("wait"):
                task = self.client.get(f"/api/tasks/{answer.json['taskId']}?wait={SECONDS:.0f}").json
                assert task["status"] == "completed", task
        if "after" in call:
            getattr(self, f"_after_{call['after']}")()
        return answer

    def send(self, call: Json) -> Any:
        """Send the request of a call, ids filled in."""
        method, path = call["call"].split(" ", 1)
        values = {name: quote(str(self.fill(value)), safe="/") for name, value in call.get("path", {}).items()}
        address = re.sub(r"{(\w+)}", lambda found: values[found[1]], path)
        query = {name: _text(self.fill(value)) for name, value in call.get("query", {}).items()}
        if query:
            address += "?" + urlencode(query)
        options: Json = {"headers": {"X-Dalla": "1", **self.fill(call.get("headers", {}))}}
        if "body" in call:
            options["data"] = orjson.dumps(self.fill(call["body"]))
            options["content_type"] = "application/json"
        elif "raw" in call:
            options |= {"data": FILES[call["raw"][1:]], "content_type": "application/octet-stream"}
        elif "form" in call:
            options |= {"data": self._form(call["form"]), "content_type": "multipart/form-data"}
        if call.get("stream"):
            options["buffered"] = False
        return self.client.open(address, method=method, **options)

    def _form(self, form: Json) -> Json:
        made: Json = {}
        for name, value in form.items():
            files = [
                (io.BytesIO(FILES[one[1:]]), one[1:])
                for one in (value if isinstance(value, list) else [value])
                if one.startswith("@")
            ]
            made[name] = files or self.fill(value)
        return made

    def fill(self, value: Any) -> Any:
        """Put what earlier calls answered in the place of `{name}`."""
        if isinstance(value, dict):
            return {key: self.fill(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.fill(one) for one in value]
        if not isinstance(value, str):
            return value
        whole = re.fullmatch(r"{(\w+)}", value)
        return self.names[whole[1]] if whole else re.sub(r"{(\w+)}", lambda found: str(self.names[found[1]]), value)

    # ------------------------------------------------------------ what some calls need

    def _before_busy(self) -> None:
        self.comfy.pause()  # what runs now does not end by itself

    def _after_idle(self) -> None:
        self.comfy.resume()

    def _before_keys(self) -> None:
        keys = {_camel(name): value for name, value in self.x.user.keys.items()}
        keys |= {"instagramAccountId": ACCOUNT, "instagramApiKey": TOKEN}
        self.client.patch(f"/api/characters/{self.names['character']}", json=keys)

    def _before_unconfirmed(self) -> None:
        post = self.client.post(
            "/api/posts",
            json={
                "characterId": self.names["character"],
                "platform": "twitter",
                "mediaIds": [self.names["media"]],
                "caption": "Lost on the way",
            },
        ).json
        for status in ("scheduled", "claimed", "publishing", "unconfirmed"):
            self.container.post_rows.transition(post["id"], status)
        self.names["unconfirmed"] = post["id"]

    def _before_old_token(self) -> None:
        self.container.account_rows.save(
            self.names["character"], "instagram", token_issued_at=iso(datetime.now(UTC) - timedelta(days=2))
        )
        self.graph.advance(seconds=2 * 86400)

    def _before_refused(self) -> None:
        made = Delivery(
            id="dlv_refused",
            webhook_id=self.names["hook"],
            event="task.failed",
            body={"id": "dlv_refused", "event": "task.failed", "timestamp": iso(datetime.now(UTC)), "data": {}},
            status="failed",
            attempts=5,
        )
        self.names["refused"] = self.container.notice_rows.add_delivery(made).id

    def _before_quarantined(self) -> None:
        self.names["quarantined"] = id = self.container.jobs.submit("example.draws", {}, title="Draws").id
        self._until(lambda: self.container.jobs.get(id).status == "running")
        self.container.tasks.transition(id, "interrupted", crashes=2, quarantined=True)

    def _before_waiting(self) -> None:
        waits = Job(id="job_waits", kind="example.waits", lane="gpu", title="Waits")  # a kind that nobody runs
        self.names["waiting"] = self.container.tasks.insert(waits).id

    def _before_session(self) -> None:
        self.names["session"] = self.client.get("/api/auth/sessions").json["items"][0]["id"]

    def _after_session(self) -> None:
        self.client.post("/api/auth/login", json={"name": "ada", "password": "correct horse battery"})

    def _before_hold(self) -> None:
        self.training.how(steps=4, hold=2)

    def _after_begun(self) -> None:
        self.training.until_step(self.names["held"], 2)

    def _after_paused(self) -> None:
        self._until_task(self.names["held"], "paused")
        self.training.how(steps=4, hold=3)

    def _after_stopped(self) -> None:
        self._until_task(self.names["held"], "cancelled")

    def _before_failed(self) -> None:
        self.names["failed"] = self.container.jobs.submit("example.fails", {}, title="Fails").id
        self._until_task(self.names["failed"], "failed")

    def _before_drawing(self) -> None:
        self.names["drawing"] = id = self.container.jobs.submit("example.draws", {}, title="Draws").id
        self._until(lambda: self.container.jobs.preview_of(id) is not None)

    def _draws(self, context: Any, payload: Json) -> Json:
        context.preview(FILES["picture.png"], "image/png")
        self._let_go.wait(SECONDS)
        return {}

    def _until_task(self, id: str, status: str) -> None:
        self._until(lambda: self.container.jobs.get(id).status == status)

    @staticmethod
    def _until(true: Callable[[], bool]) -> None:
        end = time.monotonic() + SECONDS
        while not true():
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.02)


def _fails(context: Any, payload: Json) -> Json:
    raise Unavailable("This always fails.")


def _at(value: Any, pointer: str) -> Any:
    """Return what `items.0.id` names; `…/` at its end: the last part of that address."""
    for part in pointer.removesuffix("/").split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value.rpartition("/")[2] if pointer.endswith("/") else value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


class Answers:
    """Whether answers fit what the served document says about them."""

    def __init__(self, document: Json) -> None:
        self.document = document
        self._known: dict[str, Any] = {}

    def problems(self, call: str, answer: Any) -> list[str]:
        """Return what does not fit: the status, the content type, the body."""
        import jsonschema_rs

        method, path = call.split(" ", 1)
        responses = self.document["paths"][path][method.lower()]["responses"]
        response = responses.get(str(answer.status_code))
        if response is None:
            return [f"{call}: {answer.status_code} is not documented: {answer.text[:300]}"]
        if "$ref" in response:
            response = self.document["components"]["responses"][response["$ref"].rpartition("/")[2]]
        content = response.get("content", {})
        if content and answer.mimetype not in content:
            return [f"{call}: {answer.mimetype} is not one of {', '.join(content)}"]
        if not answer.mimetype.endswith("json") or not content:
            return []
        schema = content[answer.mimetype].get("schema", {})
        key = orjson.dumps(schema).decode()
        if key not in self._known:
            whole = {**schema, "components": self.document["components"]}
            self._known[key] = jsonschema_rs.Draft202012Validator(whole)
        found = self._known[key].iter_errors(answer.json)
        return [f"{call}: {'/'.join(map(str, e.instance_path))}: {e.message[:200]}" for e in found][:5]


def document(app: Any) -> Json:
    """Return the document as it is served."""
    served: Json = app.test_client().get("/api/openapi.json").json
    assert served["openapi"] == "3.1.0"
    return served


def calls() -> list[Json]:
    return openapi.examples()["calls"]  # type: ignore[no-any-return]
