"""The ledger of EDCO: what remembers, and knows no model.

``open_ledger(url)`` is the door; ``storage.queries`` holds the questions people ask of it.
"""

from storage.address import masked
from storage.ledger import Ledger, open_ledger
from storage.schema import HEAD_REVISION, db_check, db_current, db_upgrade

__all__ = [
    "HEAD_REVISION",
    "Ledger",
    "db_check",
    "db_current",
    "db_upgrade",
    "masked",
    "open_ledger",
]
