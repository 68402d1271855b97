"""The sections and keys of ``rolegen.toml``, with their defaults; :mod:`rolegen_agent.project` reads them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

STORE_FOLDER = ".rolegen"
ENV_PREFIX = "ROLEGEN_"

PresetName = Literal["online_retail_ii", "rees46", "retailrocket"]
SourceBehaviour = Literal["expose", "view", "cart", "order", "refund", "drop"]
"""What a source value may mean: a behaviour of the design, or ``drop`` for rows that are counted and left out."""
EventColumn = Literal[
    "user", "item", "time", "behaviour", "quantity", "price", "session", "propensity", "title", "category"
]
CatalogueColumn = Literal["item", "title", "category", "price", "available"]


class Section(BaseModel):
    """Base of all sections: frozen, and closed against unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSettings(Section):
    """Where the event log and the catalogue are, and how their columns are to be read."""

    events: str | list[str] | None = Field(
        None,
        description="event log: a CSV, CSV.gz or Parquet file, a glob or a list of them, relative to this folder; "
        "left out with the preset online_retail_ii, the bundled log is read",
    )
    catalogue: str | None = Field(None, description="optional file of all items; an event of any other item is bad")
    preset: PresetName | None = Field(None, description="known layout: online_retail_ii, rees46 or retailrocket")
    columns: dict[EventColumn, str] = Field(
        default_factory=dict, description="event log: our column name = your column name; overrides the preset"
    )
    catalogue_columns: dict[CatalogueColumn, str] = Field(
        default_factory=dict, description="catalogue: our column name = your column name"
    )
    behaviours: dict[str, SourceBehaviour] = Field(
        default_factory=dict,
        description='your value = "expose", "view", "cart", "order", "refund", or "drop" to count and leave out',
    )
    behaviour: Literal["expose", "view", "cart", "order", "refund"] | None = Field(
        None, description="behaviour of every row, for a log that has no behaviour column"
    )
    time_format: str | None = Field(
        None, description='how times are written: "s" or "ms" since 1970, or a strptime format; default ISO 8601'
    )
    encoding: str = Field("utf-8", description='encoding of CSV files, such as "utf-8" or "latin-1"')
    timezone: str | None = Field(
        None, description="IANA name, such as Europe/London, of times without a zone; without it such times are bad"
    )
    on_bad_rows: Literal["error", "quarantine"] = Field(
        "error", description='"error" stops at bad rows; "quarantine" writes them to .rolegen/ and goes on'
    )
    duplicates: Literal["error", "drop"] | None = Field(
        None, description='equal rows: "error" calls them bad, "drop" keeps one; default error, or as the preset says'
    )
    stock_days: int | None = Field(
        None, ge=1, description="an item is available if sold within so many days before; default: ever sold before"
    )
    currency: str = Field("", description="label of the log's currency, such as GBP; only shown")

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ZoneInfo(value)
            except (KeyError, ValueError, OSError) as error:
                raise ValueError(f"'{value}' is not an IANA time zone such as Europe/London or UTC") from error
        return value


class DormancySettings(Section):
    """Who counts as dormant at a decision time."""

    rule: str = Field("lapsed_buyer", description='"lapsed_buyer" or "engaged_non_buyer"')
    days: int = Field(90, ge=1, description="lapsed_buyer: ordered before, but not within so many days")
    window_days: int = Field(30, ge=1, description="engaged_non_buyer: days before the decision that are looked at")
    min_active_days: int = Field(3, ge=1, description="engaged_non_buyer: least days with any event in the window")
    min_views: int = Field(5, ge=0, description="engaged_non_buyer: least views in the window")
    max_orders: int = Field(0, ge=0, description="engaged_non_buyer: most orders in the window")


