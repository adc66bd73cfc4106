"""A MkDocs hook: the README is the front page, and the published results are part of the site.

Pages link to results where they lie in the repository, so that the links work there as well.
"""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
RESULTS = "experiments/results", "benchmarks/results"
ON_THE_SITE = {".md", ".html", ".png", ".svg", ".json"}


def on_files(files, config):
    front_page = (ROOT / "README.md").read_text().replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=front_page))
    found = (path for folder in RESULTS for path in (ROOT / folder).rglob("*") if path.suffix in ON_THE_SITE)
    for path in (ROOT / "CITATION.cff", *sorted(found)):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))


def on_page_markdown(markdown, **_):
    """`docs/` is the site's root, so a link out of it has one step less there."""
    return re.sub(r"\]\(((?:\.\./)*)\.\./(experiments|benchmarks)/", r"](\1\2/", markdown)
