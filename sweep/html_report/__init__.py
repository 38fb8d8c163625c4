"""A result as one page to hand around; `page/` holds what the browser gets."""
