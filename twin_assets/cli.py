"""`twin`: the command line.

Belongs here: arguments, and what a person sees.
Does not belong here: work; each command calls one function.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from lpm_kernel.errors import TwinError
from lpm_kernel.settings import Settings, load_settings
from lpm_kernel.stores.addresses import twin_home
from twin_assets import cli_dao, cli_data, cli_dead_letters, cli_reconcile, cli_releases, cli_social
from twin_assets.cli_home import with_engines, with_home
from twin_assets.cli_settings import show_settings

COLOURS = {"ok": "green", "running": "green", "warn": "yellow", "fail": "red", "fatal": "red", "silent": "red"}


def main() -> None:
    """The console script. What a person did wrong, or what is not running, is one line; no traceback."""
    try:
        _end_in_order_when_told()
        from twin_assets.home import PROCESS_ENVIRONMENT, without_proxy_on_loopback

        for name, value in PROCESS_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        os.environ.update(without_proxy_on_loopback(os.environ))
        cli(standalone_mode=False)
    except TwinError as error:
        click.secho(f"twin: {error}", fg="red", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(130)
    except Exception as error:
        log = _keep_traceback()
        where = f"the details are in {log}" if log else f"and {twin_home() / 'logs'} cannot be written"
        click.secho(f"twin: this should not happen: {type(error).__name__}; {where}", fg="red", err=True)
        sys.exit(2)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Digital twins on this machine. State lives under TWIN_HOME (default: .twin)."""


@cli.command()
@click.option("--engines-only", is_flag=True, help="Only PostgreSQL, S3 and FalkorDB; no UI, no daemon, no API.")
def up(engines_only: bool) -> None:
    """Start the engines, the Dagster UI, its daemon and the API, and watch over them."""
    from twin_assets.home import bring_up

    settings, home = load_settings(), twin_home()
    bring_up(home, settings, services=not engines_only, say=click.echo)
    _print_status(home)
    if not engines_only:
        click.echo(addresses_of(settings))


@cli.command()
def down() -> None:
    """Stop everything that `twin up` started. Data stays."""
    from lpm_kernel.embedded import engines

    engines.stop(twin_home())
    click.echo("stopped; data is kept")


@cli.command()
@click.argument("name")
@with_home
def worker(settings: Settings, home: Path, name: str) -> None:
    """Execute steps of runs, one at a time, until it is ended: for `automation.executor: celery`."""
    from twin_assets.scale_out import make_worker_app, worker_arguments

    make_worker_app(settings, os.environ).worker_main(worker_arguments(name))


@cli.command()
def status() -> None:
    """What runs, since when, on which port."""
    _print_status(twin_home())


@cli.command()
def doctor() -> None:
    """Name what is wrong on this machine, and the cure. Exit code 1 when something must be mended."""
    from lpm_kernel.embedded.doctor import examine
    from lpm_kernel.settings import settings_path

    findings = examine(twin_home(), settings_path())
    for finding in findings:
        click.echo(f"{click.style(f'{finding.level:5}', fg=COLOURS[finding.level])} {finding.check}: {finding.detail}")
        if finding.level != "ok" and finding.cure:
            click.echo(f"      cure: {finding.cure}")
    sys.exit(1 if any(finding.level == "fail" for finding in findings) else 0)


@cli.command("add-user")
@click.argument("user_id")
@click.option("--name", help="How the person is called.")
@click.option("--documents", type=click.Path(path_type=Path), help="A folder of documents to take in.")
@click.option("--golden", type=click.Path(path_type=Path), help="A file of questions with known answers, to measure with.")
@with_engines
def add_user(
    settings: Settings, home: Path, user_id: str, name: str | None, documents: Path | None, golden: Path | None
) -> None:
    """Make a person known, and take in their documents. With `twin up` running, their twin is then built by itself."""
    from lpm_kernel.records import User
    from lpm_kernel.stores.open import open_stores
    from twin_assets.instance import open_instance
    from twin_assets.people import receive_folder, register_user

    stores = open_stores(settings)
    try:
        with open_instance(home, settings, os.environ) as instance:
            register_user(stores, instance, User(user_id, name), golden)
        for result in receive_folder(stores, user_id, documents) if documents else ():
            reason = f" ({result.refusal.code}: {result.refusal.reason})" if result.refusal else ""
            click.echo(f"{result.status:10} {result.filename}{reason}")
    finally:
        stores.close()
    click.echo(f"user {user_id} is known")


