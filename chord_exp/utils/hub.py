"""What a hub id of a model or a data set looks like. Standard library only."""

from __future__ import annotations

import re

SAMPLE_OF_HUB = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:\[(\d+)\])?")
"""owner/name of a data set, or owner/name[N]: a sample of N of its rows"""
