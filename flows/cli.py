"""The command line.  This is the one place that defers imports: ``edco --help`` and the reading
commands must load neither torch nor Prefect, so each command imports what it needs.

Results go to standard output, everything else to standard error.  Exit codes: 0, 1 for what
failed or was stopped, 2 for bad input.

Longer than 400 lines: one short function per command, all of them in one place.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from flows import INSTALL, quiet_libraries

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.reading import Answer
    from storage import Ledger

app = typer.Typer(
    name="edco",
    help="Fine-tune a language model under a dynamic, entropy-based curriculum "
    "that can be audited, resumed and queried.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
db_app = typer.Typer(
    help="Migrations and upkeep of the ledger.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(db_app, name="db")
runs_app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
app.add_typer(runs_app, name="runs")
bench_app = typer.Typer(
    help="What settings cost and what they are worth, on your own data and model.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(bench_app, name="bench")

ConfigArg = Annotated[Path, typer.Argument(help="Configuration file (YAML).", metavar="CONFIG")]
RunArg = Annotated[
    str, typer.Argument(help="Run id, or an unambiguous beginning of it.", metavar="RUN_ID")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override one setting: key.sub=value. May be repeated."),
]
StoreOption = Annotated[
    str | None,
    typer.Option("--store", help="Ledger URL. Default: $EDCO_STORE, else duckdb:///edco.duckdb."),
]
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="With a local Prefect server, though one is configured.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Rows as CSV on standard output.")]


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Option("--dir", help="Where data, base model, ledger and run go.")
    ] = Path("edco-demo"),
    seed: Annotated[int, typer.Option(help="Seed of the data and of the run.")] = 0,
) -> None:
    """The whole loop, offline, on data and a tiny model made here."""
    from flows.demo import run_demo

    run_demo(folder, seed=seed)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to write to.", metavar="[DIR]")] = Path(),
) -> None:
    """Write a commented configuration to start from."""
    from edco_core.errors import InputError

    target = folder / "edco.yaml"
    if target.exists():
        raise InputError(f"{target} exists already and is not overwritten. Give another folder.")
    template = Path(__file__).with_name("init.yaml").read_text(encoding="utf-8")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target.write_text(template, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}).") from error
    _say(f"wrote {target}: edit it, then type 'edco validate {target}'")


@app.command()
def validate(
    config: ConfigArg,
    overrides: SetOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check configuration, data, model and ledger without training; show the plan."""
    from edco_core.config import parse_config, read_values
    from edco_core.config_compare import is_comparison, load_comparison

    values, verb = read_values(config, overrides or []), "run"
    if is_comparison(values):
        from flows.compare_launch import describe_comparison

        verb, compared = "compare", load_comparison(config, overrides or [])
        facts = describe_comparison(compared, compared.store_url(store))
    else:
        loaded = parse_config(values, source=str(config))
        from flows.plan import describe

        facts = describe(loaded, loaded.store_url(store))
    if as_json:
        _print_json(facts)
        return
    width = max(len(key) for key in facts)
    for key, value in facts.items():
        print(f"{key.replace('_', ' '):<{width}}  {value}")
    _say(f"everything is in order; to start: edco {verb} {config}")


@app.command()
def run(
    config: ConfigArg,
    run_id: Annotated[
        str | None, typer.Option(help="Name the run; default: name and time.")
    ] = None,
    overrides: SetOption = None,
    store: StoreOption = None,
    offline: OfflineOption = False,
) -> None:
    """A run, start to end."""
    from edco_core.config import load_config

    loaded = load_config(config, overrides or [])
    from flows.launch import start_run

    start_run(loaded, loaded.store_url(store), run_id, offline=offline)


@app.command()
def resume(run_id: RunArg, store: StoreOption = None, offline: OfflineOption = False) -> None:
    """Carry a run on from its last finished step; a finished run says so."""
    from flows.launch import resume_run

    resume_run(run_id, _store_url(store), offline=offline)


