"""What a zip application starts with, on a board that has a Python and nothing else.

It unpacks itself beside itself, once, because a runtime's libraries cannot be loaded from inside an archive; then it
runs edgetf's runner from there. The folder gets its name when it is whole, and several may unpack at once.
"""

from __future__ import annotations

import shutil
import sys
import uuid
import zipfile
from pathlib import Path


def unpacked(application: Path) -> Path:
    """The folder with the application's packages.

    Raises:
        SystemExit: it cannot be written.
    """
    place = application.with_suffix(".app")
    if place.is_dir():
        return place
    part = place.with_name(f"{place.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with zipfile.ZipFile(application) as archive:
            archive.extractall(part)
        part.rename(place)
    except OSError as error:
        if not place.is_dir():  # else another was faster
            raise SystemExit(
                f"{place}: the runner cannot be unpacked there ({error.strerror}); free some space"
            ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return place


if __name__ == "__main__":
    sys.path.insert(0, str(unpacked(Path(sys.argv[0]).resolve())))
    from edgetf.runtime.runner import main

    sys.exit(main())
