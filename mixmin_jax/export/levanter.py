"""Levanter, which draws a fixed number of sequences of each source for every block."""

from mixmin_jax.errors import InputError
from mixmin_jax.export.request import Request, comment, decimal, quoted, yaml_name
from mixmin_jax.export.token_mixture import rounded

BLOCK = 2048  # sequences, Levanter's default
LARGEST_BLOCK = 2**15  # a place in a block has 16 bits


def levanter(request: Request) -> str:
    """The entry `data` of a configuration, but for the tokenizer and the caches.

    Levanter cuts `weight * block_size` to a whole number. So weights are written as multiples of `1 / block_size`,
    which are exact for powers of two.

    Raises:
        InputError: a share below `1 / block_size`, of which no sequence would be drawn; a block size out of range.
    """
    size = BLOCK if request.block_size is None else request.block_size
    if size not in (1 << power for power in range(LARGEST_BLOCK.bit_length())):
        raise InputError(f"Levanter's blocks must have a power of two of sequences, up to {LARGEST_BLOCK}; got {size}")
    if small := [name for name, share in request.mixture.shares.items() if share * size < 1]:
        share = request.mixture.shares[small[-1]]
        larger = 1 << (int(1 / share)).bit_length()
        way_out = f"blocks of {larger} sequences would (block_size)" if larger <= LARGEST_BLOCK else "no block would"
        raise InputError(
            f"Levanter draws whole sequences in blocks of {size}, and {small[-1]!r} with a share of {share:.3g} of the"
            f" tokens gets none: {way_out}; or leave the source out"
        )
    weights = rounded(request.mixture.shares, size)
    components = "".join(
        f"    {yaml_name(name)}:\n"
        "      source:\n"
        "        type: url\n"
        f"        train_urls: [{quoted(request.place_of(name))}]\n"
        for name in weights
    )
    shares = "".join(f"    {yaml_name(name)}: {decimal(weight)}\n" for name, weight in weights.items())
    return comment(request, weights) + (
        f"data:\n  components:\n{components}  train_weights:\n{shares}"
        f"  mixture_block_size: {size}\n  stop_strategy: restart\n"
    )
