"""``fbkit bench report``: results of fbkit bench convergence and of devices as a page, as tables and as Markdown."""
