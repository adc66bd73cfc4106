"""Whether the data of a run are still the same, by the records in its result files."""

from collections.abc import Iterator, Sequence

from experiments.harness.data_sets import Loaded, lacks_secrets, path_of, read_again
from experiments.verify.findings import Finding, Result, differences, judged, skipped
from mixmin_jax.errors import InputError


def unchanged(results: Sequence[Result], required: bool) -> Iterator[Finding]:
    """A line for each data set: read again, it has the counts, bytes and hash on record.

    Data that do not lie where the run found them are not checked; with `required` they fail. Data that come with an
    installed package or from TFDS are read again only with `required`.
    """
    records = {record.sha256 + record.role: record for result in results for record in result.metrics.data_sets}
    if not records:
        yield skipped("data", "the run did not record where they are")
    loaded: Loaded = {}
    for record in records.values():
        what, path = f"data: {record.role} {record.name} ({record.place}) is unchanged", path_of(record)
        if lacks_secrets(record) and not required:
            yield skipped(what, "a part of its URL is not on record, so it cannot be read again")
        elif path is None and not required:
            yield skipped(what, "it comes with a package or from TFDS; --data reads it again")
        elif path is not None and not path.exists() and not required:
            yield skipped(what, f"there is no {path} here; start where the run was started")
        else:
            try:
                now = read_again(record, loaded)
            except (InputError, OSError, ImportError) as error:
                yield Finding("FAILED", what, str(error))
                continue
            counts = {key: count for key, count in record.counts.items() if key in now.counts}
            wrong = [*differences({key: now.counts[key] for key in counts}, counts, exact=True)]
            wrong += [f"{now.bytes} bytes, not {record.bytes}"] * (record.bytes not in (None, now.bytes))
            # some results hold the first digits alone
            wrong += [f"sha256 is {now.sha256:.16}..., not {record.sha256:.16}..."] * (
                not now.sha256.startswith(record.sha256)
            )
            yield judged(what, wrong)
