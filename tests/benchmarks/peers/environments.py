"""One locked environment per peer, made when it is first needed and kept by the lock's hash."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "environments"
PYTHON = "3.11"


def find_python(name: str) -> Path:
    """The interpreter of an environment; the project's own where ``name`` is not one of ours."""
    lock = FOLDER / f"{name}.lock"
    if not lock.is_file():
        return Path(sys.executable)
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    home = _cache() / f"{name}-{digest}"
    if not (home / "ready").is_file():
        print(f"Installing {lock.name} (the first time)", file=sys.stderr, flush=True)
        _uv("venv", "--quiet", "--clear", "--python", PYTHON, str(home))
        _uv("pip", "install", "--quiet", "--python", str(home), "--require-hashes", "--no-deps", "-r", str(lock))
        (home / "ready").touch()
    return home / "bin" / "python"


def lock_all() -> None:
    """Resolve every environment anew."""
    for source in sorted(FOLDER.glob("*.in")):
        words = ["pip", "compile", "--quiet", "--upgrade", "--generate-hashes", "--python-version", PYTHON]
        command = ["--custom-compile-command", "python tests/benchmarks/peers/compare.py --lock"]
        _uv(*words, *command, source.name, "--output-file", f"{source.stem}.lock")


def _uv(*words: str) -> None:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if found is None:
        sys.exit("uv: expected it beside this Python or on the PATH. Received: none. Run: pip install uv")
    subprocess.run([found, *words], check=True, cwd=FOLDER)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latentstream" / "benchmarks"
