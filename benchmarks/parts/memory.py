"""Peak memory of calibration by 100 and by 5,000 rows, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROWS = (100, 5000)
_CODE = """
import json, sys
import onnx
from pathlib import Path
from edgetf.data.dataset import Split
from edgetf.data.tables import read_table
from edgetf.formats.onnx_calibrate import activation_ranges
from edgetf.formats.onnx_quantize import readers
from edgetf.runtime.encoder import Encoder
from edgetf.runtime.runner import peak_rss_bytes
from edgetf.stages.calibrate import feeds_of

folder, data, count, method = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
model = onnx.load(str(folder / "model.onnx"))
texts = [row["text"] for row in read_table(data, "utf-8")]
rows = Split([texts[k * len(texts) // count] for k in range(count)], None, [0] * count)
constants = {item.name for item in model.graph.initializer}
products = [node for node in readers(model) if node.op_type != "Gather"]
names = list(dict.fromkeys(name for node in products for name in node.input if name not in constants))
feeds = feeds_of(rows, Encoder(folder, 128), tuple(value.name for value in model.graph.input), None)
activation_ranges(model, names, feeds, method, 256)
print(json.dumps(peak_rss_bytes()))
"""


def memory(run: Path, data: Path) -> dict[str, Any]:
    """Peak resident bytes for each method, and the ratio of the larger to the smaller."""
    found: dict[str, Any] = {}
    for method in ("min_max", "percentile", "mse", "entropy"):
        peaks = {str(count): _peak(run / "onnx-fp32", data / "train.csv", count, method) for count in ROWS}
        found[method] = {**peaks, "ratio": peaks[str(ROWS[1])] / peaks[str(ROWS[0])]}
    return found


def _peak(folder: Path, data: Path, count: int, method: str) -> int:
    words = [sys.executable, "-c", _CODE, str(folder), str(data), str(count), method]
    return int(json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout))
