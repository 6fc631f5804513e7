"""The whole table: every mutation and every null change."""

from __future__ import annotations

from tests.tamper import code, ledger, null_changes, page, tables
from tests.tamper.mutation import MUTATIONS, NULL_CHANGES, Mutation, NullChange

__all__ = ["MUTATIONS", "NULL_CHANGES", "Mutation", "NullChange", "code", "ledger", "null_changes", "page", "tables"]
