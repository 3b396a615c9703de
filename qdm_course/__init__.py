"""What the course's pages show beside pictures: widgets (with a kernel) and figures that move without one.

    qdm_course.widgets    ipywidgets around the library: forward process, circuit explorer, hybridization, training
    qdm_course.moving     figures with a script of their own, live on a page without a kernel
    qdm_course.figures    drawings that only the course shows: the paper's diagrams, wires, couplings, what acts
    qdm_course.size       QDM_SIZE, read in one place; `recorded` and `warm` serve Binder's size

All stand on `qdm_lib`, which knows nothing of them and needs no browser.
"""