@cli.command()
@click.argument("user_id")
@click.option("--refused", is_flag=True, help="Only those that were refused.")
@click.option("--discard", metavar="SHA256", help="Forget this refused file; its first letters are enough.")
@with_engines
def documents(settings: Settings, home: Path, user_id: str, refused: bool, discard: str | None) -> None:
    """What a person sent, and what became of it; a refused file with the reason, and whether its bytes are in quarantine."""
    from lpm_kernel.L0.quarantine import discard_refused
    from lpm_kernel.stores.documents import list_documents
    from lpm_kernel.stores.open import open_stores
    from lpm_kernel.stores.users import get_user

    stores = open_stores(settings)
    try:
        with stores.tables.transaction(user_id) as connection:
            get_user(connection, user_id)
        if discard is not None:
            gone = discard_refused(stores.tables, stores.blobs, user_id, discard)
            click.echo(f"discarded  {gone.filename}")
        with stores.tables.transaction(user_id) as connection:
            rows = list_documents(connection, user_id)
    finally:
        stores.close()
    names = {row.sha256: row.filename for row in rows}
    for row in rows:
        if refused and row.status != "refused":
            continue
        click.echo(f"{'quarantine' if row.quarantined else row.status:10} {row.sha256[:12]} {row.filename}")
        if row.refusal:
            click.secho(f"{'':24}{row.refusal.code}: {row.refusal.reason}", dim=True)
        if row.near_duplicate_of:
            click.secho(f"{'':24}nearly repeats {names.get(row.near_duplicate_of, row.near_duplicate_of[:12])}", dim=True)


@cli.command()
@click.argument("user_id")
@click.argument("question")
@click.option("--session", help="Go on with an earlier session.")
@with_engines
def ask(settings: Settings, home: Path, user_id: str, question: str, session: str | None) -> None:
    """Ask a twin a question; its answer comes with citations."""
    from lpm_kernel.chat import begin_turn, stream_turn
    from lpm_kernel.L2.engine import adapter_folder, open_llm
    from lpm_kernel.recall.memory_queue import write_memories_of
    from lpm_kernel.recall.plan import source_of
    from lpm_kernel.stores.open import open_stores

    stores = open_stores(settings)
    llm = open_llm(settings, lambda share, words: None)
    try:
        turn = begin_turn(stores, llm, user_id, question, session, adapters=adapter_folder())
        reply = stream_turn(stores, llm, turn, adapter_folder())
        for piece in reply:
            click.echo(piece, nl=False)
        click.echo()
        for line in reply.turn.lines if reply.turn.answerable else ():
            click.secho(f"  {source_of(line)}  {line.score:.2f}", dim=True)
        if reply.turn.degraded:
            click.secho(f"  without {', '.join(reply.turn.degraded)}: they did not answer", dim=True)
        for kept in reply.drafts:
            click.secho(f"  a draft, not cast: {kept.draft.choice} on {kept.draft.proposal}", dim=True)
        click.secho(f"  session {reply.turn.session_id}", dim=True)
        write_memories_of(stores, user_id)  # nobody else may be there to do it
    finally:
        llm.close()
        stores.close()


