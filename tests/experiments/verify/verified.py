"""What `experiments.verify` finds in a folder, for the tests of experiments."""

from experiments.verify.__main__ import result_files, verify


def findings(folder, with_data=False):
    return list(verify(folder, result_files(folder), with_data))


def failures(folder, with_data=False):
    """What failed, and why."""
    return {found.what: found.why for found in findings(folder, with_data) if found.outcome == "FAILED"}


def assert_verified(folder, with_data=False):
    """Nothing failed; returns what is ok."""
    found = findings(folder, with_data)
    assert not [str(finding) for finding in found if finding.outcome == "FAILED"]
    return {finding.what for finding in found if finding.outcome == "ok"}
