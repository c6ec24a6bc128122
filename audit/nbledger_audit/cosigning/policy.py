"""Which witnesses the sealer asks: a policy file of C2SP tlog-policy, where each has an address."""

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from nbledger_domain.transparency.notes import COSIGNATURE
from nbledger_domain.transparency.policies import Policy, PolicyError, read_policy
from nbledger_infrastructure.settings import Audit
from nbledger_infrastructure.settings_loading import SettingsError

_SETTING: Final = "audit.witness_file"


def open_policy(audit: Audit) -> Policy:
    """The policy of the settings; the quorum is ``none`` where no file is set.

    Raises ``SettingsError``.
    """
    policy = Policy()
    if audit.witness_file:
        path = Path(audit.witness_file)
        try:
            policy = read_policy(path.read_text("utf-8"))
            _check(policy)
        except OSError as error:
            raise SettingsError([f"{_SETTING}: {path}: {error.strerror}"]) from None
        except (PolicyError, UnicodeDecodeError) as error:
            raise SettingsError([f"{_SETTING}: {path}: {error}"]) from None
    return msgspec.structs.replace(policy, logs=(), maximum_age=audit.maximum_age_seconds)


def _check(policy: Policy) -> None:
    """Raise :class:`PolicyError` for witnesses that cannot be asked."""
    for witness in policy.witnesses:
        if witness.key.kind != COSIGNATURE:
            raise PolicyError(f"the key of {witness.name} is not Ed25519, of type 4")
        if urlsplit(witness.url).scheme not in {"http", "https"}:
            raise PolicyError(f"{witness.name} has no address to ask at: http(s)://…")
