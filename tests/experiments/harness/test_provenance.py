"""The commit that results are said to be of."""

import shutil
import subprocess

import pytest

from experiments.harness import provenance


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_results_that_change_are_no_changes_of_the_code(tmp_path, monkeypatch):
    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(("git", *who, *words), cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    code = tmp_path / "experiments" / "harness" / "provenance.py"
    results = tmp_path / "experiments" / "results" / "metrics.json"
    for path in (code, results):
        path.parent.mkdir(parents=True)
        path.write_text("before")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "all")
    monkeypatch.setattr(provenance, "__file__", str(code))
    commit = git("rev-parse", "HEAD").strip()
    results.write_text("after")
    assert provenance.git_commit() == commit
    code.write_text("after")
    assert provenance.git_commit() == commit + "+changes"
