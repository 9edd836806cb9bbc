"""How large what is read may be, so that a small file of a stranger's fills neither memory nor disk: see SECURITY.md.

Each is several times what was ever met; whoever needs more changes it here.
"""

MAX_PIXELS = 64_000_000  # of an image file: 256 MB as bytes of four channels
MAX_SCANS = 1_000  # of a JPEG, which has a dozen; each takes as long as the image has pixels
MAX_UPLOAD_BYTES = 64 << 20  # of a file given to p2p-demo's page
MAX_REQUEST_BYTES = 1 << 20  # of any other request to it, which is kept in memory; its own have less than 10 KB
MAX_PAGES = 100  # of a TIFF
MAX_JSON_BYTES = 32 << 20  # of a file: 900 MB as Python's objects, if it is all brackets
MAX_READ_BYTES = 64 << 20  # of what lists an archive's content, and must be read at once
MAX_FILES = 500_000  # of an archive
MAX_EXPANSION = 20  # times its own size, that an archive may be unpacked to
FREE_EXPANSION_BYTES = 1 << 30  # that even a small archive may be unpacked to


def unpacked_bytes(archive_bytes: int) -> int:
    """Bytes to which an archive of so many may be unpacked."""
    return max(MAX_EXPANSION * archive_bytes, FREE_EXPANSION_BYTES)
