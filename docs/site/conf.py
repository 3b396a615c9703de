"""Sphinx's settings for the course's website; tools/build_site.py calls Sphinx with them."""

project = "Quantum hybrid diffusion models"
author = "The qdm_lib authors"
html_title = "Quantum hybrid diffusion models"
language = "en"

# Stored outputs are shown as they are; nothing is run. MathJax comes with a package: the site needs no network.
extensions = ["myst_nb", "sphinx-mathjax-offline"]
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # boxes with equations and tables that a cell shows are typeset, as text is
nb_mime_priority_overrides = [("html", "text/html", 5)]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header"]  # notebooks: a widget's view; a heading below a title

exclude_patterns = ["_build"]
html_theme = "sphinx_book_theme"
html_theme_options = {"use_download_button": True, "use_fullscreen_button": False, "show_navbar_depth": 1}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/favicon.svg"
html_context = {"default_mode": "auto"}
html_copy_source = False
html_show_sourcelink = False
