"""The command line: parse, call, print, exit code. Every command imports what it needs when it runs."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edgetf import __version__
from edgetf.cli_groups import ci, devices, targets
from edgetf.cli_options import (
    Annotate,
    Budget,
    Devices,
    Json,
    Junit,
    Markdown,
    Provider,
    Require,
    Summary,
)
from edgetf.core.errors import EXIT_INTERRUPTED, EdgetfError

LM = "Language models"

app = typer.Typer(
    name="edgetf",
    help="Compress a Transformer for an edge device, and prove the result on the file that ships.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for group, name in ((devices, "devices"), (targets, "targets"), (ci, "ci")):
    app.add_typer(group, name=name)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"edgetf {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def compress(
    words: Annotated[
        list[str], typer.Argument(metavar="recipe=NAME|PATH [KEY.PATH=VALUE …]", help="The recipe and its overrides.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder of the run. Default: runs/RECIPE.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print recipe, plan and cost; start nothing.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Make every stage again, reuse nothing.")] = False,
    allow_larger: Annotated[
        bool, typer.Option("--allow-larger", help="Go on with a student that costs more than its teacher.")
    ] = False,
    teacher_outputs: Annotated[
        str | None,
        typer.Option(metavar="K/N", help="Compute part K of N of the teacher's outputs into the cache, and stop."),
    ] = None,
    require_measured: Require = False,
    json: Json = False,
) -> None:
    """Distill, prune, quantize, export and validate, as a recipe says."""
    from edgetf.commands.compress import Asked, compress_command

    asked = Asked(words, out, dry_run, fresh, allow_larger, teacher_outputs, require_measured, json)
    raise typer.Exit(compress_command(asked))


@app.command()
def validate(
    artifact: Annotated[Path, typer.Argument(help="A variant's folder.")],
    device: Devices = None,
    budget: Budget = None,
    reference: Annotated[
        Path | None, typer.Option(help="The teacher's fp32 ONNX folder; by default the one the run made.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    seq_len: Annotated[
        list[int] | None, typer.Option(min=2, help="Tokens of the timed input; of several, the first is judged.")
    ] = None,
    samples: Annotated[int, typer.Option(min=30, help="At least so many, unless the model is slow.")] = 60,
    junit: Junit = None,
    markdown: Markdown = None,
    github_summary: Summary = False,
    github_annotations: Annotate = False,
    require_measured: Require = False,
    json: Json = False,
) -> None:
    """Measure a variant in its runtime and hold it against a budget."""
    from edgetf.commands.reports import Reports
    from edgetf.commands.validate import validate_command

    reports = Reports(junit, markdown, github_summary, github_annotations, require_measured, json)
    timing = (threads, samples, seq_len or [])
    raise typer.Exit(validate_command(artifact, device or ["host"], budget or [], reference, timing, reports))


@app.command()
def bench(
    model: Annotated[Path, typer.Argument(metavar="MODEL|ARTIFACT", help="A variant's folder, or a model file.")],
    device: Annotated[str, typer.Option(help="A device profile.")] = "host",
    against: Annotated[Path | None, typer.Option(help="Another one, timed in turns in the same process.")] = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    seq_len: Annotated[
        list[int] | None,
        typer.Option(min=2, help="Tokens of the input; repeatable. Default: what the model takes."),
    ] = None,
    samples: Annotated[int, typer.Option(min=30, help="At least so many, unless the model is slow.")] = 60,
    sustained: Annotated[
        float | None, typer.Option(min=1, metavar="SECONDS", help="Run without a pause, and show how speed drifts.")
    ] = None,
    cpu: Annotated[list[int] | None, typer.Option(min=0, help="A core to run on; repeatable. Default: any.")] = None,
    provider: Provider = None,
    json: Json = False,
) -> None:
    """Latency of a file, alone or against another."""
    from edgetf.commands.asked import Asked
    from edgetf.commands.bench import bench_command

    lengths, cores = tuple(seq_len or ()), tuple(cpu or ())
    asked = Asked(model, device, against, threads, lengths, samples, sustained, cores, provider)
    raise typer.Exit(bench_command(asked, json))


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL|ARTIFACT", help="A variant's folder, or a model file.")],
    device: Annotated[str, typer.Option(help="A device profile; it need not be at hand.")] = "host",
    seq_len: Annotated[
        list[int] | None, typer.Option(min=2, help="Tokens of the input; repeatable. Default: what the model takes.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: the profile's.")] = None,
    json: Json = False,
) -> None:
    """Latency of a file on a device that is away: predicted, with an interval."""
    from edgetf.commands.predict import predict_command

    raise typer.Exit(predict_command(model, device, seq_len or [], threads, json))


@app.command()
def bundle(
    artifact: Annotated[Path, typer.Argument(help="A variant's folder.")],
    device: Annotated[str, typer.Option(help="A device profile.")],
    out: Annotated[Path | None, typer.Option(help="The new folder. Default: ARTIFACT-DEVICE here.")] = None,
    seq_len: Annotated[int | None, typer.Option(min=1, help="Tokens to tune for. Default: the longest.")] = None,
    json: Json = False,
) -> None:
    """What goes to a device along with a variant; for Jetson boards the call that builds its TensorRT engine."""
    from edgetf.commands.bundle import bundle_command

    raise typer.Exit(bundle_command(artifact, device, out, seq_len, json))


@app.command()
def infer(
    artifact: Annotated[Path, typer.Argument(help="A variant's folder.")],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; none: one a line from stdin.")] = None,
    pair: Annotated[str | None, typer.Option(help="The second text, for a model that compares two.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print tokens as they come.", rich_help_panel=LM)] = False,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Default: 128.", rich_help_panel=LM)] = None,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Always the likeliest token; the same text every time.", rich_help_panel=LM)
    ] = False,
    temperature: Annotated[
        float | None, typer.Option(help="Below 1: more likely tokens. Default: 0.8.", rich_help_panel=LM)
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw among the likeliest with this mass. Default: 0.95.", rich_help_panel=LM)
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="Draw among so many tokens. Default: 0, all.", rich_help_panel=LM)
    ] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(help="Above 1: fewer repetitions. Default: 1.", rich_help_panel=LM)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The same seed gives the same text. Default: 0.", rich_help_panel=LM)
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="End before this text; repeatable.", rich_help_panel=LM)
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            min=8,
            help="Read texts of any length with a cache of so many tokens; stdin is then one text.",
            rich_help_panel=LM,
        ),
    ] = None,
    sinks: Annotated[
        int | None, typer.Option(min=0, help="First tokens that stay in the window. Default: 4.", rich_help_panel=LM)
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: 1.", rich_help_panel=LM)] = None,
    json: Json = False,
) -> None:
    """Feel the result: classify texts, or let a language model go on with them."""
    from edgetf.commands.infer import infer_command
    from edgetf.commands.writing import Writing

    cuts = (temperature, top_k, top_p, repetition_penalty, seed)
    writing = Writing(stream, max_new_tokens, greedy, *cuts, tuple(stop or ()), window, sinks, threads)
    raise typer.Exit(infer_command(artifact, texts or [], pair, writing, json))


@app.command()
def recipes(name: Annotated[str | None, typer.Argument(help="Show one.")] = None, json: Json = False) -> None:
    """List the recipes, or show one."""
    from edgetf.commands.lists import recipes_command

    raise typer.Exit(recipes_command(name, json))


@app.command()
def inspect(
    place: Annotated[Path, typer.Argument(metavar="RUN|ARTIFACT|MODEL", help="What to look into.")], json: Json = False
) -> None:
    """What is in a run, an artifact or a model file; checks every hash."""
    from edgetf.commands.inspect import inspect_command

    raise typer.Exit(inspect_command(place, json))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    junit: Junit = None,
    markdown: Markdown = None,
    github_summary: Summary = False,
    github_annotations: Annotate = False,
    require_measured: Require = False,
    json: Json = False,
) -> None:
    """Show a finished run again."""
    from edgetf.commands.report import report_command
    from edgetf.commands.reports import Reports

    reports = Reports(junit, markdown, github_summary, github_annotations, require_measured, json)
    raise typer.Exit(report_command(run, reports))


@app.command()
def doctor(json: Json = False) -> None:
    """What is installed, what is missing, and the command that brings it."""
    from edgetf.commands.doctor import doctor_command

    raise typer.Exit(doctor_command(json))


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run the CLI; errors that a user or a file causes become one message and an exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = app(standalone_mode=False) or 0  # a command's typer.Exit(code) comes back as that code
    except EdgetfError as error:
        print(f"edgetf: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our stdout went away; say no more
        sys.exit(0)
    except Exception as error:
        # typer's own usage errors know how to show themselves; all else is a bug and keeps its traceback
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        sys.exit(getattr(error, "exit_code", 2))
    if code == EXIT_INTERRUPTED:  # also what typer makes of a KeyboardInterrupt
        print("edgetf: interrupted; run the same command again, it resumes", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
