"""Stand-ins that speak the real protocols and pass the same contract tests as the real thing.

`triton.FakeTriton` serves two small deterministic models; `models` says what they answer.
"""
