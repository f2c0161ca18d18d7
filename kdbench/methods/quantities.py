"""Ranges of hyper-parameters that several methods have: what a suite may ask of them, a user's own too.

They end where float32 or the memory of a machine does, far beyond what anybody trains with.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

# Of a loss term.
Weight = Annotated[float, Field(ge=0, le=1e9)]
# What logits are divided by before the softmax.
Temperature = Annotated[float, Field(ge=0.01, le=1000)]
# Of the whole: any, less than all, or neither none nor all.
Share = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(ge=0, lt=1)]
ProperShare = Annotated[float, Field(gt=0, lt=1)]
# Channels of a network that the method adds.
Width = Annotated[int, Field(ge=1, le=65_536)]
# Pixels of a map, or by how much it or its channels are divided.
Side = Annotated[int, Field(ge=1, le=1024)]
# Networks that are trained beside the student.
Copies = Annotated[int, Field(ge=1, le=100)]
# Of a stage of a network, counted from 1.
Place = Annotated[int, Field(ge=1, le=1000)]
