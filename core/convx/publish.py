"""Send a checkpoint to the Hub: verified first, only the files that its record names, and all that they need.

Who is logged in is huggingface_hub's own business: no token is read into a message, a file or a record here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convx.card import CARD
from convx.checkpoint import RECORD, read_record
from convx.errors import ConvxError
from convx.verify import verify

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass(frozen=True)
class Upload:
    """What would go where. `left_out`: files of the folder that the record does not name, and that stay here."""

    folder: Path
    repo: str
    files: dict[str, int]
    left_out: tuple[str, ...] = ()
    private: bool = False
    collection: str | None = None

    @property
    def nbytes(self) -> int:
        return sum(self.files.values())

    @property
    def what(self) -> str:
        seen = "private" if self.private else "public"
        return f"{self.repo} ({seen}{f', collection {self.collection}' if self.collection else ''})"

    def as_json(self) -> dict[str, Any]:
        return {
            "repo": self.repo, "private": self.private, "collection": self.collection, "bytes": self.nbytes,
            "files": self.files, "left_out": list(self.left_out),
        }  # fmt: skip


def plan_upload(path: Path, repo: str, *, private: bool = False, collection: str | None = None) -> Upload:
    """Verify the checkpoint at `path`, and say what would go. No request is made.

    Raises VerifyError when it is not as its record says, ConvxError when `repo` cannot be a repository's name.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ConvxError(f"{repo!r} is no name of a repository: {error}", hint="write owner/name") from None
    record = read_record(path)
    verify(path).require()
    names = [name for name in (CARD, RECORD, *record["files"]) if (path / name).is_file()]
    files = {name: (path / name).stat().st_size for name in sorted(names)}
    return Upload(path, repo, files, tuple(_others(path, files)), private, collection)


def _others(folder: Path, files: dict[str, int]) -> Iterator[str]:
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in files:
            yield name


def publish(upload: Upload, *, message: str = "Upload with convx") -> str:
    """Make the repository unless it is there, send the files, add it to the collection; gives its address.

    Sent again after an interruption, files that are already there are skipped.
    """
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise ConvxError("not logged in to the Hub", hint="run `hf auth login`, or set HF_TOKEN")
    api = HfApi(library_name="convx")
    with _one_error(f"{upload.repo}: cannot be made"):
        repo = api.create_repo(upload.repo, private=upload.private or None, exist_ok=True)
        _refuse_public(api, upload, repo.repo_id)
    with _one_error(f"{upload.repo}: the upload failed", hint="the same command goes on where it stopped"):
        # upload_large_folder is gone from huggingface_hub 2; upload_folder streams and resumes there.
        api.upload_folder(
            repo_id=repo.repo_id, folder_path=upload.folder, commit_message=message,
            allow_patterns=[escape(name) for name in upload.files],
        )  # fmt: skip
    if upload.collection:
        with _one_error(f"{upload.repo} is uploaded, but not added to {upload.collection}"):
            api.add_collection_item(upload.collection, repo.repo_id, item_type="model", exists_ok=True)
    return str(repo.url)


def _refuse_public(api: HfApi, upload: Upload, repo: str) -> None:
    """A repository that was there before keeps its visibility, so `--private` alone would not hide what is sent."""
    if upload.private and not api.model_info(repo).private:
        raise ConvxError(
            f"{upload.repo}: is there already, and public", hint="make it private on the Hub, or leave --private out"
        )


@contextmanager
def _one_error(what: str, hint: str | None = None) -> Iterator[None]:
    """Whatever the Hub's library raises, as one message without a token in it."""
    try:
        yield
    except ConvxError:
        raise
    except Exception as error:
        raise ConvxError(f"{what}: {_without_token(_told(error))}", hint=_hint(error) or hint) from None


def _root(error: BaseException) -> BaseException:
    """The error of the Hub's answer, where another one wraps it."""
    while error.__cause__ is not None and not hasattr(error, "response"):
        error = error.__cause__
    return error


def _told(error: BaseException) -> str:
    root = _root(error)
    response = getattr(root, "response", None)
    status = f"HTTP {response.status_code}: " if response is not None else f"{type(root).__name__}: "
    said = getattr(root, "server_message", None) or str(root)
    return status + " ".join(said.split())[:400]


def _hint(error: BaseException) -> str | None:
    response = getattr(_root(error), "response", None)
    if response is None or response.status_code not in (401, 403):
        return None
    return "the login may not write there: run `hf auth login` with a token that may, or check the owner's name"


def _without_token(text: str) -> str:
    from huggingface_hub import get_token

    token = get_token()
    return text.replace(token, "[token]") if token else text
