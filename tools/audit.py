"""`python -m tools.audit`: are there known holes in what is installed? Part of `make lint`.

pip-audit asks PyPI about every installed package. A hole ends with exit code 1 and the version that mends it. A
package that PyPI does not know is named; when it knows none, nothing was audited, and that is said.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

#: Holes that do not concern this app: id -> why. Each needs a reason that somebody else can check.
ACCEPTED: dict[str, str] = {}


def judge(report: dict[str, Any], accepted: dict[str, str] | None = None) -> tuple[int, list[str]]:
    """Return the exit code and what to print for a report of pip-audit (its JSON form)."""
    accepted = ACCEPTED if accepted is None else accepted
    lines, holes, unknown = [], 0, []
    packages = report["dependencies"]
    for package in packages:
        if "skip_reason" in package:
            unknown.append(package["name"])
        for hole in package.get("vulns", []):
            names = {hole["id"], *hole.get("aliases", [])}
            reason = next((accepted[name] for name in sorted(names) if name in accepted), None)
            mended = ", ".join(hole.get("fix_versions", [])) or "no version yet"
            if reason is None:
                holes += 1
            lines.append(
                f"{package['name']} {package['version']}: {hole['id']} (mended in {mended})"
                + (f"; accepted: {reason}" if reason else "")
            )
    if packages and len(unknown) == len(packages):
        return 0, ["Nothing was audited: the package index does not answer questions about holes."]
    if unknown:
        lines.append(f"Not audited, because the index does not know them: {', '.join(sorted(unknown))}")
    lines.append(f"{len(packages) - len(unknown)} packages audited, {holes} known holes.")
    return (1 if holes else 0), lines


def main() -> int:
    """Run pip-audit on this environment. Returns the exit code."""
    command = [sys.executable, "-m", "pip_audit", "--local", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        print(f"Nothing was audited: {reason}")
        return 0
    code, lines = judge(report)
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
