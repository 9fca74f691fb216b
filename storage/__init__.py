"""The ledger of EDCO: what remembers, and knows no model.

``open_ledger(url)`` is the door; ``storage.queries`` holds the questions people ask of it.
"""

from storage.address import address_of, is_secret, masked
from storage.copying import db_copy
from storage.ledger import Ledger, open_ledger, open_snapshot
from storage.runs import LostRun
from storage.schema import HEAD_REVISION, db_check, db_current, db_upgrade
from storage.upkeep import Removal, db_vacuum

__all__ = [
    "HEAD_REVISION",
    "Ledger",
    "LostRun",
    "Removal",
    "address_of",
    "db_check",
    "db_copy",
    "db_current",
    "db_upgrade",
    "db_vacuum",
    "is_secret",
    "masked",
    "open_ledger",
    "open_snapshot",
]
