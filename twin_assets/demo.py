"""The demo: one person's documents become an answering twin, on this machine, before your eyes.

Belongs here: the order of the demo and what it prints.
Does not belong here: any work of its own; it runs the same job, questions and engines as everything else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import psutil
import yaml

from lpm_kernel.artefacts import decode_record, decode_records
from lpm_kernel.chat import answer
from lpm_kernel.embedded import engines
from lpm_kernel.embedded.orphans import is_alive
from lpm_kernel.errors import EngineError, UserInputError
from lpm_kernel.L1.records import Biography, Community
from lpm_kernel.L1.topics import MISC
from lpm_kernel.L2.engine import adapter_folder, open_llm
from lpm_kernel.L2.golden import load_golden
from lpm_kernel.L2.records import ARMS, Evaluation
from lpm_kernel.L2.score_table import difference_lines, leak_lines, score_rows
from lpm_kernel.layout import asset_key
from lpm_kernel.recall.plan import source_of
from lpm_kernel.records import Entity, Topic, User, VoiceProfile
from lpm_kernel.settings import Settings
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.ner import NUMERIC
from lpm_kernel.stores.open import Stores, open_stores
from twin_assets.definitions import build_defs
from twin_assets.demo_vote import read_voters, vote_in_demo
from twin_assets.home import bring_up
from twin_assets.in_process import QUIET, was_interrupted
from twin_assets.instance import open_instance
from twin_assets.peak_memory import PeakMemory
from twin_assets.people import receive_folder, register_user
from twin_assets.stages import StageEvent, watcher

Say = Callable[[str], None]
DATA = Path(__file__).resolve().parent.parent / "data"
"""The demo people, beside the packages whichever settings file is used."""

PEOPLE_FILE = "users/people.yaml"


@dataclass
class StageTimes:
    """Prints each stage as it goes on, and keeps its seconds."""

    say: Say
    seconds: dict[str, float] = field(default_factory=dict)
    _told: dict[str, float] = field(default_factory=dict)

    def __call__(self, event: StageEvent) -> None:
        line = f"  {event.stage:15} {event.share:4.0%} {event.seconds:6.1f} s  {event.words}"
        if event.state == "running":
            # At most one line in two seconds a stage, so that a log stays readable.
            if event.seconds - self._told.get(event.stage, -9.0) < 2.0:
                return
            self._told[event.stage] = event.seconds
        if event.state == "done":
            self.seconds[event.stage] = event.seconds
            line = f"  {event.stage:15} done {event.seconds:6.1f} s"
        if event.state != "started":
            self.say(line)


def run_demo(settings: Settings, home: Path, user_id: str, say: Say) -> bool:
    """Run it; True when the twin was built and answered. At the end it stops the engines that it started.

    Engines that ran before are somebody's, and stay; but those that a killed demo left are nobody's.
    Raises: EngineError `demo_running` when another demo works in this home.
    """
    person = _person(user_id)
    left_behind = _enter(home)
    found_running = not left_behind and any(item.pid for item in engines.status(home))
    started = time.monotonic()
    ours = True
    try:
        say(f"1  Engines, under {home}")
        os.environ.update(bring_up(home, settings, services=False, say=lambda words: say(f"  {words}")))
        times = StageTimes(say)
        times.seconds["engines"] = time.monotonic() - started
        running = [item.pid for item in engines.status(home) if item.pid]
        stores = open_stores(settings)
        try:
            with PeakMemory(running) as memory:
                passed = _build_and_question(settings, home, stores, user_id, person, times, say)
        finally:
            stores.close()
        say("\n7  Times and memory")
        for stage, seconds in times.seconds.items():
            say(f"  {stage:15} {seconds:6.1f} s")
        say(f"  {'all':15} {time.monotonic() - started:6.1f} s")
        say(f"  peak memory, this process and the engines: {memory.peak_bytes / 1e9:.2f} GB")
    except EngineError as error:
        ours = error.code != "home_busy"  # another command is starting them
        raise
    finally:
        _mark(home).unlink(missing_ok=True)
        users_of_engines = _running_services(home)
        if ours and not users_of_engines and not found_running:
            engines.stop(home)
    serving = settings.serving
    if users_of_engines or found_running:
        running_still = " and ".join(["The engines", *([", ".join(users_of_engines)] if users_of_engines else [])])
        say(f"\n{running_still} still run; `make down` stops them. They ran before, and hold these very results:")
    else:
        say("\nNothing was left running. `make up` starts the Dagster UI and the API over these very results:")
    say(f"  Dagster UI  http://{serving.ui_host}:{serving.ui_port}   API  http://{serving.host}:{serving.api_port}/docs")
    say(f'  then: .venv/bin/twin ask {user_id} "What is your cat called?"    and `make down` to stop')
    return passed


def _mark(home: Path) -> Path:
    return home / "demo.pid"


def _enter(home: Path) -> bool:
    """Write this process down as the home's demo; True when the one before was killed and left its mark.

    Raises: EngineError `demo_running`.
    """
    mark = _mark(home)
    try:
        before = psutil.Process(int(mark.read_text()))
        if is_alive(before) and before.pid != os.getpid() and "demo" in before.cmdline():
            raise EngineError("demo_running", f"a demo works in {home} already (process {before.pid}): wait for its end")
        left_behind = True
    except FileNotFoundError:
        left_behind = False
    except (OSError, ValueError, psutil.Error):
        left_behind = True
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(str(os.getpid()))
    return left_behind


def _running_services(home: Path) -> list[str]:
    """Programs that use the engines."""
    return [item.name for item in engines.status(home) if item.pid and item.name not in engines.ENGINES]


def _build_and_question(
    settings: Settings, home: Path, stores: Stores, user_id: str, person: dict, times: StageTimes, say: Say
) -> bool:
    with open_instance(home, settings, os.environ) as instance:
        say(f"\n2  Documents of {person['name']}")
        register_user(stores, instance, User(user_id, person["name"]), DATA / person["golden"])
        for result in receive_folder(stores, user_id, DATA / person["documents"]):
            say(f"  {result.status:10} {result.size_bytes:7} bytes  {result.filename}")
        say("\n3  From documents to a release: Dagster's twin_job, partition " + user_id)
        token = watcher.set(times)
        try:
            job = build_defs(settings).resolve_job_def("twin_job")
            result = job.execute_in_process(instance=instance, partition_key=user_id, raise_on_error=False, run_config=QUIET)
        finally:
            watcher.reset(token)
        if was_interrupted(result):
            raise KeyboardInterrupt
        _print_checks(result, say)
        if not result.success:
            say("  the run failed; `make up` and the Dagster UI show where")
            return False
    _print_mind(stores, user_id, say)
    _print_biography(stores, user_id, say)
    _print_voice(stores, user_id, say)
    _print_evaluation(stores, user_id, say)
    began = time.monotonic()
    _ask(settings, stores, user_id, person["questions"], say)
    times.seconds["five questions"] = time.monotonic() - began
    began = time.monotonic()
    say("\n6  A vote in the DAO: two twins, and one of their people in person")
    with open_instance(home, settings, os.environ) as instance:
        voted = vote_in_demo(stores, instance, read_voters(_people(), DATA), say)
    times.seconds["vote"] = time.monotonic() - began
    return voted


def _print_checks(result: dg.ExecuteInProcessResult, say: Say) -> None:
    checks = result.get_asset_check_evaluations()
    say(f"  checks: {sum(check.passed for check in checks)} of {len(checks)} passed")
    for check in checks:
        if not check.passed:
            say(f"    {check.severity.value}: {check.check_name} on {check.asset_key.to_user_string()}")


def _print_voice(stores: Stores, user_id: str, say: Say) -> None:
    voice = decode_record(TenantBlobs(stores.blobs, user_id).get(asset_key(user_id, "voice_profile", "json")), VoiceProfile)
    of = ", ".join(f"{number} {counted}" for counted, number in voice.measured.items())
    say(f"\n   Voice: {voice.absent or f'{len(voice.features or {})} features'}, of {of}")
    say(f"   Preferences: {len(voice.preferences)}, each with its exact bytes, such as")
    for item in sorted(voice.preferences, key=lambda preference: -preference.strength)[:3]:
        say(f"    {item.polarity} {item.domain}: {item.text}")


def _print_mind(stores: Stores, user_id: str, say: Say) -> None:
    blobs = TenantBlobs(stores.blobs, user_id)
    topics = decode_records(blobs.get(asset_key(user_id, "topics", "jsonl")), Topic)
    communities = decode_records(blobs.get(asset_key(user_id, "communities", "jsonl")), Community)
    entities = decode_records(blobs.get(asset_key(user_id, "entities", "jsonl")), Entity)
    by_size = sorted((topic for topic in topics if topic.label != MISC), key=lambda topic: -len(topic.chunk_ids))
    say(f"\n   Topics: {len(by_size)}, the largest: {'; '.join(topic.label for topic in by_size[:5])}")
    names = [entity for entity in entities if entity.type not in NUMERIC]
    named = sorted(names, key=lambda entity: -len(entity.mentions))
    say(f"   Named: {len(named)}, the most: {'; '.join(f'{entity.name} ({entity.type})' for entity in named[:6])}")
    together = sorted((c for c in communities if c.label != MISC), key=lambda c: -len(c.chunk_ids) * c.salience)
    say(f"   Communities: {len(together)} that hang together by name and meaning, such as")
    for community in together[:3]:
        line = f": {community.lines[0].text}" if community.lines else ""
        say(f"    {community.label} ({', '.join(community.key_entities[:3])}){line}")


def _print_biography(stores: Stores, user_id: str, say: Say) -> None:
    data = TenantBlobs(stores.blobs, user_id).get(asset_key(user_id, "biography", "json"))
    told = decode_record(data, Biography)
    shades = len({line.shade_id for line in told.lines})
    say(f"\n   Biography: {len(told.lines)} cited lines from {shades} shades; the first ones, and what was written last")
    for line in (*told.lines[:4], *told.status[:2]):
        place = line.citations[0]
        say(f"  {line.shade}: {line.text}\n     {place.filename} bytes [{place.byte_start}, {place.byte_end})")
    for reason in {told.skipped, told.status_skipped} - {None}:
        say(f"  skipped: {reason}")


def _print_evaluation(stores: Stores, user_id: str, say: Say) -> None:
    data = TenantBlobs(stores.blobs, user_id).get(asset_key(user_id, "evaluation", "json"))
    report = decode_record(data, Evaluation)
    say(f"\n4  What the twin knows: {report.questions} golden questions, {report.unanswerable} that no document answers")
    say(f"  {'':29} " + " ".join(f"{arm:>25}" for arm in ARMS))
    for words, cells in score_rows(report):
        say(f"  {words:29} " + " ".join(f"{cell:>25}" for cell in cells))
    say(f"  fact in the retrieved lines: {report.in_pack}/{report.questions} = {report.in_pack / report.questions:.0%}")
    say("   adapter+retrieval less base+retrieval, with the interval of 95 %")
    for line in (*difference_lines(report), *leak_lines(report)):
        say(f"  {line}")
    for reason in report.unmeasured:
        say(f"  not measured: {reason}")


def _ask(settings: Settings, stores: Stores, user_id: str, question_ids: list[str], say: Say) -> None:
    golden = load_golden(stores.blobs, user_id)
    asked = {question.question_id: question for question in golden.questions} if golden else {}
    say("\n5  Five questions to the twin")
    llm = open_llm(settings, lambda share, words: None)
    try:
        for question_id in question_ids:
            question = asked[question_id]
            reply = answer(stores, llm, user_id, question.question, adapter_folder())
            say(f"\n  Q  {question.question}")
            say(f"  A  {reply.text}")
            say(f"     expected: {' or '.join(question.expected)}")
            for line in reply.turn.lines[:3] if reply.turn.answerable else ():
                say(f"     cited: {source_of(line)}")
    finally:
        llm.close()


def _people() -> dict[str, dict]:
    return yaml.safe_load((DATA / PEOPLE_FILE).read_text(encoding="utf-8"))


def _person(user_id: str) -> dict:
    people = _people()
    if user_id not in people:
        raise UserInputError("twin_not_found", f"there is no demo person {user_id!r}; there are {', '.join(sorted(people))}")
    return people[user_id]
