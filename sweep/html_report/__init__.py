"""One-page HTML report of a result; `page/` has the scripts, style and template."""
