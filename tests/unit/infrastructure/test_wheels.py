"""What is found in an uploaded wheel, and what is refused."""

from __future__ import annotations

import random
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name
from support.wheels import make_wheel

from nbledger_domain.errors import InvalidWheelError
from nbledger_infrastructure.packages import wheels
from nbledger_infrastructure.packages.wheels import Wheel, read_wheel

ABOUT = "our_rules-1.0.dist-info"
FILE_NAME = "our_rules-1.0-py3-none-any.whl"
METADATA = "Metadata-Version: 2.1\nName: our-rules\nVersion: 1.0\n"


def refusal(path: Path, file_name: str = FILE_NAME) -> str:
    with pytest.raises(InvalidWheelError) as refused:
        read_wheel(path, file_name)
    return refused.value.reason


def archive(folder: Path, **files: str) -> Path:
    """A wheel of these files beside those that it needs; `about` stands for its .dist-info."""
    path = folder / "upload"
    members = {
        f"{ABOUT}/METADATA": METADATA,
        f"{ABOUT}/WHEEL": "Wheel-Version: 1.0\n",
        f"{ABOUT}/RECORD": "",
    }
    members |= {name.replace("about/", f"{ABOUT}/"): text for name, text in files.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, text in members.items():
            wheel.writestr(name, text)
    return path


def test_what_a_wheel_says_of_itself(tmp_path: Path) -> None:
    path = make_wheel(
        tmp_path,
        "Our_Rules",
        "1.2",
        requires=["pandas>=3", 'tabulate; extra == "text"'],
        requires_python=">=3.11",
    )
    expected = Wheel("our-rules", "1.2", ">=3.11", ["pandas>=3", 'tabulate; extra == "text"'])
    assert read_wheel(path, path.name) == expected
    plain = make_wheel(tmp_path, "plain", "1!2.0rc1+local.1")
    assert read_wheel(plain, plain.name) == Wheel("plain", "1!2.0rc1+local.1", None, [])


@given(
    words=st.lists(st.from_regex(r"[A-Za-z0-9]{1,8}", fullmatch=True), min_size=1, max_size=4),
    joints=st.lists(st.sampled_from(["-", "_", ".", "--", "_."]), min_size=3, max_size=3),
    version=st.tuples(st.integers(0, 99), st.integers(0, 99)),
)
def test_a_name_is_the_same_however_it_is_written(
    tmp_path_factory: pytest.TempPathFactory,
    words: list[str],
    joints: list[str],
    version: tuple[int, int],
) -> None:
    written = words[0] + "".join(j + w for j, w in zip(joints, words[1:], strict=False))
    escaped, number = "_".join(words), ".".join(map(str, version))
    path = tmp_path_factory.mktemp("wheel") / "upload"
    with zipfile.ZipFile(path, "w") as wheel:
        about = f"{escaped}-{number}.dist-info"
        wheel.writestr(f"{about}/METADATA", f"Name: {written}\nVersion: {number}.0\n")
        wheel.writestr(f"{about}/WHEEL", "")
        wheel.writestr(f"{about}/RECORD", "")
    found = read_wheel(path, f"{escaped}-{number}-py3-none-any.whl")
    assert found.name == canonicalize_name(written)
    assert found.version == number


@pytest.mark.parametrize(
    ("file_name", "reason"),
    [
        ("rules.zip", "not named as a wheel"),
        ("our_rules-1.0.whl", "not named as a wheel"),
        ("our_rules-one-py3-none-any.whl", "not named as a wheel"),
        ("our_rules-1.0-py3-none-any.whl\n", "not named as a wheel"),
        ("our rules-1.0-py3-none-any.whl", "not named as a wheel"),
        ("r\u00fcles-1.0-py3-none-any.whl", "not named as a wheel"),
        ("", "not named as a wheel"),
        (f"{'r' * 250}-1.0-py3-none-any.whl", "not named as a wheel"),
        ("other-1.0-py3-none-any.whl", "is not that of other 1.0"),
        ("our_rules-2.0-py3-none-any.whl", "is not that of our-rules 2.0"),
        ("mindzie_sdk-1.0-py3-none-any.whl", "mindzie-sdk comes with the service"),
        ("Process.Mining.Utils-1.0-py3-none-any.whl", "comes with the service"),
    ],
)
def test_names_that_are_refused(tmp_path: Path, file_name: str, reason: str) -> None:
    assert reason in refusal(archive(tmp_path), file_name)


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        ("../evil.py", "leads out"),
        ("our_rules/../../evil.py", "leads out"),
        ("/etc/evil", "leads out"),
        ("our_rules\\..\\..\\evil.py", "leads out"),
        ("C:/evil.py", "leads out"),
        ("our_rules//evil.py", "leads out"),
        ("./evil.py", "leads out"),
        ("other-1.0.dist-info/METADATA", "one folder .dist-info, and has 2"),
    ],
)
def test_members_that_are_refused(tmp_path: Path, member: str, reason: str) -> None:
    assert reason in refusal(archive(tmp_path, **{member: "x"}))


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ("Name: our-rules\n", "tells no name or no version"),
        ("Version: 1.0\n", "tells no name or no version"),
        ("Name: other\nVersion: 1.0\n", "'other' '1.0', and its file is named as our-rules 1.0"),
        ("Name: our-rules\nVersion: 1.1\n", "is that of 'our-rules' '1.1'"),
        ("Name: our-rules\nVersion: one\n", "is that of 'our-rules' 'one'"),
        (f"{METADATA}Requires-Python: three\n", "Requires-Python cannot be read"),
        (f"{METADATA}Requires-Dist: =1\n", "'=1' cannot be read"),
        (f"{METADATA}Requires-Dist: x @ file:///etc/passwd\n", "must not be an address"),
        (f"{METADATA}Requires-Dist: x{' ' * 501}>1\n", "more than 500 characters"),
        (METADATA + "Requires-Dist: x\n" * 501, "more than 500 dependencies"),
        (METADATA + "\n" + "x" * 1_000_001, "more than 1,000,000 bytes"),
    ],
)
def test_metadata_that_is_refused(tmp_path: Path, metadata: str, reason: str) -> None:
    assert reason in refusal(archive(tmp_path, **{"about/METADATA": metadata}))


