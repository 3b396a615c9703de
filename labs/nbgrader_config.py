"""nbgrader's configuration for the labs; `python tools/labs.py nbgrader` copies it into the course that it makes.

Points come from the locked cells that run while nbgrader grades; a hand-in's own copies of them are overwritten first.
A cell that takes too long is interrupted, and the cells after it run. Set QDM_MARKER_SALT to any secret text while
grading, to have the same draws for everybody.
"""

c = get_config()  # noqa: F821

c.CourseDirectory.course_id = "quantum-hybrid-diffusion"
c.CourseDirectory.db_url = "sqlite:///gradebook.db"
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError"}
c.ExecutePreprocessor.timeout = 60
c.ExecutePreprocessor.startup_timeout = 120
c.ExecutePreprocessor.interrupt_on_timeout = True
c.ExportApp.plugin_class = "nbgrader.plugins.export.CsvExportPlugin"