@cli.command("export-model")
@click.argument("user_id")
@click.option("--quantisation", type=click.Choice(["f16", "q8_0", "q4_k_m"]), default="q8_0", show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The GGUF file to write.")
@with_engines
def export_model(settings: Settings, home: Path, user_id: str, quantisation: Any, out: Path) -> None:
    """Write a twin's live model, base and adapter in one GGUF file, for another program. It holds the person's memory."""
    from lpm_kernel.L2 import merge
    from lpm_kernel.L2.base_model import prepare_base
    from lpm_kernel.L2.engine import cache_folder
    from lpm_kernel.stores.open import open_stores

    if not out.absolute().parent.is_dir():
        raise click.ClickException(f"there is no folder {out.absolute().parent}")
    stores = open_stores(settings)

    def silent(share: float, words: str) -> None:
        pass

    try:
        base = prepare_base(settings.models, cache_folder(), silent)
        release = merge.export_model(
            stores.tables, stores.blobs, user_id, base, quantisation, out.absolute(), settings.training.threads, silent
        )
    finally:
        stores.close()
    click.echo(f"release {release} of {user_id}: {out}, {out.stat().st_size / 1e6:.0f} MB")


@cli.command()
@click.argument("user_ids")
@click.option("--unfinished", is_flag=True, help="Only those of them whose documents no release holds yet.")
@with_engines
def backfill(settings: Settings, home: Path, user_ids: str, unfinished: bool) -> None:
    """Build the twins of several users (comma-separated) by Dagster's own backfill, and wait for the end."""
    from twin_assets.backfill import leave_out_finished, run_backfill

    wanted = leave_out_finished(settings, user_ids, click.echo) if unfinished else user_ids
    sys.exit(0 if not wanted or run_backfill(settings, home, wanted, click.echo, resume=unfinished) else 1)


@cli.command()
@click.argument("user_id")
@click.option("--resume-from-step", type=click.IntRange(min=1), help="Go on from the checkpoint of this step, not the newest.")
@click.option("--fresh", is_flag=True, help="Train from the start, whatever was made or begun before.")
@with_engines
def train(settings: Settings, home: Path, user_id: str, resume_from_step: int | None, fresh: bool) -> None:
    """Train a person's adapter on the rows that are there, and wait. One that was cut off goes on from its last checkpoint."""
    from twin_assets.retrain import run_training_job

    if fresh and resume_from_step is not None:
        raise click.UsageError("--fresh and --resume-from-step exclude each other")
    trained = run_training_job(settings, home, user_id, click.echo, resume_from_step=resume_from_step, fresh=fresh)
    sys.exit(0 if trained else 1)


@cli.command("train-skill")
@with_home
def train_skill(settings: Settings, home: Path) -> None:
    """Teach the base to answer from shown lines, about nobody: where every user's training begins. Hours on a CPU."""
    from lpm_kernel.L2 import skill
    from lpm_kernel.L2.base_model import prepare_base
    from lpm_kernel.L2.engine import cache_folder

    def tell(share: float, words: str) -> None:
        click.echo(f"{share:5.1%} {words}")

    base = prepare_base(settings.models, cache_folder(), tell)
    made = skill.train_skill(base, settings.training, settings.skill, cache_folder(), tell)
    click.echo(f"skill adapter {made.skill.sha256[:12]} of {made.skill.rows} rows: {made.path}")


@cli.command()
@click.option("--user", "user_id", default="1", show_default=True, help="Which demo person.")
@with_home
def demo(settings: Settings, home: Path, user_id: str) -> None:
    """Build one demo person's twin from their documents, question it, and show what it knows."""
    from twin_assets.demo import run_demo

    sys.exit(0 if run_demo(settings, home, user_id, click.echo) else 1)


@cli.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@with_home
def execute(settings: Settings, home: Path, command: tuple[str, ...]) -> None:
    """Run a command, such as `dagster` or `psql`, with this home's addresses in its environment."""
    folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": os.pathsep.join([folder, os.environ.get("PATH", "")])}
    try:
        os.execvpe(command[0], list(command), environment)
    except OSError as error:
        raise click.ClickException(f"cannot run {command[0]}: {error.strerror}") from error


for command in (
    *cli_releases.COMMANDS,
    *cli_data.COMMANDS,
    *cli_social.COMMANDS,
    cli_dead_letters.dead_letters,
    cli_dao.dao,
    cli_reconcile.reconcile,
    show_settings,
):
    cli.add_command(command)


def addresses_of(settings: Settings) -> str:
    serving = settings.serving
    return f"Dagster UI  http://{serving.ui_host}:{serving.ui_port}\nAPI         http://{serving.host}:{serving.api_port}/docs"


def _end_in_order_when_told() -> None:
    """Let `kill` and a closed terminal end a command as Ctrl-C does, so that it stops what it has started.

    Why: SIGTERM ends Python on the spot, and the engines of a demo then ran for ever. What `nohup` ignores stays ignored.
    """
    for told in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(told) is signal.SIG_DFL:
            signal.signal(told, signal.default_int_handler)


def _keep_traceback() -> Path | None:
    """The file that holds it now; None when it cannot be written."""
    import traceback

    log = twin_home() / "logs" / "twin.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{' '.join(sys.argv[:2])}\n{traceback.format_exc()}\n")
    except OSError:
        return None
    return log


def _print_status(home: Path) -> None:
    from lpm_kernel.embedded import engines

    for item in engines.status(home):
        state = click.style(f"{item.state:9}", fg=COLOURS.get(item.state, "yellow"))
        port = f"port {item.port}" if item.port else ""
        click.echo(f"{state} {item.name:15} {port:11} {'pid ' + str(item.pid) if item.pid else '':11} {item.uptime_s:7.0f} s")