class ReasonerSettings(Section):
    """Who reasons about roles and paths, and how far."""

    kind: Literal["evidence", "llm", "student"] = Field(
        "evidence", description='"evidence" (log statistics), "llm", or "student" (what `rolegen distil` made)'
    )
    stand_in: Literal["evidence", "student"] = Field(
        "evidence", description="who answers in place of an LLM: where it cannot, and for whom none is asked"
    )
    rounds: int = Field(2, ge=1, description="most rounds of the inner loop per decision")
    paths: int = Field(4, ge=1, description="counterfactual paths used per round")
    proposed: int = Field(8, ge=1, description="paths proposed per round, of which the best and most diverse are used")
    diversity: float = Field(
        0.5,
        ge=0,
        le=1,
        description="which paths are used: 0 looks at their effects alone, 1 at how little they are alike",
    )
    per_role: int = Field(2, ge=1, description="most used paths that begin with the same role")
    per_category: int = Field(2, ge=1, description="most used paths that end in the same category")
    prompts: str | None = Field(None, description="folder of prompts that override the shipped ones")
    think: Literal["always", "uncertain"] = Field(
        "always",
        description='"always" asks an LLM about everybody; "uncertain" lets the gate decide about whom, and how often',
    )
    ask_from: float = Field(
        0.4,
        ge=0,
        lt=0.7,
        description='with "uncertain": worth of a user above which an LLM is asked; from 0.7 on in all rounds',
    )
    fusion: str | None = Field(
        None, description="JSON file of fitted parameters by which LLM labels and log are fused; default: stated ones"
    )
    max_events: int = Field(
        60, ge=1, description="events of a history that the reasoner gets one by one, the rest folded"
    )
    trajectory_tokens: int = Field(
        3000,
        ge=200,
        le=60_000,
        description="most tokens of a history in a prompt, estimated; what does not fit is folded",
    )
    lessons: bool = Field(True, description="whether lessons from earlier outcomes reach decisions")
    lesson_tokens: int = Field(
        400,
        ge=0,
        le=10_000,
        description="most tokens of the lessons that a decision gets, estimated; the nearest first",
    )
    lessons_withheld: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of decisions that get no lessons, drawn by user and time: without them nobody could tell later "
        "whether the lessons are right",
    )


class StudentSettings(Section):
    """What `rolegen distil` learns from, and how large the student is."""

    decisions: int = Field(4_000, ge=10, description="latest decisions of the teacher that are learnt from")
    fewest: int = Field(60, ge=10, description="decisions without which nothing is distilled")
    width: int = Field(64, ge=8, description="width of the hidden layers")
    epochs: int = Field(40, ge=1, description="passes over the decisions; later ones of the teacher end it early")
    learning_rate: float = Field(3e-3, gt=0, description="peak learning rate")
    seed: int = Field(0, description="random seed of initialisation and order")


class LlmSettings(Section):
    """The chat model. model, base_url and api_key fall back to OPENAI_MODEL, OPENAI_BASE_URL and OPENAI_API_KEY."""

    model: str | None = Field(None, description="model name, as the endpoint knows it")
    base_url: str | None = Field(None, description="any OpenAI-compatible endpoint, such as http://127.0.0.1:11434/v1")
    api_key: SecretStr | None = Field(None, description="only from the environment, never from this file")
    timeout_s: float = Field(60.0, gt=0, description="seconds for one answer, from the request to its last byte")
    retries: int = Field(3, ge=0, description="further attempts after a failed request")
    longest_wait_s: float = Field(
        60.0, ge=0, description="longest pause before an attempt; an endpoint whose Retry-After asks for more gets none"
    )
    concurrency: int = Field(4, ge=1, description="requests in flight at the same time")
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] | Literal["none"] = Field(
        0.0, description='sampling temperature; "none" leaves it to the model: some accept no other than their own'
    )
    max_output_tokens: int | None = Field(
        None, ge=1, description="bound of one answer, reasoning included; with it token budgets hold exactly"
    )
    seed: int | None = Field(None, description="for endpoints that sample repeatably")
    structured_output: Literal["json_schema", "json_object", "off"] = Field(
        "json_schema", description='how an endpoint is told the wanted shape; "off" leaves it to the prompt alone'
    )
    extra_body: dict[str, Any] = Field(
        default_factory=dict, description='further fields of each request, such as { reasoning_effort = "low" }'
    )
    input_usd_per_million: float | None = Field(None, ge=0, description="price of input tokens; unset = cost unknown")
    output_usd_per_million: float | None = Field(None, ge=0, description="price of output tokens; unset = cost unknown")
    batch_price_share: float = Field(
        1.0, ge=0, le=1, description="share of these prices that nearline batches cost; OpenAI bills half: 0.5"
    )

    @model_validator(mode="after")
    def _both_prices(self) -> Self:
        if (self.input_usd_per_million is None) != (self.output_usd_per_million is None):
            raise ValueError("give both input_usd_per_million and output_usd_per_million, or neither")
        return self


