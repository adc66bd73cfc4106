from mixmin_jax.data import memory


def test_the_tighter_limit_counts(tmp_path, monkeypatch):
    for name, path in (("_MEMINFO", "meminfo"), ("_OWN_GROUP", "cgroup"), ("_GROUPS", "groups")):
        monkeypatch.setattr(memory, name, tmp_path / path)
    assert memory.available_bytes() is None
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    assert memory.available_bytes() == 4000 * 1024
    (tmp_path / "cgroup").write_text("0::/jobs/one\n")
    group = tmp_path / "groups" / "jobs" / "one"
    group.mkdir(parents=True)
    for file, text in (("memory.max", "max\n"), ("memory.current", "900\n"), ("memory.stat", "inactive_file 50\n")):
        (group / file).write_text(text)
    assert memory.available_bytes() == 4000 * 1024
    (group / "memory.max").write_text("1000\n")
    assert memory.available_bytes() == 150


def test_this_machine_says_something():
    left = memory.available_bytes()
    assert left is None or left > 0