def test_what_is_no_archive_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    for content in (b"", b"PK", b"a,b\n1,2\n"):
        path.write_bytes(content)
        assert "no ZIP archive" in refusal(path)
    whole = archive(tmp_path, **{"our_rules/data": "plain " * 2000}).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "no ZIP archive" in refusal(path)
    dice = random.Random(1)
    for _ in range(300):
        spoilt = bytearray(whole)
        spoilt[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        path.write_bytes(spoilt)
        try:
            read_wheel(path, FILE_NAME)
        except InvalidWheelError:
            continue


def test_damage_is_found_by_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in (
            ("our_rules/__init__.py", "SOUND = True"),
            (f"{ABOUT}/METADATA", METADATA),
            (f"{ABOUT}/WHEEL", ""),
            (f"{ABOUT}/RECORD", ""),
        ):
            wheel.writestr(name, text)
    path.write_bytes(path.read_bytes().replace(b"SOUND = True", b"SOUND = Trap"))
    assert refusal(path) == "'our_rules/__init__.py' in it is damaged."


@pytest.mark.parametrize("missing", ["METADATA", "WHEEL", "RECORD"])
def test_each_of_its_own_files_is_needed(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "upload"
    with zipfile.ZipFile(path, "w") as wheel:
        for name in {"METADATA", "WHEEL", "RECORD"} - {missing}:
            wheel.writestr(f"{ABOUT}/{name}", METADATA)
    assert refusal(path) == f"It has no {missing}."
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("our_rules/__init__.py", "")
    assert "has 0" in refusal(path)


def test_links_doubles_and_bombs_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = zipfile.ZipInfo("our_rules/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = archive(tmp_path)
    with zipfile.ZipFile(path, "a") as wheel:
        wheel.writestr(link, "/etc/passwd")
    assert "'our_rules/link' in it is a link" in refusal(path)
    path = archive(tmp_path)
    with zipfile.ZipFile(path, "a") as wheel, pytest.warns(UserWarning, match="Duplicate name"):
        wheel.writestr(f"{ABOUT}/METADATA", "")
    assert "is in it twice" in refusal(path)
    path = archive(tmp_path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_BZIP2) as wheel:
        wheel.writestr("our_rules/packed", "x" * 1000)
    assert "'our_rules/packed' in it is encrypted, or packed unusually" in refusal(path)
    path = archive(tmp_path, **{"our_rules/zeros": "0" * 1_000_000})
    assert path.stat().st_size < 10_000
    with monkeypatch.context() as patch:
        patch.setattr(wheels, "MAX_UNPACKED_BYTES", 1_000_000)
        assert "1 MB are the most" in refusal(path)
    monkeypatch.setattr(wheels, "MAX_MEMBERS", 3)
    assert "It has 4 files; 3 are the most" in refusal(path)