class BudgetSettings(Section):
    """What reasoning may cost. A run counts all that was ever spent on it, also by an earlier, stopped command."""

    calls_per_decision: int | None = Field(12, ge=0, description="LLM calls for one user at one decision time")
    tokens_per_decision: int | None = Field(None, ge=0, description="input and output tokens for one decision")
    usd_per_decision: float | None = Field(
        None, ge=0, description="US dollars for one decision; needs the prices above"
    )
    calls_per_run: int | None = Field(None, ge=0, description="LLM calls of one run")
    tokens_per_run: int | None = Field(None, ge=0, description="input and output tokens of one run")
    usd_per_run: float | None = Field(None, ge=0, description="US dollars of one run; needs the prices above")
    on_budget: Literal["stop", "evidence"] = Field(
        "stop",
        description='at a limit of the run: "stop" (raise it, and the same command goes on) or "evidence" (the evidence '
        "reasoner answers the rest); at a limit of a decision the evidence reasoner always answers",
    )


class BackboneSettings(Section):
    """The generative model and its training."""

    seed: int = Field(0, description="random seed of initialisation and sampling")
    width: int = Field(64, ge=8, description="width of the hidden state")
    layers: int = Field(2, ge=1, description="layers")
    history: int = Field(64, ge=1, description="latest events of a user that the model reads")
    epochs: int = Field(8, ge=1, description="passes over the training decisions")
    batch: int = Field(64, ge=1, description="decisions per step")
    levels: int = Field(3, ge=1, description="codes per semantic id")
    codebook: int = Field(64, ge=2, description="codes per level")
    quantiser: Literal["balanced", "plain", "rqvae"] = Field(
        "balanced", description='how semantic ids are made: "balanced" or "plain" residual k-means, or "rqvae"'
    )
    encoder: str = Field(
        "tfidf",
        description='what embeds item texts: "tfidf", "sentence", "openai:MODEL" or "module:attribute" of Embeddings',
    )
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate")
    patience: int = Field(3, ge=1, description="stop after so many epochs without a better validation loss")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of matrix products in training; bf16 pays on a GPU")
    compile: bool = Field(False, description="train through torch.compile: minutes of start-up, then faster steps")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description='"auto" trains on a GPU where torch sees one')
    shards: int | None = Field(
        None, ge=1, description="parts of a batch, shared out to the processes of torchrun; default: one for each"
    )
    max_returns: int = Field(24_000, ge=1, description="latest returns learnt from: a bound on training time")
    max_read: int = Field(
        6_000, ge=0, description="past decisions whose events are given their roles, to learn what roles tell"
    )
    max_hints: int = Field(1_000, ge=0, description="past decisions reasoned about, to learn what reasoning is worth")
    max_spells: int = Field(12_000, ge=0, description="past decisions that the outcome head learns from")


class GroundingSettings(Section):
    """How wishes find real items."""

    encoder: str = Field(
        "tfidf",
        description='what compares a wish with titles: "tfidf", "sentence", "openai:MODEL" or "module:attribute" of Embeddings',
    )
    threshold: float | None = Field(
        None, ge=0, le=1, description="least cosine at which a title matches; unset = 0.25 for tfidf, 0.5 for others"
    )
    index_above: int = Field(
        50_000, ge=0, description='items above which an index names what is compared (extra "index")'
    )


