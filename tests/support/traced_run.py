"""A batch over made-up ports in a process of its own, with spans as the command line has them: starts without torch.

python -m tests.support.traced_run FOLDER USERS [--host COLLECTOR]   (FOLDER holds a rolegen.toml; the LLM is OPENAI_BASE_URL)

With ``--host`` the process is somebody else's: it has a tracer provider and an instrumentation of its own, and a span that
is current when it asks for one decision, then streams another one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from rolegen_agent.batch import awaken
from rolegen_agent.facade import RoleGen
from rolegen_agent.memory import open_memory
from rolegen_agent.project import open_project
from rolegen_agent.telemetry.export import exported_spans
from rolegen_evals.load.shop import AT, open_shop, user_name


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("users", type=int)
    parser.add_argument("--host")
    given = parser.parse_args()
    project = open_project(given.folder)
    if given.host:
        host(given.folder, given.host)
        return
    with exported_spans(project), open_memory(project.memory_url) as memory:
        shop = open_shop(memory, "traced", endpoint=os.environ["OPENAI_BASE_URL"], concurrency=2)
        names = [user_name(number) for number in range(given.users)]
        report = awaken(shop, memory, names, AT, workers=2, checkpoints=given.folder / "checkpoints.sqlite")
    sys.stdout.write(json.dumps({"decided": report.decided, "left": report.left}) + "\n")


def host(folder: Path, collector: str) -> None:
    from openinference.instrumentation.langchain import LangChainInstrumentor
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "host"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{collector}/v1/traces")))
    trace.set_tracer_provider(provider)
    LangChainInstrumentor().instrument(tracer_provider=provider)
    with exported_spans(open_project(folder)), RoleGen.open(folder) as opened:
        made_up: Any = open_shop(opened.memory, "traced", endpoint=os.environ["OPENAI_BASE_URL"], concurrency=2)
        opened._assemblies[AT] = made_up  # in place of a trained shop, which would load torch
        with trace.get_tracer("host").start_as_current_span("host.request"):
            opened.decide(user_name(0), AT)
        with trace.get_tracer("host").start_as_current_span("host.stream") as mine:
            current = [trace.get_current_span() is mine for _ in opened.stream(user_name(1), AT)]
        opened.graph(AT).compile().invoke({"user": user_name(2), "at": AT})
    assert current and all(current), "between two steps the host's own span is current"
    assert trace.get_tracer_provider() is provider, "the host's provider stays"
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main()
