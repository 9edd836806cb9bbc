"""Files that belong together by their names: equal but for the extension."""

from collections.abc import Iterable, Sequence

from p2p_keras.data.listing import SOURCE_EXTENSIONS


def match_stems(listings: Sequence[Iterable[str]]) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Pairs up files by their paths without the extension.

    Args:
        listings: For each panel, paths relative to its own folder.

    Returns:
        Stem -> the panels' paths, sorted; and (number of the listing, path) -> why it has no place in any pair.
    """
    by_stem: list[dict[str, list[str]]] = [{} for _ in listings]
    for found, listing in zip(by_stem, listings, strict=True):
        for path in listing:
            found.setdefault(stem(path), []).append(path)
    matched, left = {}, {}
    for name in sorted(set().union(*by_stem)):
        row = [found.get(name, []) for found in by_stem]
        if all(len(paths) == 1 for paths in row):
            matched[name] = tuple(paths[0] for paths in row)
            continue
        why = "it has no partner" if not all(row) else "several files have that name"
        left |= {(number, path): why for number, paths in enumerate(row) for path in paths}
    return matched, left


def stem(path: str) -> str:
    """An image's path without its extension, and no more than that: Dayton's names are full of dots."""
    for extension in SOURCE_EXTENSIONS:
        if path.lower().endswith(extension):
            return path[: -len(extension)]
    return path