class SlateSettings(Section):
    """The answer and the time in which it is judged."""

    size: int = Field(10, ge=1, description="items in a slate")
    newcomers: int = Field(
        3, ge=0, description="items of a slate that only reasoning brought in, at most; they stand in its lower half"
    )
    explore: float = Field(
        0.0,
        ge=0,
        le=10,
        description="0 shows the best slate; above, slates are drawn by chance and their probabilities kept, so that `rolegen "
        "value` can tell what other slates would have brought; the first item stays first in 96 % at 0.2, 62 % at 0.5",
    )
    diversity: float = Field(
        0.0,
        ge=0,
        le=1,
        description="0 ranks by probability alone; above, the places after the first go to rarer items of the user's own "
        "and to more categories. On the bundled log 0.4 shows 30 % more of the catalogue, 0.63 50 % more, for 0 and 3 % of "
        "recall@10; both show fewer items that are new to the user",
    )
    horizon_days: int = Field(90, ge=1, description="days after the decision within which an order counts")


class LessonSettings(Section):
    """What `rolegen lessons learn` calls a lesson."""

    support: int = Field(20, ge=2, description="users that led with something, and others, before it is looked at")
    false_rate: float = Field(
        0.1, gt=0, lt=1, description="share of false lessons among the new ones that is tolerated"
    )
    days: int = Field(365, ge=1, description="days that a lesson lives without outcomes that renew it")


class ImproveSettings(Section):
    """How `rolegen improve` learns from what happened, and when it dares to put the result to use."""

    epochs: int = Field(1, ge=0, description="passes over new returns and as many older ones; 0 leaves taste as it is")
    rate: float = Field(
        0.2, gt=0, le=1, description="learning rate of these passes, as a share of [backbone] learning_rate"
    )
    step: float = Field(
        0.5, gt=0, le=1, description="how far the weights go from the old ones to those that these passes end with"
    )
    returns: int = Field(2_000, ge=1, description="latest returns learnt from, and as many before them")
    trust: bool = Field(True, description="learn from real decisions how far to trust each reasoner's candidates")
    outcome: bool = Field(True, description="fit the outcome head and its calibration anew")
    effect_weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (100.0, 1_000.0, 10_000.0),
        description="what the effect of showing an item may weigh, nats per unit of probability; the best is chosen on logged "
        "exposures, 0 where none is surely (95 %) better; [] switches it off",
    )
    held_share: float = Field(
        0.5, gt=0, lt=1, description="share of the time since the last update that is held back to test the new one on"
    )
    margin_value: float = Field(
        0.02, ge=0, description="net orders per showing by which the new one may be worse, where exposures are logged"
    )
    margin_hits: float = Field(
        0.01, ge=0, description="NDCG@10 of what was ordered by which it may be worse, where they are not"
    )
    confidence: float = Field(0.8, gt=0.5, lt=1, description="with which it must not be worse by more than the margin")
    tested_on: int = Field(1_000, ge=1, description="dormant users whose slates are compared, at most")
    min_returned: int = Field(
        30, ge=2, description="of whom at least so many must have ordered, or nothing is promoted"
    )


class MemorySettings(Section):
    """Where decisions, calls and outcomes are kept."""

    url: str = Field(
        f"sqlite:///{STORE_FOLDER}/memory.sqlite",
        description="SQLAlchemy URL; relative SQLite paths start at this folder; passwords belong in ROLEGEN_MEMORY__URL",
    )
    outage_s: float = Field(
        60.0, ge=0, description="seconds that a database server is waited for when it goes away during a command"
    )
    keep_checkpoints: bool = Field(False, description="keep the LangGraph checkpoints of finished runs")