@app.command()
def score(
    config: ConfigArg,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The file to write.", metavar="FILE.parquet")
    ],
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Folder of an adapter or of a whole model. Default: the base model.", metavar="DIR"
        ),
    ] = None,
    keep_token_entropies: Annotated[
        bool,
        typer.Option("--keep-token-entropies", help="Also the entropy of each token, as a list."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file if it exists.")
    ] = False,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score a pool once, without training and without a ledger."""
    from edco_core.config import load_config

    loaded = load_config(config, overrides or [])
    from flows.scoring import score_to_file

    facts = score_to_file(
        loaded,
        output,
        checkpoint=checkpoint,
        keep_token_entropies=keep_token_entropies,
        overwrite=overwrite,
    )
    if as_json:
        _print_json(facts)
        return
    for key in ("score_mean", "score_p10", "score_p50", "score_p90", "score_max"):
        print(f"{key:<12}  {facts[key]:.4f}")
    _say(f"wrote {output}: {facts['pool_size']} samples in {facts['scoring_seconds']:.1f} s")


NameOption = Annotated[
    str | None, typer.Option("--name", help="Of the deployment; default: run.name.")
]
CronOption = Annotated[str | None, typer.Option(help="Schedule, as in '0 2 * * *'.")]
IntervalOption = Annotated[str | None, typer.Option(help="Schedule: every 90s, 30m, 12h or 1d.")]
TimezoneOption = Annotated[
    str | None, typer.Option(help="Time zone of the schedule, e.g. Europe/Berlin; default: UTC.")
]
ScoresOnlyOption = Annotated[
    bool, typer.Option("--scores-only", help="Score the pool and train nothing.")
]
CheckpointOption = Annotated[
    str | None,
    typer.Option(
        help="Of --scores-only: folder of an adapter or a model. Default: the base model.",
        metavar="DIR",
    ),
]


@app.command()
def deploy(
    config: ConfigArg,
    name: NameOption = None,
    work_pool: Annotated[
        str, typer.Option(help="Prefect work pool; made, for processes, when missing.")
    ] = "edco",
    cron: CronOption = None,
    interval: IntervalOption = None,
    timezone: TimezoneOption = None,
    scores_only: ScoresOnlyOption = False,
    checkpoint: CheckpointOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a fine-tune on your Prefect server, with or without a schedule."""
    from edco_core.config import load_config

    loaded = load_config(config, overrides or [])
    from flows.server import quiet_prefect

    quiet_prefect()
    from flows import deployments

    schedule = deployments.schedule_from(cron, interval, timezone)
    request = deployments.Request(loaded, name, schedule, scores_only, checkpoint)
    facts = deployments.deploy(request, work_pool=work_pool)
    if as_json:
        _print_json(facts)
        return
    print(f"deployment {facts['deployment']} on {facts['server']}")
    _say(f"to carry out its runs: prefect worker start --pool {work_pool}")
    _say(f"to start a run now: prefect deployment run '{facts['deployment']}'")


@app.command()
def serve(
    config: ConfigArg,
    name: NameOption = None,
    cron: CronOption = None,
    interval: IntervalOption = None,
    timezone: TimezoneOption = None,
    scores_only: ScoresOnlyOption = False,
    checkpoint: CheckpointOption = None,
    overrides: SetOption = None,
) -> None:
    """Deploy, and carry out runs in this process's children until it is stopped."""
    from edco_core.config import load_config

    loaded = load_config(config, overrides or [])
    from flows.server import quiet_prefect

    quiet_prefect()
    from flows import deployments

    schedule = deployments.schedule_from(cron, interval, timezone)
    deployments.serve(deployments.Request(loaded, name, schedule, scores_only, checkpoint))


@runs_app.callback()
def runs(
    context: typer.Context,
    store: StoreOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List all runs; or remove one: edco runs rm RUN_ID."""
    if context.invoked_subcommand is not None:
        if store or as_json or as_csv:
            from edco_core.errors import InputError

            verb = f"edco runs {context.invoked_subcommand}"
            raise InputError(f"options go behind the command: {verb} … --store URL")
        return
    from flows.reading import show_runs

    _tell(store, as_json, as_csv, show_runs)


@runs_app.command("rm")
def runs_rm(
    run_id: RunArg,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    files: Annotated[
        bool, typer.Option("--files", help="Remove the run's folder as well: checkpoints and all.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Remove a run from the ledger, and its data set if no other run uses it."""
    from flows.upkeep import remove_run

    remove_run(run_id, _store_url(store), yes=yes, files=files)


@app.command()
def show(
    run_id: RunArg,
    store: StoreOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """One run, interval by interval (the rows of --csv)."""
    from flows.reading import show_run

    _tell(store, as_json, as_csv, show_run, run_id)


@app.command()
def why(
    run_id: RunArg,
    sample_id: Annotated[str, typer.Argument(help="Sample id, or its beginning.")],
    interval: Annotated[int | None, typer.Option(help="Only this interval.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Why a sample was in the curriculum, or why not: score, rank, cutoff, rule, history."""
    from flows.why import why_sample

    _tell(store, as_json, as_csv, why_sample, run_id, sample_id, interval)


@app.command()
def turnover(
    run_id: RunArg,
    store: StoreOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """How each curriculum differs from the one before."""
    from flows.reading import show_turnover

    _tell(store, as_json, as_csv, show_turnover, run_id)


@app.command()
def difficult(
    run_id: RunArg,
    limit: Annotated[int, typer.Option(min=1, help="At most so many samples.")] = 20,
    min_streak: Annotated[
        int, typer.Option(min=1, help="Selected at least so many intervals in a row.")
    ] = 2,
    never_learned: Annotated[
        bool,
        typer.Option(
            "--never-learned",
            help="Of these, only samples whose score did not fall: as high or higher when they "
            "were selected the last time as when they were selected the first time.",
        ),
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Samples that persist as difficult: selected again and again."""
    from flows.reading import show_difficult

    _tell(store, as_json, as_csv, show_difficult, run_id, limit, min_streak, never_learned)


@app.command()
def replay(
    run_id: RunArg,
    strategy: Annotated[
        str | None, typer.Option(help="Another strategy: what would it have picked?")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of that strategy: key=value. May be repeated."),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Recompute every selection from stored scores, without a model."""
    from flows.replay import replay_run

    _refuse_both(as_json, as_csv)
    answer, as_stored = replay_run(_ledger(store), run_id, strategy, overrides or [])
    _answer(answer, as_json, as_csv)
    if not as_stored:
        raise typer.Exit(1)


@app.command()
def compare(
    config: ConfigArg,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A page with plots to write.", metavar="FILE.html"),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="The table of what is finished by now; run nothing.")
    ] = False,
    overrides: SetOption = None,
    store: StoreOption = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Strategies x seeds at one budget, tested against random; again, to carry on."""
    from edco_core.config_compare import load_comparison

    _refuse_both(as_json, as_csv)
    loaded = load_comparison(config, overrides or [])
    store_url = loaded.store_url(store)
    from flows.compare_launch import compare_strategies, show_comparison

    if output is not None:
        from flows.report import check_page

        check_page(output)  # before hours of work
    if show:
        result = show_comparison(loaded, store_url)
    else:
        result = compare_strategies(loaded, config, store_url, offline=offline)
    _answer(result.answer(), as_json, as_csv)
    if output is not None:
        from flows.compare_page import write_page

        write_page(result, output)
        _say(f"written to {output}")
    if not show and result.num_finished < len(result.runs):
        raise typer.Exit(1)


@app.command()
def report(
    run_ids: Annotated[
        list[str],
        typer.Argument(help="Run ids, or unambiguous beginnings of them.", metavar="RUN_ID..."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The page to write.", metavar="FILE.html")
    ],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """One page of pictures and tables about one run or several; needs no network."""
    from flows.report import write_report

    _answer(write_report(run_ids, output, _store_url(store)), as_json)


@app.command()
def export(
    run_id: RunArg,
    form: Annotated[str, typer.Option("--format", help="parquet, csv or jsonl.")] = "parquet",
    folder: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A new folder. Default: RUN_ID-export.", metavar="DIR"),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """The ledger of a run as files, one per view."""
    from flows.export import export_run

    _answer(export_run(_ledger(store), run_id, form, folder), as_json)


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="SQL over the views (see README).", metavar="SQL")],
    params: Annotated[
        list[str] | None, typer.Option("-p", "--param", help="name=value for :name in the SQL.")
    ] = None,
    output: Annotated[str, typer.Option("--format", help="table, json, csv or parquet.")] = "table",
    limit: Annotated[
        int | None, typer.Option(min=0, help="At most so many rows; 0 = all. Tables: 100.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds the query may take.")] = 60.0,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read-only SQL on the ledger; the database itself refuses to write."""
    from flows.querying import run_query

    if as_json and output not in ("table", "json"):
        from edco_core.errors import InputError

        raise InputError(f"--json and --format {output} were given; choose one.")
    run_query(_ledger(store), sql, params or [], "json" if as_json else output, limit, timeout)


@app.command()
def doctor(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """What works on this machine, and what to type for what does not."""
    from flows.doctor import examine

    facts, healthy = examine(_store_url(store))
    if as_json:
        _print_json(facts)
    else:
        for fact in facts:
            mark = {"ok": "ok     ", "missing": "missing", "problem": "PROBLEM"}[fact["status"]]
            print(f"{mark}  {fact['what']:<16} {fact['found']}")
            if fact["advice"]:
                print(f"{'':<25} → {fact['advice']}")
    if not healthy:
        raise typer.Exit(1)


@app.command()
def maintenance(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Mark lost runs as interrupted, remove checkpoints that may go, vacuum the ledger."""
    from dataclasses import asdict

    from flows.display import print_table
    from flows.upkeep import maintain

    deeds = [asdict(deed) for deed in maintain(_store_url(store))]
    if as_json:
        _print_json(deeds)
    else:
        columns = {"step": "step", "run_id": "run", "done": "done", "num_bytes": "bytes freed"}
        print_table(deeds, columns)


@bench_app.command("scoring")
def bench_scoring(
    config: ConfigArg,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A file to write: .png (plot), .html or .json."),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=20, help="So many samples of the pool are scored.")
    ] = 256,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cost and fidelity of ways to score, against the entropy of whole answers."""
    from edco_core.config import load_config

    loaded = load_config(config, overrides or [])
    from flows.bench_scoring import bench_scoring

    _answer(bench_scoring(loaded, samples, output), as_json)


@db_app.command("upgrade")
def db_upgrade(store: StoreOption = None) -> None:
    """Bring the ledger to this version's schema; makes it when there is none."""
    from storage import db_upgrade, masked

    url = _store_url(store)
    before, after = db_upgrade(url)
    done = (
        "already at" if before == after else "upgraded to" if before else "a new, empty ledger at"
    )
    print(f"{masked(url)}: {done} {after}")


@db_app.command("current")
def db_current(store: StoreOption = None) -> None:
    """Print the ledger's revision."""
    from storage import db_current

    print(db_current(_store_url(store)) or "no schema")


@db_app.command("check")
def db_check(store: StoreOption = None) -> None:
    """Compare the ledger's tables and views with what this version expects."""
    from storage import db_check

    problems = db_check(_store_url(store))
    for problem in problems:
        print(problem)
    if problems:
        raise typer.Exit(1)
    print("the ledger is as it should be")


@db_app.command("vacuum")
def db_vacuum(store: StoreOption = None) -> None:
    """Give back the space in the ledger that nothing uses any more."""
    from flows.upkeep import vacuum

    vacuum(_store_url(store))


@db_app.command("copy")
def db_copy(
    source: Annotated[str, typer.Argument(help="Ledger URL to copy from.", metavar="SRC")],
    target: Annotated[str, typer.Argument(help="Ledger URL of an empty place.", metavar="DST")],
) -> None:
    """Copy a ledger to another place, DuckDB or Postgres, and compare both."""
    from flows.upkeep import copy

    copy(source, target)


def main() -> NoReturn:
    """Run the command line; one message for every mistake, and the exit code for it."""
    quiet_libraries()
    try:
        app(prog_name="edco", standalone_mode=True)
    except KeyboardInterrupt:
        _say("stopped")
        sys.exit(1)
    except BrokenPipeError:
        # The reader (head, less) has gone; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except ModuleNotFoundError as error:
        # Ours are all here; what may be missing is a package, or a part of one.
        _say(f"error: {error}. Type: {INSTALL}; 'edco doctor' says what else is missing.")
        sys.exit(1)
    except Exception as error:
        from edco_core.errors import EdcoError

        if not isinstance(error, EdcoError):
            raise
        _say(f"error: {error}")
        sys.exit(error.exit_code)
    sys.exit(0)


def _store_url(store: str | None) -> str:
    if store:
        return store
    if os.environ.get("EDCO_STORE"):
        return os.environ["EDCO_STORE"]
    from edco_core.config import DEFAULT_STORE_URL

    return DEFAULT_STORE_URL


def _ledger(store: str | None) -> Ledger:
    from storage import open_ledger

    return open_ledger(_store_url(store), read_only=True)


def _tell(
    store: str | None, as_json: bool, as_csv: bool, question: Callable[..., Answer], *given: Any
) -> None:
    """One answer from one opening of the ledger, which is closed before anything is printed."""
    from storage import open_snapshot

    _refuse_both(as_json, as_csv)
    with open_snapshot(_store_url(store), on_wait=_say) as ledger:
        answer = question(ledger, *given)
    _answer(answer, as_json, as_csv)


def _refuse_both(as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        from edco_core.errors import InputError

        raise InputError("--json and --csv were given; choose one.")


def _answer(answer: Answer, as_json: bool, as_csv: bool = False) -> None:
    if as_json:
        _print_json(answer.facts)
    elif as_csv:
        answer.print_csv()
    else:
        answer.print()


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
