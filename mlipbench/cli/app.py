"""The entry point: verbs, and how every command ends."""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer
from typer.main import get_command

from mlipbench import __version__
from mlipbench.cli import (
    compare,
    data,
    doctor,
    env,
    export,
    gate,
    listing,
    output,
    plan,
    report,
    run,
    schema,
    score,
    status,
    train,
)
from mlipbench.errors import ExitCode, MlipbenchError

_EPILOG: Final = """\
Results go to stdout, progress and messages to stderr.

Exit codes: 0 done; 1 negative verdict; 2 wrong usage or invalid file; 3 finished, some tasks failed, or an internal
error; 4 something needed is missing (environment, data, device, consent); 5 nothing selected or measured;
75 later: another process computes the shard, or the job ends too soon; 130 interrupted, the same command resumes.
"""
_DEBUG: Final = "--debug"
_CLICK_ERROR: Final[type[Exception]] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)
"""Base of all usage errors; newer versions of typer bring their own click."""

app = typer.Typer(
    name="mlipbench", epilog=_EPILOG, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=False
)


def _version(wanted: bool) -> None:
    if wanted:
        output.emit(f"mlipbench {__version__}")
        raise typer.Exit


@app.callback(epilog=_EPILOG)
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option(_DEBUG, help="Print tracebacks of errors; may stand anywhere on the line.")
    ] = False,
) -> None:
    """Benchmark machine-learned interatomic potentials side by side."""


app.command("run", epilog=_EPILOG)(run.run)
app.command("plan", epilog=_EPILOG)(plan.plan)
app.command("list", epilog=_EPILOG)(listing.list_)
app.command("status", epilog=_EPILOG)(status.status)
app.command("train", epilog=_EPILOG)(train.train)
app.command("score", epilog=_EPILOG)(score.score)
app.command("report", epilog=_EPILOG)(report.report)
app.command("compare", epilog=_EPILOG)(compare.compare)
app.command("doctor", epilog=_EPILOG)(doctor.doctor)
app.command("gate", epilog=_EPILOG)(gate.gate)
app.command("schema", epilog=_EPILOG)(schema.schema)
app.add_typer(data.app, name="data", epilog=_EPILOG)
app.add_typer(env.app, name="env", epilog=_EPILOG)
app.add_typer(export.app, name="export", epilog=_EPILOG)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: The command line without the program; None takes that of the process.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # schedulers send it: an interrupt like any other
    given = list(sys.argv[1:] if arguments is None else arguments)
    line = [part for part in given if part != _DEBUG]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _invoke(line, given)
    except MlipbenchError as error:
        return _fail(str(error), error.exit_code, debug=_DEBUG in given)
    except (KeyboardInterrupt, typer.Abort):
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        output.mute(sys.stdout)
        code = ExitCode.DONE
    except _CLICK_ERROR as error:
        return _fail(_usage(error), ExitCode.USAGE, debug=_DEBUG in given)
    except Exception as error:  # noqa: BLE001 - the top of the command line
        hint = "" if _DEBUG in given else "; give --debug for the traceback"
        problem = f"internal error: {type(error).__name__}: {error}{hint}"
        return _fail(problem, ExitCode.TASKS_FAILED, debug=_DEBUG in given)
    if code == ExitCode.INTERRUPTED:
        output.say("mlipbench: interrupted; the same command resumes")
    return int(code)


def _invoke(line: list[str], given: list[str]) -> int:
    command = get_command(app)
    arguments = line or ["--help"]
    try:
        code = command.main(args=arguments, prog_name="mlipbench", standalone_mode=False, obj=given)
    except SystemExit as error:  # completion ends so, and typer where the reader of its output is gone
        completing = "_MLIPBENCH_COMPLETE" in os.environ
        return error.code if completing and isinstance(error.code, int) else int(ExitCode.DONE)
    return code if isinstance(code, int) else int(ExitCode.DONE)


def _usage(error: BaseException) -> str:
    """Return a usage error as one line that says where help is."""
    message = getattr(error, "format_message", lambda: str(error))().rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "mlipbench"
    return f"{message}; see `{path} --help`"


def _fail(message: str, code: ExitCode, *, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    output.say(f"mlipbench: error: {message}")
    return int(code)
