"""Kernel types that uploads bring along: stored, listed, and run where somebody offers them."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
from support.api import running_api, settings_for
from support.read_models import running

from nbledger import roles
from nbledger_infrastructure import settings
from nbledger_infrastructure.postgres import worker_registry
from nbledger_infrastructure.postgres.worker_registry import WorkerOffer


async def test_a_notebook_in_another_language_waits_for_its_kernel(
    database_dsn: str, tmp_path: Path
) -> None:
    config = msgspec.structs.replace(
        settings_for(database_dsn, tmp_path), execution=settings.Executions()
    )
    spec = {"name": "julia-1.9", "display_name": "Julia", "language": "julia"}
    cell = {"cell_type": "code", "id": "c", "metadata": {}, "source": "print(1)", "outputs": []}
    content = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": spec},
        "cells": [{**cell, "execution_count": None}],
    }
    async with running_api(config) as api, running(roles.projector, config):
        client = await api.client()
        files = {"file": ("a.ipynb", json.dumps(content).encode())}
        uploaded = await client.post("/notebook/upload", files=files)
        made = uploaded.json()
        assert made["kernelType"] == "julia-1.9"

        # What is filtered by has come with the position that is waited for.
        position = uploaded.headers["nbledger-position"]
        own_write = {"Nbledger-Position": position, "Prefer": "wait=20"}
        listed = await client.get("/notebooks?kernelType=julia-1.9", headers=own_write)
        assert listed.status_code == 200, listed.text
        assert [each["notebookId"] for each in listed.json()["notebooks"]] == [made["notebookId"]]
        assert (await client.get("/notebooks?kernelType=julia-1.9")).json()["totalCount"] == 1
        for usual in ("python3", "r", "scala"):
            found = await client.get(f"/notebooks?kernelType={usual}")
            assert found.json()["totalCount"] == 0
        for wrong in ("julia", "JULIA-1.9", "", "a b", "%00"):
            for headers in ({}, own_write):
                refused = await client.get(f"/notebooks?kernelType={wrong}", headers=headers)
                assert refused.status_code == 422, wrong
                assert refused.json()["errors"][0]["pointer"] == "?kernelType"

        await worker_registry.heartbeat(
            api.pool, "w1", [WorkerOffer("python3", "python3", "python", "3.11.7")], capacity=1
        )
        path = f"/notebook/{made['notebookId']}/execute"
        refused = await client.post(path, json={"parameters": {"x": 1}})
        assert refused.status_code == 503
        assert refused.json()["code"] == "kernel_unavailable"
        assert refused.json()["offered"] == ["python3"]
        assert "'julia-1.9'" in refused.json()["detail"]

        offer = WorkerOffer("julia-1.9", "julia-1.9", "julia", "1.9")
        await worker_registry.heartbeat(api.pool, "w2", [offer], capacity=1)
        taken = await client.post(path)
        assert taken.status_code == 202
        assert taken.json()["kernelType"] == "julia-1.9"
        assert taken.json()["warnings"] == []
        refused = await client.post(path, json={"parameters": {"x": 1}})
        assert refused.json()["errors"] == [
            {
                "pointer": "/parameters",
                "reason": "can be given to notebooks in Python, R and Scala only",
            }
        ]
