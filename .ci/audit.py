"""Known weaknesses of the installed packages (pip-audit) and of our own code (bandit), and a list of all components (SBOM).

Fails on a known weakness and on a finding of bandit of medium severity or above. Advisory data that cannot be reached is
one line, not a failure: this also runs on machines without a network.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
SBOM = ROOT / "build" / "sbom.json"


def packages() -> bool:
    """Whether no installed package has a known weakness, as far as the advisories could be read."""
    command = [
        BIN / "pip-audit", "--local", "--skip-editable", "--format", "json", "--progress-spinner", "off", "--timeout", "10",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        found = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError) as error:
        print(f"pip-audit: the advisory data could not be reached ({type(error).__name__}); no package was checked")
        return True
    audited = [package for package in found if "skip_reason" not in package]
    missing = f"; {len(found) - len(audited)} could not be checked" if len(audited) < len(found) else ""
    if not audited:
        print(f"pip-audit: the advisory data could not be reached; {len(found)} packages were not checked")
        return True
    weak = [package for package in audited if package["vulns"]]
    print(f"pip-audit: {len(audited)} of {len(found)} packages checked, {len(weak)} with a known weakness{missing}")
    for package in weak:
        for weakness in package["vulns"]:
            fixed = ", ".join(weakness["fix_versions"]) or "no version yet"
            print(f"  {package['name']} {package['version']}: {weakness['id']}, fixed in {fixed}")
    return not weak


def our_code() -> bool:
    """Whether bandit finds nothing of medium severity or above."""
    places = ["fairvlm_core", "ui", "pages", "app.py"]
    command = [BIN / "bandit", "--quiet", "--recursive", "--severity-level", "medium", *places]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print("bandit: nothing of medium severity or above" if done.returncode == 0 else done.stdout + done.stderr)
    return done.returncode == 0


def bill_of_materials() -> bool:
    """Write the SBOM (CycloneDX) of the environment; whether that worked."""
    SBOM.parent.mkdir(exist_ok=True)
    command = [
        BIN / "cyclonedx-py", "environment", "--pyproject", ROOT / "pyproject.toml", "--output-reproducible",
        "--output-file", SBOM, sys.executable,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(f"SBOM: {done.stderr.strip()}")
        return False
    print(f"SBOM: {len(json.loads(SBOM.read_text())['components'])} components in build/{SBOM.name}")
    return True


if __name__ == "__main__":
    results = [packages(), our_code(), bill_of_materials()]
    sys.exit(0 if all(results) else 1)
