"""Pages of other origins, and proxies before the API: who is believed, and what addresses say."""

from __future__ import annotations

from pathlib import Path

import httpx
import msgspec
import pytest
from support.api import Api, new_notebook, running_api, settings_for

from nbledger_audit.keys import Signer
from nbledger_audit.sealer import Sealer
from nbledger_audit.signing import CheckpointSigner
from nbledger_infrastructure.settings_loading import SettingsError, load

PAGE, NAMED = "https://app.example.com", "http://localhost:3000"
STRANGER = "https://app.example.com.evil.example"


def preflight(origin: str, *headers: str) -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": ", ".join(headers or ("authorization", "content-type")),
    }


async def test_pages_of_named_origins_may_use_the_api_and_no_others(
    database_dsn: str, tmp_path: Path
) -> None:
    settings = settings_for(
        database_dsn, tmp_path / "a", cors_origins=[PAGE], cors_credentials=[NAMED]
    )
    async with running_api(settings) as api:
        client = await api.client()
        stranger = api.anonymous(base=api.base)
        # A browser asks without a token.
        for origin, credentials in ((PAGE, None), (NAMED, "true")):
            asked = await stranger.options("/notebook", headers=preflight(origin, "x-mine"))
            assert asked.status_code == 204
            assert asked.headers["Access-Control-Allow-Origin"] == origin
            assert "POST" in asked.headers["Access-Control-Allow-Methods"]
            assert asked.headers["Access-Control-Allow-Headers"] == "x-mine"
            assert asked.headers.get("Access-Control-Allow-Credentials") == credentials
        for origin in (STRANGER, "null", PAGE.upper(), f"{PAGE}:8443", PAGE.replace("s:", ":")):
            asked = await stranger.options("/notebook", headers=preflight(origin))
            assert asked.status_code == 401
            refused = await client.get("/notebooks", headers={"Origin": origin})
            assert refused.status_code == 200
            for answer in (asked, refused):
                assert not [name for name in answer.headers if "access-control" in name]
                assert "Origin" in answer.headers["Vary"]

        made = await client.post("/notebook", json={"notebookName": "x"}, headers={"Origin": PAGE})
        assert made.status_code == 201
        assert made.headers["Access-Control-Allow-Origin"] == PAGE
        exposed = made.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"etag", "location", "x-request-id"} <= set(exposed)
        # Errors can be read, too: of a handler, of no handler, and without a token.
        for path, who, status in (
            ("/notebook/x", client, 404),
            ("/nothing", client, 404),
            ("/notebooks", stranger, 401),
        ):
            answer = await who.get(path, headers={"Origin": PAGE})
            assert answer.status_code == status
            assert answer.headers["Access-Control-Allow-Origin"] == PAGE
            assert "x-request-id" in answer.headers["Access-Control-Expose-Headers"]
        # What an answer varies by otherwise stays.
        page = await stranger.get(f"{api.url}/schema", headers={"Origin": PAGE})
        assert page.headers["Vary"] == "Accept, Origin"


async def test_without_the_setting_no_page_may(database_dsn: str, tmp_path: Path) -> None:
    async with running_api(settings_for(database_dsn, tmp_path / "a")) as api:
        client = await api.client()
        asked = await api.anonymous(base=api.base).options("/notebook", headers=preflight(PAGE))
        assert asked.status_code == 401
        answer = await client.get("/notebooks", headers={"Origin": PAGE})
        assert not [name for name in answer.headers if "access-control" in name]
        assert "Vary" not in answer.headers


async def sealed(api: Api, client: httpx.AsyncClient, folder: Path) -> str:
    """The address of a log with an entry, whose description has links."""
    await new_notebook(client, "x")
    checkpoints = CheckpointSigner(
        Signer.generate(folder / "key.pem"), "ledger.example.com", folder / "signed"
    )
    async with api.pool.acquire() as connection:
        await checkpoints.tell_key(connection)
    sealer = Sealer(api.pool, checkpoints, 3600.0)
    await sealer.tick()
    await sealer.sign()
    return f"{api.url}/audit/log/{api.tenant_id}"


