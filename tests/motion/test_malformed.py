"""Every malformed file is one line of error, soon and in little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import malformed
import pytest
from malformed import Case, cases

WORKERS = 2
FEWEST = 300


def read_all(jobs: list[dict[str, object]]) -> list[dict[str, str | None]]:
    """What became of each file, read by one process; ends early if that ended."""
    process = subprocess.run(
        [sys.executable, str(Path(malformed.__file__).with_name("read_malformed.py"))],
        input="".join(json.dumps(job) + "\n" for job in jobs),
        capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    outcomes = [json.loads(line) for line in process.stdout.splitlines()]
    if len(outcomes) < len(jobs):
        reason = f"the reader ended with {process.returncode}: {process.stderr[-300:]}"
        outcomes.append({"error": "dead", "text": reason})
    return outcomes


def judge(case: Case, outcome: dict[str, str | None], path: Path) -> str | None:
    """What is wrong with an outcome."""
    error, text = outcome["error"], outcome["text"] or ""
    if error is None:
        return None if case.harmless else "was read"
    if error not in ("ClipError", "FileNotFoundError"):
        return f"{error}: {text}"
    if "\n" in text or not text or len(text) > 500:
        return f"not a line: {text!r}"
    if "allocate" in text:
        return f"took what memory there was: {text}"
    if path.name not in text:
        return f"does not name the file: {text}"
    return None


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits need Linux")
def test_malformed_files(tmp_path: Path) -> None:
    """At least 300 of them, over all formats, by their format and by detection."""
    all_cases, jobs = list(cases()), []
    assert len({case.name for case in all_cases}) == len(all_cases)
    for i, case in enumerate(all_cases):
        path = tmp_path / f"{i}{case.suffix}"
        case.write(path)
        jobs.append({
            "path": str(path), "body": case.body,
            # Every other one without being told the format.
            "arguments": {**case.arguments, **({"format": case.format} if i % 2 else {})},
        })  # fmt: skip
    with ThreadPoolExecutor(WORKERS) as pool:
        parts = list(pool.map(read_all, [jobs[i::WORKERS] for i in range(WORKERS)]))
    wrong, refused = [], 0
    for first, outcomes in enumerate(parts):
        for i, outcome in zip(range(first, len(jobs), WORKERS), outcomes, strict=False):
            complaint = judge(all_cases[i], outcome, Path(str(jobs[i]["path"])))
            refused += outcome["error"] is not None
            if complaint:
                wrong.append(f"{all_cases[i].name}: {complaint}")
    print(f"{len(all_cases)} files, {refused} refused in one line")
    assert not wrong, "\n".join(wrong)
    assert sum(map(len, parts)) == len(jobs)
    assert refused >= FEWEST


def one_of_each_format() -> list[Case]:
    """A refused case of each format, without arguments of its own."""
    sound = [case for case in cases() if not case.harmless and set(case.arguments) <= {"rate"}]
    return list({case.format: case for case in sound}.values())


@pytest.mark.parametrize("case", one_of_each_format(), ids=lambda case: case.name)
def test_malformed_files_on_the_command_line(case: Case, tmp_path: Path) -> None:
    """One line, exit code 2, no traceback, and nothing written."""
    path, out = tmp_path / f"wrong{case.suffix}", tmp_path / "clips.h5"
    case.write(path)
    command = [sys.executable, "-m", "vnl_envs", "data", "import", str(path), "--body", case.body,
               "--format", case.format, "--out", str(out)]  # fmt: skip
    if "rate" in case.arguments:
        command += ["--rate", str(case.arguments["rate"])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "wrong" in lines[0]
    assert "Traceback" not in done.stderr + done.stdout
    assert not out.exists()
