"""All settings: one table, one order of precedence, one reader of the environment.

command-line flag > environment > `.env` > `data/settings.json` (what the page writes) > default.
A value that comes from a flag, the environment or `.env` is *locked*: the page shows it and cannot
change it. Secret values never sit in `settings.json`; they go to the secret store.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson
from pydantic.alias_generators import to_camel

from dalla.errors import Conflict, DallaError, InvalidInput, NotFound, Stale, StorageError
from dalla.paths import write_atomic
from dalla.settings_values import ENV, MASK, masked, objection, parse, plain, variable, without_password

ROOT = Path(__file__).resolve().parent.parent
MAX_NUMBER = 1_000_000  # no setting means more; later sums with it must stay within dates and floats


@dataclass(frozen=True)
class Row:
    """One setting. `kind` is str, int, float, bool, path, url, zone, json or `a|b|c` (a choice)."""

    name: str  # attribute, snake_case; camelCase in JSON
    env: str
    kind: str
    default: Any
    help: str
    group: str = "general"
    secret: bool = False
    live: bool = True  # False: takes effect at the next start
    label: str = ""  # what the page calls it; empty: made from the name
    unit: str = ""  # of a number, for the page: "days", "minutes"
    min: float = 0
    max: float = MAX_NUMBER

    @property
    def key(self) -> str:
        return to_camel(self.name)

    @property
    def title(self) -> str:
        return self.label or self.name.replace("_", " ").capitalize()


ROWS: tuple[Row, ...] = (
    Row("host", "DALLA_HOST", "str", "127.0.0.1", "Address to listen on. Anything but loopback needs accounts.", live=False, label="Address to listen on"),
    Row("port", "DALLA_PORT", "int", 5050, "Port to listen on.", live=False, label="Port", max=65_535),
    Row("data_dir", "DALLA_DATA_DIR", "path", "data", "Where characters, media and the database live.", "storage", live=False, label="Data folder"),
    Row("training_data_dir", "DALLA_TRAINING_DATA_DIR", "path", "training_data", "Where training sets are written.", "storage", live=False, label="Training sets"),
    Row("loras_dir", "DALLA_LORAS_DIR", "path", "loras", "Where trained LoRAs are kept.", "storage", live=False, label="LoRAs"),
    Row("models_dir", "DALLA_MODELS_DIR", "path", "models", "Weights for the built-in engine: .safetensors files or diffusers folders.", "storage", live=False, label="Models"),
    Row("trash_days", "DALLA_TRASH_DAYS", "int", 30, "Days after which trashed pictures and characters are deleted for good.", "storage", label="Keep the trash for", unit="days", min=1, max=3650),
    Row("timezone", "DALLA_TIMEZONE", "zone", "", "IANA time zone, e.g. Europe/Berlin. Empty: this computer's.", label="Time zone"),
    Row("log_level", "DALLA_LOG_LEVEL", "DEBUG|INFO|WARNING|ERROR", "INFO", "How much is written to the log.", live=False, label="Log"),
    Row("dry_run", "DALLA_DRY_RUN", "bool", False, "Never publish anything; show what would have been sent.", "publishing", label="Dry run"),
    Row("auth", "DALLA_AUTH", "auto|on|off", "auto", "auto: no login needed on this computer until the first account exists.", "security", live=False, label="Sign-in"),
    Row("allowed_hosts", "DALLA_ALLOWED_HOSTS", "str", "", "Further host names (comma separated) this app may be reached by.", "security", live=False, label="Further host names"),
    Row("trusted_proxies", "DALLA_TRUSTED_PROXIES", "str", "", "Addresses (comma separated) of reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.", "security", live=False, label="Trusted reverse proxies"),
    Row("session_days", "DALLA_SESSION_DAYS", "int", 30, "Days for which 'remember me' keeps somebody signed in.", "security", label="Stay signed in for", unit="days", min=1, max=3650),
    Row("rate_limit", "DALLA_RATE_LIMIT", "int", 600, "Requests a minute that one API token may make. 0: no limit.", "security", label="Limit of an API token", unit="requests a minute", max=100_000),
    Row("pickle_weights", "DALLA_PICKLE_WEIGHTS", "bool", False, "Let .ckpt, .pt and .pth weights be converted to .safetensors. They are never loaded as they are.", "security", label="Convert pickled weights"),
    Row("secret_key", "DALLA_SECRET_KEY", "str", "", "Key that encrypts stored credentials. Empty: a key file in data/secrets/.", "security", secret=True, live=False, label="Key of the credentials"),
    Row("image_engine", "DALLA_IMAGE_ENGINE", "auto|comfyui|builtin", "auto", "Which engine draws. auto: ComfyUI when it answers, otherwise the built-in one.", "engines", label="Which engine draws"),
    Row("device", "DALLA_DEVICE", "auto|cpu|cuda|mps", "auto", "Where the built-in engine computes.", "engines", label="Device"),
    Row("precision", "DALLA_PRECISION", "auto|fp32|fp16|bf16", "auto", "Number format of the built-in engine. auto: bf16 on CUDA, fp32 on the CPU.", "engines", label="Precision"),
    Row("engine_idle_minutes", "DALLA_ENGINE_IDLE_MINUTES", "float", 10.0, "Minutes without work after which the built-in engine frees its memory.", "engines", label="Free the memory after", unit="minutes", max=10_080),
    Row("model_families", "DALLA_MODEL_FAMILIES", "json", {}, 'Family per model name where detection is wrong: {"file.safetensors": "sdxl"}.', "engines", label="Families of models"),
    Row("comfyui_url", "COMFYUI_URL", "url", "http://127.0.0.1:8188", "Address of the ComfyUI server. A path prefix is allowed.", "engines", label="Address of ComfyUI"),
    Row("comfyui_headers", "COMFYUI_HEADERS", "json", {}, 'Extra headers for ComfyUI behind a proxy: {"Authorization": "Bearer …"}.', "engines", secret=True, label="Headers for ComfyUI"),
    Row("comfyui_timeout", "COMFYUI_TIMEOUT", "float", 600.0, "Seconds without any sign of life from ComfyUI after which a generation is given up.", "engines", label="Give up after", unit="seconds", min=1, max=86_400),
    Row("comfyui_lora_dir", "COMFYUI_LORA_DIR", "path", "", "Folder of ComfyUI's LoRAs on this machine; new LoRAs are copied there.", "engines", label="ComfyUI's LoRA folder"),
    Row("gemini_api_key", "GEMINI_API_KEY", "str", "", "Google Gemini key for captions. Without it captions are composed offline.", "captions", secret=True, label="Gemini key"),
    Row("gemini_model", "GEMINI_MODEL", "str", "gemini-3.5-flash-lite", "Gemini model for captions.", "captions", label="Gemini model"),
    Row("gemini_base_url", "GEMINI_BASE_URL", "url", "", "Another address for the Gemini API.", "captions", label="Address of Gemini"),
    Row("gemini_api_version", "GEMINI_API_VERSION", "v1|v1beta", "v1", "Version of the Gemini API; some new models answer only v1beta.", "captions", label="Version of the API"),
    Row("caption_engine", "DALLA_CAPTION_ENGINE", "auto|gemini|local|composer", "auto", "Who writes captions. auto: Gemini when a key is set, else the local server when one is set, else composed offline.", "captions", label="Who writes captions"),
    Row("caption_url", "DALLA_CAPTION_URL", "url", "", "Address of a local OpenAI-compatible server (Ollama, LM Studio, llama.cpp), e.g. http://127.0.0.1:11434/v1.", "captions", label="Address of the caption server"),
    Row("caption_model", "DALLA_CAPTION_MODEL", "str", "", "Model on the local caption server. Empty: the first it offers.", "captions", label="Model on the caption server"),
    Row("caption_api_key", "DALLA_CAPTION_API_KEY", "str", "", "Key for the local caption server, where it wants one.", "captions", secret=True, label="Key of the caption server"),
    Row("caption_send_image", "DALLA_CAPTION_SEND_IMAGE", "bool", True, "Send a small copy of the picture (no metadata) along, so that the caption fits it.", "captions", label="Show the picture to the writer"),
    Row("caption_failure", "DALLA_CAPTION_FAILURE", "fallback|hold", "fallback", "When a caption engine fails on a scheduled post: compose it offline, or hold the post until a person writes one.", "captions", label="When the writer fails"),
    Row("caption_language", "DALLA_CAPTION_LANGUAGE", "str", "", "Language of captions, e.g. English or Deutsch. Empty: the language of the character's texts.", "captions", label="Language"),
    Row("instagram_graph_url", "INSTAGRAM_GRAPH_URL", "url", "https://graph.instagram.com", "Host of the Instagram Graph API: graph.instagram.com (Instagram login) or graph.facebook.com (Facebook login).", "publishing", label="Instagram Graph API"),
    Row("instagram_graph_version", "INSTAGRAM_GRAPH_VERSION", "str", "v26.0", "Version of the Instagram Graph API.", "publishing", label="Version of the Graph API"),
    Row("instagram_app_id", "INSTAGRAM_APP_ID", "str", "", "Meta app id; needed only to renew Facebook-login tokens.", "publishing", label="Meta app id"),
    Row("instagram_app_secret", "INSTAGRAM_APP_SECRET", "str", "", "Meta app secret; needed only to renew Facebook-login tokens.", "publishing", secret=True, label="Meta app secret"),
    Row("x_api_url", "X_API_URL", "url", "https://api.x.com", "Address of the X API.", "publishing", label="X API"),
    Row("public_base_url", "PUBLIC_BASE_URL", "url", "", "Public https address of this app, from which Instagram fetches pictures.", "publishing", label="Public address of this app"),
    Row("public_url_minutes", "DALLA_PUBLIC_URL_MINUTES", "int", 1440, "Minutes for which a signed picture address works.", "publishing", label="A picture's address works for", unit="minutes", min=1, max=525_600),
    Row("s3_endpoint", "S3_ENDPOINT", "url", "", "S3-compatible bucket (R2, MinIO, AWS …) that Instagram fetches pictures from, instead of this app.", "publishing", label="Address of the bucket"),
    Row("s3_bucket", "S3_BUCKET", "str", "", "Name of the bucket.", "publishing", label="Name of the bucket"),
    Row("s3_region", "S3_REGION", "str", "auto", "Region of the bucket.", "publishing", label="Region"),
    Row("s3_access_key", "S3_ACCESS_KEY", "str", "", "Access key of the bucket.", "publishing", secret=True, label="Access key"),
    Row("s3_secret_key", "S3_SECRET_KEY", "str", "", "Secret key of the bucket.", "publishing", secret=True, label="Secret key"),
    Row("s3_public_url", "S3_PUBLIC_URL", "url", "", "Public address of the bucket. Empty: signed addresses that end after a day.", "publishing", label="Public address of the bucket"),
    Row("approval", "DALLA_APPROVAL", "automatic|required", "automatic", "Whether posts made by scheduled tasks wait for a person. A task may say otherwise.", "publishing", label="Approval"),
    Row("late_window_minutes", "DALLA_LATE_WINDOW_MINUTES", "int", 180, "How late a post may still go out; after that it counts as missed and a person is asked.", "publishing", label="A late post still goes out for", unit="minutes", max=525_600),
    Row("min_gap_minutes", "DALLA_MIN_GAP_MINUTES", "int", 5, "Least minutes between two posts of one account.", "publishing", label="Gap between two posts", unit="minutes", max=10_080),
    Row("duplicate_days", "DALLA_DUPLICATE_DAYS", "int", 30, "Warn when the same picture or caption went to the same account within so many days.", "publishing", label="Warn of repeats within", unit="days", max=3650),
    Row("x_repeat_unconfirmed", "DALLA_X_REPEAT_UNCONFIRMED", "bool", False, "After a lost answer of X that cannot be resolved: post again by itself (X refuses true duplicates) instead of asking.", "publishing", label="Repeat unconfirmed posts on X"),
    Row("missed_run_minutes", "DALLA_MISSED_RUN_MINUTES", "int", 180, "How late a missed run may still start, for tasks that run late once.", "scheduler", label="Catch up a missed run for", unit="minutes", max=525_600),
    Row("quiet_hours", "DALLA_QUIET_HOURS", "str", "", "Hours without posts, in each character's zone, e.g. 23:00-07:00; posts wait until they end.", "scheduler", label="Quiet hours"),
    Row("webhook_private", "DALLA_WEBHOOK_PRIVATE", "bool", False, "Allow webhooks to addresses in the private network.", "webhooks", label="Webhooks in the private network"),
    Row("database_url", "DATABASE_URL", "str", "", "PostgreSQL address for several machines. Not in use yet: it can be tested, the app keeps to SQLite and one process.", "scale", secret=True, live=False, label="PostgreSQL"),
    Row("redis_url", "REDIS_URL", "str", "", "Redis address for several machines. Not in use yet: it can be tested, the app keeps to SQLite and one process.", "scale", secret=True, live=False, label="Redis"),
)  # fmt: skip
BY_NAME = {row.name: row for row in ROWS}
_BY_ANY = {**BY_NAME, **{row.key: row for row in ROWS}, **{row.env: row for row in ROWS}}
FIXED = ("data_dir", "secret_key")  # both are needed before anything saved can be read
KEPT_UNDOS = 20
_WHERE = {"flag": "on the command line", "env": "in the environment", "dotenv": "in .env"}


class SecretValues(Protocol):
    """Where secret settings are kept (the secret store)."""

    def get(self, name: str) -> str | None: ...
    def put(self, name: str, value: str) -> None: ...
    def delete(self, name: str) -> None: ...


@dataclass(frozen=True)
class Wish:
    """One change that was looked at: what is to be kept (`raw`; None: nothing, back to the default) and what it means."""

    row: Row
    raw: Any
    value: Any


class Settings:
    """The values in force, read as attributes: `settings.comfyui_url`, `settings.data_dir`.

    Readers always see one consistent snapshot; `change` swaps it. Paths come back absolute. A setting that
    takes effect at the next start keeps its value here; what was saved for it is told by `describe` (`pending`).
    """

    def __init__(
        self,
        values: dict[str, Any],
        sources: dict[str, str],
        env_file: Path | None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`sources`: default, file, env, dotenv or flag per name. `environ` is what `env:NAME` points into."""
        self._values = values
        self._sources = sources
        self._environ = environ or {}
        self._lock = threading.Lock()
        self._secrets: SecretValues | None = None
        self._references: dict[str, str] = {}  # secret settings that point at an environment variable
        self._later: dict[str, Any] = {}  # saved values that wait for the next start
        self._undo: OrderedDict[str, dict[str, tuple[Any, Any]]] = OrderedDict()  # id -> name -> (before, after)
        self._boot, self._revision = os.urandom(6).hex(), 0
        self.env_file = env_file

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"no setting is called '{name}'") from None

    @property
    def file(self) -> Path:
        return Path(self._values["data_dir"]) / "settings.json"

    @classmethod
    def load(
        cls,
        *,
        environ: Mapping[str, str] | None = None,
        env_file: Path | None = None,
        flags: Mapping[str, Any] | None = None,
        root: Path = ROOT,
    ) -> Settings:
        """Read every source once. Raises InvalidInput naming the variable that cannot be used."""
        from dotenv import dotenv_values

        environ = os.environ if environ is None else environ
        env_file = root / ".env" if env_file is None else env_file
        dotenv = {k: v for k, v in dotenv_values(env_file).items() if v is not None} if env_file.is_file() else {}
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}

        def take(row: Row, file: Mapping[str, Any]) -> None:
            for source, table, key in (
                ("flag", flags or {}, row.name),
                ("env", environ, row.env),
                ("dotenv", dotenv, row.env),
                ("file", file, row.key),
            ):
                raw = table.get(key)
                if raw is not None and not (source in ("env", "dotenv") and raw == ""):
                    values[row.name] = parse(row, raw, root)
                    sources[row.name] = source
                    return
            values[row.name] = parse(row, row.default, root)
            sources[row.name] = "default"

        take(BY_NAME["data_dir"], {})
        file = _read_file(Path(values["data_dir"]) / "settings.json")
        for row in ROWS:
            if row.name != "data_dir":
                take(row, file)
        return cls(values, sources, env_file if env_file.is_file() else None, {**dotenv, **environ})

    def attach_secrets(self, secrets: SecretValues) -> None:
        """Let secret settings be kept in (and read from) the secret store."""
        self._secrets = secrets
        for row in ROWS:
            if row.secret and not self._is_locked(row):
                stored = secrets.get(_secret_name(row))
                if stored is not None:
                    self._values[row.name] = self._resolve(row, stored)
                    self._sources[row.name] = "file"
                    self._note_reference(row, stored)

    # ------------------------------------------------------------------ what there is

    @property
    def etag(self) -> str:
        """A text that changes with every change (for `ETag` / `If-Match`)."""
        return f"{self._boot}-{self._revision}"

    def describe(self) -> list[dict[str, Any]]:
        """Return every setting for `GET /api/settings`; secret values only as a mask (`••••6f2a`) and `set`.

        `value` is in force. `pending`: another value is saved and waits for the next start (`pendingValue`).
        `source` is default, file (settings.json or the secret store), env, dotenv (.env) or flag.
        """
        return [self._describe(row) for row in ROWS]

    def _describe(self, row: Row) -> dict[str, Any]:
        pending = row.name in self._later
        entry = {
            "name": row.key,
            "env": row.env,
            "kind": "choice" if "|" in row.kind else row.kind,
            "choices": row.kind.split("|") if "|" in row.kind else None,
            "group": row.group,
            "label": row.title,
            "help": row.help,
            "unit": row.unit or None,
            "min": row.min if row.kind in ("int", "float") else None,
            "max": row.max if row.kind in ("int", "float") else None,
            "secret": row.secret,
            "value": self._shown(row, self._values[row.name]),
            "set": bool(self._values[row.name]),
            "default": None if row.secret else plain(row.default),
            "source": self._sources[row.name],
            "locked": self._is_locked(row) or row.name in FIXED,
            "needsRestart": not row.live,
            "pending": pending,
            "problem": self._problem(row),
        }
        if pending:
            entry["pendingValue"] = self._shown(row, self._later[row.name])
        return entry

    def _shown(self, row: Row, value: Any) -> Any:
        if row.kind == "url" and value:
            return without_password(str(value))  # the environment and an older file may have one
        if not row.secret:
            return plain(value)
        reference = self._references.get(row.name)
        return f"{ENV}{reference}" if reference else masked(value)

    def _problem(self, row: Row) -> str | None:
        reference = self._references.get(row.name)
        if reference and not self._environ.get(reference):
            return f"The environment has no {reference}, so this counts as empty."
        return None

    def pending(self) -> list[str]:
        """Return the keys of the settings whose saved value waits for the next start."""
        return [BY_NAME[name].key for name in self._later]

    # ------------------------------------------------------------------ changing

    def plan(self, changes: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Say what `change` would do: [{name, label, group, before, after, needsRestart}]. Saves nothing; raises the same."""
        wishes = self._wishes(changes)
        before = {row["name"]: row for row in self.describe()}
        copy = self._copy()
        copy._apply(wishes)
        rows = {row["name"]: row for row in copy.describe()}
        result = []
        for wish in wishes:
            old, new = before[wish.row.key], rows[wish.row.key]
            was = old.get("pendingValue", old["value"])
            will = new.get("pendingValue", new["value"])
            if was != will or (wish.row.secret and wish.raw is not None):
                result.append(
                    {
                        "name": wish.row.key,
                        "label": wish.row.title,
                        "group": wish.row.group,
                        "before": was,
                        "after": will,
                        "needsRestart": not wish.row.live,
                    }
                )
        return result

    def trial(self, changes: Mapping[str, Any]) -> Settings:
        """Return a copy with these values in force, those for the next start too. Saves nothing.

        Raises InvalidInput by field, and Conflict for a value that the environment sets.
        """
        copy, wishes = self._copy(), self._wishes(changes)
        copy._apply(wishes)
        copy._values.update({wish.row.name: wish.value for wish in wishes})
        return copy

    def change(self, changes: Mapping[str, Any], *, if_match: str | None = None) -> str | None:
        """Save values (camelCase or environment names; None resets) and put them in force. All or nothing.

        Returns what `undo` takes, None when there was nothing to save. The mask of a secret changes nothing.
        Raises InvalidInput by field, Conflict for a value that the environment sets, Stale, StorageError.
        """
        wishes = self._wishes(changes)
        with self._lock:
            if if_match and if_match != "*" and self.etag not in if_match:
                raise Stale(
                    "The settings were changed elsewhere since this page was loaded. Nothing was saved.",
                    remedy="Look at the new values and save again.",
                )
            return self._keep(wishes) if wishes else None

    def relocate(self, name: str, path: Path) -> None:
        """Save the setting of a folder that was moved, and use it from now on. Raises like `change`."""
        self.change({name: str(path)})
        with self._lock:
            self._values = {**self._values, name: path}
            self._sources = {**self._sources, name: "file"}
            self._later = {key: value for key, value in self._later.items() if key != name}

    def undo(self, id: str) -> list[str]:
        """Take a change back; return the keys. Raises NotFound (too old), Conflict (changed again meanwhile)."""
        with self._lock:
            kept = self._undo.get(id)
            if kept is None:
                raise NotFound("This change can no longer be undone.", remedy="Set the values again.")
            file = _read_file(self.file)
            for name, (_, after) in kept.items():
                if self._kept(BY_NAME[name], file) != after:
                    raise Conflict(
                        f"'{BY_NAME[name].title}' was changed again since.", remedy="Set the value you want by hand."
                    )
            wishes = [self._wish_from_kept(BY_NAME[name], before) for name, (before, _) in kept.items()]
            self._keep(wishes)
            del self._undo[id]
            return [wish.row.key for wish in wishes]

    def _wishes(self, changes: Mapping[str, Any]) -> list[Wish]:
        wishes: dict[str, Wish] = {}
        errors = []
        for key, raw in changes.items():
            row = _BY_ANY.get(key)
            if row is None:
                errors.append({"field": key, "message": "There is no such setting."})
                continue
            if row.secret and isinstance(raw, str) and raw.startswith(MASK):
                continue  # the mask was sent back: unchanged
            if self._is_locked(row):
                raise Conflict(
                    f"{row.env} is set {_WHERE[self._sources[row.name]]}, which wins over this page.",
                    remedy=f"Remove {row.env} from there and restart, or change it there.",
                )
            if row.name in FIXED:
                errors.append({"field": key, "message": f"Set {row.env} in the environment or .env instead."})
                continue
            try:
                wishes[row.name] = self._wish(row, raw)
            except InvalidInput as exc:
                errors.append({"field": key, "message": exc.detail.removeprefix(f"{row.env}: ")})
        if errors:
            raise InvalidInput(_said(errors), errors=errors)
        return list(wishes.values())

    def _wish(self, row: Row, raw: Any) -> Wish:
        if raw is None or (row.secret and raw in ("", {})):
            return Wish(row, None, parse(row, row.default, ROOT))
        if row.secret and variable(raw) is not None:
            return Wish(row, str(raw).strip(), self._resolve(row, raw))
        value = parse(row, raw, ROOT)
        why = objection(row, value)
        if why is not None:
            raise InvalidInput(why)
        if row.secret:
            return Wish(row, value if isinstance(value, str) else json.dumps(value), value)
        return Wish(row, plain(value), value)

    def _wish_from_kept(self, row: Row, kept: Any) -> Wish:
        if kept is None:
            return Wish(row, None, parse(row, row.default, ROOT))
        return Wish(row, kept, self._resolve(row, kept) if row.secret else parse(row, kept, ROOT))

    def _resolve(self, row: Row, stored: str) -> Any:
        """Return what a secret stands for; empty when it points at a variable that is not there."""
        name = variable(stored)
        return parse(row, stored if name is None else self._environ.get(name) or row.default, ROOT)

    def _kept(self, row: Row, file: Mapping[str, Any]) -> Any:
        """Return what is saved for a setting; None when nothing is."""
        if not row.secret:
            return file.get(row.key)
        return self._secrets.get(_secret_name(row)) if self._secrets else None

    def _keep(self, wishes: list[Wish]) -> str:
        """Write what is wished, put it in force and remember what was there. Holds the lock."""
        file = _read_file(self.file)
        before = {wish.row.name: self._kept(wish.row, file) for wish in wishes}
        new = dict(file)
        for wish in wishes:
            if not wish.row.secret:
                new.pop(wish.row.key, None)
                if wish.raw is not None:
                    new[wish.row.key] = wish.raw
        secret = [wish for wish in wishes if wish.row.secret]
        try:
            for wish in secret:
                self._save_secret(wish.row, wish.raw)
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.file, orjson.dumps(new, option=orjson.OPT_INDENT_2) + b"\n")
        except BaseException as exc:
            for wish in secret:  # nothing is saved in part
                with contextlib.suppress(DallaError):
                    self._save_secret(wish.row, before[wish.row.name])
            if isinstance(exc, OSError):
                raise StorageError.from_os(exc, "the settings") from exc
            raise
        self._apply(wishes)
        self._revision += 1
        id = os.urandom(9).hex()
        self._undo[id] = {wish.row.name: (before[wish.row.name], wish.raw) for wish in wishes}
        while len(self._undo) > KEPT_UNDOS:
            self._undo.popitem(last=False)
        return id

    def _apply(self, wishes: list[Wish]) -> None:
        """Put values in force, or note that they wait for the next start."""
        values, sources, later, references = (
            dict(self._values), dict(self._sources), dict(self._later), dict(self._references)
        )  # fmt: skip
        for row, raw, value in ((wish.row, wish.raw, wish.value) for wish in wishes):
            if row.secret:
                references.pop(row.name, None)
                name = variable(raw)
                if name is not None:
                    references[row.name] = name
            if row.live:
                values[row.name] = value
                sources[row.name] = "default" if raw is None else "file"
            elif value == values[row.name]:
                later.pop(row.name, None)
            else:
                later[row.name] = value
        self._values, self._sources, self._later, self._references = values, sources, later, references

    def _copy(self) -> Settings:
        copy = Settings(dict(self._values), dict(self._sources), self.env_file, self._environ)
        copy._secrets, copy._references, copy._later = self._secrets, dict(self._references), dict(self._later)
        return copy

    def _is_locked(self, row: Row) -> bool:
        return self._sources[row.name] in _WHERE

    def _note_reference(self, row: Row, stored: str) -> None:
        name = variable(stored)
        if name is not None:
            self._references[row.name] = name

    def _save_secret(self, row: Row, value: str | None) -> None:
        if self._secrets is None:
            raise Conflict("Secrets cannot be saved before the app has started.")
        if value is None:
            self._secrets.delete(_secret_name(row))
        else:
            self._secrets.put(_secret_name(row), value)


def _secret_name(row: Row) -> str:
    return f"settings/{row.key}"


def _said(errors: list[dict[str, str]]) -> str:
    return errors[0]["message"] if len(errors) == 1 else "Some settings are not acceptable."


def _read_file(path: Path) -> dict[str, Any]:
    try:
        data = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, orjson.JSONDecodeError) as exc:
        raise StorageError(
            f"{path} cannot be read: {exc}",
            remedy="Correct the file (it must hold one JSON object) or move it away; it is not overwritten.",
        ) from exc
    if not isinstance(data, dict):
        raise StorageError(f"{path} must hold one JSON object.", remedy="Correct the file or move it away.")
    return data
