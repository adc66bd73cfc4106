"""Lines of per-sample logs, as `lm_eval --log_samples` writes them."""

import hashlib
import json


def line(doc_id, requests, responses, target, **other):
    """One document: what was asked ([context, continuation] or [document]), and what came back for each request."""
    text = [[str(part) for part in found] if isinstance(found, tuple) else str(found) for found in responses]
    sample = {
        "doc_id": doc_id,
        "doc": {"text": f"document {doc_id}", "author": f"author {doc_id // 2}"},
        "target": str(target),
        "arguments": {
            f"gen_args_{i}": {f"arg_{j}": part for j, part in enumerate(request)} for i, request in enumerate(requests)
        },
        "resps": [[found] for found in text],
        "filtered_resps": text,
        "filter": "none",
        "metrics": ["acc"],
        "doc_hash": hashlib.sha256(str(doc_id).encode()).hexdigest(),
        "prompt_hash": hashlib.sha256(str(requests[0][0]).encode()).hexdigest(),
        "target_hash": hashlib.sha256(str(target).encode()).hexdigest(),
        "acc": 0.0,
    }
    return sample | other


def cloze(doc_id, logp, **other):
    """Of a loglikelihood task."""
    return line(doc_id, [["the last word is", f" word{doc_id}"]], [(logp, False)], f" word{doc_id}", **other)


def rolling(doc_id, logp, **other):
    """Of a loglikelihood_rolling task."""
    return line(doc_id, [[f"document {doc_id}"]], [logp], f"document {doc_id}", **other)


def choice(doc_id, logp, choices=("yes", "no", "maybe"), target=1, **other):
    """Of a multiple_choice task, with `logp` of each choice."""
    requests = [["is it?", f" {text}"] for text in choices]
    return line(doc_id, requests, [(value, False) for value in logp], target, **other)


def write(path, lines):
    path.write_text("".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in lines))
    return path
