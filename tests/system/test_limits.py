from conftest import ROOT

from p2p_keras.system import limits


def test_security_md_states_every_limit():
    text = " ".join((ROOT / "SECURITY.md").read_text().split())
    for stated in (
        f"a picture | {limits.MAX_PIXELS // 10**6} megapixels",
        f"a JPEG {limits.MAX_SCANS:,} scans",
        f"a TIFF {limits.MAX_PAGES} pages",
        f"{limits.MAX_FILES:,} files; {limits.MAX_EXPANSION} times its own size",
        f"or {limits.FREE_EXPANSION_BYTES >> 30} GB if that is more",
        f"a list or a name of {limits.MAX_READ_BYTES >> 20} MB",
        f"a JSON file | {limits.MAX_JSON_BYTES >> 20} MB",
    ):
        assert stated in text


def test_what_an_archive_may_become():
    assert limits.unpacked_bytes(2_000) == 2**30
    assert limits.unpacked_bytes(10**9) == 20 * 10**9
