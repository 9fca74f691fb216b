"""Alembic migrations of the ledger: hand-written, additive, one file per revision.

Migrations handle tables and indices only.  Views are derived: every upgrade drops them and makes
the current ones (``storage.views``) again in the same transaction.
"""
