"""Patterns that look like personal data or secrets: counted by group, never returned as text.

Axes: G groups, P kinds of patterns.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mixmin_jax.data.text.samples import sample_documents

# not at the domains that are reserved for examples; git@... is no person
_EMAIL = re.compile(
    rb"(?<![\w.+-])(?!git@)[\w.+-]{1,64}@(?!(?:[\w-]{1,63}\.){0,3}example\.)"
    rb"(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w@-])"
)
_PHONE = re.compile(
    rb"(?<![\w+.])\+[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,5}(?:[ .-]\d{2,8}){1,4}(?![\w-])"  # +44 20 7946 0958
    rb"|(?<![\w+.-])\+[1-9]\d{9,14}(?!\w)"  # +442079460958
    rb"|(?<![\w.-])(?:\([2-9]\d\d\) ?|[2-9]\d\d[-.])[2-9]\d\d[-.]\d{4}(?![\w-]|\.\d)"  # (555) 234-5678, 555-234-5678
    rb"|\b(?i:phone|telephone|tel|mobile|fax|whatsapp)\b(?: (?:number|no))?[.:#]{0,2} ?"
    rb"\(?\d(?:[ ()/.-]{0,3}\d){6,14}(?!\w)"  # tel. 030 1234567
)
_IP_ADDRESS = re.compile(rb"(?<![\w.-])(?<![A-Za-z]/)(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_SECRET = re.compile(
    rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # Amazon
    rb"|\bAIza[\w-]{35}(?![\w-])"  # Google
    rb"|\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_\w{22,}"
    rb"|\bxox[abprs]-[A-Za-z0-9-]{10,}"  # Slack
    rb"|\bsk-(?=[\w-]{0,40}\d)[\w-]{20,}|\b[sr]k_live_[A-Za-z0-9]{20,}"  # OpenAI, Anthropic; Stripe
    rb"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"  # JSON web tokens
    rb"|-----BEGIN (?:[A-Z]{2,9} ){0,2}PRIVATE KEY"
    # a value with a digit, in quotes: password = "..."
    rb"|\b(?i:password|passwd|secret|(?:api|secret|private)_?key|(?:access|auth)_?token)[\"']?\s{0,4}[:=]\s{0,4}"
    rb"([\"'])(?=[^\"'\s]{0,63}\d)[^\"'\s{}$<>%]{8,64}\1"
)
_TOKEN = re.compile(rb"(?<![\w/+=-])[A-Za-z0-9+/_-]{32,512}={0,2}(?![\w/+=-])")
_DIGIT_BY_LETTER = re.compile(rb"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])")


def _is_phone(found: bytes) -> bool:
    return 7 <= len(re.sub(rb"\D", b"", found)) <= 15


def _is_ip_address(found: bytes) -> bool:
    """Public, with a number above 99, which numbers of versions and sections rarely have."""
    try:
        return ipaddress.IPv4Address(found.decode()).is_global and any(len(part) == 3 for part in found.split(b"."))
    except ValueError:
        return False


def _is_random(found: bytes) -> bool:
    """Digits and letters alternate as in random hexadecimal or base64, not as in names and paths."""
    return len(_DIGIT_BY_LETTER.findall(found)) >= len(found) / 8


_PATTERNS: dict[str, tuple[re.Pattern[bytes], Callable[[bytes], bool]]] = {
    "email": (_EMAIL, bool),
    "phone": (_PHONE, _is_phone),
    "ip_address": (_IP_ADDRESS, _is_ip_address),
    "secret": (_SECRET, bool),
    "random_token": (_TOKEN, _is_random),
}
KINDS = tuple(_PATTERNS)


@dataclass(frozen=True)
class PersonalData:
    """How often each kind of pattern occurs in the sample of each group. Numbers only: nothing that was found."""

    kinds: tuple[str, ...]
    count_GxP: Int[np.ndarray, "G P"]  # occurrences
    documents_GxP: Int[np.ndarray, "G P"]  # that have at least one
    num_documents_G: Int[np.ndarray, " G"]  # that were looked at
    num_bytes_G: Int[np.ndarray, " G"]  # that were looked at

    @property
    def rate_GxP(self) -> Float[np.ndarray, "G P"]:
        """Occurrences in a million bytes. A mixture w of bytes has `w_G @ rate_GxP`."""
        return self.count_GxP / np.maximum(self.num_bytes_G, 1)[:, None] * 1e6

    @property
    def share_GxP(self) -> Float[np.ndarray, "G P"]:
        """Documents that have at least one."""
        return self.documents_GxP / np.maximum(self.num_documents_G, 1)[:, None]


def personal_data(
    documents_by_group: Sequence[Sequence[bytes]], max_bytes: int = 1_000_000, seed: int = 0
) -> PersonalData:
    """Count what looks like personal data or secrets.

    - `email`: e-mail addresses, without those at example.com and the like.
    - `phone`: international numbers with a plus; North American ones with area code and marks; 7 to 15 digits after
      "phone", "tel", "fax", "mobile" or "whatsapp". Other national formats look like any number, and are not counted.
    - `ip_address`: public IPv4 addresses with a number above 99. Others look like versions.
    - `secret`: keys in well-known formats (Amazon, Google, GitHub, Slack, OpenAI, Stripe, JSON web tokens), blocks of
      private keys, values in quotes that are assigned to a password, key or token.
    - `random_token`: 32 to 512 characters of hexadecimal or base64 that look random: keys, but also hashes and UUIDs.

    The counts show where to look. They prove neither that data are personal nor that there are none.

    Args:
        documents_by_group: of each group.
        max_bytes: of a random sample of a group's documents; of a larger document, its beginning counts.
        seed: of the samples.
    """
    num_groups = len(documents_by_group)
    count_GxP, documents_GxP = np.zeros((2, num_groups, len(KINDS)), int)
    num_documents_G, num_bytes_G = np.zeros((2, num_groups), int)
    for group, documents in enumerate(documents_by_group):
        for index in sample_documents(documents, max_bytes, seed):
            document = documents[index][:max_bytes]
            number_P = np.array(
                [sum(is_one(m[0]) for m in pattern.finditer(document)) for pattern, is_one in _PATTERNS.values()]
            )
            count_GxP[group] += number_P
            documents_GxP[group] += number_P > 0
            num_documents_G[group] += 1
            num_bytes_G[group] += len(document)
    return PersonalData(KINDS, count_GxP, documents_GxP, num_documents_G, num_bytes_G)
