"""The layers of architecture.md, checked on the imports of every module."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GROUND = {
    "settings", "errors", "registry", "ids", "paths", "imaging", "recipes", "records", "times", "events", "log", "weights",
    "frames", "addresses", "cron", "framing", "text_length", "tlds", "bucketing", "training_set",
    "archives", "filenames", "languages", "downloads", "measures", "tokens", "settings_values",
    "lora_names", "lora_layers", "lora_forms", "lora_texts", "model_folder", "plural",
}  # fmt: skip
ADAPTERS = {"stores", "jobs", "engines", "platforms"}
HEAVY = {"torch", "diffusers", "peft", "transformers", "accelerate"}


def modules():
    return [p for p in (ROOT / "dalla").rglob("*.py") if "versions" not in p.parts]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_run_downward(path):
    parts = path.relative_to(ROOT / "dalla").with_suffix("").parts
    layer = parts[0]
    for name in sorted(imports(path)):
        if layer not in ("diffusion",):
            assert name.split(".")[0] not in HEAVY, f"{name}: only dalla/diffusion may import the torch world"
        if not name.startswith("dalla."):
            continue
        target = name.split(".")[1]
        is_protocol = name.split(".")[-1] == "base" or ".base." in name
        if layer in GROUND:
            assert target in GROUND | {"__version__"}, f"the ground imports {name}"
        elif layer in ADAPTERS:
            assert target in GROUND | {layer, "__version__"}, f"an adapter imports {name}"
        elif layer == "diffusion":
            assert target in GROUND | {"diffusion"}, f"diffusion imports {name}"
        elif layer == "services":
            assert target in GROUND | {"services", "__version__"} or is_protocol or _only_base(name), (
                f"a service imports the concrete {name}"
            )
        elif layer in ("web", "clock"):
            assert target in GROUND | {"services", "web", "wiring", "__version__"}, f"{layer} imports {name}"


def _only_base(name: str) -> bool:
    """`dalla.stores` itself appears when `dalla.stores.base` is imported from."""
    return name in {"dalla.stores", "dalla.jobs", "dalla.engines", "dalla.engines.images", "dalla.platforms"}


def test_web_names_wiring_only_for_types():
    for path in (ROOT / "dalla" / "web").glob("*.py"):
        tree = ast.parse(path.read_text())
        for node in tree.body:  # top level only: the one inside `if TYPE_CHECKING` is nested
            if isinstance(node, ast.ImportFrom):
                assert node.module != "dalla.wiring", path


def test_the_web_process_loads_nothing_heavy():
    """Building the app imports neither torch nor what only some requests need."""
    program = (
        "import sys, tempfile, pathlib; sys.path.insert(0, '.')\n"
        "from tests.conftest import make_settings\n"
        "for name in [n for n in sys.modules if n.split('.')[0] in ('PIL', 'pytest', '_pytest')]: del sys.modules[name]\n"
        "from app import create_app\n"
        "create_app(make_settings(pathlib.Path(tempfile.mkdtemp()))).test_client().get('/health/live')\n"
        "print(','.join(sorted({n.split('.')[0] for n in sys.modules})))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    names = set(loaded.stdout.strip().split(","))
    assert not names & (HEAVY | {"numpy", "requests", "websocket", "apscheduler", "cryptography", "safetensors"}), names
    # PIL is loaded by the fixtures' module above, so it is not looked at here.


def test_no_file_has_outgrown_itself():
    long = {str(p.relative_to(ROOT)): n for p in modules() if (n := len(p.read_text().splitlines())) > 600}
    assert not long, f"over 600 lines usually hold two ideas: {long}"
