"""What is installed, read out of the metadata that strangers wrote."""

from __future__ import annotations

from pathlib import Path

from deployer.environments.builds import list_packages


def test_metadata_that_is_not_ascii_is_listed_all_the_same(tmp_path: Path) -> None:
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    for name, version in (("Alpha", "1.0"), ("Größe", "1.0"), ("beta", "1.0é"), ("gamma", "")):
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n", encoding="utf-8")

    names = [name for name, _ in list_packages(tmp_path)]

    assert len(names) == 4
    assert {"alpha", "beta", "gamma"} < set(names)
