"""The study behind REPORT.md, beside the library: which models were trained, how they score, and what follows.

`spec` says what an experiment is, `run` trains, draws and scores it (`job_files`, `handover`, `cost` help), `scores`
measures images, `results` is what was measured and reads the files of `results/`; `tables`, `remaining`, `figures` and
`collect` make of them what REPORT shows, and `cli` is ``python -m qdm_lib experiment …``. The library does not know any
of it.
"""
