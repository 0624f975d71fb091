"""Runs of scheduled tasks: what fired when, what it did, why it did not."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dalla.records.base import Record

Trigger = Literal["cron", "manual", "catch_up"]
RunStatus = Literal["queued", "running", "waiting", "completed", "failed", "skipped", "missed", "cancelled"]


class Step(Record):
    """One step of a run: choose, prompt, generate, caption, post:instagram, …"""

    name: str
    status: Literal["running", "ok", "failed", "skipped", "held"] = "running"
    started_at: str
    ended_at: str | None = None
    detail: str = ""
    data: dict[str, Any] = Field(default_factory=dict)  # mediaIds, postId, promptId, taskId


class Run(Record):
    """One row of `runs`. `slot` is unique per task: a slot of a rule fires once, whoever ticks."""

    id: str
    task_id: str
    character_id: str | None = None
    type: str = "generate_and_post"
    trigger: Trigger = "cron"
    slot: str  # the occurrence in UTC; "manual:<id>" for Run now
    status: RunStatus = "queued"
    dry_run: bool = False
    late_seconds: float | None = None
    steps: list[Step] = Field(default_factory=list)
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    reason: str | None = None  # why it was skipped or missed
    job_id: str | None = None
    media_ids: list[str] = Field(default_factory=list)
    post_ids: list[str] = Field(default_factory=list)
    created_at: str = ""
    started_at: str | None = None
    finished_at: str | None = None


class TaskState(Record):
    """What the app remembers about one scheduled task beside its rule in scheduler.json."""

    task_id: str
    fingerprint: str  # of schedule, zone and active: a change recomputes `next_due`
    next_due: str | None = None
    last_slot: str | None = None
    last_run_id: str | None = None
    last_run_at: str | None = None
    last_status: str | None = None
    data: dict[str, Any] = Field(default_factory=dict)  # e.g. where the queue order stands
    updated_at: str = ""
