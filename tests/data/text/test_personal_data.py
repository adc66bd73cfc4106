import base64
import hashlib
import time

import numpy as np
import pytest

from mixmin_jax.data.text.personal_data import KINDS, personal_data

HASH = hashlib.sha256(b"x").hexdigest()
BASE64 = base64.b64encode(hashlib.sha256(b"y").digest()).decode()


def kinds_of(text):
    (number_P,) = personal_data([[text.encode()]]).count_GxP
    return {kind: n for kind, n in zip(KINDS, number_P.tolist(), strict=True) if n}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("email", "write to jane.doe+news@mail.uni-bonn.de."),
        ("email", "<a href='mailto:a_b@web.co.uk'>"),
        ("phone", "+44 20 7946 0958"),
        ("phone", "(+49) or +49-30-1234567,"),
        ("phone", "+442079460958"),
        ("phone", "reach us at (555) 234-5678!"),
        ("phone", "555-234-5678"),
        ("phone", "+1 (555) 234-5678"),
        ("phone", "Tel.: 030 / 123 45 67"),
        ("ip_address", "from 93.184.216.34 port 22"),
        ("ip_address", "http://93.184.216.34/"),
        ("secret", "AKIA" + "IOSFODNN7EXAMPLE"),
        ("secret", "-----BEGIN " + "RSA PRIVATE KEY-----"),
        ("secret", "ghp_" + 36 * "a1"[:1]),
        ("secret", "sk-" + "proj-Ab1" + 20 * "x"),
        ("secret", "db_password = 'x'; password: \"hunter2hunter2\""),
        ("random_token", HASH),
        ("random_token", BASE64),
        ("random_token", "id=3 123e4567-e89b-12d3-a456-426614174000"),
    ],
)
def test_what_looks_personal_is_counted_once(kind, text):
    assert kinds_of(text) == {kind: 1}


@pytest.mark.parametrize(
    "text",
    [
        "@app.route decorators, a @ b.mean, @jane, user@localhost, me@example.com, git@github.com:me/repo.git",
        "version 1.2.3.4, 10.12.3.45, 192.168.178.101, Chrome/120.0.0.0 and 999.999.999.999",
        "on 2020-01-02, 01.02.2020 12:30:15, 1999-2003, 20200102123015",
        "ISBN 978-0-306-40615-7, ISBN 0-306-40615-2, 9780306406157, ISSN 2049-3630",
        "x = 1234567890; y = [123, 456, 7890]; z = 555 + 234 - 5678; 3.14159265358979, 0xDEADBEEF12345678",
        "1,234,567,890 people, $555,234,567.89, 123-45-6789, 12345-6789, +5 and -3, 2 +3456",
        "password = os.environ['PASSWORD'], token = get_token(), password: 'changeme', secret: \"${SECRET_2}\"",
        "phone = 5, fax machines of 1987, mobile 4 of 10",
        "thisIsAVeryLongCamelCaseIdentifierOfSomeJavaProgram2 and/a/path/to/some/python3/site-packages/file_2",
        "-----BEGIN CERTIFICATE----- " + "=" * 80 + "-" * 80 + "0" * 80 + "a" * 80,
        "task-sk-learn-based-on-other-packages-that-exist",
    ],
)
def test_what_looks_alike_is_not(text):
    assert kinds_of(text) == {}


def test_counts_shares_and_rates_by_group():
    texts = [[b"a@b.de c@d.fr", b"nothing", b"e@f.it"], [b"nothing"], []]
    found = personal_data(texts)
    assert found.count_GxP[:, 0].tolist() == [3, 0, 0] and found.documents_GxP[:, 0].tolist() == [2, 0, 0]
    assert found.share_GxP[0, 0] == 2 / 3 and found.num_documents_G.tolist() == [3, 1, 0]
    np.testing.assert_allclose(found.rate_GxP[0, 0], 3e6 / 26)
    assert "b.de" not in repr(found)


def test_a_sample_is_enough_and_of_a_large_document_its_beginning():
    found = personal_data([[b"a@b.de "] * 100, [b"x" * 60 + b" a@b.de"]], max_bytes=50)
    assert found.num_documents_G.tolist() == [7, 1] and found.num_bytes_G.tolist() == [49, 50]
    assert found.count_GxP[:, 0].tolist() == [7, 0]


@pytest.mark.parametrize("piece", ["a", "a.", "1", "1.", "1-", "+1 ", "a@", "a1", "tel ", "eyJ", "password='", "(5"])
def test_no_text_makes_it_slow(piece):
    begin = time.process_time()
    personal_data([[(piece * 100_000).encode()[:100_000]]])
    assert time.process_time() - begin < 1  # linear: a tenth of a second; quadratic: minutes
