"""Release checks fail on what they are there to find."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg
import pytest

from lpm_kernel.artefacts import encode_records
from lpm_kernel.errors import StoreError
from lpm_kernel.L1.records import Community
from lpm_kernel.L2.release import keep_communities
from lpm_kernel.layout import communities_key
from lpm_kernel.records import Release, sha256_hex
from tests.fakes import MemoryBlobs
from tests.samples import make_release
from tests.twin_assets.workbench import USER, Workbench
from twin_assets import checks


def test_a_manifest_that_names_what_is_not_there_is_found(bench: Workbench) -> None:
    communities = [Community("c", "all", (), ("x",), (), 0.5, (1.0,))]
    sha256 = sha256_hex(encode_records(communities))
    release = replace(make_release(USER), communities_sha256=sha256, communities_key=communities_key(USER, sha256))

    def there(of: Release) -> bool:
        return bench.passes(checks.release_names_what_is_there, twin_release=of)

    assert not there(release)
    bench.blobs.put(release.gguf_key, b"gguf")
    assert not there(release), "no communities"
    keep_communities(bench.blobs, release, communities)
    assert there(release)
    assert not there(replace(release, communities_sha256="0" * 64)), "other communities than it names"
    assert not there(replace(release, communities_sha256=None, communities_key=None)), "a new manifest names some"
    bench.blobs.delete(release.gguf_key)
    assert not there(release)


def test_a_store_that_is_away_is_no_proof_of_anything(bench: Workbench) -> None:
    class Down(MemoryBlobs):
        def get(self, key: str) -> bytes:
            raise StoreError("blob_store", "S3 did not answer")

    release = replace(make_release(USER), communities_sha256="1" * 64, communities_key=communities_key(USER, "1" * 64))
    bench.blobs = Down()
    with pytest.raises(dg.RetryRequested):
        bench.passes(checks.release_names_what_is_there, twin_release=release)
