"""What a package offers to `python -m`: a line for each command, read from the files, so that nothing is imported."""

import ast
import sys
from pathlib import Path


def commands(package: Path) -> dict[str, str]:
    """{module: first line of its docstring} of the modules and packages in a folder that `python -m` runs."""
    scripts = {path.stem: path for path in package.glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    mains = {path.parent.name: path for path in package.glob("*/__main__.py")}
    mains |= {name: path for name, path in scripts.items() if name != "__main__"}
    return {f"{package.name}.{name}": _summary(path) for name, path in sorted(mains.items())}


def print_commands(package: Path) -> None:
    """The commands of a package with what each does, for a terminal."""
    found = commands(package)
    width = max(map(len, found))
    lines = [f"python -m {module:<{width}}  {summary}\n" for module, summary in found.items()]
    sys.stdout.write("".join(lines))  # at once, so that `head` may close the pipe after its lines


def _summary(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    return docstring.splitlines()[0] if docstring else ""
