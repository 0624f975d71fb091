"""Documentation that cannot go stale: what the code has is in the docs, and the other way round."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic.alias_generators import to_camel

from dalla import errors
from dalla.records.training import PRESETS, TrainingConfig
from dalla.settings import ROWS

ROOT = Path(__file__).parent.parent


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_setting_is_documented():
    documented = set(re.findall(r"^\| `([A-Z0-9_]+)` \|", read("docs/settings.md"), re.M))
    assert documented == {row.env for row in ROWS}


def test_every_training_setting_and_preset_is_documented():
    text = read("docs/training.md")
    first_cells = " ".join(re.findall(r"^\| (`[^|]+`) \|", text, re.M))
    assert set(re.findall(r"`(\w+)`", first_cells)) >= {to_camel(name) for name in TrainingConfig.model_fields}
    for kind, presets in PRESETS.items():
        for name, numbers in presets.items():
            row = next(line for line in text.splitlines() if line.startswith(f"| {kind} | {name} |"))
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            conv = f", conv {numbers['conv_rank']}" if numbers.get("conv_rank") else ""
            shown = f"{numbers['steps']} steps" if "steps" in numbers else (
                f"{numbers['images']} ({numbers['least']:,} to {numbers['most']:,})"
            )  # fmt: skip
            assert cells[2:] == [
                f"{numbers['rank']}{conv}", numbers["targets"], f"{numbers['learning_rate']:g}",
                str(numbers.get("resolution", "native")), str(numbers["batch_size"]), shown,
                "yes" if numbers.get("ema") else "",
            ]  # fmt: skip


def test_every_route_is_documented(app):
    text = read("docs/api.md")
    documented = set(re.findall(r"^\| `([A-Z]+)` \| `([^`]+)` \|", text, re.M))
    real = set()
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith(("/api/", "/tasks/", "/health", "/metrics")) and rule.rule != "/api/docs":
            for method in rule.methods - {"HEAD", "OPTIONS"}:
                real.add((method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)))
    assert documented == real


def test_every_error_code_is_documented():
    text = read("docs/api.md")
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.DallaError) and kind is not errors.DallaError:
            assert f"| `{kind.code}` | {kind.status} |" in text, kind


def test_every_module_is_in_the_architecture_page():
    text = read("architecture.md")
    for stem, ends in re.findall(r"(\w+_)\{([\w,\s]+)\}", text):  # post_{files,json} names two
        text += "".join(f" {stem}{end.strip()}" for end in ends.split(","))
    for path in (ROOT / "dalla").rglob("*.py"):
        if path.name != "__init__.py" and "versions" not in path.parts:
            assert path.stem in text, f"{path.relative_to(ROOT)} is not in architecture.md"


def test_environment_example_names_real_settings():
    known = {row.env for row in ROWS}
    for name in re.findall(r"^# ([A-Z0-9_]+)=", read(".env.example"), re.M):
        assert name in known, name


def test_links_between_documents_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "models").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_requirements_are_pinned():
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in read(name).splitlines():
            line = line.split("#")[0].strip()
            assert not line or re.match(r"[\w.-]+==[\w.]+(; .+)?$", line), line
    assert "torchvision" not in read("requirements.txt").replace("without torchvision", "")
