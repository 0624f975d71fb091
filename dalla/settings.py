"""All settings: one table, one order of precedence, one reader of the environment.

command-line flag > environment > `.env` > `data/settings.json` (what the page writes) > default.
A value that comes from a flag, the environment or `.env` is *locked*: the page shows it and cannot
change it. Secret values never sit in `settings.json`; they go to the secret store.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import orjson
from pydantic.alias_generators import to_camel

from dalla.errors import Conflict, InvalidInput, StorageError
from dalla.paths import write_atomic

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

    @property
    def key(self) -> str:
        return to_camel(self.name)


ROWS: tuple[Row, ...] = (
    Row("host", "DALLA_HOST", "str", "127.0.0.1", "Address to listen on. Anything but loopback needs accounts.", live=False),
    Row("port", "DALLA_PORT", "int", 5050, "Port to listen on.", live=False),
    Row("data_dir", "DALLA_DATA_DIR", "path", "data", "Where characters, media and the database live.", "storage", live=False),
    Row("training_data_dir", "DALLA_TRAINING_DATA_DIR", "path", "training_data", "Where training sets are written.", "storage", live=False),
    Row("loras_dir", "DALLA_LORAS_DIR", "path", "loras", "Where trained LoRAs are kept.", "storage", live=False),
    Row("models_dir", "DALLA_MODELS_DIR", "path", "models", "Weights for the built-in engine: .safetensors files or diffusers folders.", "storage", live=False),
    Row("trash_days", "DALLA_TRASH_DAYS", "int", 30, "Days after which trashed pictures and characters are deleted for good.", "storage"),
    Row("timezone", "DALLA_TIMEZONE", "zone", "", "IANA time zone, e.g. Europe/Berlin. Empty: this computer's."),
    Row("log_level", "DALLA_LOG_LEVEL", "DEBUG|INFO|WARNING|ERROR", "INFO", "How much is written to the log.", live=False),
    Row("dry_run", "DALLA_DRY_RUN", "bool", False, "Never publish anything; show what would have been sent.", "publishing"),
    Row("auth", "DALLA_AUTH", "auto|on|off", "auto", "auto: no login needed on this computer until the first account exists.", "security", live=False),
    Row("allowed_hosts", "DALLA_ALLOWED_HOSTS", "str", "", "Further host names (comma separated) this app may be reached by.", "security", live=False),
    Row("session_days", "DALLA_SESSION_DAYS", "int", 30, "Days for which 'remember me' keeps somebody signed in.", "security"),
    Row("rate_limit", "DALLA_RATE_LIMIT", "int", 600, "Requests a minute that one API token may make. 0: no limit.", "security"),
    Row("pickle_weights", "DALLA_PICKLE_WEIGHTS", "bool", False, "Let .ckpt, .pt and .pth weights be converted to .safetensors. They are never loaded as they are.", "security"),
    Row("secret_key", "DALLA_SECRET_KEY", "str", "", "Key that encrypts stored credentials. Empty: a key file in data/secrets/.", "security", secret=True, live=False),
    Row("image_engine", "DALLA_IMAGE_ENGINE", "auto|comfyui|builtin", "auto", "Which engine draws. auto: ComfyUI when it answers, otherwise the built-in one.", "engines"),
    Row("device", "DALLA_DEVICE", "auto|cpu|cuda|mps", "auto", "Where the built-in engine computes.", "engines"),
    Row("precision", "DALLA_PRECISION", "auto|fp32|fp16|bf16", "auto", "Number format of the built-in engine. auto: bf16 on CUDA, fp32 on the CPU.", "engines"),
    Row("engine_idle_minutes", "DALLA_ENGINE_IDLE_MINUTES", "float", 10.0, "Minutes without work after which the built-in engine frees its memory.", "engines"),
    Row("model_families", "DALLA_MODEL_FAMILIES", "json", {}, 'Family per model name where detection is wrong: {"file.safetensors": "sdxl"}.', "engines"),
    Row("comfyui_url", "COMFYUI_URL", "url", "http://127.0.0.1:8188", "Address of the ComfyUI server. A path prefix is allowed.", "engines"),
    Row("comfyui_headers", "COMFYUI_HEADERS", "json", {}, 'Extra headers for ComfyUI behind a proxy: {"Authorization": "Bearer …"}.', "engines", secret=True),
    Row("comfyui_timeout", "COMFYUI_TIMEOUT", "float", 600.0, "Seconds without any sign of life from ComfyUI after which a generation is given up.", "engines"),
    Row("comfyui_lora_dir", "COMFYUI_LORA_DIR", "path", "", "Folder of ComfyUI's LoRAs on this machine; new LoRAs are copied there.", "engines"),
    Row("gemini_api_key", "GEMINI_API_KEY", "str", "", "Google Gemini key for captions. Without it captions are composed offline.", "captions", secret=True),
    Row("gemini_model", "GEMINI_MODEL", "str", "gemini-3.5-flash-lite", "Gemini model for captions.", "captions"),
    Row("gemini_base_url", "GEMINI_BASE_URL", "url", "", "Another address for the Gemini API.", "captions"),
    Row("gemini_api_version", "GEMINI_API_VERSION", "v1|v1beta", "v1", "Version of the Gemini API; some new models answer only v1beta.", "captions"),
    Row("caption_engine", "DALLA_CAPTION_ENGINE", "auto|gemini|local|composer", "auto", "Who writes captions. auto: Gemini when a key is set, else the local server when one is set, else composed offline.", "captions"),
    Row("caption_url", "DALLA_CAPTION_URL", "url", "", "Address of a local OpenAI-compatible server (Ollama, LM Studio, llama.cpp), e.g. http://127.0.0.1:11434/v1.", "captions"),
    Row("caption_model", "DALLA_CAPTION_MODEL", "str", "", "Model on the local caption server. Empty: the first it offers.", "captions"),
    Row("caption_api_key", "DALLA_CAPTION_API_KEY", "str", "", "Key for the local caption server, where it wants one.", "captions", secret=True),
    Row("caption_send_image", "DALLA_CAPTION_SEND_IMAGE", "bool", True, "Send a small copy of the picture (no metadata) along, so that the caption fits it.", "captions"),
    Row("caption_failure", "DALLA_CAPTION_FAILURE", "fallback|hold", "fallback", "When a caption engine fails on a scheduled post: compose it offline, or hold the post until a person writes one.", "captions"),
    Row("caption_language", "DALLA_CAPTION_LANGUAGE", "str", "", "Language of captions, e.g. English or Deutsch. Empty: the language of the character's texts.", "captions"),
    Row("instagram_graph_url", "INSTAGRAM_GRAPH_URL", "url", "https://graph.instagram.com", "Host of the Instagram Graph API: graph.instagram.com (Instagram login) or graph.facebook.com (Facebook login).", "publishing"),
    Row("instagram_graph_version", "INSTAGRAM_GRAPH_VERSION", "str", "v26.0", "Version of the Instagram Graph API.", "publishing"),
    Row("instagram_app_id", "INSTAGRAM_APP_ID", "str", "", "Meta app id; needed only to renew Facebook-login tokens.", "publishing"),
    Row("instagram_app_secret", "INSTAGRAM_APP_SECRET", "str", "", "Meta app secret; needed only to renew Facebook-login tokens.", "publishing", secret=True),
    Row("x_api_url", "X_API_URL", "url", "https://api.x.com", "Address of the X API.", "publishing"),
    Row("public_base_url", "PUBLIC_BASE_URL", "url", "", "Public https address of this app, from which Instagram fetches pictures.", "publishing"),
    Row("public_url_minutes", "DALLA_PUBLIC_URL_MINUTES", "int", 1440, "Minutes for which a signed picture address works.", "publishing"),
    Row("s3_endpoint", "S3_ENDPOINT", "url", "", "S3-compatible bucket (R2, MinIO, AWS …) that Instagram fetches pictures from, instead of this app.", "publishing"),
    Row("s3_bucket", "S3_BUCKET", "str", "", "Name of the bucket.", "publishing"),
    Row("s3_region", "S3_REGION", "str", "auto", "Region of the bucket.", "publishing"),
    Row("s3_access_key", "S3_ACCESS_KEY", "str", "", "Access key of the bucket.", "publishing", secret=True),
    Row("s3_secret_key", "S3_SECRET_KEY", "str", "", "Secret key of the bucket.", "publishing", secret=True),
    Row("s3_public_url", "S3_PUBLIC_URL", "url", "", "Public address of the bucket. Empty: signed addresses that end after a day.", "publishing"),
    Row("approval", "DALLA_APPROVAL", "automatic|required", "automatic", "Whether posts made by scheduled tasks wait for a person. A task may say otherwise.", "publishing"),
    Row("late_window_minutes", "DALLA_LATE_WINDOW_MINUTES", "int", 180, "How late a post may still go out; after that it counts as missed and a person is asked.", "publishing"),
    Row("min_gap_minutes", "DALLA_MIN_GAP_MINUTES", "int", 5, "Least minutes between two posts of one account.", "publishing"),
    Row("duplicate_days", "DALLA_DUPLICATE_DAYS", "int", 30, "Warn when the same picture or caption went to the same account within so many days.", "publishing"),
    Row("x_repeat_unconfirmed", "DALLA_X_REPEAT_UNCONFIRMED", "bool", False, "After a lost answer of X that cannot be resolved: post again by itself (X refuses true duplicates) instead of asking.", "publishing"),
    Row("missed_run_minutes", "DALLA_MISSED_RUN_MINUTES", "int", 180, "How late a missed run may still be caught up where its task says run_once.", "scheduler"),
    Row("quiet_hours", "DALLA_QUIET_HOURS", "str", "", "Hours without posts, in each character's zone, e.g. 23:00-07:00; posts wait until they end.", "scheduler"),
    Row("webhook_private", "DALLA_WEBHOOK_PRIVATE", "bool", False, "Allow webhooks to addresses in the private network.", "webhooks"),
    Row("database_url", "DATABASE_URL", "str", "", "PostgreSQL address for several machines. Empty: SQLite in the data folder.", "scale", secret=True, live=False),
    Row("redis_url", "REDIS_URL", "str", "", "Redis address for several machines. Empty: everything in one process.", "scale", secret=True, live=False),
)  # fmt: skip
BY_NAME = {row.name: row for row in ROWS}
_BY_ANY = {**BY_NAME, **{row.key: row for row in ROWS}, **{row.env: row for row in ROWS}}


class SecretValues(Protocol):
    """Where secret settings are kept (the secret store)."""

    def get(self, name: str) -> str | None: ...
    def put(self, name: str, value: str) -> None: ...
    def delete(self, name: str) -> None: ...


class Settings:
    """The values in force, read as attributes: `settings.comfyui_url`, `settings.data_dir`.

    Readers always see one consistent snapshot; `change` swaps it. Paths come back absolute.
    """

    def __init__(self, values: dict[str, Any], sources: dict[str, str], env_file: Path | None) -> None:
        self._values = values
        self._sources = sources
        self._lock = threading.Lock()
        self._secrets: SecretValues | None = None
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
                ("env", dotenv, row.env),
                ("file", file, row.key),
            ):
                raw = table.get(key)
                if raw is not None and not (source == "env" and raw == ""):
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
        return cls(values, sources, env_file if env_file.is_file() else None)

    def attach_secrets(self, secrets: SecretValues) -> None:
        """Let secret settings be kept in (and read from) the secret store."""
        self._secrets = secrets
        for row in ROWS:
            if row.secret and self._sources[row.name] in ("default", "file"):
                stored = secrets.get(f"settings/{row.key}")
                if stored is not None:
                    self._values[row.name] = parse(row, stored, ROOT)
                    self._sources[row.name] = "file"

    def describe(self) -> list[dict[str, Any]]:
        """Return every setting for `GET /api/settings`; secret values only as `set` true/false."""
        return [
            {
                "name": row.key,
                "env": row.env,
                "kind": row.kind,
                "group": row.group,
                "help": row.help,
                "secret": row.secret,
                "value": None if row.secret else _plain(self._values[row.name]),
                "set": bool(self._values[row.name]),
                "default": None if row.secret else _plain(row.default),
                "source": self._sources[row.name],
                "locked": self._sources[row.name] in ("env", "flag"),
                "needsRestart": not row.live,
            }
            for row in ROWS
        ]

    def change(self, changes: Mapping[str, Any]) -> None:
        """Save values (camelCase or environment names; None resets) and put them in force.

        Raises InvalidInput by field, Conflict for a value that the environment sets, StorageError.
        All or nothing.
        """
        parsed: dict[str, tuple[Row, Any]] = {}
        errors = []
        for key, raw in changes.items():
            row = _BY_ANY.get(key)
            if row is None:
                errors.append({"field": key, "message": "There is no such setting."})
                continue
            if self._sources[row.name] in ("env", "flag"):
                raise Conflict(
                    f"{row.env} is set in the environment, which wins over this page.",
                    remedy=f"Remove {row.env} from the environment or .env and restart, or change it there.",
                )
            if row.name in ("data_dir", "secret_key"):  # both are needed before anything saved can be read
                errors.append({"field": key, "message": f"Set {row.env} in the environment or .env instead."})
                continue
            try:
                parsed[row.name] = (row, parse(row, row.default if raw is None else raw, ROOT))
            except InvalidInput as exc:
                errors.append({"field": key, "message": exc.detail})
        if errors:
            raise InvalidInput("Some settings are not acceptable.", errors=errors)
        with self._lock:
            file = _read_file(self.file)
            for name, (row, value) in parsed.items():
                reset = changes.get(row.key, changes.get(name, changes.get(row.env))) is None
                if row.secret:
                    self._save_secret(row, None if reset or not value else value)
                elif reset:
                    file.pop(row.key, None)
                else:
                    file[row.key] = _plain(value)
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(self.file, orjson.dumps(file, option=orjson.OPT_INDENT_2) + b"\n")
            except OSError as exc:
                raise StorageError.from_os(exc, "the settings") from exc
            live = {name: value for name, (row, value) in parsed.items() if row.live}
            self._values = {**self._values, **live}
            self._sources = {
                **self._sources,
                **{n: "default" if changes.get(r.key, changes.get(n, changes.get(r.env))) is None else "file" for n, (r, _) in parsed.items()},
            }  # fmt: skip

    def _save_secret(self, row: Row, value: Any) -> None:
        if self._secrets is None:
            raise Conflict("Secrets cannot be saved before the app has started.")
        if value is None:
            self._secrets.delete(f"settings/{row.key}")
        else:
            self._secrets.put(f"settings/{row.key}", value if isinstance(value, str) else json.dumps(value))


def parse(row: Row, raw: Any, root: Path) -> Any:
    """Turn text (or JSON) into the setting's type. Raises InvalidInput with the setting's name."""

    def refuse(why: str) -> InvalidInput:
        return InvalidInput.field(row.key, f"{row.env}: {why}")

    match row.kind:
        case "int" | "float":
            try:
                number = int(raw) if row.kind == "int" else float(raw)
            except (TypeError, ValueError, OverflowError):
                raise refuse("this must be a number.") from None
            if not 0 <= number <= MAX_NUMBER or (row.name == "port" and number > 65535):
                raise refuse("this number is out of range.")
            return number
        case "bool":
            if isinstance(raw, bool):
                return raw
            text = str(raw).strip().lower()
            if text in ("1", "true", "yes", "on"):
                return True
            if text in ("0", "false", "no", "off", ""):
                return False
            raise refuse("this must be true or false.")
        case "json":
            if isinstance(raw, str):
                try:
                    raw = json.loads(raw or "{}")
                except (ValueError, RecursionError):
                    raise refuse("this must be a JSON object.") from None
            if not isinstance(raw, dict):
                raise refuse("this must be a JSON object.")
            return raw
    if not isinstance(raw, str | Path):
        raise refuse("this must be text.")
    text = str(raw).strip()
    if "|" in row.kind:
        if text not in row.kind.split("|"):
            raise refuse(f"this must be one of {', '.join(row.kind.split('|'))}.")
    elif row.kind == "path":
        try:
            return (root / Path(text).expanduser()).resolve() if text else ""
        except (OSError, RuntimeError, ValueError):  # a loop of links, ~ of nobody, a NUL
            raise refuse("this is not a folder that can be found.") from None
    elif row.kind == "url" and text:
        try:
            parts = urlsplit(text)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a broken IPv6 address, a port that is none
            usable = False
        if not usable:
            raise refuse("this must be an address that starts with http:// or https://.")
        return text.rstrip("/")
    elif row.kind == "zone" and text:
        try:
            ZoneInfo(text)
        except (KeyError, ValueError, OSError):
            raise refuse("this must be an IANA time zone such as Europe/Berlin.") from None
    return text


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


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
