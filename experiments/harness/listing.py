"""What a package offers to `python -m`: a line for each command, read from the files, so that nothing is imported."""

import ast
import sys
from pathlib import Path


def commands(package: Path) -> dict[str, str]:
    """{module: first line of its docstring} of the modules and packages in a folder that `python -m` runs."""
    found = {}
    for path in (*package.glob("*.py"), *package.glob("*/__main__.py")):
        name = path.parent.name if path.parent != package else path.stem
        if '__name__ == "__main__"' in path.read_text() and name != "__main__":
            docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
            found[f"{package.name}.{name}"] = docstring.partition("\n")[0]
    return dict(sorted(found.items()))


def print_commands(package: Path) -> None:
    """The commands of a package with what each does, for a terminal."""
    found = commands(package)
    width = max(map(len, found))
    lines = [f"python -m {module:<{width}}  {summary}\n" for module, summary in found.items()]
    sys.stdout.write("".join(lines))  # at once, so that `head` may close the pipe after its lines
