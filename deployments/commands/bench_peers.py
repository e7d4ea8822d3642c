"""The command `hedgespec bench peers`: this server beside the engines that people would pick instead."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer

from deployments.commands.inputs import PromptIds, changed, encoded, held_out_texts, without_prefix_cache
from deployments.commands.model_choice import chosen_args
from deployments.commands.option_types import ApiKey, ConfigInsteadOfModel, JsonFile, MaxTokens, ModelName
from deployments.commands.reports import console, cpu_name, progress_bar, show_table, write_json
from hedgespec.assembly.local_service import LocalService, local_service
from hedgespec.bench.answers import LEARNED, PLAIN, Ratio
from hedgespec.bench.http_generator import HttpGenerator
from hedgespec.bench.peers.catalogue import Peer, chosen_peers
from hedgespec.bench.peers.contract import Arm
from hedgespec.bench.peers.measure import measure_peers, num_batches
from hedgespec.bench.peers.own_arms import OURS, SERVER, OwnArm, best_single, drafter_of, own_name
from hedgespec.bench.peers.report import PeersReport
from hedgespec.bench.peers.start_peers import Setting, start_peers
from hedgespec.bench.question_file import by_category, read_questions
from hedgespec.config import AppArgs
from hedgespec.protocols import Generator
from hedgespec.tokenization import Tokenizer

OUR_PLAIN, OUR_LEARNED = own_name(OURS, PLAIN), own_name(OURS, LEARNED)
BASES = (OUR_LEARNED, OUR_PLAIN)


def peers(
    prompts: Annotated[Path | None, typer.Option(help="Question file (default: held-out prompts of the zoo).")] = None,
    peer: Annotated[
        list[str] | None, typer.Option("--peers", help="Only this peer or package; may be repeated.")
    ] = None,
    num_prompts: Annotated[int | None, typer.Option(min=1, help="Prompts of each category. (default: all)")] = None,
    concurrency: Annotated[list[int] | None, typer.Option(min=1, help="Answers at once. (default: 1 and 8)")] = None,
    max_tokens: MaxTokens = 256,
    threads: Annotated[int, typer.Option(min=1, help="Threads of every engine.")] = 2,
    model: ModelName = None,
    config: ConfigInsteadOfModel = None,
    url: Annotated[str | None, typer.Option(help="Also measure the HedgeSpec server at this URL.")] = None,
    api_key: ApiKey = None,
    install_minutes: Annotated[float, typer.Option(min=0.1, help="Minutes that one installation may take.")] = 60.0,
    json: JsonFile = None,
) -> None:
    """Compare with transformers, llama.cpp, vLLM, OpenVINO and FlashSpec: greedy, same prompts, taking turns on each.

    Every package is installed in an environment of its own under the state folder; what cannot be had or fails is skipped
    with one line. An engine that is not being measured is stopped.
    """
    chosen, levels = chosen_peers(peer), sorted(set(concurrency or (1, 8)))
    args = without_prefix_cache(chosen_args(config, model))
    args = changed(args, "target", num_threads=threads, max_sessions=max(levels[-1], args.target.max_sessions))
    report = asyncio.run(
        compared(args, chosen, prompts, num_prompts, levels, max_tokens, url, api_key, install_minutes)
    )
    for level in report.samples:
        show_peers(report, level, threads)
    for name, why in report.skipped.items():
        console.print(f"skipped {name}: {why}", highlight=False, soft_wrap=True)
    settings = {"threads": threads, "concurrency": levels, "max_tokens": max_tokens, "target": args.target.model}
    content = report.as_json(BASES, OUR_PLAIN)
    write_json(json, content, command="bench peers", prompts=prompts, num_prompts=num_prompts, **settings)


async def compared(
    args: AppArgs,
    chosen: Sequence[Peer],
    question_file: Path | None,
    per_category: int | None,
    levels: Sequence[int],
    max_tokens: int,
    url: str | None,
    api_key: str | None,
    install_minutes: float,
) -> PeersReport:
    """Start everything, measure, and stop what was started."""

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True)

    async with AsyncExitStack() as stack:
        local = await stack.enter_async_context(local_service(args))
        work = prompts_of(question_file, per_category, local.tokenizer)
        longest = max(len(ids) for row in work.values() for ids in row) + max_tokens
        setting = Setting(
            model=args.target.model,
            folder=local.target_folder,
            state_dir=args.state_dir,
            threads=args.target.num_threads,
            at_once=levels[-1],
            max_context=-(-(longest + 16) // 256) * 256,
            end_ids=local.tokenizer.eos_token_ids,
            install_s=60.0 * install_minutes,
            start_s=900.0,
            answer_s=60.0 + 2.0 * max_tokens * levels[-1],
        )
        own: list[OwnArm] = await own_arms(local, args, work, say)
        if url is not None:
            server = await stack.enter_async_context(HttpGenerator(url, api_key))
            own += server_arms(server, args, local.tokenizer)
        workers, skipped = await start_peers(chosen, setting, say)
        for worker in workers:
            stack.push_async_callback(worker.close)
        arms: list[Arm] = [*own, *workers]
        with progress_bar("decoding", num_batches(arms, work, levels)) as advance:
            return await measure_peers(arms, work, levels, max_tokens, skipped, advance)


def prompts_of(question_file: Path | None, per_category: int | None, tokenizer: Tokenizer) -> PromptIds:
    """Return the first turns of a question file's conversations, or the zoo's held-out prompts, by category."""
    if question_file is None:
        texts = held_out_texts(None, per_category or 8)
    else:
        groups = by_category(read_questions(question_file, per_category))
        texts = {category: [question.turns[0] for question in row] for category, row in groups.items()}
    if tokenizer.chat_template is None:
        return encoded(tokenizer, texts)
    return {
        category: [tokenizer.apply_chat_template([{"role": "user", "content": text}]) for text in row]
        for category, row in texts.items()
    }


async def own_arms(local: LocalService, args: AppArgs, work: PromptIds, say: Callable[[str], None]) -> list[OwnArm]:
    """Return plain, the best single drafter of a trial on the first prompt of each category, and learned selection."""

    def arm(name: str) -> OwnArm:
        return made_arm(OURS, name, local.service, args, local.tokenizer, local.service.drain)

    if not args.drafters:
        return [arm(PLAIN)]
    best = await best_single([arm(d.id) for d in args.drafters], [row[0] for row in work.values()], lambda: None)
    assert best is not None
    say(f"Fastest single drafter in a trial: {best.name}")
    return [arm(PLAIN), best, arm(LEARNED)]


def server_arms(server: HttpGenerator, args: AppArgs, tokenizer: Tokenizer) -> list[OwnArm]:
    """Return plain decoding and learned selection of a running server, which should serve the same target."""

    async def settle() -> None:
        """A server settles by itself."""

    return [made_arm(SERVER, name, server, args, tokenizer, settle) for name in (PLAIN, LEARNED)]


def made_arm(
    place: str,
    name: str,
    generator: Generator,
    args: AppArgs,
    tokenizer: Tokenizer,
    settle: Callable[[], Awaitable[None]],
) -> OwnArm:
    quantization, at_once = args.target.quantization, args.target.max_sessions
    bits = "float32" if quantization == "none" else quantization
    return OwnArm(own_name(place, name), bits, at_once, generator, drafter_of(name), tokenizer.eos_token_ids, settle)


def show_peers(report: PeersReport, level: int, threads: int) -> None:
    """Print what every arm reached, and the ratios. Two tables, so that names and intervals fit a narrow terminal."""
    reached, ratios = [], []
    for arm in report.arms(level):
        same, total = report.same_start(level, arm, OUR_PLAIN)
        first_s = report.first_token_s(level, arm)
        first_ms = "-" if first_s is None else f"{1e3 * first_s:.0f}"
        speed = f"{report.tokens_per_s(level, arm).value:.1f}"
        reached.append((arm, report.bits[arm], speed, first_ms, f"{same} of {total}"))
        ratios.append((arm, *(ratio_to(report, level, base, arm) for base in BASES)))
    described = f"{level} at once, {threads} threads, greedy, at most {report.max_tokens} tokens"
    columns = ("", "bits", "tokens/s", "first token ms", "same first 32")
    show_table(
        f"{cpu_name()}: {described}", columns, reached, "same first 32: tokens, as our plain decoding writes them"
    )
    caption = "tokens/s, prefill included, with 95 % intervals over prompts"
    show_table(f"how many times as fast: {described}", ("", "learned / it", "plain / it"), ratios, caption)
    if OUR_LEARNED in report.arms(level):
        same, total = report.same_text(level, OUR_LEARNED, OUR_PLAIN)
        console.print(f"our answers with learned selection equal plain decoding's: {same} of {total}")


def ratio_to(report: PeersReport, level: int, base: str, arm: str) -> str:
    if base == arm or base not in report.arms(level):
        return ""
    found: Ratio = report.faster(level, base, arm)
    return str(found)
