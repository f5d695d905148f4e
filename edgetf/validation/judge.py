"""A row held against a budget: checks, verdict and reasons. Measures nothing, so that a run can be judged anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgetf.core.budget import DECODING, TIMED, Verdict, check_budget, overall
from edgetf.validation import latency_gate
from edgetf.validation.fallback import provider_share
from edgetf.validation.language.readings import decode_readings
from edgetf.validation.row import AWAY, DeviceRow

MIB = 1 << 20
SIMULATED = "this processor computes the scheme in float, so that its milliseconds say nothing"
EMULATED = "an emulated processor has no milliseconds; bound instructions_ratio instead"
UNCOUNTED = "instructions are counted on emulated devices only"
NOTHING_TIMED = "an emulated processor has no milliseconds, and the way to this one counts no instructions"
_PREDICTED = ("latency_p50_ms", "decode_tokens_per_s")
NO_REFERENCE = "the teacher's fp32 ONNX folder is not beside this one; give it with --reference"


def readings_of(row: DeviceRow) -> dict[str, latency_gate.Reading]:
    """The timed values of a row, with their intervals; none where nothing was timed on the device itself."""
    if row.how != "measured":
        return {}
    values = {key: getattr(row, key) for key in TIMED if key not in DECODING}
    return latency_gate.readings(row.samples_ms, values, row.speedup_ci95) | decode_readings(row.decoding)


def _reasons(row: DeviceRow) -> dict[str, str]:
    """Why a row has no value for a bound, where it is not for want of a reference."""
    reasons = {"speedup": row.alone} if row.alone else {}
    untimed = {"simulated": SIMULATED, "emulated": EMULATED}.get(row.how)
    if untimed is not None:
        reasons |= dict.fromkeys(TIMED, untimed)
    if row.how == "emulated":
        reasons["peak_rss_mib"] = "memory under emulation includes the emulator's"
    if row.instructions is None:
        reasons["instructions_ratio"] = UNCOUNTED
    return reasons


def judged(row: DeviceRow, budget: Mapping[str, float]) -> DeviceRow:
    """The row with its checks, verdict and reasons for this budget; measures nothing."""
    if row.how in AWAY:
        reason = row.why[0].removeprefix("not measured: ")
        said = _predicted(row)
        away = check_budget(budget, {}, reason, dict.fromkeys(_PREDICTED, said) if said else {})
        return replace(row, checks=[vars(check) for check in away], why=[row.why[0], *([said] if said else [])])
    values: dict[str, float | None] = {record["name"]: record["value"] for record in row.metrics}
    size, reference = row.size_bytes, row.reference_size_bytes
    counted, of = row.instructions, row.reference_instructions
    values |= {
        "instructions_ratio": counted / of if counted and of else None,
        "provider_share": provider_share(row.backend),
        "size_mib": size / MIB if size else None,
        "size_ratio": reference / size if reference and size else None,
        "peak_rss_mib": row.peak_rss_bytes / MIB if row.peak_rss_bytes else None,
    }
    timed = latency_gate.timed_checks(budget, readings_of(row), row.doubts, len(row.retries))
    strict = check_budget(budget, values, NO_REFERENCE, _reasons(row))
    checks = [timed.get(check.key, check) for check in strict]
    why = row.problems + [check.why for check in checks]
    if row.how == "simulated":
        why.append(f"simulated: {SIMULATED}")
    elif row.instructions is not None:
        why.append(_counted(row))
    elif row.how == "emulated":
        why.append(f"emulated: {NOTHING_TIMED}")
    elif row.alone and "speedup" not in budget:
        why.append(f"speedup: not measured ({row.alone})")
    why += [f"untrusted: {doubt}" for doubt in row.doubts]
    if row.speedup is not None and row.speedup < 1:
        why.append(f"slower: it runs at {row.speedup:.2f} times the speed of its teacher's fp32 file")
    verdict: Verdict = "fail" if row.problems else overall([check.verdict for check in checks])
    return replace(row, checks=[vars(check) for check in checks], why=why, verdict=verdict)


def _counted(row: DeviceRow) -> str:
    """What was counted, in a line."""
    each = "a token at a context" if "prompts" in row.parity else "an inference"  # golden prompts are a decoder's
    said = f"emulated: {(row.instructions or 0) / 1e6:.1f} million instructions {each} of {row.seq_len} tokens"
    return said if row.instructions_ratio is None else f"{said}, {row.instructions_ratio:.2f} times the reference's"


def _predicted(row: DeviceRow) -> str | None:
    """What was predicted of a row, in words."""
    if row.predicted is None:
        return None
    if "decode_tokens_per_s" in row.predicted:
        rates = [row.predicted["decode_tokens_per_s"], *row.predicted["interval_tokens_per_s"]]
        rate, low, high = (f"{value:.3g}" if value < 100 else f"{value:.0f}" for value in rates)
        return f"predicted {rate} tokens/s behind {row.seq_len} ({low} to {high}), not measured"
    low, high = row.predicted["interval95_ms"]
    return f"predicted {row.predicted['latency_p50_ms']:.4g} ms (95 %: {low:.4g} to {high:.4g}), not measured"