class ServeSettings(Section):
    """How `rolegen serve` answers."""

    users: int = Field(
        20_000, ge=1, description="users whose decision and events are held in RAM; others are read when asked for"
    )
    queue: int = Field(256, ge=1, description="requests under way at once; more are told to come back (503)")
    batch: int = Field(16, ge=1, description="slates that are computed together at most")
    beam: int = Field(50, ge=1, description="width of the search; a narrower one is faster and may miss items")
    patience_ms: float = Field(
        0.0,
        ge=0,
        description="a request waits so long to be ranked again, then what is remembered stands in for it; 0: as long as it takes",
    )
    apart: bool = Field(
        True,
        description="rank in a process beside the one that answers, so that nobody waits for others' slates; takes the memory of the artefacts twice",
    )
    rest_days: float = Field(
        1.0,
        ge=0,
        description="an item is not shown for so many days after a told order of it; 0 shows what was just bought",
    )
    refresh_s: float = Field(
        1.0, gt=0, description="seconds between two looks at what other processes wrote: decisions, events, artefacts"
    )


class TelemetrySettings(Section):
    """OpenTelemetry spans. Whether and where they go is said by the standard OTEL_* variables."""

    mask: bool = Field(
        False, description="true: spans hold no texts, and a digest in place of the user; else whatever decisions read"
    )
    trace_url: str = Field(
        "",
        description='page of a trace in your viewer, {trace_id} in it, such as "http://127.0.0.1:16686/trace/{trace_id}"',
    )

    @field_validator("trace_url")
    @classmethod
    def _names_the_trace(cls, value: str) -> str:
        if value and not (value.startswith(("http://", "https://")) and "{trace_id}" in value):
            raise ValueError("trace_url must begin with http:// or https:// and hold {trace_id}")
        return value


class PartsSettings(Section):
    """Parts of your own behind the loop's ports."""

    own: str | None = Field(
        None,
        description='"module:function" (or an entry point of the group rolegen.parts) that is given the loop\'s parts and what '
        "was learnt, and returns the parts to use",
    )
    version: str = Field("", description="change it when your parts decide otherwise than before: it names another run")
    chat: str | None = Field(
        None,
        description='"module:attribute" (or an entry point of the group rolegen.chat_models): a langchain-core chat model, or what '
        "makes one; it reasons in place of the one that [llm] describes, under the name [llm] model",
    )
    outcomes: str | None = Field(
        None,
        description='"module:attribute" (or an entry point of the group rolegen.outcomes) with `reports(since)`: what '
        "`rolegen feedback --from-source` reads",
    )


class Settings(BaseSettings):
    """All sections of ``rolegen.toml``."""

    # "ignore" concerns foreign names in .env (OPENAI_API_KEY); unknown sections are refused in _check_sections.
    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", env_ignore_empty=True, extra="ignore", frozen=True
    )

    data: DataSettings = Field(default_factory=lambda: DataSettings())
    dormancy: DormancySettings = Field(default_factory=lambda: DormancySettings())
    reasoner: ReasonerSettings = Field(default_factory=lambda: ReasonerSettings())
    student: StudentSettings = Field(default_factory=lambda: StudentSettings())
    llm: LlmSettings = Field(default_factory=lambda: LlmSettings())
    budget: BudgetSettings = Field(default_factory=lambda: BudgetSettings())
    backbone: BackboneSettings = Field(default_factory=lambda: BackboneSettings())
    grounding: GroundingSettings = Field(default_factory=lambda: GroundingSettings())
    slate: SlateSettings = Field(default_factory=lambda: SlateSettings())
    lessons: LessonSettings = Field(default_factory=lambda: LessonSettings())
    improve: ImproveSettings = Field(default_factory=lambda: ImproveSettings())
    parts: PartsSettings = Field(default_factory=lambda: PartsSettings())
    memory: MemorySettings = Field(default_factory=lambda: MemorySettings())
    serve: ServeSettings = Field(default_factory=lambda: ServeSettings())
    telemetry: TelemetrySettings = Field(default_factory=lambda: TelemetrySettings())
