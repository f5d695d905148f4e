"""How long the stages of a language recipe will take, from both models' sizes and this machine's matmul speed."""

from __future__ import annotations

from typing import NamedTuple

from typing_extensions import assert_never

from edgetf.config.language.recipe import LanguageRecipe
from edgetf.config.language.stages import (
    DivergenceConfig,
    LanguageDistillConfig,
    LanguageExportConfig,
    LanguagePruneConfig,
    LanguageQuantizeConfig,
    LanguageStage,
    LanguageVocabularyConfig,
    PretrainConfig,
    StepsConfig,
)
from edgetf.pipeline.forecast import Step, matmul_macs_per_second

# Seconds of the fixed parts, seen on a two-core x86-64 machine; training is scaled by this machine's matmul speed.
_EXPORT_SECONDS = {"onnx": 20.0, "tflite": 60.0}
_QUANTIZE_SECONDS = 5.0
_VALIDATE_SECONDS = 20.0
_TOKENIZER_SECONDS = 10.0
_CODE_SECONDS = 0.7e-6  # of a weight
_HALF_SPEED = 250  # the hidden width at which training reaches half of numpy's matmul speed; seen: 128, 192, 640


class Work(NamedTuple):
    """What a token costs in a model: its weights, and the hidden width that says how fast they are multiplied."""

    params: int
    width: int

    def seconds(self, passes: int, tokens: int, speed: float) -> float:
        """A weight is one multiply-accumulate a token, and three with the way back (Kaplan et al. 2020)."""
        return passes * self.params * tokens / speed * (1 + _HALF_SPEED / self.width)


class Works(NamedTuple):
    """The teacher as it is trained or asked (None: behind an endpoint), and the student as it is trained."""

    teacher: Work | None
    student: Work


def forecast(recipe: LanguageRecipe, works: Works) -> tuple[Step, ...]:
    """Every stage with its predicted seconds."""
    speed = matmul_macs_per_second()
    found = [Step(stage.stage, round(_seconds(stage, recipe, works, speed), 1)) for stage in recipe.stages]
    devices = len(recipe.validation.devices)
    return (*found, Step("validate", round(_VALIDATE_SECONDS * (1 + len(recipe.variants())) * devices, 1)))


def _seconds(stage: LanguageStage, recipe: LanguageRecipe, works: Works, speed: float) -> float:
    match stage:
        case PretrainConfig():
            trained = works.teacher.seconds(3, _tokens(stage, recipe), speed) if works.teacher else 0.0
            return _TOKENIZER_SECONDS + trained
        case LanguageVocabularyConfig():
            return _TOKENIZER_SECONDS
        case LanguagePruneConfig() | LanguageDistillConfig():
            tokens = _tokens(stage, recipe)
            asked = works.teacher.seconds(_asked(stage), tokens, speed) if works.teacher else 0.0
            return works.student.seconds(3, tokens, speed) + asked
        case LanguageExportConfig():
            return sum(_EXPORT_SECONDS[model_format] for model_format in stage.formats)
        case LanguageQuantizeConfig():
            fixed = _QUANTIZE_SECONDS * len(stage.schemes) * len(recipe.export().formats)
            return fixed + _calibration_seconds(stage, recipe, works.student, speed)
        case _:
            assert_never(stage)


def _calibration_seconds(stage: LanguageQuantizeConfig, recipe: LanguageRecipe, student: Work, speed: float) -> float:
    """Of ONNX w4: moments cost a token about what its products do, and every weight is coded in view of the others."""
    if "w4" not in stage.schemes or "onnx" not in recipe.export().formats or not stage.calibration_tokens:
        return 0.0
    return student.seconds(2, stage.calibration_tokens, speed) + _CODE_SECONDS * student.params


def _tokens(stage: StepsConfig, recipe: LanguageRecipe) -> int:
    """Tokens that a training reads."""
    return stage.steps * stage.batch_size * stage.gradient_accumulation * recipe.data.max_length


def _asked(stage: DivergenceConfig) -> int:
    """Whether the teacher is asked at all."""
    return int(stage.teacher > 0)