async def linked(client: httpx.AsyncClient, log: str, **headers: str) -> str:
    """The link to the log's tiles."""
    answer = await client.get(log, headers=headers)
    found: str = answer.json()["links"]["tiles"]
    return found.removesuffix("/tile")


SAID = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "ledger.example.com",
    "X-Forwarded-Prefix": "/books/",
}


async def test_links_begin_with_what_a_trusted_proxy_says(
    database_dsn: str, tmp_path: Path
) -> None:
    settings = settings_for(
        database_dsn, tmp_path / "a", trusted_proxies=["10.0.0.0/8", "127.0.0.1"]
    )
    async with running_api(settings) as api:
        client = await api.client()
        log = await sealed(api, client, tmp_path)
        seen = f"https://ledger.example.com/books/audit/log/{api.tenant_id}"
        assert await linked(client, log, **SAID) == seen
        made = await client.post("/notebook", json={"notebookName": "x"}, headers=SAID)
        assert made.headers["Location"].startswith(f"/books{api.base}/notebook/")
        entry = await client.get(f"{api.url}/", headers=SAID)
        assert entry.json()["links"]["openapi"] == "/books/schema/openapi.json"
        assert entry.links["service-doc"]["url"] == "/books/schema"
        described = (await client.get(f"{api.url}/schema/openapi.json", headers=SAID)).json()
        assert described["servers"] == [{"url": "/books"}]
        # The nearest proxy has the last word: what is before it may be the client's own.
        said = {**SAID, "X-Forwarded-Host": "evil.example, ledger.example.com"}
        assert await linked(client, log, **said) == seen
        # What is malformed is passed over.
        for header, value in (
            ("X-Forwarded-Proto", "javascript"),
            ("X-Forwarded-Host", "evil.example/x?y="),
            ("X-Forwarded-Prefix", "//evil.example"),
        ):
            assert await linked(client, log, **{header: value}) == log


async def test_nobody_else_is_believed(database_dsn: str, tmp_path: Path) -> None:
    settings = settings_for(database_dsn, tmp_path / "a", trusted_proxies=["10.0.0.0/8"])
    async with running_api(settings) as api:
        client = await api.client()
        log = await sealed(api, client, tmp_path)
        assert await linked(client, log, **SAID) == log


async def test_everything_is_below_the_base_path_but_health(
    database_dsn: str, tmp_path: Path
) -> None:
    settings = settings_for(database_dsn, tmp_path / "a", base_path="/team/ledger")
    async with running_api(settings) as api:
        assert api.url.endswith("/team/ledger")
        client = await api.client()
        notebook = await new_notebook(client, "x")
        path = f"/notebook/{notebook['notebookId']}"
        made = await client.post("/notebook", json={"notebookName": "y"})
        assert made.headers["Location"].startswith(f"/team/ledger{api.base}/notebook/")
        log = await sealed(api, client, tmp_path)
        assert await linked(client, log) == log
        # A path with what must be quoted keeps it.
        assert (await client.put(f"{path}/file/a%20b%2Fc.txt", content=b"1")).status_code == 201
        root = api.url.removesuffix("/team/ledger")
        async with httpx.AsyncClient(base_url=root) as outside:
            assert (await outside.get("/health/ready")).status_code == 200
            assert (await outside.get("/team/ledger")).json()["name"] == "nbledger"
            for elsewhere in ("/", "/schema", "/team/ledgers/schema", "/team", f"{api.base}{path}"):
                assert (await outside.get(elsewhere)).status_code == 404, elsewhere


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("cors_origins", ["*"]),
        ("cors_origins", ["https://app.example.com/"]),
        ("cors_origins", ["app.example.com"]),
        ("cors_credentials", ["null"]),
        ("trusted_proxies", ["proxy.example.com"]),
        ("trusted_proxies", ["10.0.0.0/33"]),
        ("base_path", "ledger"),
        ("base_path", "/ledger/"),
        ("base_path", "/../etc"),
    ],
)
def test_settings_that_could_not_be_kept_are_refused(setting: str, value: object) -> None:
    variable = f"NBLEDGER_HTTP_{setting}".upper()
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    with pytest.raises(SettingsError) as refused:
        load({variable: text})
    assert variable in str(refused.value)
