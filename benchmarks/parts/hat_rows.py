"""Encoder-decoders measured on a Raspberry Pi 4 with PyTorch, by the HAT authors: rows, costs, and a line through them.

    t = c0 + c1·L_e·(4·d_e·q + 2·d_e·f_e) + c2·L_e·h_e + c3·L_d·(6·d_d·q + 2·d_d·f_d) + c4·L_d·2·d_e·q·a
        + c5·L_d + c6·L_d·h_d + c7·L_d·h_x + c8·d_d + c9·L_d·a

The products of an encoder layer (L_e layers, width d_e, feed-forward f_e) and of a decoder layer, whose attention to
the encoder also projects what it reads from it, the outputs of the last a encoder layers; q = 512 is the width of
queries whatever the heads h, whose products of two activations cost by their number; what a decoder layer costs by
itself, a step a token; the products with the vocabulary, which grow with d_d. The constants are fitted by
`edgetf.predict.fit`, with Tukey's weights, because some rows were disturbed while they were measured.

Data: latency_dataset/wmt14ende of mit-han-lab/hardware-aware-transformers (Wang et al. 2020), MIT License.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgetf.predict.fit import MAD_TO_SIGMA, Floats, constants, leverage
from edgetf.predict.interval import factor, left_out_errors

PLACE = Path(__file__).resolve().parent.parent.parent.parent / "shared" / "reference"
FILE = "hat_wmt14ende_raspberry_pi_4.csv"
TRAIN, DRAWS = 100, 20
QUERIES = 512
NOISE = 0.05  # std over mean of a measurement above which a row is left out of training and test alike
MADS = 3.5  # the stricter rule: so many median absolute deviations (as sigmas) above the median of std over mean


@dataclass(frozen=True)
class HatRows:
    """Costs (N, 10), milliseconds of encoder and decoder together (N,), and their standard deviation over that."""

    costs: Floats
    ms: Floats
    noise: Floats

    def kept(self, rule: str) -> HatRows:
        """The rows that a rule on the measurements' own spread keeps; it knows nothing of any prediction."""
        limits = {"all rows": np.inf, "std <= 5 % of the mean": NOISE, "std within 3.5 MAD": self.usual()}
        chosen = self.noise <= limits[rule]
        return HatRows(self.costs[chosen], self.ms[chosen], self.noise[chosen])

    def usual(self) -> float:
        """The largest spread that `MADS` allows."""
        middle = float(np.median(self.noise))
        return middle + MADS * MAD_TO_SIGMA * float(np.median(np.abs(self.noise - middle)))


RULES = ("all rows", "std <= 5 % of the mean", "std within 3.5 MAD")


def read_rows(path: Path) -> HatRows:
    """The table of a file."""
    with path.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    table = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    ms = table["latency_mean_encoder"] + table["latency_mean_decoder"]
    std = np.hypot(table["latency_std_encoder"], table["latency_std_decoder"])
    return HatRows(_costs(table), ms, std / ms)


def _costs(table: dict[str, Floats]) -> Floats:
    d_e, l_e, f_e, h_e = (
        table[f"encoder_{name}"] for name in ("embed_dim", "layer_num", "ffn_embed_dim_avg", "self_attention_heads_avg")
    )
    d_d, l_d, f_d, h_d = (
        table[f"decoder_{name}"] for name in ("embed_dim", "layer_num", "ffn_embed_dim_avg", "self_attention_heads_avg")
    )
    h_x, reads = table["decoder_ende_attention_heads_avg"], table["decoder_arbitrary_ende_attn_avg"]
    million = 1e6
    return np.stack(
        [
            np.ones_like(d_e),
            l_e * (4 * d_e * QUERIES + 2 * d_e * f_e) / million,
            l_e * h_e,
            l_d * (6 * d_d * QUERIES + 2 * d_d * f_d) / million,
            l_d * 2 * d_e * QUERIES * reads / million,
            l_d,
            l_d * h_d,
            l_d * h_x,
            d_d,
            l_d * reads,
        ],
        axis=1,
    )


@dataclass(frozen=True)
class Draw:
    """One random training set, tested on all other rows."""

    mean_error: float
    within_10: float
    inside: float


def draw(rows: HatRows, seed: int) -> Draw:
    """Fit `TRAIN` random rows, and predict the rest with intervals."""
    order = np.random.default_rng(seed).permutation(len(rows.ms))
    train, test = order[:TRAIN], order[TRAIN:]
    costs, ms = rows.costs[train], rows.ms[train]
    found = constants(costs, ms, disturbed=True)

    def without(kept: Floats) -> Floats:
        return np.asarray(costs @ constants(costs[kept], ms[kept], disturbed=True))

    errors = left_out_errors([str(row) for row in train], ms, without)
    predicted = rows.costs[test] @ found
    outside = leverage(costs, ms, None, 0.0, rows.costs[test] / predicted[:, None])
    wide = np.array([factor(errors, TRAIN, float(each)) for each in outside])
    missed, ratio = np.abs(predicted / rows.ms[test] - 1), rows.ms[test] / predicted
    inside = (ratio <= wide) & (ratio >= 1 / wide)
    return Draw(float(missed.mean()), float((missed <= 0.1).mean()), float(inside.mean()))
